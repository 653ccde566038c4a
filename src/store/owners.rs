//! Whose connections are, changed while they are broken: who has one no longer is not asked about it, who has it now is.

use super::import::keys;
use super::parameter::ids;
use super::parting::ItemKey;
use super::rows::json;
use super::{StoreError, Tx};
use crate::domain::id::{DeliveryId, PlanId};
use uuid::Uuid;

statements! {
    // Whoever plans one of them has read whose the connection was: what it makes is to be seen.
    LOCK_PLANS = super::Sql::differs(
        "SELECT 1 WHERE $1 IS NULL",
        "SELECT 1 FROM plan WHERE id = ANY(ARRAY(SELECT p.id FROM json_to_recordset($1::json) AS j(key text)
            JOIN connection c ON c.key = j.key
            CROSS JOIN LATERAL (SELECT * FROM plan p WHERE p.connection_id = c.id AND p.episode = c.episode OFFSET 0) AS p
            WHERE p.done_at IS NULL)) FOR SHARE",
    );
    // Locked, as all that may be claimed.
    ASKED_OF_OTHERS = row_by_row!(
        over_rows, "SELECT i.delivery_id, i.subject_id, i.episode FROM", [key text],
        ["connection" "c" on "c.key = j.key AND c.cleared < c.episode";
         "delivery_item" "i" on "i.connection_id = c.id AND i.episode > c.cleared AND i.corrects_id IS NULL AND i.dropped IS NULL";
         "delivery" "d" on "d.id = i.delivery_id AND d.state || '' = 'queued' AND d.class = 'action_required' AND NOT d.maybe_mailed
            AND NOT EXISTS (SELECT 1 FROM connection_subscriber s WHERE s.connection_id = i.connection_id
                AND s.subscriber_id = d.subscriber_id)", lock "FOR NO KEY UPDATE"],
        ""
    );
    NOT_THEIRS = over_few_rows!(
        "SELECT i.delivery_id, i.subject_id, i.episode FROM", [id uuid],
        "JOIN delivery d ON d.id = j.id JOIN delivery_item i ON i.delivery_id = d.id AND i.connection_id IS NOT NULL
            AND i.corrects_id IS NULL AND i.dropped IS NULL
         WHERE NOT EXISTS (SELECT 1 FROM connection_subscriber s WHERE s.connection_id = i.connection_id
            AND s.subscriber_id = d.subscriber_id)"
    );
    // As the outage was first planned: whether a recovery covers it depends on that. Only where somebody has no mail about it;
    // planning asks nobody else again.
    ASK_ANEW = row_by_row!(
        over_rows, "INSERT INTO plan (id, kind, matter_id, notice_id, signal_id, component_id, connection_id, episode, component_episode,
                failed_at, created_at)
            SELECT j.id, 'failure', c.component_id, p.notice_id, p.signal_id, c.component_id, c.id, c.episode, p.component_episode,
                p.failed_at, j.at FROM",
        [id uuid, key text, at bigint],
        ["connection" "c" on "c.key = j.key AND c.cleared < c.episode AND c.asked_episode >= c.episode";
         "plan" "p" on "p.connection_id = c.id AND p.episode = c.episode AND p.done_at IS NOT NULL"],
        "WHERE NOT EXISTS (SELECT 1 FROM plan q WHERE q.connection_id = c.id AND q.episode = c.episode
                AND (q.id < p.id OR q.done_at IS NULL))
            AND EXISTS (SELECT 1 FROM connection_subscriber s WHERE s.connection_id = c.id
                AND NOT EXISTS (SELECT 1 FROM delivery_item i JOIN delivery d ON d.id = i.delivery_id AND d.class = 'action_required'
                    AND d.subscriber_id = s.subscriber_id WHERE i.connection_id = c.id AND i.episode = c.episode
                    AND i.corrects_id IS NULL AND i.dropped IS NULL))"
    );
}

/// Waits for whoever plans the outages of some connections, and has those wait that come.
///
/// # Errors
/// When the database fails.
pub async fn lock_plans(tx: &mut Tx, of: &[&str]) -> Result<(), StoreError> {
    lock!(tx, LOCK_PLANS, keys(of.iter().copied()))
}

/// The items of mails that wait, and ask somebody whose connection it is no longer; locked.
///
/// # Errors
/// When the database fails.
pub async fn asked_of_others(tx: &mut Tx, of: &[&str]) -> Result<Vec<ItemKey>, StoreError> {
    let found = rows!(tx, (DeliveryId, Uuid, i64), ASKED_OF_OTHERS, keys(of.iter().copied()))?;
    Ok(found.into_iter().map(|(delivery, subject, episode)| ItemKey { delivery, subject, episode }).collect())
}

/// The items of these mails that ask somebody whose connection it is no longer.
///
/// # Errors
/// When the database fails.
pub async fn not_theirs(tx: &mut Tx, of: &[DeliveryId]) -> Result<Vec<ItemKey>, StoreError> {
    let found = rows!(tx, (DeliveryId, Uuid, i64), NOT_THEIRS, ids(of))?;
    Ok(found.into_iter().map(|(delivery, subject, episode)| ItemKey { delivery, subject, episode }).collect())
}

/// Has the outages of some connections planned once more, for those who were not there when they were planned.
///
/// # Errors
/// When the database fails.
pub async fn ask_anew(tx: &mut Tx, of: &[&str]) -> Result<(), StoreError> {
    let at = tx.now().0;
    exec!(tx, ASK_ANEW, json(of.iter().map(|key| columns! { id: PlanId::new(), key: *key, at }))).map(drop)
}
