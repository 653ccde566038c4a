//! Whether a mail may be sent again, and what is sent. Pure: it takes what is known at one time.
//!
//! A resend goes through the gate like any mail. What the gate would not let go is refused with the gate's reason,
//! and `force` does not change that: it sends something true instead. Force does override the age, the mail that left
//! minutes ago and what the recipient follows or asked for; it overrides neither a suppression, nor a copy on its way, nor
//! the number of resends, nor a hold.

use super::super::gate::{Verdict, View, gate};
use crate::domain::class::Limits;
use crate::domain::delivery::{Reason, State};
use crate::domain::time::{Span, Timestamp};
use crate::store::resend::Copies;

/// How often one mail may be sent again.
pub const MOST: i64 = 3;

/// A copy that left so short a time ago may not have been read, or not have arrived yet.
pub const JUST_LEFT: Span = Span::minutes(10);

crate::names!(
    /// What is sent.
    What {
        /// The mail as it was; what it names and is no longer true is left out.
        AsItWas = "as_it_was",
        /// The connections that are broken now, as it would be told now.
        PresentState = "present_state",
        /// The mail that takes the old one back.
        Correction = "correction",
        /// The newest update of the incident that was for its reader.
        NewestUpdate = "newest_update",
    }
);

/// Why nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such delivery.
    Unknown,
    /// It was put away, being long over.
    Archived,
    /// It is no longer true, for the gate's reason.
    Stale(Reason),
    /// It was taken back, and nothing else is true.
    Corrected(Reason),
    /// The recipient asked not to hear of it, or follows nothing any more that asks for it.
    Unwanted(Reason),
    /// The address takes no mail of this class.
    Suppressed,
    /// A copy left minutes ago.
    JustLeft,
    /// A copy is queued, on the wire or in quarantine.
    OnItsWay,
    /// Older than its class allows.
    TooOld,
    /// It was sent again as often as allowed.
    TooOften,
}

impl Refusal {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Archived => "archived",
            Self::Stale(reason) | Self::Corrected(reason) | Self::Unwanted(reason) => reason.as_str(),
            Self::Suppressed => "suppressed",
            Self::JustLeft => "left_minutes_ago",
            Self::OnItsWay => "on_its_way",
            Self::TooOld => "too_old",
            Self::TooOften => "too_often",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(self, offer: Option<What>) -> String {
        let text = match (self, offer) {
            (_, Some(What::Correction)) => "it is no longer true; force, with a reason, sends its correction instead",
            (_, Some(What::PresentState)) => {
                "it is no longer true; force, with a reason, sends what is broken now instead"
            }
            (_, Some(_)) => {
                "it is no longer true; force, with a reason, sends the newest update of the incident instead"
            }
            (Self::Unknown, _) => "`allclear show` lists the deliveries of a customer, with their ids",
            (Self::Archived, _) => "it was put away, being long over: write a free notice to the customer",
            (Self::Corrected(_), _) => "it was taken back already: resend the correction, if that did not arrive",
            (Self::Stale(_), _) => "it is no longer true, and nothing is owed instead",
            (Self::Unwanted(_), _) => "force it with a reason, if the recipient asks for it now",
            (Self::Suppressed, _) => {
                "force does not help: lift the suppression first, with a reason (`allclear suppressions lift`)"
            }
            (Self::JustLeft, _) => "wait ten minutes, or force it with a reason",
            (Self::OnItsWay, _) => "wait for the copy that is on its way: `allclear show` says why it waits",
            (Self::TooOld, _) => "force it with a reason, if it still helps the customer",
            (Self::TooOften, _) => "it was sent again three times: write to the customer another way",
        };
        text.to_owned()
    }
}

impl serde::Serialize for Refusal {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

/// What could go instead of a mail that is no longer true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instead {
    /// What it is.
    pub what: What,
    /// The address takes no mail of its class.
    pub suppressed: bool,
    /// What is known of it and its copies.
    pub copies: Copies,
    /// It, as the gate would see it; nothing to ask where it is made of what is true now.
    pub view: Option<(View, Limits)>,
}

/// What is known of a mail that somebody wants sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The mail, as the gate would see it if it were queued again.
    pub view: View,
    /// Where it stands.
    pub state: State,
    /// When what it says was accepted.
    pub said_at: Timestamp,
    /// Why it was not mailed, or waits; [`Reason::NotTheirs`] where its recipient has lost what it asks about since, and
    /// [`Reason::Unsubscribed`] where they follow nothing any more that asks for it.
    pub reason: Option<Reason>,
    /// A newer mail of its thread says what is owed since.
    pub newer: bool,
    /// What is known of it and its copies.
    pub copies: Copies,
    /// What could go instead of it.
    pub instead: Option<Instead>,
    /// It has left, and all that left was taken back.
    pub corrected: bool,
}

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is queued, and may have to wait for this.
    Send(What, Option<Reason>),
    /// It is not sent; force would send this.
    Refuse(Refusal, Option<What>),
}

/// Why a mail is no longer true, if it is not.
#[must_use]
pub fn stale(asked: &Asked, limits: &Limits, now: Timestamp) -> Option<Reason> {
    // What was folded under another incident's mail has not been said by a newer one.
    let elsewhere = matches!(asked.reason, Some(Reason::ToldElsewhere | Reason::UnderCause));
    let replaced = asked.newer || (asked.state == State::Folded && !elsewhere);
    match untrue(&asked.view, limits, now) {
        // Nothing is left that it could name.
        Some(Reason::ItemsMoved) if asked.reason == Some(Reason::NotTheirs) => asked.reason,
        other => other.or(replaced.then_some(Reason::ReplacedByNewer)),
    }
}

/// The end of what is broken again would wait in the queue for its time; to a person it is untrue.
fn untrue(view: &View, limits: &Limits, now: Timestamp) -> Option<Reason> {
    match gate(view, limits, now) {
        Verdict::Withdraw(reason) | Verdict::Cancel(reason) | Verdict::Park(reason) => Some(reason),
        Verdict::Wait(
            _,
            reason @ (Reason::ConnectionOpenAgain | Reason::ComponentOpenAgain | Reason::IncidentOpenAgain),
        ) => Some(reason),
        _ => None,
    }
}

fn waits(view: &View, limits: &Limits, now: Timestamp) -> Option<Reason> {
    match gate(view, limits, now) {
        Verdict::Wait(_, reason) => Some(reason),
        _ => None,
    }
}

/// Decides about a resend with what is known at `now`.
#[must_use]
pub fn decide(asked: &Asked, limits: &Limits, force: bool, now: Timestamp) -> Decision {
    let just_left = |copies: &Copies| copies.left_at.is_some_and(|at| now - at < JUST_LEFT);
    if let Some(refusal) = spent(&asked.copies) {
        return Decision::Refuse(refusal, None);
    }
    let wish = |why: &Reason| matches!(why, Reason::BeginAndEndOnly | Reason::BelowLeastImpact | Reason::Unsubscribed);
    let unwanted = asked.reason.filter(|why| !force && wish(why)).map(Refusal::Unwanted);
    if let Some(reason) = stale(asked, limits, now) {
        let Some(instead) = &asked.instead else {
            let why = if asked.corrected { Refusal::Corrected(reason) } else { Refusal::Stale(reason) };
            return Decision::Refuse(why, None);
        };
        let (view, of) = instead.view.as_ref().map_or((&asked.view, limits), |(view, of)| (view, of));
        let why = match (spent(&instead.copies), instead.view.as_ref().and_then(|_| untrue(view, of, now))) {
            (_, Some(reason)) => return Decision::Refuse(Refusal::Stale(reason), None),
            (Some(refusal), None) => refusal,
            _ if instead.suppressed => Refusal::Suppressed,
            // What it stands for was mailed by itself a moment ago.
            _ if just_left(&instead.copies) => Refusal::JustLeft,
            _ if !force => return Decision::Refuse(unwanted.unwrap_or(Refusal::Stale(reason)), Some(instead.what)),
            _ => {
                let waits = if instead.view.is_some() { waits(view, of, now) } else { stopped(view) };
                return Decision::Send(instead.what, waits);
            }
        };
        // Nobody is sent to use force in vain.
        return Decision::Refuse(if force { why } else { Refusal::Stale(reason) }, None);
    }
    if let Some(refusal) = unwanted {
        return Decision::Refuse(refusal, None);
    }
    if asked.view.suppressed {
        return Decision::Refuse(Refusal::Suppressed, None);
    }
    if !force && just_left(&asked.copies) {
        return Decision::Refuse(Refusal::JustLeft, None);
    }
    if !force && limits.greatest_age.is_some_and(|age| now - asked.said_at >= age) {
        return Decision::Refuse(Refusal::TooOld, None);
    }
    Decision::Send(What::AsItWas, waits(&asked.view, limits, now))
}

fn spent(copies: &Copies) -> Option<Refusal> {
    if copies.on_its_way {
        return Some(Refusal::OnItsWay);
    }
    (copies.resends >= MOST).then_some(Refusal::TooOften)
}

/// A stop holds whatever is made of the present.
fn stopped(view: &View) -> Option<Reason> {
    view.holds.stopped.then_some(Reason::Stopped)
}

#[cfg(test)]
mod tests;
