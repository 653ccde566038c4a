//! How many sessions a relay is given: its cap counts over all streams of this node that use it, and so do the tries
//! to reach one that is away.

use crate::domain::time::{Span, Timestamp};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two probes of a relay that cannot be reached.
pub const PROBE: Span = Span::seconds(30);

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
    /// It cannot be reached; when it is tried next.
    probe_at: Option<Timestamp>,
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
        // Whoever has one waits for all that wait; of those who wait the first is let in.
        let mine = taken.waiting.get(&who).copied().filter(|_| held == 0);
        let others_first = taken.waiting.iter().any(|(o, since)| *o != who && mine.is_none_or(|mine| *since < mine));
        let full = self.most.is_some_and(|most| taken.open >= most.max(1));
        if full || others_first {
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

    /// The relay could not be reached, or drops its sessions: nobody tries before a while.
    pub fn unreachable(&self, now: Timestamp) {
        self.taken().probe_at = Some(now + PROBE);
    }

    /// A session is open; whether the relay could not be reached before.
    pub fn reached(&self) -> bool {
        self.taken().probe_at.take().is_some()
    }

    /// Whether a dispatcher without a session must let the relay be for now.
    #[must_use]
    pub fn let_be(&self, now: Timestamp) -> bool {
        self.taken().probe_at.is_some_and(|at| now < at)
    }

    /// Whether a dispatcher without a session may try for one: of a relay that cannot be reached, one may at a time.
    #[must_use]
    pub fn may_try(&self, now: Timestamp) -> bool {
        let probe_at = &mut self.taken().probe_at;
        match *probe_at {
            Some(at) if now < at => false,
            Some(_) => {
                *probe_at = Some(now + PROBE);
                true
            }
            None => true,
        }
    }

    /// Whether anybody has a session, or opens one.
    #[must_use]
    pub fn any(&self) -> bool {
        self.taken().open > 0
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
        let (first, second) = (relay.take(1, 0), relay.take(1, 1));
        assert!(first.is_some() && second.is_some());
        assert!(relay.take(2, 0).is_none() && relay.take(3, 0).is_none());
        drop((first, second));
        assert!(relay.take(3, 0).is_none() && relay.take(1, 0).is_none(), "who waits longest goes first");
        assert!(relay.take(2, 0).is_some());
    }

    #[test]
    fn a_relay_that_is_away_is_tried_by_one_every_now_and_then() {
        let relay = Sessions::at_most(None);
        let at = |seconds| Timestamp(0) + Span::seconds(seconds);
        assert!(relay.may_try(at(0)) && relay.may_try(at(0)));
        relay.unreachable(at(0));
        assert!(relay.let_be(at(29)) && !relay.may_try(at(29)));
        assert!(!relay.let_be(at(30)) && relay.may_try(at(30)) && !relay.may_try(at(30)));
        assert!(relay.reached() && !relay.reached());
        assert!(relay.may_try(at(31)) && relay.may_try(at(31)));
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
