//! The sessions of a dispatcher, and the prepared mails that wait for one: they were claimed while those before them
//! were still on the wire. A session that waited for the database after each mail would be silent half of its time.

use super::super::sessions::Sessions;
use super::seats::Seated;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Sessions without a mail, and who waits for one.
pub(super) struct Pool {
    number: usize,
    sessions: Arc<Sessions>,
    patience: Duration,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    idle: Vec<Seated>,
    parting: Vec<Seated>,
    waiting: VecDeque<oneshot::Sender<Seated>>,
}

impl Pool {
    /// Without sessions, of the dispatcher of this number. Another that has waited for a session with this patience gets one.
    pub fn new(number: usize, sessions: Arc<Sessions>, patience: Duration) -> Self {
        Self { number, sessions, patience, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are idle.
    pub fn idle(&self) -> usize {
        self.inner().idle.len()
    }

    /// Takes those that are idle, to be looked after.
    pub fn take_idle(&self, which: impl FnMut(&mut Seated) -> bool) -> Vec<Seated> {
        self.inner().idle.extract_if(.., which).collect()
    }

    /// Those that are to be ended: they have had their share of mails, or another stream has waited long for one.
    pub fn parting(&self) -> Vec<Seated> {
        let others_wait = self.sessions.others_wait(self.number, self.patience);
        let mut inner = self.inner();
        let mut parting = std::mem::take(&mut inner.parting);
        if parting.is_empty() && others_wait {
            parting.extend(inner.idle.pop());
        }
        parting
    }

    /// A session that is idle now: who has waited longest for it gets it.
    pub fn give(&self, mut seated: Seated) {
        let others_wait = self.sessions.others_wait(self.number, self.patience);
        let mut inner = self.inner();
        if !seated.session.usable(Instant::now()) || (others_wait && inner.parting.is_empty()) {
            inner.parting.push(seated);
            return;
        }
        while let Some(first) = inner.waiting.pop_front() {
            match first.send(seated) {
                Ok(()) => return,
                Err(back) => seated = back,
            }
        }
        inner.idle.push(seated);
    }

    /// A session, if one is idle within this time.
    pub async fn take(&self, most: Duration) -> Option<Seated> {
        let mut mine = {
            let mut inner = self.inner();
            if let Some(seated) = inner.idle.pop() {
                return Some(seated);
            }
            let (tell, mine) = oneshot::channel();
            inner.waiting.retain(|other| !other.is_closed());
            inner.waiting.push_back(tell);
            mine
        };
        if let Ok(given) = tokio::time::timeout(most, &mut mine).await {
            return given.ok();
        }
        mine.close();
        mine.try_recv().ok()
    }

    /// Nobody waits any longer.
    pub fn turn_away(&self) {
        self.inner().waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Session, Transport};

    const PATIENCE: Duration = Duration::from_secs(2);
    const SOON: Duration = Duration::from_millis(250);

    async fn seated(sessions: &Arc<Sessions>, number: usize, dir: &tempfile::TempDir) -> Seated {
        let session = Session::open(&Transport::Maildir(dir.path().join("mail"))).await.unwrap();
        Seated { session, seat: sessions.take(number, 1).unwrap(), open: Arc::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_longest_gets_the_session_and_nobody_waits_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = Sessions::at_most(None);
        let pool = Pool::new(1, Arc::clone(&sessions), PATIENCE);
        pool.give(seated(&sessions, 1, &dir).await);
        assert_eq!(pool.idle(), 1);
        let one = pool.take(SOON).await.unwrap();
        assert!(pool.idle() == 0 && pool.take(SOON).await.is_none());
        let (first, second, ()) = tokio::join!(pool.take(SOON), pool.take(SOON), async { pool.give(one) });
        assert!(first.is_some() && second.is_none());
        // Whoever has given up is passed over.
        pool.give(first.unwrap());
        assert_eq!(pool.idle(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_turned_away_waits_no_longer() {
        let pool = Pool::new(1, Sessions::at_most(None), PATIENCE);
        let begun = tokio::time::Instant::now();
        let (given, ()) = tokio::join!(pool.take(SOON), async { pool.turn_away() });
        assert!(given.is_none() && begun.elapsed() < SOON);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_has_waited_long_gets_one_session_and_not_all() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = Sessions::at_most(Some(2));
        let pool = Pool::new(1, Arc::clone(&sessions), Duration::ZERO);
        let mine = [seated(&sessions, 1, &dir).await, seated(&sessions, 1, &dir).await];
        assert!(sessions.take(2, 0).is_none());
        mine.into_iter().for_each(|one| pool.give(one));
        assert_eq!((pool.parting().len(), pool.idle()), (1, 1));
    }
}
