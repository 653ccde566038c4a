//! Deliveries as people read them: newest first, with what each names and what the relay said.

use super::parameter::ids;
use super::{StoreError, Tx};
use crate::domain::class::Class;
use crate::domain::connection::{By, Fault, What};
use crate::domain::delivery::{HandOver, Reason, Rule, State};
use crate::domain::id::{ComponentId, ConnectionId, DeliveryId, IncidentId, NoticeId, SignalId, SubscriberId};
use crate::domain::reply::ReplyKind;
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

statements! {
    PING = super::Sql::same("SELECT CAST(1 AS BIGINT)");
    DELIVERIES_SHOWN = over_rows!(
        "SELECT d.id, d.class, d.state, d.reason, d.rule, d.stream, d.due_at, d.created_at, d.claimed_at, d.decided_at,
            d.quarantine_until, d.maybe_mailed, d.tries, d.repeats, d.message_id, d.template_set, t.subject, d.subscriber_id,
            s.key AS subscriber, COALESCE(d.address, s.address) AS address, d.incident_id, n.key AS incident, d.notice_id, d.resend_of,
            d.folded_into, EXISTS (SELECT 1 FROM mail_copy m WHERE m.delivery_id = d.id) AS copied
         FROM", [id uuid],
        "JOIN delivery d ON d.id = j.id JOIN thread t ON t.id = d.thread_id JOIN subscriber s ON s.id = d.subscriber_id
         LEFT JOIN incident n ON n.id = d.incident_id ORDER BY d.created_at DESC, d.id DESC"
    );
    NAMES = over_rows!(
        "SELECT i.delivery_id, i.component_id, c.key AS component, c.name AS component_name, i.connection_id,
            n.key AS connection, n.name AS connection_name, i.episode, i.failed_at, i.status, i.corrects_id, i.dropped
         FROM", [id uuid],
        "JOIN delivery_item i ON i.delivery_id = j.id JOIN component c ON c.id = i.component_id
         LEFT JOIN connection n ON n.id = i.connection_id ORDER BY n.key, c.key"
    );
    ATTEMPTS = over_rows!(
        "SELECT a.delivery_id, a.ended_at, a.outcome, a.code, a.enhanced, a.kind, a.reply FROM", [id uuid],
        "JOIN attempt a ON a.delivery_id = j.id ORDER BY a.id"
    );
    // An outage is planned once more when its connection gets others: the last time counts.
    SIGNALS_OF_CONNECTION = super::Sql::same(
        "SELECT s.id, s.what, s.fault, s.recovered_by, s.source, s.sequence, s.observed_at, s.received_at, s.outcome,
                (SELECT p.outcome FROM plan p WHERE p.connection_id = s.connection_id AND p.signal_id = s.id
                    ORDER BY p.created_at DESC LIMIT 1) AS planned
         FROM signal s WHERE s.connection_id = $1 ORDER BY s.id DESC LIMIT $2",
    );
}

/// A row that people read, as JSON too; a line a column.
macro_rules! row {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $ty:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize, sqlx::FromRow)]
        pub struct $name { $($(#[$fdoc])* pub $field: $ty,)+ }
    };
}
pub(super) use row;

/// Of which delivery a row is, is not written beside it.
const fn nobody() -> DeliveryId {
    DeliveryId(uuid::Uuid::nil())
}

row!(/** What a delivery names. */ #[derive(Deserialize)] Item {
    /** The delivery. */ #[serde(skip, default = "nobody")] delivery_id: DeliveryId,
    /** The component. */ component_id: ComponentId,
    /** Its key. */ component: String,
    /** Its name. */ component_name: String,
    /** The connection, if it names one. */ connection_id: Option<ConnectionId>,
    /** Its key. */ connection: Option<String>,
    /** Its name. */ connection_name: Option<String>,
    /** The outage of the connection it speaks of. */ episode: i64,
    /** When that outage was observed. */ failed_at: Option<Timestamp>,
    /** How the component was doing. */ status: Option<String>,
    /** The mail that is taken back. */ corrects_id: Option<DeliveryId>,
    /** Why it was left out of the mail. */ dropped: Option<String>,
});

row!(/** One try to hand a delivery to the relay. */ #[derive(Deserialize)] Attempt {
    /** The delivery. */ #[serde(skip, default = "nobody")] delivery_id: DeliveryId,
    /** When it ended. */ ended_at: Timestamp,
    /** How. */ outcome: HandOver,
    /** The reply code. */ code: Option<i64>,
    /** The enhanced status code. */ enhanced: Option<String>,
    /** What a no was about. */ kind: Option<ReplyKind>,
    /** The relay's words. */ reply: Option<String>,
});

row!(/** A delivery. */ #[derive(Deserialize)] Delivery {
    /** Its id. */ id: DeliveryId,
    /** What it is for. */ class: Class,
    /** Where it stands. */ state: State,
    /** Why it waits, or why it was not mailed. */ reason: Option<Reason>,
    /** Why it was made. */ rule: Option<Rule>,
    /** The stream it leaves by. */ stream: String,
    /** Not before this time. */ due_at: Timestamp,
    /** When it was planned. */ created_at: Timestamp,
    /** When it was last taken for sending. */ claimed_at: Option<Timestamp>,
    /** When its end was known. */ decided_at: Option<Timestamp>,
    /** Until when it is left alone, because nobody can know whether it left. */ quarantine_until: Option<Timestamp>,
    /** It left, or may have left. */ maybe_mailed: bool,
    /** How often it was tried. */ tries: i64,
    /** How often it was sent again because nobody could know. */ repeats: i64,
    /** Its Message-ID. */ message_id: Option<String>,
    /** The content address of the templates of its last try. */ template_set: Option<String>,
    /** Its thread's subject. */ subject: String,
    /** To whom. */ subscriber_id: SubscriberId,
    /** That subscriber's key. */ subscriber: String,
    /** The address it went to, or will go to as of now. */ address: String,
    /** The incident of its thread. */ incident_id: Option<IncidentId>,
    /** That incident's key. */ incident: Option<String>,
    /** The notice it tells of. */ notice_id: Option<NoticeId>,
    /** The delivery it repeats on request. */ resend_of: Option<DeliveryId>,
    /** The newer delivery that replaced it. */ folded_into: Option<DeliveryId>,
    /** A copy of it as it was sent is there. */ #[serde(skip)] copied: bool,
    /** What it names. */ #[sqlx(skip)] names: Vec<Item>,
    /** Every try, oldest first. */ #[sqlx(skip)] attempts: Vec<Attempt>,
});

row!(/** A signal about a connection. */ Signal {
    /** Its id. */ id: SignalId,
    /** What happened. */ what: What,
    /** Of a failure: its kind. */ fault: Option<Fault>,
    /** Of a recovery: who did it. */ recovered_by: Option<By>,
    /** Who said it. */ source: String,
    /** The source's running number. */ sequence: Option<i64>,
    /** When it was observed. */ observed_at: Timestamp,
    /** When it came in. */ received_at: Timestamp,
    /** What was answered. */ outcome: String,
    /** What planning made of it: `planned`, `nobody`, or why nothing was owed any more. */ planned: Option<String>,
});

/// The ids of rows, as the parameter of a statement.
/// Deliveries, newest first, each with what it names and how it was tried.
///
/// # Errors
/// When the database fails.
pub async fn deliveries(tx: &mut Tx, of: &[DeliveryId]) -> Result<Vec<Delivery>, StoreError> {
    let ids = ids(of);
    let mut found = rows!(tx, Delivery, DELIVERIES_SHOWN, &ids)?;
    let places: HashMap<DeliveryId, usize> = found.iter().enumerate().map(|(i, d)| (d.id, i)).collect();
    for item in rows!(tx, Item, NAMES, &ids)? {
        if let Some(delivery) = places.get(&item.delivery_id).and_then(|i| found.get_mut(*i)) {
            delivery.names.push(item);
        }
    }
    for attempt in rows!(tx, Attempt, ATTEMPTS, &ids)? {
        if let Some(delivery) = places.get(&attempt.delivery_id).and_then(|i| found.get_mut(*i)) {
            delivery.attempts.push(attempt);
        }
    }
    Ok(found)
}

/// The signals about a connection, newest first.
///
/// # Errors
/// When the database fails.
pub async fn signals(tx: &mut Tx, of: ConnectionId, limit: i64) -> Result<Vec<Signal>, StoreError> {
    rows!(tx, Signal, SIGNALS_OF_CONNECTION, of, limit)
}

/// Asks the database for nothing, to see whether it answers.
///
/// # Errors
/// When it does not.
pub async fn ping(tx: &mut Tx) -> Result<(), StoreError> {
    value!(tx, i64, PING).map(drop)
}
