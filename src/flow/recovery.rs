//! The machines of the sweep and of the quarantine, without I/O.

use super::gate::{Verdict, View, gate};
use crate::domain::class::{Class, Limits};
use crate::domain::connection::By;
use crate::domain::delivery::{Reason, State};
use crate::domain::time::Timestamp;

/// How often a correction that may be lost is sent again: losing it leaves a stale alarm standing.
const CORRECTION_REPEATS: i64 = 5;
/// How often any other mail that may be lost is sent again.
const REPEATS: i64 = 1;
/// How often a lease may run out before a person must look: something about this mail ends its workers.
const REAPS: i64 = 3;

/// The sweep of one recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sweep {
    of_connection: bool,
    covers: bool,
    limit: i64,
}

/// What the sweep's driver is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SweepCommand {
    /// Read all mails about the connection.
    ReadConnection,
    /// Read a page of the mails about the component, from the cursor on.
    ReadPage {
        /// How many rows at most.
        limit: i64,
    },
    /// Store the cursor; the next call goes on from there.
    Remember,
    /// The sweep is done.
    Finish,
}

/// What the sweep's driver reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SweepEvent {
    /// All there is was read.
    Whole,
    /// A page was read.
    Page {
        /// There may be more.
        full: bool,
        /// Its last row lies beyond the cursor.
        moved: bool,
    },
}

impl Sweep {
    /// The sweep of a connection's recovery, of a covering one, or of one that says nothing of connections.
    #[must_use]
    pub const fn new(of_connection: bool, covers: bool, page: i64) -> Self {
        Self { of_connection, covers, limit: page }
    }

    /// The first command.
    #[must_use]
    pub const fn start(self) -> SweepCommand {
        match (self.of_connection, self.covers) {
            (true, _) => SweepCommand::ReadConnection,
            (false, true) => SweepCommand::ReadPage { limit: self.limit },
            (false, false) => SweepCommand::Finish,
        }
    }

    /// The next command. Pages overlap in their last key; where one key fills a page, the page grows.
    pub const fn on(&mut self, event: SweepEvent) -> SweepCommand {
        match event {
            SweepEvent::Whole | SweepEvent::Page { full: false, .. } => SweepCommand::Finish,
            SweepEvent::Page { full: true, moved: true } => SweepCommand::Remember,
            SweepEvent::Page { full: true, moved: false } => {
                self.limit *= 2;
                SweepCommand::ReadPage { limit: self.limit }
            }
        }
    }
}

/// Whether a mail that a recovery makes stale is owed a correction: it left, or may have left, or is leaving.
#[must_use]
pub const fn owes_correction(state: State, maybe_mailed: bool) -> bool {
    maybe_mailed || matches!(state, State::Sending | State::Accepted | State::Unknown)
}

/// Who reconnected by hand knows, and needs no correction; a component's recovery is nobody's hand.
#[must_use]
pub fn is_by_hand(of_connection: bool, by: Option<By>) -> bool {
    of_connection && by == Some(By::Customer)
}

/// What becomes of a mail nobody knows about, once its quarantine is over and no copy can still be under way.
#[must_use]
pub fn after_quarantine(
    class: Class,
    repeats: i64,
    reaps: i64,
    view: Option<&View>,
    limits: &Limits,
    now: Timestamp,
) -> (State, Reason) {
    if reaps >= REAPS {
        return (State::Parked, Reason::ReapedOften);
    }
    let most = if class == Class::Correction { CORRECTION_REPEATS } else { REPEATS };
    let still_true = view.is_some_and(|view| matches!(gate(view, limits, now), Verdict::Send(_) | Verdict::Wait(..)));
    if still_true && repeats < most { (State::Queued, Reason::Ambiguous) } else { (State::Unknown, Reason::Ambiguous) }
}

#[cfg(test)]
mod tests {
    use super::super::gate::Holds;
    use super::*;

    #[test]
    fn pages_go_on_until_one_is_not_full() {
        let mut sweep = Sweep::new(false, true, 10);
        assert_eq!(sweep.start(), SweepCommand::ReadPage { limit: 10 });
        assert_eq!(sweep.on(SweepEvent::Page { full: true, moved: true }), SweepCommand::Remember);
        assert_eq!(sweep.on(SweepEvent::Page { full: true, moved: false }), SweepCommand::ReadPage { limit: 20 });
        assert_eq!(sweep.on(SweepEvent::Page { full: false, moved: true }), SweepCommand::Finish);
    }

    #[test]
    fn a_plain_recovery_of_a_component_sweeps_nothing() {
        assert_eq!(Sweep::new(false, false, 10).start(), SweepCommand::Finish);
    }

    fn free() -> View {
        View {
            class: Class::Free,
            created_at: Timestamp(0),
            resend: false,
            canary: false,
            holds: Holds::default(),
            suppressed: false,
            told: false,
            last_mailed_at: None,
            ended: false,
            resolved: None,
            rule: None,
            newer: None,
            trouble: false,
            troubled_elsewhere: false,
            items: vec![],
        }
    }

    #[test]
    fn an_ambiguous_mail_is_sent_again_once_and_never_when_stale() {
        let limits = Limits::of(Class::Free);
        let now = Timestamp(1);
        let after = |repeats, view: Option<&View>| after_quarantine(Class::Free, repeats, 0, view, &limits, now).0;
        assert_eq!(after(0, Some(&free())), State::Queued);
        assert_eq!(after(1, Some(&free())), State::Unknown);
        let stale = View { class: Class::IncidentUpdate, resolved: Some(true), ..free() };
        assert_eq!(after(0, Some(&stale)), State::Unknown);
        assert_eq!(after(0, None), State::Unknown);
    }

    #[test]
    fn what_ends_its_workers_again_and_again_is_parked() {
        let limits = Limits::of(Class::Free);
        assert_eq!(after_quarantine(Class::Free, 0, 3, Some(&free()), &limits, Timestamp(1)).0, State::Parked);
    }
}
