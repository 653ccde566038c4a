//! A connection: a customer's link through a component that can break by itself, and what a signal does to it.

use super::delivery::Reason;
use super::time::{Span, Timestamp};

names!(
    /// What kind of fault a connection has.
    Fault {
        /// It works, as far as we know.
        None = "none",
        /// Heals by itself; mails nobody.
        Recoverable = "recoverable",
        /// Does not heal by itself, says the source.
        Permanent = "permanent",
    }
);

names!(
    /// Who made it well again. All withdraw what was not sent; only `customer` gets no correction.
    By {
        /// We reconnected it.
        Automatic = "automatic",
        /// The customer did it by hand.
        Customer = "customer",
        /// The source cannot tell.
        Unknown = "unknown",
    }
);

names!(
    /// What a signal says happened.
    What {
        /// It broke.
        Failed = "failed",
        /// It is being brought back.
        Recovering = "recovering",
        /// It works again.
        Recovered = "recovered",
        /// Bringing it back failed: the fault is its own.
        RecoveryFailed = "recovery_failed",
    }
);

/// A span of time in which every failure of a component's connections is declared well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Covering {
    /// The first failure covered.
    pub from: Timestamp,
    /// The last failure covered.
    pub until: Timestamp,
}

impl Covering {
    /// Whether a failure at this time is covered.
    #[must_use]
    pub fn covers(&self, failed_at: Timestamp) -> bool {
        self.from <= failed_at && failed_at <= self.until
    }
}

/// What is known of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Connection {
    /// How often it broke.
    pub episode: i64,
    /// Up to which outage it is recorded as recovered.
    pub cleared: i64,
    /// The newest outage proven to be its own fault.
    pub own_fault: i64,
    /// The newest outage for which mail was planned.
    pub asked: i64,
    /// What kind of fault it has now.
    pub fault: Fault,
    /// When the newest outage was observed.
    pub failed_at: Option<Timestamp>,
    /// When it truly broke: the time to tell the customer.
    pub broken_since: Option<Timestamp>,
    /// The newest time at which the newest outage was seen to last: what recovered before is old news.
    pub failing_as_of: Option<Timestamp>,
    /// It was seen well at this time; what failed before is old news.
    pub well_as_of: Option<Timestamp>,
    /// Who cleared the newest cleared outage.
    pub cleared_by: Option<By>,
    /// It is being brought back.
    pub recovering: bool,
}

/// What a source said of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// What happened.
    pub what: What,
    /// Of a failure: its kind.
    pub fault: Fault,
    /// Of a recovery: who did it.
    pub by: By,
    /// When it was observed, never later than received.
    pub observed_at: Timestamp,
    /// The source's sequence number is newer than any before: it beats time.
    pub newest_in_sequence: bool,
    /// The source's sequence number is not newer than one seen before.
    pub out_of_sequence: bool,
}

/// What a signal did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// An outage began or became permanent; `ask` when mail is to be planned.
    Broke {
        /// Mail is to be planned for this outage.
        ask: bool,
    },
    /// The outage is proven to be the connection's own fault.
    OwnFault,
    /// The outage ended.
    Cleared,
    /// Nothing new.
    Repeated,
    /// It is being brought back.
    Recovering,
    /// Recorded, not acted on: newer news was here first.
    StaleAtBirth(Reason),
    /// The same of an outage that was declared well before anybody had heard of it: it is among those that are to confirm.
    Unheard,
}

impl Connection {
    /// Whether the newest outage is over, by its own signal or by a covering recovery.
    #[must_use]
    pub fn is_well(&self, coverings: &[Covering]) -> bool {
        let covered = self.failed_at.is_some_and(|at| coverings.iter().any(|c| c.covers(at)));
        self.cleared >= self.episode || (covered && self.own_fault < self.episode)
    }

    /// Takes a signal in. `coverings` are the covering recoveries of the connection's component.
    pub fn hear(&mut self, said: Said, coverings: &[Covering]) -> Effect {
        if said.out_of_sequence {
            return Effect::StaleAtBirth(Reason::ReplacedByNewer);
        }
        match said.what {
            What::Failed => self.fail(said, coverings),
            What::Recovering => {
                self.recovering = !self.is_well(coverings);
                Effect::Recovering
            }
            What::Recovered => self.recover(said),
            What::RecoveryFailed => self.fail_to_recover(said, coverings),
        }
    }

    fn fail(&mut self, said: Said, coverings: &[Covering]) -> Effect {
        if let Some(reason) = self.old_news(said, coverings) {
            if !self.was_unheard_of(said) {
                return Effect::StaleAtBirth(reason);
            }
            self.open(said.observed_at, said.fault);
            return Effect::Unheard;
        }
        if self.is_well(coverings) {
            self.open(self.uncovered(said.observed_at, coverings), said.fault);
        } else {
            self.failing_as_of = self.failing_as_of.max(Some(said.observed_at));
            if said.fault != Fault::Permanent || self.fault != Fault::Recoverable {
                return Effect::Repeated;
            }
            self.fault = Fault::Permanent;
        }
        let ask = said.fault == Fault::Permanent && self.asked < self.episode;
        if ask {
            self.asked = self.episode;
        }
        Effect::Broke { ask }
    }

    fn recover(&mut self, said: Said) -> Effect {
        self.recovering = false;
        // Of an outage that a deadline opened: since when it was truly broken, for a confirmation may be late.
        let began = self.broken_since.or(self.failed_at);
        let ends = began.max(self.failing_as_of).is_none_or(|at| at <= said.observed_at) || said.newest_in_sequence;
        self.well_as_of = self.well_as_of.max(Some(said.observed_at));
        if self.cleared >= self.episode {
            return Effect::Repeated;
        }
        if !ends {
            return Effect::StaleAtBirth(Reason::ReplacedByNewer);
        }
        self.cleared = self.episode;
        self.cleared_by = Some(said.by);
        self.fault = Fault::None;
        Effect::Cleared
    }

    fn fail_to_recover(&mut self, said: Said, coverings: &[Covering]) -> Effect {
        if self.well_as_of.is_some_and(|well| said.observed_at <= well) && !said.newest_in_sequence {
            return Effect::StaleAtBirth(Reason::Recovered);
        }
        if self.is_well(coverings) {
            self.open(said.observed_at, Fault::Permanent);
        } else {
            self.failing_as_of = self.failing_as_of.max(Some(said.observed_at));
            if self.own_fault >= self.episode {
                return Effect::Repeated;
            }
        }
        self.recovering = false;
        self.fault = Fault::Permanent;
        self.own_fault = self.episode;
        self.asked = self.episode;
        Effect::OwnFault
    }

    /// When something was observed that is said without a time: of what is said in one moment the later is newer.
    #[must_use]
    pub fn said_now(&self, now: Timestamp, coverings: &[Covering]) -> Timestamp {
        self.uncovered(self.failed_at.max(self.failing_as_of).map_or(now, |at| at.max(now)), coverings)
    }

    /// Opens a new outage that nobody signalled: the deadline of a covering recovery passed in silence. The customer is
    /// told since when it has truly been broken. Whether it did: by now it may have confirmed.
    pub fn left_unconfirmed(&mut self, covering: Covering, now: Timestamp) -> bool {
        let is_covered = self.failed_at.is_some_and(|at| covering.covers(at));
        let is_silent = is_covered && self.cleared < self.episode && self.own_fault < self.episode;
        if is_silent {
            let (since, as_of) = (self.broken_since, self.failing_as_of);
            self.open(now, Fault::Permanent);
            (self.broken_since, self.failing_as_of) = (since, as_of);
            self.asked = self.episode;
        }
        is_silent
    }

    /// Takes an outage that was to heal by itself for permanent; whether mail is to be planned for it. Either way it is
    /// not looked at again.
    pub fn lose_patience(&mut self, coverings: &[Covering]) -> bool {
        let ask = self.fault == Fault::Recoverable && self.asked < self.episode && !self.is_well(coverings);
        if ask {
            self.fault = Fault::Permanent;
        }
        self.asked = self.episode;
        ask
    }

    fn open(&mut self, at: Timestamp, fault: Fault) {
        // A newer sequence beats time: the outage must still lie after what was known to be well.
        let at = self.well_as_of.map_or(at, |well| at.max(well + Span(1)));
        self.episode += 1;
        self.failed_at = Some(at);
        self.broken_since = Some(at);
        self.failing_as_of = Some(at);
        self.fault = fault;
        self.recovering = false;
    }

    /// When an outage begins that nobody has spoken for: a newer sequence beats time, and what was known to be well may lie
    /// within a covered span, where nobody would ever be asked.
    fn uncovered(&self, observed_at: Timestamp, coverings: &[Covering]) -> Timestamp {
        let mut at = self.well_as_of.map_or(observed_at, |well| observed_at.max(well + Span(1)));
        while let Some(covering) = coverings.iter().find(|c| c.covers(at)) {
            at = covering.until + Span(1);
        }
        at
    }

    fn was_unheard_of(&self, said: Said) -> bool {
        self.cleared >= self.episode && self.well_as_of.is_none_or(|well| well < said.observed_at)
    }

    fn old_news(&self, said: Said, coverings: &[Covering]) -> Option<Reason> {
        if self.well_as_of.is_some_and(|well| said.observed_at <= well) {
            // A newer sequence beats time: it broke after it was known to be well.
            return (!said.newest_in_sequence).then_some(Reason::Recovered);
        }
        coverings.iter().any(|c| c.covers(said.observed_at)).then_some(Reason::CoveredByRecovery)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> Connection {
        Connection {
            episode: 0,
            cleared: 0,
            own_fault: 0,
            asked: 0,
            fault: Fault::None,
            failed_at: None,
            broken_since: None,
            failing_as_of: None,
            well_as_of: None,
            cleared_by: None,
            recovering: false,
        }
    }

    fn said(what: What, at: i64) -> Said {
        Said {
            what,
            fault: Fault::Permanent,
            by: By::Automatic,
            observed_at: Timestamp(at),
            newest_in_sequence: false,
            out_of_sequence: false,
        }
    }

    #[test]
    fn a_permanent_failure_asks_once() {
        let mut c = new();
        assert_eq!(c.hear(said(What::Failed, 10), &[]), Effect::Broke { ask: true });
        assert_eq!(c.hear(said(What::Failed, 11), &[]), Effect::Repeated);
    }

    #[test]
    fn a_recoverable_failure_asks_when_it_turns_permanent() {
        let mut c = new();
        let soft = Said { fault: Fault::Recoverable, ..said(What::Failed, 10) };
        assert_eq!(c.hear(soft, &[]), Effect::Broke { ask: false });
        assert_eq!(c.hear(said(What::Failed, 12), &[]), Effect::Broke { ask: true });
        assert_eq!(c.episode, 1);
    }

    #[test]
    fn patience_with_what_was_to_heal_by_itself_ends_once_and_not_for_what_is_over() {
        let soft = Said { fault: Fault::Recoverable, ..said(What::Failed, 10) };
        let mut c = new();
        c.hear(soft, &[]);
        assert_eq!((c.lose_patience(&[]), c.fault, c.asked), (true, Fault::Permanent, 1));
        assert!(!c.lose_patience(&[]));
        assert_eq!(c.hear(said(What::Failed, 12), &[]), Effect::Repeated);
        let mut covered = new();
        covered.hear(soft, &[]);
        assert!(!covered.lose_patience(&[Covering { from: Timestamp(0), until: Timestamp(50) }]));
    }

    #[test]
    fn a_failure_observed_before_the_recovery_is_stale_at_birth() {
        let mut c = new();
        c.hear(said(What::Failed, 10), &[]);
        assert_eq!(c.hear(said(What::Recovered, 20), &[]), Effect::Cleared);
        assert_eq!(c.hear(said(What::Failed, 20), &[]), Effect::StaleAtBirth(Reason::Recovered));
        assert_eq!(c.hear(said(What::Failed, 21), &[]), Effect::Broke { ask: true });
        assert_eq!(c.episode, 2);
    }

    #[test]
    fn a_recovery_ends_only_what_began_before_it() {
        let mut c = new();
        c.hear(said(What::Failed, 30), &[]);
        assert!(matches!(c.hear(said(What::Recovered, 20), &[]), Effect::StaleAtBirth(_)));
        assert!(!c.is_well(&[]));
    }

    #[test]
    fn a_recovery_observed_before_it_was_seen_to_last_ends_nothing() {
        let soft = |at| Said { fault: Fault::Recoverable, ..said(What::Failed, at) };
        for again in [said(What::Failed, 30), soft(30), said(What::RecoveryFailed, 30)] {
            let mut c = new();
            c.hear(soft(10), &[]);
            c.hear(again, &[]);
            assert_eq!(c.said_now(Timestamp(20), &[]), Timestamp(30));
            assert!(matches!(c.hear(said(What::Recovered, 20), &[]), Effect::StaleAtBirth(_)));
            // Nor does what failed before it begin anything, and what was seen at the same time ends it.
            assert!(matches!(c.hear(said(What::Failed, 15), &[]), Effect::StaleAtBirth(_)));
            assert_eq!(c.hear(said(What::Recovered, 30), &[]), Effect::Cleared);
        }
        let mut c = new();
        c.hear(said(What::Failed, 10), &[]);
        c.hear(said(What::Failed, 30), &[]);
        let newer = Said { newest_in_sequence: true, ..said(What::Recovered, 20) };
        assert_eq!(c.hear(newer, &[]), Effect::Cleared);
    }

    #[test]
    fn a_newer_sequence_beats_time() {
        let mut c = new();
        c.hear(said(What::Failed, 30), &[]);
        let late = Said { newest_in_sequence: true, ..said(What::Recovered, 20) };
        assert_eq!(c.hear(late, &[]), Effect::Cleared);
        let again = Said { newest_in_sequence: true, ..said(What::Failed, 5) };
        assert_eq!(c.hear(again, &[]), Effect::Broke { ask: true });
        let old = Said { out_of_sequence: true, ..said(What::Recovered, 99) };
        assert!(matches!(c.hear(old, &[]), Effect::StaleAtBirth(_)));
    }

    #[test]
    fn what_a_newer_sequence_says_broke_is_asked_about_though_its_time_is_covered() {
        let coverings =
            [(10, 40), (35, 50)].map(|(from, until)| Covering { from: Timestamp(from), until: Timestamp(until) });
        for at in [5, 20, 30] {
            let mut c = new();
            c.hear(said(What::Recovered, 30), &coverings);
            let again = Said { newest_in_sequence: true, ..said(What::Failed, at) };
            assert_eq!(c.hear(again, &coverings), Effect::Broke { ask: true });
            assert_eq!((c.failed_at, c.is_well(&coverings)), (Some(Timestamp(51)), false));
        }
    }

    #[test]
    fn a_failed_recovery_cuts_a_broken_connection_from_its_component() {
        let mut c = new();
        c.hear(said(What::Failed, 10), &[]);
        assert_eq!(c.hear(said(What::RecoveryFailed, 20), &[]), Effect::OwnFault);
        assert_eq!((c.episode, c.own_fault), (1, 1));
        assert!(!c.is_well(&[Covering { from: Timestamp(0), until: Timestamp(50) }]));
        assert_eq!(c.hear(said(What::RecoveryFailed, 21), &[]), Effect::Repeated);
    }

    #[test]
    fn a_failed_recovery_from_before_the_recovery_is_old_news_unless_its_sequence_is_newer() {
        let mut c = new();
        c.hear(said(What::Failed, 10), &[]);
        c.hear(said(What::Recovered, 20), &[]);
        assert_eq!(c.hear(said(What::RecoveryFailed, 20), &[]), Effect::StaleAtBirth(Reason::Recovered));
        let newer = Said { newest_in_sequence: true, ..said(What::RecoveryFailed, 15) };
        assert_eq!(c.hear(newer, &[]), Effect::OwnFault);
        // Whatever the source's clock says: after what was known to be well.
        assert_eq!((c.episode, c.failed_at), (2, Some(Timestamp(20) + Span(1))));
    }

    #[test]
    fn only_what_is_broken_is_being_brought_back() {
        let mut c = new();
        c.hear(said(What::Recovering, 5), &[]);
        assert!(!c.recovering);
        c.hear(said(What::Failed, 10), &[]);
        c.hear(said(What::Recovering, 11), &[]);
        assert!(c.recovering);
    }

    #[test]
    fn what_did_not_confirm_is_asked_anew_and_told_since_when_it_is_broken() {
        let mut c = new();
        c.hear(said(What::Failed, 10), &[]);
        let covering = |from| Covering { from: Timestamp(from), until: Timestamp(20) };
        assert!(!{ c }.left_unconfirmed(covering(11), Timestamp(99)), "not covered by that one");
        assert!(c.left_unconfirmed(covering(10), Timestamp(99)));
        assert_eq!((c.episode, c.asked, c.failed_at), (2, 2, Some(Timestamp(99))));
        assert_eq!((c.broken_since, c.failing_as_of), (Some(Timestamp(10)), Some(Timestamp(10))));
        assert_eq!(c.hear(said(What::Recovered, 50), &[]), Effect::Cleared, "a confirmation that was late");
    }

    #[test]
    fn of_what_is_said_in_one_moment_the_later_is_newer() {
        let mut c = new();
        for (what, episode, cleared) in [
            (What::Failed, 1, 0),
            (What::Recovered, 1, 1),
            (What::Failed, 2, 1),
            (What::Recovered, 2, 2),
            (What::Failed, 3, 2),
        ] {
            let at = c.said_now(Timestamp(10), &[]);
            c.hear(said(what, at.0), &[]);
            assert_eq!((c.episode, c.cleared), (episode, cleared));
        }
    }

    #[test]
    fn what_has_confirmed_meanwhile_or_cannot_recover_is_not_asked_anew() {
        let covering = Covering { from: Timestamp(0), until: Timestamp(50) };
        for what in [What::Recovered, What::RecoveryFailed] {
            let mut c = new();
            c.hear(said(What::Failed, 10), &[]);
            c.hear(said(what, 20), &[]);
            let before = c;
            assert!(!c.left_unconfirmed(covering, Timestamp(99)), "{what}");
            assert_eq!(c, before);
        }
    }

    #[test]
    fn a_failed_recovery_after_a_covering_one_is_a_new_outage() {
        let mut c = new();
        c.hear(said(What::Failed, 10), &[]);
        let covering = [Covering { from: Timestamp(0), until: Timestamp(50) }];
        assert_eq!(c.hear(said(What::RecoveryFailed, 60), &covering), Effect::OwnFault);
        assert_eq!((c.episode, c.own_fault), (2, 2));
    }

    #[test]
    fn a_failure_inside_a_covered_outage_is_stale_at_birth_and_one_after_it_is_new() {
        let mut c = new();
        let covering = [Covering { from: Timestamp(0), until: Timestamp(50) }];
        for effect in [Effect::Unheard, Effect::StaleAtBirth(Reason::CoveredByRecovery)] {
            assert_eq!(c.hear(said(What::Failed, 40), &covering), effect);
            assert_eq!((c.episode, c.cleared, c.is_well(&covering)), (1, 0, true));
        }
        assert_eq!(c.hear(said(What::Failed, 51), &covering), Effect::Broke { ask: true });
    }
}
