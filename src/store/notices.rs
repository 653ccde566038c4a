//! Notices: what was said, to whom, and whether it was said before.

use super::parameter::keys;
use super::rows::json;
use super::{StoreError, Tx};
use crate::domain::class::Class;
use crate::domain::delivery::Reason;
use crate::domain::id::{ConnectionId, IncidentId, NoticeId};
use crate::domain::incident::Phase;
use crate::domain::time::Timestamp;

statements! {
    ADD_NOTICE = super::Sql::same(
        "INSERT INTO notice (id, kind, class, source, received_at, observed_at, incident_id, revision, phase, deliver, payload, outcome, reason,
            update_key, content_hash, repeats_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
    );
    PAYLOADS_AFTER = super::Sql::same(
        "SELECT payload FROM notice WHERE incident_id = $1 AND observed_at > $2 AND repeats_id IS NULL ORDER BY revision",
    );
    // The same update again: by the source's id of it; without one by its words, or by its time and phase (an edit).
    SAID_BEFORE = super::Sql::same(
        "SELECT id, revision, received_at, observed_at, content_hash, payload FROM notice WHERE incident_id = $1 AND repeats_id IS NULL AND ((update_key = $2 AND phase = $5)
            OR ($2 IS NULL AND update_key IS NULL AND (content_hash = $3 OR (observed_at = $4 AND phase = $5))))
         ORDER BY revision DESC LIMIT 1",
    );
    ADD_RECIPIENTS = over_rows!(
        "INSERT INTO notice_recipient (notice_id, subscriber_id) SELECT j.notice_id, s.id FROM",
        [notice_id uuid, key text],
        "JOIN subscriber s ON s.key = j.key WHERE TRUE ON CONFLICT DO NOTHING"
    );
    // A text that comes when its connections are known to be broken: for mails that wait, and speak of nothing else.
    GIVE_TEXT = over_rows!(
        "UPDATE delivery SET notice_id = j.notice_id FROM", [notice_id uuid, connection_id uuid, episode bigint],
        concat!("JOIN delivery_item i ON i.connection_id = j.connection_id AND i.episode = j.episode AND i.corrects_id IS NULL
            AND i.dropped IS NULL
         WHERE delivery.id = i.delivery_id AND ", waits!("delivery"), " AND delivery.class = 'action_required'
            AND NOT delivery.maybe_mailed AND NOT EXISTS (SELECT 1 FROM delivery_item o WHERE o.delivery_id = delivery.id
                AND o.dropped IS NULL AND o.connection_id <> i.connection_id)")
    );
    GIVE_TEXT_TO_PLANS = over_rows!(
        "UPDATE plan SET notice_id = j.notice_id FROM", [notice_id uuid, connection_id uuid, episode bigint],
        "WHERE plan.connection_id = j.connection_id AND plan.episode = j.episode AND plan.kind = 'failure' AND plan.done_at IS NULL"
    );
    GIVE_TEXT_TO_ALL_PLANS = over_rows!(
        "UPDATE plan SET notice_id = j.notice_id FROM", [notice_id uuid, connection_id uuid, episode bigint],
        "WHERE plan.connection_id = j.connection_id AND plan.episode = j.episode AND plan.kind = 'failure'"
    );
    UNKNOWN_SUBSCRIBERS = over_rows!(
        "SELECT j.key FROM", [key text],
        "WHERE NOT EXISTS (SELECT 1 FROM subscriber s WHERE s.key = j.key)"
    );
    REMEMBERED = super::Sql::same("SELECT body_hash, answer FROM idempotency WHERE source = $1 AND key = $2");
    REMEMBER = super::Sql::same(
        "INSERT INTO idempotency (source, key, body_hash, answer, created_at) VALUES ($1, $2, $3, $4, $5)",
    );
}

/// A notice to be recorded.
#[derive(Clone, Debug)]
pub struct NoticeRow<'a> {
    /// Its id.
    pub id: NoticeId,
    /// `incident`, `action_required` or `free`.
    pub kind: &'static str,
    /// The class of its mails.
    pub class: Class,
    /// Who said it.
    pub source: &'a str,
    /// When it was observed.
    pub observed_at: Timestamp,
    /// The incident, with its revision and phase.
    pub incident: Option<(IncidentId, i64, Phase)>,
    /// `false` records without mailing.
    pub deliver: bool,
    /// What was said, as JSON.
    pub payload: &'a str,
    /// What became of it.
    pub outcome: &'a str,
    /// Why nobody is mailed about it, if so.
    pub reason: Option<Reason>,
    /// What makes it the same update as another.
    pub same: Same<'a>,
}

/// What makes two updates of an incident the same one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Same<'a> {
    /// The source's id of the update.
    pub update_key: Option<&'a str>,
    /// A hash of what it says.
    pub content_hash: Option<&'a [u8]>,
    /// The notice it repeats.
    pub repeats: Option<NoticeId>,
}

/// An update that was here before.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct SaidBefore {
    /// Its notice.
    pub id: NoticeId,
    /// Which update of the incident it was.
    pub revision: i64,
    /// When it came in.
    pub received_at: Timestamp,
    /// A hash of what it said.
    pub content_hash: Option<Vec<u8>>,
    /// As of when.
    pub observed_at: Timestamp,
    /// What it said, as JSON.
    pub payload: String,
}

/// Records a notice.
///
/// # Errors
/// When the database fails.
pub async fn add(tx: &mut Tx, n: &NoticeRow<'_>) -> Result<(), StoreError> {
    let now = tx.now();
    let (incident, revision, phase) = match n.incident {
        Some((id, revision, phase)) => (Some(id), Some(revision), Some(phase)),
        None => (None, None, None),
    };
    exec!(
        tx,
        ADD_NOTICE,
        n.id,
        n.kind,
        n.class,
        n.source,
        now,
        n.observed_at,
        incident,
        revision,
        phase,
        n.deliver,
        n.payload,
        n.outcome,
        n.reason,
        n.same.update_key,
        n.same.content_hash,
        n.same.repeats
    )
    .map(drop)
}

/// What later updates of an incident said, as JSON.
///
/// # Errors
/// When the database fails.
pub async fn payloads_after(tx: &mut Tx, incident: IncidentId, at: Timestamp) -> Result<Vec<String>, StoreError> {
    Ok(rows!(tx, (String,), PAYLOADS_AFTER, incident, at)?.into_iter().map(|row| row.0).collect())
}

/// An earlier update of an incident that is the same as one that says this; `at`: its own time, if it gave one.
///
/// # Errors
/// When the database fails.
pub async fn said_before(
    tx: &mut Tx,
    incident: IncidentId,
    same: Same<'_>,
    at: Option<Timestamp>,
    phase: Phase,
) -> Result<Option<SaidBefore>, StoreError> {
    first!(tx, SaidBefore, SAID_BEFORE, incident, same.update_key, same.content_hash, at, phase)
}

/// Records a notice's explicit recipients, of whom some may be unknown; how many were recorded.
///
/// # Errors
/// When the database fails.
pub async fn add_recipients(tx: &mut Tx, notice: NoticeId, of: &[String]) -> Result<u64, StoreError> {
    let list = of.iter().map(|key| columns! { notice_id: notice.0, key });
    exec!(tx, ADD_RECIPIENTS, json(list))
}

/// Gives a notice's text to what waits to be asked, or to be planned, about outages of connections that were known before;
/// to how many mails and plans.
///
/// # Errors
/// When the database fails.
pub async fn give_text(tx: &mut Tx, id: NoticeId, of: &[(ConnectionId, i64)]) -> Result<u64, StoreError> {
    if of.is_empty() {
        return Ok(0);
    }
    let list = of.iter().map(|(connection, episode)| {
        columns! {
            notice_id: id.0,
            connection_id: connection.0,
            episode: *episode,
        }
    });
    let list = json(list);
    let given = exec!(tx, GIVE_TEXT_TO_PLANS, &list)? + exec!(tx, GIVE_TEXT, &list)?;
    if given > 0 {
        // A mail says of each connection what its plan does, though it is done.
        exec!(tx, GIVE_TEXT_TO_ALL_PLANS, &list)?;
    }
    Ok(given)
}

/// Those of some subscriber keys that nobody has.
///
/// # Errors
/// When the database fails.
pub async fn unknown_subscribers(tx: &mut Tx, of: &[String]) -> Result<Vec<String>, StoreError> {
    let keys = keys(of.iter().map(String::as_str), "");
    Ok(rows!(tx, (String,), UNKNOWN_SUBSCRIBERS, &keys)?.into_iter().map(|row| row.0).collect())
}

/// What a source was answered for an idempotency key: the body's hash and the answer.
///
/// # Errors
/// When the database fails.
pub async fn remembered(tx: &mut Tx, source: &str, key: &str) -> Result<Option<(Vec<u8>, String)>, StoreError> {
    first!(tx, (Vec<u8>, String), REMEMBERED, source, key)
}

/// Remembers an answer for an idempotency key.
///
/// # Errors
/// When the database fails, or another was first ([`StoreError::is_conflict`]).
pub async fn remember(tx: &mut Tx, source: &str, key: &str, hash: &[u8], answer: &str) -> Result<(), StoreError> {
    let now = tx.now();
    exec!(tx, REMEMBER, source, key, hash, answer, now).map(drop)
}
