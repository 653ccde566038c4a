//! What a reading tells of a delivery and of each thing it names: first what the gate asks for, then all that a mail says.

use crate::domain::class::Class;
use crate::domain::delivery::{Reason, Rule, State};
use crate::domain::id::{ComponentId, ConnectionId, DeliveryId, LaneId, NoticeId, SubscriberId, ThreadId};
use crate::domain::incident::{ComponentStatus, Impact, Phase};
use crate::domain::time::Timestamp;
use crate::domain::truth::{Claim, Original};
use std::ops::Deref;

/// What the gate asks of a delivery.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Truth {
    /// Its id.
    pub id: DeliveryId,
    /// What it is for.
    pub class: Class,
    /// Where it stands.
    pub state: State,
    /// How often it was claimed: whoever holds another number holds nothing.
    pub token: i64,
    /// It left, or may have left.
    pub maybe_mailed: bool,
    /// When it was planned.
    pub created_at: Timestamp,
    /// A person asked for it again.
    pub resend: bool,
    /// It goes ahead when a surge is released.
    pub canary: bool,
    /// When the thread's last mail left.
    pub last_mailed_at: Option<Timestamp>,
    /// When the thread's subscriber was first told.
    pub told_at: Option<Timestamp>,
    /// When the thread had its end.
    pub ended_at: Option<Timestamp>,
    /// Why it was made.
    pub rule: Option<Rule>,
    /// A newer update or end of its incident in the same thread, sent or to be sent.
    pub newer: Option<DeliveryId>,
    /// Of an all-clear: the incident says that something this subscriber follows, or was told of, is in trouble.
    pub trouble: Option<bool>,
    /// Of an all-clear: another incident that this subscriber is told of says so of something told in this thread.
    pub troubled_elsewhere: Option<bool>,
    /// The thread's last mail is this one: it left, or may have left.
    pub own_last: bool,
    /// When the incident was resolved.
    pub resolved_at: Option<Timestamp>,
    /// The address takes no mail of this class.
    pub suppressed: bool,
    /// It tells of an incident.
    pub has_incident: bool,
}

/// A delivery with its thread, its subscriber and its incident.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct DeliveryView {
    /// What the gate asks of it.
    #[sqlx(flatten)]
    pub truth: Truth,
    /// Its lane.
    pub lane_id: LaneId,
    /// The notice that gives its text.
    pub notice_id: Option<NoticeId>,
    /// Who gets it.
    pub subscriber_id: SubscriberId,
    /// Its thread.
    pub thread_id: ThreadId,
    /// How often a relay answered "later".
    pub tries: i64,
    /// How often it was sent again because nobody could know.
    pub repeats: i64,
    /// How often its lease ran out.
    pub reaps: i64,
    /// Why it waits.
    pub reason: Option<Reason>,
    /// Its Message-ID, once claimed.
    pub message_id: Option<String>,
    /// What an earlier claim froze, of a queued one that a relay may have seen.
    #[sqlx(skip)]
    pub context: Option<String>,
    /// The thread's root id.
    pub root: String,
    /// The thread's subject.
    pub subject: String,
    /// The thread's From.
    pub sender: String,
    /// The thread's last mail.
    pub last_message_id: Option<String>,
    /// What the thread's last mail was for.
    pub last_class: Option<Class>,
    /// The phase the thread was last told.
    pub last_phase: Option<Phase>,
    /// The incident's phase that the mail tells.
    pub phase: Option<Phase>,
    /// The subscriber's address.
    pub address: String,
    /// The subscriber's name.
    pub name: Option<String>,
    /// The subscriber's language.
    pub locale: String,
    /// The subscriber's time zone.
    pub zone: String,
    /// When the notice was observed.
    pub observed_at: Option<Timestamp>,
    /// The incident's key.
    pub incident_key: Option<String>,
    /// The incident's title.
    pub title: Option<String>,
    /// The incident's impact.
    pub impact: Option<Impact>,
    /// When the incident truly began.
    pub started_at: Option<Timestamp>,
    /// Its notice, or the one that restricts whom the incident is told to, names its subscriber.
    pub addressed: bool,
    /// Its subscriber still follows any of what it names. Asked of what is sent to all who were told; of the rest it is so.
    pub follows: bool,
    /// Of an all-clear: its subscriber was told of trouble with something in another open incident, and it lasts.
    pub trouble_elsewhere: bool,
    /// Of an all-clear: when that broke which its subscriber was told of after an end in the same thread.
    pub relapsed_at: Option<Timestamp>,
}

impl Deref for DeliveryView {
    type Target = Truth;
    fn deref(&self) -> &Truth {
        &self.truth
    }
}

/// What the gate asks of something a delivery names.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct ItemTruth {
    /// The delivery.
    pub delivery_id: DeliveryId,
    /// The component.
    pub component_id: ComponentId,
    /// The connection.
    pub connection_id: Option<ConnectionId>,
    /// The outage of the connection.
    pub episode: i64,
    /// When that outage was observed.
    pub failed_at: Option<Timestamp>,
    /// How the component was doing when the mail was planned.
    pub status: Option<ComponentStatus>,
    /// How the incident says it is doing now.
    pub status_now: Option<ComponentStatus>,
    status_since: Option<Timestamp>,
    down_since: Option<Timestamp>,
    up_since: Option<Timestamp>,
    newest: Option<i64>,
    cleared: Option<i64>,
    own_fault_episode: Option<i64>,
    covered: bool,
    newest_covered: bool,
    awaiting: Option<Timestamp>,
    original_state: Option<State>,
    original_mailed: Option<bool>,
    original_quarantine: Option<Timestamp>,
}

/// What a delivery names, beside what is known of it now.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct ItemView {
    /// What the gate asks of it.
    #[sqlx(flatten)]
    pub truth: ItemTruth,
    /// The component's newest outage when it was accepted.
    pub component_episode: i64,
    /// The mail it takes back.
    pub corrects_id: Option<DeliveryId>,
    /// The component's key.
    pub component_key: String,
    /// The component's name.
    pub component_name: String,
    /// The connection's key.
    #[sqlx(rename = "connection_key")]
    pub key: Option<String>,
    /// The connection's name.
    #[sqlx(rename = "connection_name")]
    pub name: Option<String>,
    /// Where the customer can act on it.
    pub link: Option<String>,
    /// Since when the connection is truly broken.
    pub broken_since: Option<Timestamp>,
    /// When the connection was last seen well.
    pub well_as_of: Option<Timestamp>,
    /// When the mail it takes back was sent.
    pub original_claimed_at: Option<Timestamp>,
    /// Its component's worst trouble in another open incident of which the reader is told.
    elsewhere: Option<ComponentStatus>,
    /// When an update had observed what the incident says of its component, where one of all-clears is known.
    changed_as_of: Option<Timestamp>,
    /// When its component joined the incident, where one of all-clears was not named from the beginning.
    pub joined_at: Option<Timestamp>,
    /// An outage of it before this one was taken back in the thread, whose last word was such a correction.
    pub corrected_before: bool,
}

impl Deref for ItemView {
    type Target = ItemTruth;
    fn deref(&self) -> &ItemTruth {
        &self.truth
    }
}

impl ItemView {
    /// How its component is doing now, for all that is known: the mail may have waited, and of two open incidents one may
    /// be done with it before it works.
    #[must_use]
    pub fn present_status(&self) -> ComponentStatus {
        let own = self.status_now.or(self.status).filter(|status| *status != ComponentStatus::Operational);
        // Nobody said how bad it is: no worse than it must be.
        let down = self.component_down().then_some(ComponentStatus::PartialOutage);
        own.or(self.elsewhere).or(down).unwrap_or(ComponentStatus::Operational)
    }

    /// When its component truly worked again after a time, whenever that was heard of.
    #[must_use]
    pub fn worked_again(&self, after: Timestamp) -> Option<Timestamp> {
        let up = self.up_since.filter(|at| self.down_since.is_none() && *at >= after);
        up.max(self.changed_as_of).or(self.status_since)
    }
}

impl ItemTruth {
    /// Whether its component is down now.
    #[must_use]
    pub const fn component_down(&self) -> bool {
        self.down_since.is_some()
    }

    /// When its component came back: from its newest outage, or to working normally in the eyes of the incident.
    #[must_use]
    pub fn component_up_since(&self) -> Option<Timestamp> {
        self.up_since.max(self.status_since)
    }

    /// The claim about a connection.
    #[must_use]
    pub fn claim(&self) -> Option<Claim> {
        Some(Claim {
            episode: self.episode,
            failed_at: self.failed_at?,
            newest: self.newest?,
            cleared: self.cleared?,
            own_fault: self.own_fault_episode?,
            covered: self.covered,
            newest_covered: self.newest_covered,
            awaiting: self.awaiting,
            component_down: self.component_down(),
        })
    }

    /// The mail it takes back.
    #[must_use]
    pub fn original(&self) -> Option<Original> {
        let (state, maybe_mailed) = (self.original_state?, self.original_mailed?);
        let on_its_way = match state {
            // What waits to be repeated never says again what is over: the claim and the look part that from it.
            State::Queued => !maybe_mailed || self.claim()?.stale().is_none(),
            _ => state == State::Sending || self.original_quarantine.is_some(),
        };
        Some(Original { decided: !on_its_way, maybe_mailed })
    }

    /// The mail it takes back may or may not have arrived.
    #[must_use]
    pub fn is_original_uncertain(&self) -> bool {
        self.original_mailed == Some(true) && self.original_state != Some(State::Accepted)
    }
}
