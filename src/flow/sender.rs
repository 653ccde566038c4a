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
use crate::domain::reply::ReplyKind;
use crate::domain::time::{Span, Timestamp};
use std::time::Duration;

/// A look older than this is not trusted: the mail is looked at again before DATA.
pub const LOOK_AGE: Duration = Duration::from_millis(250);
/// A relay that took longer than this for the envelope has the mail looked at once more: most of what could still
/// leave after a recovery would leave in that time. Only once, for a database may take as long to answer.
pub const LOOK_ONCE_MORE: Duration = Duration::from_millis(40);

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
    /// The look is older than [`LOOK_ONCE_MORE`] or [`LOOK_AGE`] and DATA has not been written.
    Late,
    /// The smaller context is stored; `false` when the row is no longer ours.
    Refrozen(bool),
    /// The relay dialogue ended.
    HandedOver(Outcome),
    /// The database could not be asked: nothing was read, nothing may leave.
    Blind,
    /// It was claimed ahead, and no session is there for it in time.
    NoSession,
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
    /// The database could not be asked after the claim, or there is no session; nothing was handed over.
    PutBack,
}

impl Step {
    /// The next step and command.
    #[must_use]
    pub fn on(self, event: Event) -> (Self, Command) {
        match (self, event) {
            (Self::Armed, Event::Rendered) => (Self::Rendered, Command::Look),
            (Self::Armed | Self::Refreezing, Event::RenderFailed(why)) => {
                (Self::Recording, Command::Record(Record::Broken(why)))
            }
            (Self::Rendered, Event::Looked(seen)) => looked(seen),
            (Self::Rendered | Self::Looked | Self::Refreezing, Event::Blind) | (Self::Looked, Event::NoSession) => {
                (Self::Recording, Command::Record(Record::PutBack))
            }
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
        Some(Verdict::Send(split)) if split.is_whole() => (Step::Looked, Command::HandOver),
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
        /// Why it waits.
        reason: Reason,
    },
    /// Back to the queue, and its whole stream pauses: every other mail would be refused alike.
    Paused(ReplyKind),
    /// Refused for good.
    Failed(Reason),
    /// Perhaps taken: quarantined until then.
    Unknown {
        /// The end of the quarantine.
        until: Timestamp,
    },
}

/// After so many "later" a mail has failed. With the longest interval of an hour and full jitter that is about four
/// days, as RFC 5321 4.5.4.1 asks; most mails become too old long before.
pub const MOST_TRIES: i64 = 200;

/// A relay that says "never" means it, even where the words let hope: this often, and no more. (Not of what we have used
/// up: that ends with the hour or the day, whatever the code.)
pub const MOST_REFUSALS: i64 = 5;

/// Greylisting lets a mail pass after minutes, by custom five (RFC 6647 section 5).
const GREYLIST: Span = Span::minutes(5);
/// Nobody clears a full mailbox within minutes.
const FULL: Span = Span::minutes(30);

/// What is counted by the hour or by the day is not free again within minutes.
const PERIOD: Span = Span::minutes(30);

/// How often a mail was tried before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// Tries that count.
    pub tries: i64,
    /// Tries that were refused with a 5xx that need not last: a full mailbox, too much at once.
    pub refused: i64,
}

/// What a try's outcome makes of the row. `wait` is the retry interval already chosen for the tries before it.
#[must_use]
pub fn after(outcome: &Outcome, before: Before, now: Timestamp, wait: Span, quarantine: Span) -> After {
    match outcome.hand_over {
        HandOver::Accepted => After::Accepted,
        HandOver::Deferred => no(outcome.kind, false, before, now, wait),
        HandOver::Refused => no(outcome.kind, true, before, now, wait),
        // Nothing left and the mail is not at fault: it goes as soon as a session is open again.
        HandOver::NotHandedOver => After::Queued { due_at: now, counts: false, reason: Reason::Retry },
        HandOver::Unknown => After::Unknown { until: now + quarantine },
    }
}

/// What a "no" makes of the row: `refused` for 5xx, else 4xx.
fn no(kind: Option<ReplyKind>, refused: bool, before: Before, now: Timestamp, wait: Span) -> After {
    let kind = kind.unwrap_or(ReplyKind::Unknown);
    let never = refused && kind != ReplyKind::QuotaUsed && before.refused + 1 >= MOST_REFUSALS;
    let again = |least: Span, reason| match never || before.tries + 1 >= MOST_TRIES {
        false => After::Queued { due_at: now + wait.max(least), counts: true, reason },
        true => After::Failed(Reason::GaveUp),
    };
    match (kind, refused) {
        (ReplyKind::AddressDead, _) => After::Failed(Reason::AddressDead),
        (ReplyKind::MailboxFull, _) => again(FULL, Reason::MailboxFull),
        (ReplyKind::QuotaUsed, true) => again(PERIOD, Reason::SlowDown),
        (ReplyKind::SlowDown | ReplyKind::QuotaUsed, _) => again(Span::ZERO, Reason::SlowDown),
        (ReplyKind::Greylisted, _) => again(GREYLIST, Reason::Greylisted),
        (kind @ ReplyKind::Credentials, _)
        | (kind @ (ReplyKind::OurAuthentication | ReplyKind::OurReputation), true) => After::Paused(kind),
        (ReplyKind::MessageAtFault, true) => After::Failed(Reason::MessageAtFault),
        (_, true) => After::Failed(Reason::Refused),
        // A DNS that does not answer, a reputation that slows us down: this mail later, the others as they are.
        (_, false) => again(Span::ZERO, Reason::Retry),
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
        let taken = Outcome {
            hand_over: HandOver::Accepted,
            code: Some(250),
            enhanced: None,
            kind: None,
            words: String::new(),
        };
        let (step, command) = step.on(Event::HandedOver(taken.clone()));
        assert_eq!((step, command), (Step::Recording, Command::Record(Record::Attempt(taken))));
    }

    #[test]
    fn a_mail_that_cannot_be_rendered_is_recorded_as_broken() {
        let (_, command) = Step::Armed.on(Event::RenderFailed("no such field".to_owned()));
        assert_eq!(command, Command::Record(Record::Broken("no such field".to_owned())));
    }

    #[test]
    fn what_may_have_left_rests_until_the_quarantine_is_over() {
        let lost =
            Outcome { hand_over: HandOver::Unknown, code: None, enhanced: None, kind: None, words: String::new() };
        let then = after(&lost, Before::default(), Timestamp(100), Span::ZERO, Span(7));
        assert_eq!(then, After::Unknown { until: Timestamp(107) });
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
        for step in [Step::Rendered, Step::Looked, Step::Refreezing] {
            assert_eq!(step.on(Event::Blind).1, Command::Record(Record::PutBack));
        }
    }

    #[test]
    fn a_mail_that_lost_items_is_frozen_and_rendered_again_before_the_next_look() {
        let split = Split { keep: vec![1], later: vec![], dropped: vec![(0, Reason::Recovered)] };
        let (step, command) = Step::Rendered.on(Event::Looked(Some(Verdict::Send(split.clone()))));
        assert_eq!(command, Command::Refreeze(split));
        assert_eq!(step.on(Event::Refrozen(true)), (Step::Armed, Command::Render));
    }

    /// What a reply about a mail that got as many of its kind before makes of it, in words.
    fn reply(hand_over: HandOver, kind: ReplyKind, tries: i64) -> String {
        let refused = if hand_over == HandOver::Refused { tries } else { 0 };
        replied(hand_over, kind, Before { tries, refused })
    }

    fn replied(hand_over: HandOver, kind: ReplyKind, before: Before) -> String {
        let words = String::new();
        let outcome = Outcome { hand_over, code: Some(450), enhanced: None, kind: Some(kind), words };
        match after(&outcome, before, Timestamp(0), Span::seconds(40), Span::minutes(15)) {
            After::Queued { due_at, counts: true, reason } => format!("{reason} {}", due_at.0 / 1_000_000),
            After::Failed(reason) => format!("failed {reason}"),
            After::Paused(kind) => format!("paused {kind}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn what_follows_from_each_kind_of_no_can_be_read_here() {
        let lines: Vec<_> = ReplyKind::ALL
            .iter()
            .map(|kind| {
                let (later, never) = (reply(HandOver::Deferred, *kind, 0), reply(HandOver::Refused, *kind, 0));
                format!("{kind}: {later} | {never}")
            })
            .collect();
        assert_eq!(
            lines,
            [
                "address_dead: failed address_dead | failed address_dead",
                "mailbox_full: mailbox_full 1800 | mailbox_full 1800",
                "slow_down: slow_down 40 | slow_down 40",
                "quota_used: slow_down 40 | slow_down 1800",
                "greylisted: greylisted 300 | greylisted 300",
                "message_at_fault: retry 40 | failed message_at_fault",
                "our_authentication: retry 40 | paused our_authentication",
                "our_reputation: retry 40 | paused our_reputation",
                "credentials: paused credentials | paused credentials",
                "unknown: retry 40 | failed refused",
            ]
        );
    }

    #[test]
    fn a_relay_that_says_later_for_ever_is_not_asked_for_ever() {
        assert_eq!(reply(HandOver::Deferred, ReplyKind::Unknown, MOST_TRIES - 2), "retry 40");
        assert_eq!(reply(HandOver::Deferred, ReplyKind::Unknown, MOST_TRIES - 1), "failed gave_up");
    }

    #[test]
    fn a_relay_that_says_never_is_asked_five_times_at_most() {
        for kind in [ReplyKind::MailboxFull, ReplyKind::SlowDown, ReplyKind::Greylisted] {
            assert!(!reply(HandOver::Refused, kind, 3).starts_with("failed"), "{kind}");
            assert_eq!(reply(HandOver::Refused, kind, 4), "failed gave_up", "{kind}");
            let deferred = Before { tries: MOST_TRIES - 2, refused: 3 };
            assert!(!replied(HandOver::Refused, kind, deferred).starts_with("failed"), "{kind}");
        }
    }

    #[test]
    fn what_is_used_up_for_a_day_is_waited_for_whatever_the_code() {
        assert_eq!(reply(HandOver::Refused, ReplyKind::QuotaUsed, 4), "slow_down 1800");
        assert_eq!(reply(HandOver::Refused, ReplyKind::QuotaUsed, MOST_TRIES - 1), "failed gave_up");
    }
}
