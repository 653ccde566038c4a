//! The sender: what happens to one claimed delivery until its outcome is durable. A machine without I/O:
//! `(state, event) -> (state, command)`. The driver carries commands out and decides nothing, so that a model
//! checker can run the same machine on every interleaving.
//!
//! ```text
//! Armed -> Render -> Look -> HandOver -> Record -> Done
//!                     | stale, held, stopped, late: Record what the gate said, or look again
//!                     | some items stale: Refreeze, Render, Look
//! ```

use super::gate::{Split, Verdict};
use crate::domain::delivery::{HandOver, Outcome, Reason};
use crate::domain::time::{Span, Timestamp};

/// A look older than this is not trusted: the mail is looked at again before DATA.
pub const LOOK_AGE: std::time::Duration = std::time::Duration::from_millis(250);

/// Where a claimed delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Claimed and committed; to be rendered.
    Armed,
    /// Rendered; to be looked at.
    Rendered,
    /// Looked at and true; may be handed over while the look is fresh.
    Looked,
    /// The mail goes with fewer items; its frozen context is being rewritten.
    Refreezing,
    /// Its outcome is being recorded.
    Recording,
    /// Nothing more to do.
    Done,
}

/// What the driver reports.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The mail's bytes are ready.
    Rendered,
    /// It cannot be rendered or built.
    RenderFailed(String),
    /// The last look: `None` when the row is no longer ours (another token or state).
    Looked(Option<Verdict>),
    /// The look is older than [`LOOK_AGE`] and DATA has not been written.
    Late,
    /// The smaller context is stored; `false` when the row is no longer ours.
    Refrozen(bool),
    /// The relay dialogue ended.
    HandedOver(Outcome),
    /// The database could not be asked: nothing was read, nothing may leave.
    Blind,
    /// The record is durable.
    Recorded,
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Render the frozen context to bytes.
    Render,
    /// Read the truth in a new statement and ask the gate.
    Look,
    /// Store a context with only these items, move or drop the others, and render again.
    Refreeze(Split),
    /// Hand the bytes to the relay.
    HandOver,
    /// Make the outcome durable.
    Record(Record),
    /// Forget the delivery: it is another's now.
    Drop,
}

/// An outcome to be made durable, guarded by token and state.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// What the relay said.
    Attempt(Outcome),
    /// What the gate said after the claim; nothing was handed over.
    Gated(Verdict),
    /// It cannot be rendered or built; a person must look.
    Broken(String),
    /// The database could not be asked after the claim; nothing was handed over.
    PutBack,
}

impl Step {
    /// The next step and command.
    #[must_use]
    pub fn on(self, event: Event) -> (Self, Command) {
        match (self, event) {
            (Self::Armed, Event::Rendered) => (Self::Rendered, Command::Look),
            (Self::Armed, Event::RenderFailed(why)) => (Self::Recording, Command::Record(Record::Broken(why))),
            (Self::Rendered, Event::Looked(seen)) => looked(seen),
            (Self::Rendered | Self::Looked, Event::Blind) => (Self::Recording, Command::Record(Record::PutBack)),
            (Self::Refreezing, Event::Refrozen(true)) => (Self::Armed, Command::Render),
            (Self::Looked, Event::Late) => (Self::Rendered, Command::Look),
            (Self::Looked, Event::HandedOver(outcome)) => (Self::Recording, Command::Record(Record::Attempt(outcome))),
            // Whatever else happens, nothing may leave: the lease brings the row back.
            _ => (Self::Done, Command::Drop),
        }
    }
}

fn looked(seen: Option<Verdict>) -> (Step, Command) {
    match seen {
        None => (Step::Done, Command::Drop),
        Some(Verdict::Send(split)) if split.later.is_empty() && split.dropped.is_empty() => {
            (Step::Looked, Command::HandOver)
        }
        Some(Verdict::Send(split)) => (Step::Refreezing, Command::Refreeze(split)),
        Some(verdict) => (Step::Recording, Command::Record(Record::Gated(verdict))),
    }
}

/// What a recorded outcome makes of the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The relay took it.
    Accepted,
    /// Back to the queue, due later; `counts` when the relay answered about this mail.
    Queued {
        /// When it is due again.
        due_at: Timestamp,
        /// It counts as a try.
        counts: bool,
    },
    /// Refused for good.
    Failed(Reason),
    /// Perhaps taken: quarantined until then.
    Unknown {
        /// The end of the quarantine.
        until: Timestamp,
    },
}

/// What a try's outcome makes of the row. `wait` is the retry interval already chosen for its tries.
#[must_use]
pub fn after(hand_over: HandOver, now: Timestamp, wait: Span, quarantine: Span) -> After {
    match hand_over {
        HandOver::Accepted => After::Accepted,
        HandOver::Deferred => After::Queued { due_at: now + wait, counts: true },
        HandOver::Refused => After::Failed(Reason::Refused),
        // Nothing left and the mail is not at fault: it goes as soon as a session is open again.
        HandOver::NotHandedOver => After::Queued { due_at: now, counts: false },
        HandOver::Unknown => After::Unknown { until: now + quarantine },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Verdict {
        Verdict::Send(Split { keep: vec![0], ..Split::default() })
    }

    #[test]
    fn a_true_mail_is_rendered_looked_at_handed_over_and_recorded() {
        let (step, command) = Step::Armed.on(Event::Rendered);
        assert_eq!(command, Command::Look);
        let (step, command) = step.on(Event::Looked(Some(whole())));
        assert_eq!((step, command), (Step::Looked, Command::HandOver));
    }

    #[test]
    fn a_stale_look_never_reaches_the_relay() {
        let (_, command) = Step::Rendered.on(Event::Looked(Some(Verdict::Withdraw(Reason::Recovered))));
        assert_eq!(command, Command::Record(Record::Gated(Verdict::Withdraw(Reason::Recovered))));
    }

    #[test]
    fn a_late_look_is_repeated() {
        assert_eq!(Step::Looked.on(Event::Late), (Step::Rendered, Command::Look));
    }

    #[test]
    fn a_row_that_is_no_longer_ours_is_dropped() {
        assert_eq!(Step::Rendered.on(Event::Looked(None)), (Step::Done, Command::Drop));
        assert_eq!(Step::Refreezing.on(Event::Refrozen(false)), (Step::Done, Command::Drop));
    }

    #[test]
    fn with_the_database_away_nothing_leaves() {
        let (_, command) = Step::Rendered.on(Event::Blind);
        assert_eq!(command, Command::Record(Record::PutBack));
    }

    #[test]
    fn a_mail_that_lost_items_is_frozen_and_rendered_again_before_the_next_look() {
        let split = Split { keep: vec![1], later: vec![], dropped: vec![(0, Reason::Recovered)] };
        let (step, command) = Step::Rendered.on(Event::Looked(Some(Verdict::Send(split.clone()))));
        assert_eq!(command, Command::Refreeze(split));
        assert_eq!(step.on(Event::Refrozen(true)), (Step::Armed, Command::Render));
    }
}
