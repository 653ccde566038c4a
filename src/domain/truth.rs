//! What a mail claims, and whether that is still so (design section 4). Everything here is a function of
//! data that one statement read; nothing knows where the data came from.

use super::delivery::Reason;
use super::time::Timestamp;

/// What an item says of a connection, beside what is known of that connection now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The outage of the connection the item speaks of.
    pub episode: i64,
    /// When that outage was observed.
    pub failed_at: Timestamp,
    /// The newest outage of the connection.
    pub newest: i64,
    /// The newest outage recorded as recovered.
    pub cleared: i64,
    /// The newest outage proven to be the connection's own fault.
    pub own_fault: i64,
    /// A covering recovery of the component covers `failed_at`.
    pub covered: bool,
    /// A covering recovery covers the *newest* failure.
    pub newest_covered: bool,
    /// When an outage of the component ended in which it failed, or before and was heard of in it: where it is not covered, nobody
    /// has spoken for the connection.
    pub awaiting: Option<Timestamp>,
    /// The component is down at this moment.
    pub component_down: bool,
}

impl Claim {
    /// Whether the fault is proven to be the connection's own: then nothing about the component touches it.
    #[must_use]
    pub const fn is_own_fault(&self) -> bool {
        self.own_fault == self.episode
    }

    /// Why "this connection is broken" is no longer true, if it is not.
    #[must_use]
    pub const fn stale(&self) -> Option<Reason> {
        over(self.episode, self.cleared, self.own_fault, self.covered)
    }

    /// Why the customer should not be asked yet, if so.
    #[must_use]
    pub const fn waits(&self) -> Option<Reason> {
        if self.is_own_fault() {
            None
        } else if self.component_down {
            Some(Reason::ComponentDown)
        } else if self.awaiting.is_some() {
            Some(Reason::AwaitingReconnection)
        } else {
            None
        }
    }

    /// Whether the connection is broken at this moment, in this outage or a later one.
    #[must_use]
    pub const fn open_now(&self) -> bool {
        self.newest > self.cleared && !(self.newest_covered && self.own_fault != self.newest)
    }
}

/// Why an outage of a connection is over, if it is: cleared by its own signal, or covered and not proven its own fault.
#[must_use]
pub const fn over(episode: i64, cleared: i64, own_fault: i64, covered: bool) -> Option<Reason> {
    if cleared >= episode {
        Some(Reason::Recovered)
    } else if covered && own_fault != episode {
        Some(Reason::CoveredByRecovery)
    } else {
        None
    }
}

/// The mail that a correction takes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Original {
    /// Neither on the wire, nor queued to say it, nor in quarantine.
    pub decided: bool,
    /// It left, or may have left.
    pub maybe_mailed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken() -> Claim {
        Claim {
            episode: 2,
            failed_at: Timestamp(100),
            newest: 2,
            cleared: 1,
            own_fault: 0,
            covered: false,
            newest_covered: false,
            awaiting: None,
            component_down: false,
        }
    }

    #[test]
    fn a_recovery_of_the_outage_makes_the_claim_stale() {
        assert_eq!(broken().stale(), None);
        assert_eq!(Claim { cleared: 2, ..broken() }.stale(), Some(Reason::Recovered));
    }

    #[test]
    fn a_covering_recovery_makes_it_stale_unless_the_fault_is_its_own() {
        let covered = Claim { covered: true, newest_covered: true, ..broken() };
        assert_eq!(covered.stale(), Some(Reason::CoveredByRecovery));
        assert!(!covered.open_now());
        let own = Claim { own_fault: 2, ..covered };
        assert_eq!(own.stale(), None);
        assert!(own.open_now());
    }

    #[test]
    fn an_own_fault_is_that_of_one_outage_and_of_none_before_or_after_it() {
        let covered = Claim { covered: true, newest_covered: true, ..broken() };
        for other in [1, 3] {
            let other = Claim { own_fault: other, ..covered };
            assert_eq!((other.is_own_fault(), other.stale()), (false, Some(Reason::CoveredByRecovery)));
        }
        assert!(Claim { own_fault: 2, ..covered }.is_own_fault());
    }

    #[test]
    fn nobody_is_asked_while_the_component_is_down_or_reconnecting() {
        let down = Claim { component_down: true, awaiting: Some(Timestamp(150)), ..broken() };
        assert_eq!(down.waits(), Some(Reason::ComponentDown));
        assert_eq!(Claim { component_down: false, ..down }.waits(), Some(Reason::AwaitingReconnection));
        assert_eq!(Claim { own_fault: 2, ..down }.waits(), None);
    }

    #[test]
    fn a_newer_outage_opens_the_connection_but_not_the_old_claim() {
        let again = Claim { newest: 3, cleared: 2, ..broken() };
        assert_eq!(again.stale(), Some(Reason::Recovered));
        assert!(again.open_now());
    }
}
