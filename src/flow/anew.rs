//! What met another transaction is done anew.

/// So often at most.
pub(super) const TRIES: usize = 5;

/// Does a whole transaction, anew when another was first: one changed the same rows in another order, or put the same row.
macro_rules! anew {
    ($error:ty, $transaction:expr) => {{
        let mut tries = 1;
        loop {
            let done: Result<_, $error> = $transaction.await;
            match done {
                Err(error) if error.is_conflict() && tries < crate::flow::anew::TRIES => tries += 1,
                done => break done,
            }
        }
    }};
}

pub(super) use anew;
