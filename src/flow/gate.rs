//! The gate decides about one delivery: send, wait until, withdraw, fold, suppress, cancel, park; always with
//! a named reason. The claim and the last look both ask it, with data read at their own moment.

use crate::domain::class::{Class, Limits};
use crate::domain::delivery::{Reason, Rule};
use crate::domain::id::DeliveryId;
use crate::domain::incident::Impact;
use crate::domain::surge::ripe;
use crate::domain::time::{Span, Timestamp};
use crate::domain::truth::{Claim, Original};

/// How long a mail waits at least before it is looked at again, where no event is sure to bring it back.
const LOOK_AGAIN: Span = Span::seconds(30);

/// The same of what waits for hours: of an end or an all-clear for other incidents, and of whatever has waited for long.
const LOOK_RARELY: Span = Span::minutes(5);

/// The window of the daily cap.
pub const DAY: Span = Span::hours(24);

/// So long before it is too old a mail leaves, whatever its subscriber has had.
const IN_TIME: Span = Span::minutes(30);

/// One thing a delivery names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A broken connection.
    Connection(Claim),
    /// A connection about which an earlier mail is taken back.
    Correction(Claim, Original),
    /// A component.
    Component {
        /// It is down now, or the incident says that it is in trouble.
        down: bool,
        /// When it came back.
        up_since: Option<Timestamp>,
        /// The mail was planned when it was in trouble, and it works normally now.
        back: bool,
    },
}

/// Holds in force that touch a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Holds {
    /// The global stop.
    pub stopped: bool,
    /// An operator's hold on its class or component.
    pub operator: bool,
    /// A surge of its component.
    pub surge: bool,
}

/// All that the gate may know about a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// What the mail is for.
    pub class: Class,
    /// When what it says was said.
    pub created_at: Timestamp,
    /// A person asked for it again: an end that was told may be told once more.
    pub resend: bool,
    /// It goes ahead of the others when a surge is released: neither its component nor the surge holds it.
    pub canary: bool,
    /// Holds in force.
    pub holds: Holds,
    /// The address takes no mail of this class.
    pub suppressed: bool,
    /// The thread's subscriber was told, or may have been.
    pub told: bool,
    /// The thread's last mail.
    pub last_mailed_at: Option<Timestamp>,
    /// The thread has had its end.
    pub ended: bool,
    /// The incident is resolved; `None` where there is no incident.
    pub resolved: Option<bool>,
    /// Why it was made.
    pub rule: Option<Rule>,
    /// Of an all-clear: something else that the subscriber follows is in trouble in this incident.
    pub trouble: bool,
    /// Of an all-clear: something told in its thread is in trouble in another.
    pub troubled_elsewhere: bool,
    /// A newer update or end of the same thread, sent or to be sent.
    pub newer: Option<DeliveryId>,
    /// What it names.
    pub items: Vec<Item>,
}

/// What becomes of the items of a mail that may leave.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Split {
    /// Leave now, by position.
    pub keep: Vec<usize>,
    /// Are still true and must wait: they move to a delivery of their own.
    pub later: Vec<usize>,
    /// Are no longer true, with the reason.
    pub dropped: Vec<(usize, Reason)>,
}

impl Split {
    /// All of it leaves now.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.later.is_empty() && self.dropped.is_empty()
    }
}

/// The gate's decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may leave, with these items.
    Send(Split),
    /// Not before this time.
    Wait(Timestamp, Reason),
    /// It is no longer true.
    Withdraw(Reason),
    /// This newer mail of its thread says what is owed now.
    Fold(DeliveryId),
    /// The address takes no mail of this class.
    Suppress,
    /// What it would take back or end was never told.
    Cancel(Reason),
    /// A person must decide.
    Park(Reason),
}

/// Decides about a delivery with what is known at `now`.
#[must_use]
pub fn gate(view: &View, limits: &Limits, now: Timestamp) -> Verdict {
    let verdict = match view.class {
        Class::ActionRequired => action_required(view, limits, now),
        Class::Correction => correction(view, now),
        Class::IncidentUpdate => incident_update(view, limits, now),
        Class::IncidentEnd => incident_end(view, limits, now),
        Class::AllClear => all_clear(view, limits, now),
        Class::PostMortem | Class::Free => plain(view, limits, now),
    };
    if !matches!(verdict, Verdict::Send(_) | Verdict::Wait(..)) {
        return verdict;
    }
    // What is untrue is withdrawn even under a stop; what is true then waits for its holds.
    match held(view) {
        // Whoever releases it waits to see it leave.
        Some(reason) => Verdict::Wait(now + LOOK_AGAIN, reason),
        None if view.suppressed => Verdict::Suppress,
        None => verdict,
    }
}

/// A mail that may have left is sent again as it was or not at all: what it has said must stay written on it, or nobody
/// would take it back.
#[must_use]
pub fn stays_whole(class: Class, maybe_mailed: bool) -> bool {
    class == Class::ActionRequired && maybe_mailed
}

/// What the look makes of a mail that stays whole: the next claim gives what is still true a mail of its own.
#[must_use]
pub fn as_it_was(verdict: Verdict, class: Class, maybe_mailed: bool, now: Timestamp) -> Verdict {
    match verdict {
        Verdict::Send(split) if stays_whole(class, maybe_mailed) && !split.is_whole() => {
            Verdict::Wait(now, Reason::ItemsMoved)
        }
        other => other,
    }
}

/// Until when a mail that could leave waits, because its subscriber had as many of its class in the last 24 hours as
/// anybody gets; `None`: it leaves. `mailed` says when those left, or may have left.
///
/// It waits no longer than any hold may last, and leaves before it would be too old. What is urgent does not wait, though it
/// counts, nor a canary: all others wait for it.
#[must_use]
pub fn daily_cap(
    view: &View,
    split: &Split,
    impact: Option<Impact>,
    limits: &Limits,
    mailed: &[Timestamp],
    now: Timestamp,
) -> Option<Timestamp> {
    let cap = usize::try_from(limits.daily_mails?).ok()?;
    let mut mailed: Vec<_> = mailed.iter().filter(|at| now - **at < DAY).collect();
    mailed.sort_unstable_by(|a, b| b.cmp(a));
    let room = **mailed.get(cap.checked_sub(1)?)? + DAY;
    let until = [limits.longest_hold, limits.greatest_age.map(|age| Span(age.0 - IN_TIME.0.min(age.0 / 2)))]
        .into_iter()
        .flatten()
        .fold(room, |until, longest| until.min(view.created_at + longest));
    (until > now && !view.resend && !view.canary && !is_urgent(view, split, impact)).then_some(until)
}

/// Silence would do harm: a connection that only its customer can mend, something that got worse or is down again, the
/// first word of a major outage, what operators are told of a surge.
#[must_use]
pub fn is_urgent(view: &View, split: &Split, impact: Option<Impact>) -> bool {
    let own_fault = |i: &usize| matches!(view.items.get(*i), Some(Item::Connection(claim)) if claim.is_own_fault());
    match view.rule {
        Some(Rule::Worse | Rule::Relapse | Rule::Surge) => true,
        Some(Rule::First) => matches!(impact, Some(Impact::Major | Impact::Critical)),
        _ => split.keep.iter().any(own_fault),
    }
}

impl View {
    /// Whether all that it names is proven to be the fault of the connections themselves.
    #[must_use]
    pub fn is_own_fault(&self) -> bool {
        let is_own = |item: &Item| matches!(item, Item::Connection(claim) if claim.is_own_fault());
        !self.items.is_empty() && self.items.iter().all(is_own)
    }
}

fn held(view: &View) -> Option<Reason> {
    if view.holds.stopped {
        return Some(Reason::Stopped);
    }
    let exempt = view.class == Class::Correction;
    ((view.holds.operator && !exempt) || (view.holds.surge && !exempt && !view.is_own_fault() && !view.canary))
        .then_some(Reason::Held)
}

/// What has waited for long is looked at more rarely. It may be one of very many, and each look writes its row.
fn look_again(view: &View, now: Timestamp) -> Timestamp {
    now + Span((now - view.created_at).0 / 20).clamp(LOOK_AGAIN, LOOK_RARELY)
}

fn everything(view: &View) -> Verdict {
    Verdict::Send(Split { keep: (0..view.items.len()).collect(), ..Split::default() })
}

fn too_old(view: &View, limits: &Limits, now: Timestamp) -> bool {
    limits.greatest_age.is_some_and(|age| now - view.created_at >= age)
}

/// Until when a connection's component keeps its mail, and why. After the longest hold the customer is asked although it has not
/// been heard of: silence towards somebody who is truly broken is as bad as a stale alarm. A component that had worked for so long
/// when the mail was made, since the fault was to heal by itself, keeps it no more. A canary passes its own flood, and no outage
/// before that.
fn held_until(view: &View, claim: &Claim, limits: &Limits, now: Timestamp) -> Option<(Timestamp, Reason)> {
    let why = match claim.waits()? {
        _ if view.canary && claim.awaiting.is_some() => Reason::AwaitingReconnection,
        why => why,
    };
    let back = claim.awaiting.filter(|_| why == Reason::AwaitingReconnection);
    let until = match limits.longest_hold {
        longest if view.canary && (back.is_none() || view.created_at <= ripe(now, longest)) => now,
        Some(longest) if back.is_some_and(|back| back + longest <= view.created_at) => now,
        Some(longest) => view.created_at + longest,
        None => look_again(view, now),
    };
    Some((until, why))
}

fn action_required(view: &View, limits: &Limits, now: Timestamp) -> Verdict {
    let mut split = Split::default();
    let mut waiting = None;
    for (position, item) in view.items.iter().enumerate() {
        let Item::Connection(claim) = item else { continue };
        match (claim.stale(), held_until(view, claim, limits, now)) {
            (Some(reason), _) => split.dropped.push((position, reason)),
            (None, Some(wait)) if wait.0 > now => {
                waiting = waiting.into_iter().chain([wait]).min();
                split.later.push(position);
            }
            (None, _) => split.keep.push(position),
        }
    }
    if split.keep.is_empty() {
        return match (waiting, split.dropped.first()) {
            (Some((until, reason)), _) => Verdict::Wait(until.max(now + Span::seconds(1)), reason),
            (None, Some((_, reason))) => Verdict::Withdraw(*reason),
            (None, None) => Verdict::Withdraw(Reason::ItemsMoved),
        };
    }
    if too_old(view, limits, now) {
        return Verdict::Park(Reason::TooOld);
    }
    Verdict::Send(split)
}

fn correction(view: &View, now: Timestamp) -> Verdict {
    let mut split = Split::default();
    let mut waiting = None;
    for (position, item) in view.items.iter().enumerate() {
        let Item::Correction(claim, original) = item else { continue };
        if !original.decided {
            waiting = Some(Reason::OriginalUndecided);
            split.later.push(position);
        } else if !original.maybe_mailed {
            split.dropped.push((position, Reason::NeverMailed));
        } else if claim.open_now() {
            waiting = waiting.or(Some(Reason::ConnectionOpenAgain));
            split.later.push(position);
        } else {
            split.keep.push(position);
        }
    }
    match (split.keep.is_empty(), waiting) {
        (false, _) => Verdict::Send(split),
        (true, Some(reason)) => Verdict::Wait(look_again(view, now), reason),
        (true, None) => Verdict::Cancel(Reason::NeverMailed),
    }
}

fn incident_update(view: &View, limits: &Limits, now: Timestamp) -> Verdict {
    if view.resolved == Some(true) {
        return Verdict::Withdraw(Reason::IncidentResolved);
    }
    if let Some(newer) = view.newer {
        return Verdict::Fold(newer);
    }
    if view.ended && view.rule != Some(Rule::Relapse) {
        return Verdict::Withdraw(Reason::EndedAlready);
    }
    if told_of_nothing_but_trouble_that_is_over(view) {
        return Verdict::Withdraw(Reason::Recovered);
    }
    if too_old(view, limits, now) {
        return Verdict::Park(Reason::TooOld);
    }
    let at_once = !view.told || matches!(view.rule, Some(Rule::Worse | Rule::Relapse));
    let (distance, reason) = match (view.rule, limits.longest_silence) {
        (Some(Rule::NothingNew), Some(silence)) => (silence, Reason::NothingNew),
        _ => (limits.gap, Reason::ThreadGap),
    };
    match view.last_mailed_at.map(|last| last + distance) {
        Some(next) if now < next && !at_once => Verdict::Wait(next, reason),
        _ => everything(view),
    }
}

/// It came back without an update that would say so: those told get an all-clear, the others never hear of it.
fn told_of_nothing_but_trouble_that_is_over(view: &View) -> bool {
    let back = |item: &Item| matches!(item, Item::Component { back: true, .. });
    let in_trouble = |item: &Item| matches!(item, Item::Component { down: true, .. });
    view.items.iter().any(back) && !view.items.iter().any(in_trouble)
}

fn any_down(view: &View) -> bool {
    view.items.iter().any(|item| matches!(item, Item::Component { down: true, .. }))
}

fn incident_end(view: &View, limits: &Limits, now: Timestamp) -> Verdict {
    if !view.told {
        return Verdict::Cancel(Reason::NeverTold);
    }
    if view.ended && !view.resend {
        return Verdict::Cancel(Reason::EndedAlready);
    }
    let old = too_old(view, limits, now);
    if view.resolved == Some(false) {
        // Resolved again, the incident owes a new end.
        let open = Reason::IncidentOpenAgain;
        return if old { Verdict::Withdraw(open) } else { Verdict::Wait(now + LOOK_RARELY, open) };
    }
    if old {
        return everything(view);
    }
    if any_down(view) {
        return Verdict::Wait(now + LOOK_RARELY, Reason::ComponentOpenAgain);
    }
    everything(view)
}

fn all_clear(view: &View, limits: &Limits, now: Timestamp) -> Verdict {
    if !view.told {
        return Verdict::Cancel(Reason::NeverTold);
    }
    if view.ended && !view.resend {
        return Verdict::Cancel(Reason::EndedAlready);
    }
    if any_down(view) || view.trouble {
        // Back once more, the component makes a new one.
        return Verdict::Withdraw(Reason::ComponentOpenAgain);
    }
    if view.troubled_elsewhere {
        // The end of another incident makes none.
        return Verdict::Wait(now + LOOK_RARELY, Reason::ComponentOpenAgain);
    }
    let up = view.items.iter().filter_map(|item| match item {
        Item::Component { up_since, .. } => *up_since,
        _ => None,
    });
    let stable = up.max().map_or(view.created_at, |up| up) + limits.stable_for;
    if now < stable {
        return Verdict::Wait(stable, Reason::StableFor);
    }
    everything(view)
}

fn plain(view: &View, limits: &Limits, now: Timestamp) -> Verdict {
    if too_old(view, limits, now) {
        return Verdict::Park(Reason::TooOld);
    }
    if view.class == Class::PostMortem && view.resolved == Some(false) {
        return Verdict::Wait(now + LOOK_RARELY, Reason::IncidentOpenAgain);
    }
    everything(view)
}

#[cfg(test)]
mod tests;
