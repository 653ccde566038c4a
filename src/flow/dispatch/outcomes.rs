//! What became of tries: recorded, with what follows for the address and the stream.

use super::super::gate::Verdict;
use super::super::relation::{self, PROBE_PAUSED, PROBE_SOON};
use super::super::retry;
use super::super::sender::{After, Before, Record, after};
use super::super::setting::{Setting, Stream};
use super::super::settled::settle;
use super::Shared;
use super::way::Job;
use crate::domain::delivery::{HandOver, Outcome, Reason, State};
use crate::domain::id::DeliveryId;
use crate::domain::time::{Span, Timestamp};
use crate::mail::{self, classify_between};
use crate::store::record::Settled;
use crate::store::streams::{self, Refused};
use crate::store::{StoreError, Tx, copies};
use crate::template::context::Mail;
use std::collections::HashMap;

/// A mail that is refused as if all were, while others are taken, has failed at this try.
const TRIES_ALONE: i64 = 3;
/// Perhaps it is the mail that ends its sessions: so many lost with it, in this many of the times between with others
/// taken, are proof enough. (The second try comes at once: there may be no time for another between it and the first.)
const SESSIONS_LOST: (i64, i64) = (5, 3);
/// How long it is remembered that a recipient's domain refused us alone.
const REMEMBERED: Span = Span::hours(24);

/// The relay took it.
pub(super) const fn is_accepted(record: &Record) -> bool {
    matches!(record, Record::Attempt(Outcome { hand_over: HandOver::Accepted, .. }))
}

fn is_refused(record: &Record) -> bool {
    matches!(record, Record::Attempt(Outcome { hand_over: HandOver::Refused, .. }))
}

/// The session was lost with it, and the relay has nothing of it. (One that the relay ended at `MAIL`, as those do that limit
/// our rate, was not lost with this mail.)
pub(super) const fn is_lost(record: &Record) -> bool {
    matches!(record, Record::Attempt(Outcome { hand_over: HandOver::NotHandedOver, code: None, .. }))
}

/// What the relay said of a mail that failed by it at once, unless it was the address.
pub(super) fn refused_for_good((_, record): &(Job, Record)) -> Option<&Outcome> {
    let Record::Attempt(outcome) = record else { return None };
    let then = after(outcome, Before::default(), Timestamp(0), Span::ZERO, Span::ZERO);
    matches!(then, After::Failed(why) if why != Reason::AddressDead).then_some(outcome)
}

impl Shared {
    pub(super) async fn record_alone(&self, stream: &Stream, results: &[(Job, Record)]) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        let noted = self.copies.note(&mut tx).await?;
        self.record(&mut tx, stream, results).await?;
        tx.commit().await?;
        self.copies.noted(noted);
        Ok(())
    }

    /// Records outcomes, and what follows from them for addresses and for the stream; whether the stream's pause began
    /// or ended.
    pub(super) async fn record(
        &self,
        tx: &mut Tx,
        stream: &Stream,
        results: &[(Job, Record)],
    ) -> Result<bool, StoreError> {
        if results.is_empty() {
            return Ok(false);
        }
        let refusals: Vec<_> = results.iter().filter_map(refusal).collect();
        let mut at_fault = AtFault::default();
        if !refusals.is_empty() {
            let refused: Vec<_> = refusals.iter().map(|r| r.0).collect();
            at_fault.alone = streams::refused_alone(tx, &refused, tx.now() - REMEMBERED).await?;
        }
        let again: Vec<_> = results.iter().filter(|(_, r)| is_refused(r)).map(|(job, _)| job.claimed.id).collect();
        if !again.is_empty() {
            at_fault.refused = streams::refusals(tx, &again).await?;
        }
        let lost: Vec<_> = results.iter().filter(|(_, r)| is_lost(r)).map(|(job, _)| job.claimed.id).collect();
        if !lost.is_empty() {
            let proven =
                |(_, before, others): &(_, i64, i64)| before + 1 >= SESSIONS_LOST.0 && *others >= SESSIONS_LOST.1;
            let losses = streams::losses(tx, &lost).await?;
            at_fault.ends_sessions = losses.into_iter().filter(proven).map(|(id, ..)| id).collect();
        }
        let settled = self.settled(results, &at_fault, tx.now());
        settle(tx, &self.setting, &self.owner, &settled).await?;
        if self.copies.keeps_none() {
            let ended: Vec<_> = settled.iter().filter(|s| s.state != State::Queued).map(|s| s.id).collect();
            copies::forget(tx, &ended).await?;
        }
        let mut turned = false;
        if let Some((refused, outcome)) = refusals.iter().find(|r| !at_fault.alone.contains_key(&r.0.id)) {
            let words = format!("{} {}", outcome.code.unwrap_or_default(), outcome.words);
            let delivery = Some((refused.id, refused.domain));
            relation::pause(tx, stream, refused.kind, &words, delivery, &self.owner).await?;
            turned = true;
        } else if results.iter().any(|(job, record)| job.probe && is_accepted(record)) {
            if streams::end(tx, &stream.name, &self.owner).await? {
                tracing::info!(stream = stream.name, "stream {} goes on: the relay took a mail again", stream.name);
            }
            turned = true;
        } else if results.iter().any(|(job, _)| job.probe) {
            // It found out nothing about us.
            streams::probe_later(tx, &stream.name, tx.now() + PROBE_SOON).await?;
            turned = true;
        }
        Ok(turned)
    }

    pub(super) fn settled(&self, results: &[(Job, Record)], at_fault: &AtFault, now: Timestamp) -> Vec<Settled> {
        results.iter().map(|(job, record)| what_became(job, record, &self.setting, now, at_fault)).collect()
    }
}

/// Mails that are at fault themselves, as far as the others of their stream show it.
#[derive(Default)]
pub(super) struct AtFault {
    /// Refused for what the others are not, and how often before.
    alone: HashMap<DeliveryId, i64>,
    /// How often it was refused before, if it was.
    refused: HashMap<DeliveryId, i64>,
    /// Session after session ended with it, and the others got through.
    ends_sessions: Vec<DeliveryId>,
}

/// What a try said of us, if it did.
fn refusal((job, record): &(Job, Record)) -> Option<(Refused<'_>, &Outcome)> {
    let Record::Attempt(outcome) = record else { return None };
    let domain = job.claimed.frozen.to.rsplit('@').next().unwrap_or_default();
    match after(outcome, Before::default(), Timestamp(0), Span::ZERO, Span::ZERO) {
        After::Paused(kind) => Some((Refused { id: job.claimed.id, domain, kind }, outcome)),
        _ => None,
    }
}

/// A dialogue's end, about a mail between two addresses, in the words of the queue.
pub(super) fn of(outcome: mail::Outcome, from: &str, to: &str) -> Outcome {
    let reply = |hand_over, reply: mail::Reply| Outcome {
        hand_over,
        kind: (hand_over != HandOver::Accepted).then(|| classify_between(&reply, from, to)),
        code: Some(reply.code),
        enhanced: reply.enhanced,
        words: reply.text,
    };
    let cut = |hand_over, code, words| Outcome { hand_over, code, enhanced: None, kind: None, words };
    match outcome {
        mail::Outcome::Accepted(r) => reply(HandOver::Accepted, r),
        mail::Outcome::Deferred(r) => reply(HandOver::Deferred, r),
        mail::Outcome::Refused(r) => reply(HandOver::Refused, r),
        mail::Outcome::NotHandedOver { why, code } => cut(HandOver::NotHandedOver, code, why),
        mail::Outcome::Unknown { why } => cut(HandOver::Unknown, None, why),
    }
}

/// What a record makes of its row.
fn what_became(job: &Job, record: &Record, setting: &Setting, now: Timestamp, at_fault: &AtFault) -> Settled {
    let alone = at_fault.alone.get(&job.claimed.id);
    let blank = Settled {
        id: job.claimed.id,
        token: job.claimed.token,
        outcome: None,
        state: State::Queued,
        reason: None,
        due_at: None,
        quarantine_until: None,
        counts: false,
        tells: matches!(job.claimed.frozen.mail, Mail::Incident(_) | Mail::AllClear(_)),
        copy: job.copy.clone(),
        dead: None,
    };
    match record {
        Record::Attempt(outcome) => {
            let wait = retry::wait(setting.retry, job.claimed.tries + 1, rand::random());
            let refused = at_fault.refused.get(&job.claimed.id).copied().unwrap_or_default();
            let before = Before { tries: job.claimed.tries, refused };
            let then = after(outcome, before, now, wait, setting.quarantine);
            let outcome = Some(outcome.clone());
            match then {
                After::Accepted => Settled { outcome, state: State::Accepted, ..blank },
                After::Queued { counts: false, .. } if at_fault.ends_sessions.contains(&job.claimed.id) => {
                    tracing::error!(delivery = %job.claimed.id, "delivery {} ends its sessions and is set aside", job.claimed.id);
                    Settled { outcome, state: State::Parked, reason: Some(Reason::SessionsLost), ..blank }
                }
                // The second session lost with it: perhaps it is this mail that ends them.
                After::Queued { counts: false, .. } if job.lost_before => {
                    let due_at = Some(now + wait);
                    Settled { outcome, due_at, reason: Some(Reason::Retry), counts: true, ..blank }
                }
                After::Queued { due_at, counts, reason } => {
                    Settled { outcome, due_at: Some(due_at), reason: Some(reason), counts, ..blank }
                }
                After::Paused(_) if alone.is_some_and(|before| before + 1 >= TRIES_ALONE) => {
                    Settled { outcome, state: State::Failed, reason: Some(Reason::Refused), ..blank }
                }
                After::Paused(_) if alone.is_some() => {
                    let due_at = Some(now + wait.max(PROBE_PAUSED));
                    Settled { outcome, due_at, reason: Some(Reason::Retry), counts: true, ..blank }
                }
                // Later than the next probe: another mail tries first, in case it is this one after all.
                After::Paused(_) => {
                    let due_at = Some(now + PROBE_PAUSED + PROBE_PAUSED);
                    Settled { outcome, due_at, reason: Some(Reason::StreamPaused), counts: true, ..blank }
                }
                After::Failed(reason) => {
                    // Operators are told of the next surge whatever became of the last mail: their address is ours to mend.
                    let to = Some(&job.claimed.frozen.to).filter(|to| setting.operators.address.as_ref() != Some(to));
                    let dead = to.filter(|_| reason == Reason::AddressDead).cloned();
                    Settled { outcome, state: State::Failed, reason: Some(reason), dead, ..blank }
                }
                After::Unknown { until } => Settled {
                    outcome,
                    state: State::Unknown,
                    reason: Some(Reason::Ambiguous),
                    quarantine_until: Some(until),
                    ..blank
                },
            }
        }
        Record::Gated(verdict) => {
            let (state, reason, due_at) = match verdict {
                Verdict::Wait(until, reason) => (State::Queued, *reason, Some(*until)),
                // The claim folds it: what it is folded into may have changed by then.
                Verdict::Fold(_) => (State::Queued, Reason::ReplacedByNewer, Some(now)),
                Verdict::Withdraw(reason) => (State::Withdrawn, *reason, None),
                Verdict::Suppress => (State::Suppressed, Reason::Suppressed, None),
                Verdict::Cancel(reason) => (State::Cancelled, *reason, None),
                Verdict::Park(reason) => (State::Parked, *reason, None),
                Verdict::Send(_) => (State::Queued, Reason::Retry, Some(now)),
            };
            Settled { state, reason: Some(reason), due_at, ..blank }
        }
        Record::Broken(why) => {
            tracing::error!(delivery = %job.claimed.id, "delivery {} cannot be rendered: {why}", job.claimed.id);
            Settled { state: State::Parked, reason: Some(Reason::TemplateFault), ..blank }
        }
        Record::PutBack => Settled { reason: Some(Reason::Retry), due_at: Some(now), ..blank },
    }
}
