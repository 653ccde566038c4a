//! A component: a part of the platform whose outages are episodes, and what a signal does to it.

use super::connection::{Covering, What};
use super::delivery::Reason;
use super::time::{Span, Timestamp};

/// What is known of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Component {
    /// How many outages it had.
    pub episode: i64,
    /// Since when it is down, if it is.
    pub down_since: Option<Timestamp>,
    /// The newest time at which its newest outage was seen to last: what recovered before is old news.
    pub failing_as_of: Option<Timestamp>,
    /// When its newest ended outage ended.
    pub up_since: Option<Timestamp>,
    /// The newest time at which it was seen well; what failed before is old news.
    pub well_as_of: Option<Timestamp>,
    /// When its newest outage began.
    pub last_since: Option<Timestamp>,
    /// The newest outage's connections are declared well.
    pub last_covered: bool,
    /// An operator had its customers asked against the word of a source that it is down: what the source repeats is known,
    /// until it says that it is back or has been silent.
    pub overruled: bool,
}

/// What repeats itself does so within a day, mostly within hours; "down" that comes later is said anew.
const SILENCE: Span = Span::hours(24);

/// What a source said of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// What happened.
    pub what: What,
    /// When it was observed, never later than received.
    pub observed_at: Timestamp,
    /// Of a recovery: the connections are well too (`connections: "all"`).
    pub covers: bool,
    /// Of a covering recovery: which failures it covers, from when on. Of a failure: since when it lasts, if before.
    pub since: Option<Timestamp>,
    /// The source's sequence number is newer than any before: it beats time.
    pub newest_in_sequence: bool,
    /// The source's sequence number is not newer than one seen before.
    pub out_of_sequence: bool,
}

/// What a signal did to a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A new outage began.
    Opened {
        /// Since when.
        since: Timestamp,
    },
    /// The open outage ended, or an ended one was declared to cover its connections.
    Ended {
        /// The outage's number.
        n: i64,
        /// Since when it was down.
        since: Timestamp,
        /// When it ended.
        at: Timestamp,
        /// The connections declared well by it.
        covering: Option<Covering>,
        /// The outage was open until now.
        was_open: bool,
    },
    /// Nothing new.
    Repeated,
    /// It is being brought back.
    Recovering,
    /// Recorded, not acted on: newer news was here first.
    StaleAtBirth(Reason),
    /// A covering recovery without `since`, and no outage to take it from.
    NothingToCover,
}

impl Component {
    /// Takes a signal in.
    pub fn hear(&mut self, said: Said) -> Effect {
        if said.out_of_sequence {
            return Effect::StaleAtBirth(Reason::ReplacedByNewer);
        }
        match said.what {
            What::Failed | What::RecoveryFailed => self.fail(said),
            What::Recovering => Effect::Recovering,
            What::Recovered => {
                let effect = self.recover(said);
                if !matches!(effect, Effect::StaleAtBirth(_) | Effect::NothingToCover) {
                    self.well_as_of = self.well_as_of.max(Some(said.observed_at));
                    self.overruled = false;
                }
                effect
            }
        }
    }

    /// When something was observed that is said without a time: of what is said in one moment the later is newer.
    #[must_use]
    pub fn said_now(&self, now: Timestamp) -> Timestamp {
        let lasts = self.down_since.max(self.failing_as_of).filter(|_| self.down_since.is_some() || self.overruled);
        let after = lasts.max(self.well().map(|well| well + Span(1)));
        after.map_or(now, |at| at.max(now))
    }

    /// Whether this was in its last outage, which is over.
    #[must_use]
    pub fn was_down_at(&self, at: Timestamp) -> bool {
        self.down_since.is_none() && self.last_since.is_some_and(|since| since <= at) && Some(at) <= self.up_since
    }

    fn well(&self) -> Option<Timestamp> {
        self.up_since.max(self.well_as_of)
    }

    fn fail(&mut self, said: Said) -> Effect {
        let repeats = |as_of: Timestamp| said.observed_at - as_of <= SILENCE;
        self.overruled &= self.failing_as_of.is_some_and(repeats);
        if self.down_since.is_some() || self.overruled {
            self.failing_as_of = self.failing_as_of.max(Some(said.observed_at));
            return Effect::Repeated;
        }
        if self.well().is_some_and(|well| said.observed_at <= well) && !said.newest_in_sequence {
            return Effect::StaleAtBirth(Reason::Recovered);
        }
        let since = said.since.map_or(said.observed_at, |since| since.min(said.observed_at));
        self.episode += 1;
        self.down_since = Some(since);
        self.last_since = self.down_since;
        self.failing_as_of = Some(said.observed_at);
        self.last_covered = false;
        Effect::Opened { since }
    }

    fn recover(&mut self, said: Said) -> Effect {
        match (self.down_since, said.covers) {
            (since, _)
                if (since.is_some() || self.overruled)
                    && Some(said.observed_at) < since.max(self.failing_as_of)
                    && !said.newest_in_sequence =>
            {
                Effect::StaleAtBirth(Reason::ReplacedByNewer)
            }
            (Some(since), covers) => {
                self.down_since = None;
                self.end(since, said, covers, true)
            }
            (None, false) => Effect::Repeated,
            (None, true) => self.cover_what_ended(said),
        }
    }

    /// The component was back before, or was never reported down: its connections are declared well now.
    fn cover_what_ended(&mut self, said: Said) -> Effect {
        match (self.last_since, said.since) {
            // It was observed before the last outage began, and tells nothing of it.
            (Some(last), None) if said.observed_at < last && !said.newest_in_sequence => {
                Effect::StaleAtBirth(Reason::ReplacedByNewer)
            }
            (Some(last), _) if !self.last_covered => self.end(last, said, true, false),
            (_, Some(since)) => {
                self.episode += 1;
                self.last_since = Some(since);
                self.end(since, said, true, false)
            }
            (Some(_), None) => Effect::Repeated,
            (None, None) => Effect::NothingToCover,
        }
    }

    fn end(&mut self, since: Timestamp, said: Said, covers: bool, was_open: bool) -> Effect {
        let at = said.observed_at.max(since);
        if was_open || self.up_since.is_none() {
            self.up_since = Some(at);
        }
        self.last_covered = covers;
        // What failed after it was observed is not well by it, however late it is heard.
        let until = if said.newest_in_sequence { at } else { said.observed_at };
        let covering = covers.then(|| Covering { from: said.since.unwrap_or(since), until });
        Effect::Ended { n: self.episode, since, at, covering, was_open }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(what: What, at: i64) -> Said {
        Said {
            what,
            observed_at: Timestamp(at),
            covers: false,
            since: None,
            newest_in_sequence: false,
            out_of_sequence: false,
        }
    }

    fn covering(at: i64, since: Option<i64>) -> Said {
        Said { covers: true, since: since.map(Timestamp), ..said(What::Recovered, at) }
    }

    #[test]
    fn a_plain_recovery_ends_the_outage_and_covers_nothing() {
        let mut c = Component::default();
        assert_eq!(c.hear(said(What::Failed, 10)), Effect::Opened { since: Timestamp(10) });
        assert_eq!(c.hear(said(What::Failed, 11)), Effect::Repeated);
        let ended = c.hear(said(What::Recovered, 20));
        assert!(matches!(ended, Effect::Ended { n: 1, covering: None, was_open: true, .. }));
    }

    #[test]
    fn a_covering_recovery_after_a_plain_one_covers_up_to_its_own_time() {
        let mut c = Component::default();
        c.hear(said(What::Failed, 10));
        c.hear(said(What::Recovered, 20));
        let Effect::Ended { n: 1, covering: Some(covering), was_open: false, .. } = c.hear(covering(50, None)) else {
            panic!("not covered");
        };
        assert!(covering.covers(Timestamp(10)) && covering.covers(Timestamp(45)));
        assert!(!covering.covers(Timestamp(9)) && !covering.covers(Timestamp(51)));
        assert_eq!(c.up_since, Some(Timestamp(20)));
    }

    #[test]
    fn a_covering_recovery_that_is_heard_late_tells_nothing_of_an_outage_after_it() {
        let mut c = Component::default();
        for (what, at) in [(What::Failed, 10), (What::Recovered, 20), (What::Failed, 40), (What::Recovered, 60)] {
            c.hear(said(what, at));
        }
        assert_eq!(c.hear(covering(25, None)), Effect::StaleAtBirth(Reason::ReplacedByNewer));
        let Effect::Ended { n: 2, covering: Some(newest), .. } = c.hear(covering(65, None)) else {
            panic!("not covered");
        };
        assert!(newest.covers(Timestamp(40)) && !newest.covers(Timestamp(39)));
        let mut c = Component { last_covered: false, ..c };
        let Effect::Ended { covering: Some(late), .. } = c.hear(covering(25, Some(5))) else { panic!("not covered") };
        assert!(late.covers(Timestamp(5)) && late.covers(Timestamp(25)) && !late.covers(Timestamp(26)));
    }

    #[test]
    fn a_covering_recovery_of_an_outage_never_reported_needs_since() {
        assert_eq!(Component::default().hear(covering(50, None)), Effect::NothingToCover);
        let mut c = Component::default();
        assert!(matches!(c.hear(covering(50, Some(10))), Effect::Ended { n: 1, covering: Some(_), .. }));
    }

    #[test]
    fn a_down_older_than_a_recorded_up_opens_nothing() {
        let mut c = Component::default();
        c.hear(said(What::Failed, 10));
        c.hear(said(What::Recovered, 20));
        assert_eq!(c.hear(said(What::Failed, 15)), Effect::StaleAtBirth(Reason::Recovered));
        assert_eq!(c.hear(said(What::Failed, 21)), Effect::Opened { since: Timestamp(21) });
        assert_eq!(c.episode, 2);
    }

    #[test]
    fn an_overruled_word_is_heard_again_after_a_day_s_silence() {
        let mut c = Component { overruled: true, failing_as_of: Some(Timestamp(0)), ..Component::default() };
        for hours in [24, 48] {
            assert_eq!(c.hear(said(What::Failed, Span::hours(hours).0)), Effect::Repeated);
        }
        let after = Span::hours(73).0;
        assert_eq!(c.hear(said(What::Failed, after)), Effect::Opened { since: Timestamp(after) });
        assert!(!c.overruled);
    }

    #[test]
    fn a_down_older_than_any_up_opens_nothing() {
        let mut c = Component::default();
        c.hear(said(What::Recovered, 50));
        assert_eq!(c.hear(said(What::Failed, 30)), Effect::StaleAtBirth(Reason::Recovered));
        let mut c = Component::default();
        for (what, at) in [(What::Failed, 10), (What::Recovered, 20), (What::Recovered, 50)] {
            c.hear(said(what, at));
        }
        // It is not back later for being said again.
        assert!(c.was_down_at(Timestamp(20)) && !c.was_down_at(Timestamp(21)));
        assert_eq!(c.hear(said(What::Failed, 30)), Effect::StaleAtBirth(Reason::Recovered));
        assert_eq!(c.said_now(Timestamp(50)), Timestamp(51));
        // Seen to last after it, with a beginning from before.
        let began = Said { since: Some(Timestamp(40)), ..said(What::Failed, 51) };
        let mut began_before = c;
        assert_eq!(began_before.hear(began), Effect::Opened { since: Timestamp(40) });
        assert!(matches!(began_before.hear(said(What::Recovered, 50)), Effect::StaleAtBirth(_)));
        assert_eq!(c.hear(said(What::Failed, 51)), Effect::Opened { since: Timestamp(51) });
        let mut covered = Component::default();
        for said in [said(What::Failed, 10), said(What::Recovered, 20), covering(50, None)] {
            covered.hear(said);
        }
        assert_eq!(covered.hear(said(What::Failed, 30)), Effect::StaleAtBirth(Reason::Recovered));
    }

    #[test]
    fn a_recovery_observed_before_the_outage_ends_nothing() {
        let mut c = Component::default();
        c.hear(said(What::Failed, 10));
        assert!(matches!(c.hear(said(What::Recovered, 5)), Effect::StaleAtBirth(_)));
        assert!(c.down_since.is_some());
    }

    #[test]
    fn a_recovery_observed_before_it_was_seen_to_last_ends_nothing() {
        let mut c = Component::default();
        c.hear(said(What::Failed, 10));
        c.hear(said(What::Failed, 30));
        assert_eq!(c.said_now(Timestamp(20)), Timestamp(30));
        assert!(matches!(c.hear(said(What::Recovered, 20)), Effect::StaleAtBirth(_)));
        assert!(matches!(c.hear(Said { newest_in_sequence: true, ..said(What::Recovered, 20) }), Effect::Ended { .. }));
        // Of the outage before nothing is left.
        c.hear(said(What::Failed, 25));
        assert!(matches!(c.hear(said(What::Recovered, 26)), Effect::Ended { n: 2, .. }));
    }
}
