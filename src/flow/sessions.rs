//! How many sessions a relay is given: its cap counts over all streams of this node that use it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A relay's sessions, shared by the dispatchers that use it. A dispatcher without any is let in by those that have
/// some: a wave of incident mails must not keep the one "please reconnect" out.
#[derive(Debug, Default)]
pub struct Sessions {
    most: Option<usize>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    open: usize,
    waiting: HashMap<usize, Instant>,
}

/// A right to one session; it ends with the session.
#[derive(Debug)]
pub struct Seat(Arc<Sessions>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken().open -= 1;
    }
}

impl Sessions {
    /// At most so many at once; `None` where the streams' slots are the only limit.
    #[must_use]
    pub fn at_most(most: Option<usize>) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A right for a dispatcher that holds `held` already. One that holds none and gets none waits, and is let in.
    #[must_use]
    pub fn take(self: &Arc<Self>, who: usize, held: usize) -> Option<Seat> {
        let mut taken = self.taken();
        let others_wait = taken.waiting.keys().any(|other| *other != who);
        let full = self.most.is_some_and(|most| taken.open >= most.max(1));
        if full || (held > 0 && others_wait) {
            if held == 0 {
                taken.waiting.entry(who).or_insert_with(Instant::now);
            }
            return None;
        }
        taken.waiting.remove(&who);
        taken.open += 1;
        Some(Seat(Arc::clone(self)))
    }

    /// Whether another dispatcher has waited so long for a session: whoever has an idle one ends it.
    #[must_use]
    pub fn others_wait(&self, who: usize, patience: Duration) -> bool {
        self.taken().waiting.iter().any(|(other, since)| *other != who && since.elapsed() >= patience)
    }

    /// Whether a dispatcher waits.
    #[must_use]
    pub fn waits(&self, who: usize) -> bool {
        self.taken().waiting.contains_key(&who)
    }

    /// A dispatcher has no work: it waits no longer.
    pub fn content(&self, who: usize) {
        self.taken().waiting.remove(&who);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_holds_and_who_has_none_is_let_in() {
        let relay = Sessions::at_most(Some(2));
        let first = relay.take(1, 0);
        let second = relay.take(1, 1);
        assert!(first.is_some() && second.is_some());
        assert!(relay.take(2, 0).is_none());
        assert!(relay.others_wait(1, Duration::ZERO) && !relay.others_wait(2, Duration::ZERO));
        drop(second);
        assert!(relay.take(1, 1).is_none(), "who waits goes first");
        let third = relay.take(2, 0);
        assert!(third.is_some() && !relay.others_wait(1, Duration::ZERO));
        drop((first, third));
        assert!(relay.take(1, 0).is_some());
    }

    #[test]
    fn who_has_no_work_any_more_keeps_nobody_out() {
        let relay = Sessions::at_most(Some(1));
        let seat = relay.take(1, 0);
        assert!(relay.take(2, 0).is_none());
        relay.content(2);
        assert!(!relay.others_wait(1, Duration::ZERO));
        drop(seat);
    }
}
