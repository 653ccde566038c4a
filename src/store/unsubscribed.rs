//! What waits for a subscriber of whom a subscription is over, and is withdrawn where nothing else asks for it; and what is
//! to be sent again though nothing does.

use super::parameter::ids;
use super::rows::json;
use super::{StoreError, Tx};
use crate::domain::id::{DeliveryId, ThreadId};
use std::collections::BTreeSet;

/// Whoever is named as a recipient, and everybody to whom a notice goes, gets it whatever they follow. Others need a subscription
/// that planning would have made it for: to a component `k` that it is about, of an incident also to everything. A mail of an
/// incident may name nothing: then it is about all that the incident does.
macro_rules! unasked {
    (@where $named:literal, $impact:literal, $payload:literal, $components:literal, $groups:literal) => {
        concat!("LEFT JOIN incident i ON i.id = d.incident_id LEFT JOIN notice n ON n.id = d.notice_id
             WHERE d.class IN ('incident_update', 'post_mortem', 'free') AND d.rule <> 'surge'
                AND (d.class <> 'free' OR ", $payload, "->'everyone' IS NULL)
                AND NOT EXISTS (SELECT 1 FROM notice_recipient x WHERE x.notice_id IN (d.notice_id, i.audience_id)
                    AND x.subscriber_id = d.subscriber_id)
                AND (", $named, " NOT EXISTS (SELECT 1 FROM notice z JOIN notice_recipient x ON x.notice_id = z.id
                    WHERE z.incident_id = d.incident_id AND x.subscriber_id = d.subscriber_id))
                AND NOT EXISTS (SELECT 1 FROM subscription u WHERE u.subscriber_id = d.subscriber_id AND u.ended_at IS NULL
                    AND (u.events = 'all' OR (u.events = 'begin_and_end' AND d.rule IN ('first', 'worse', 'relapse', 'notice')))
                    ", $impact, "
                    AND ((d.class <> 'free' AND u.component_id IS NULL AND u.group_key IS NULL)
                        OR EXISTS (SELECT 1 FROM component k WHERE (k.id = u.component_id OR k.group_key = u.group_key) AND CASE
                            WHEN d.class = 'free' THEN k.key IN (", $components, ") OR k.group_key IN (", $groups, ")
                            WHEN EXISTS (SELECT 1 FROM delivery_item y WHERE y.delivery_id = d.id)
                                THEN EXISTS (SELECT 1 FROM delivery_item y WHERE y.delivery_id = d.id AND y.subject_id = k.id)
                            ELSE EXISTS (SELECT 1 FROM incident_component y WHERE y.incident_id = d.incident_id
                                AND y.component_id = k.id) END)))")
    };
    ($head:literal, $columns:tt, $joins:tt, $tail:literal, $named:literal, $impact:literal) => {
        super::Sql::differs(
            row_by_row!(over_rows, $head, $columns, $joins, concat!(unasked!(@where $named, $impact, "n.payload",
                "SELECT value FROM json_each(n.payload, '$.components')", "SELECT value FROM json_each(n.payload, '$.groups')"), $tail)).sqlite,
            row_by_row!(over_rows, $head, $columns, $joins, concat!(unasked!(@where $named, $impact, "n.payload::json",
                "SELECT json_array_elements_text(n.payload::json->'components')",
                "SELECT json_array_elements_text(n.payload::json->'groups')"), $tail)).postgres,
        )
    };
}

statements! {
    // Whoever plans a notice has read who follows what: what that makes is to be seen.
    LOCK_OTHER_PLANS = super::Sql::differs(
        "SELECT 1",
        "SELECT 1 FROM plan WHERE kind <> 'failure' AND done_at IS NULL ORDER BY id FOR SHARE",
    );
    WITHDRAW_UNSUBSCRIBED = unasked!(
        "UPDATE delivery SET state = 'withdrawn', reason = 'unsubscribed', folded_into = NULL, decided_at = j.at FROM",
        [subscriber text, at bigint],
        ["subscriber" "s" on "s.key = j.subscriber";
         "delivery" "d" on "d.subscriber_id = s.id
            AND (d.state || '' = 'queued' OR (d.state || '' = 'folded' AND d.reason IN ('under_cause', 'told_elsewhere')))
            AND NOT d.maybe_mailed AND d.resend_no = 0"],
        " AND delivery.id = d.id AND delivery.state = d.state RETURNING delivery.thread_id",
        "d.class <> 'post_mortem' OR",
        "AND (d.rule <> 'first' OR u.least_impact IN ('none', i.impact) OR i.impact = 'critical'
            OR (u.least_impact = 'minor' AND i.impact <> 'none'))"
    );
    // A copy is asked for as its original is. How bad it was when that was planned is not known any more, nor whose names were
    // those of the newest words then.
    UNFOLLOWED = unasked!(
        "SELECT j.id FROM", [id uuid],
        ["delivery" "o" on "o.id = j.id";
         "delivery" "d" on "d.cause_id = o.cause_id AND d.subscriber_id = o.subscriber_id AND d.resend_no = 0
            AND COALESCE(d.reason, '') NOT IN ('begin_and_end_only', 'below_least_impact', 'under_cause', 'told_elsewhere')"],
        "",
        "",
        ""
    );
}

/// Withdraws what waits for some subscribers, by key, and no subscription in force asks for; the threads it was in.
///
/// # Errors
/// When the database fails.
pub async fn withdraw(tx: &mut Tx, of: &BTreeSet<&str>) -> Result<Vec<ThreadId>, StoreError> {
    if of.is_empty() {
        return Ok(Vec::new());
    }
    lock!(tx, LOCK_OTHER_PLANS)?;
    let at = tx.now().0;
    let list = json(of.iter().map(|key| columns! { subscriber: *key, at }));
    Ok(rows!(tx, (ThreadId,), WITHDRAW_UNSUBSCRIBED, list)?.into_iter().map(|row| row.0).collect())
}

/// Those of some deliveries that no subscription in force asks for, less those whose own reason says more of that.
///
/// # Errors
/// When the database fails.
pub async fn unfollowed(tx: &mut Tx, of: &[DeliveryId]) -> Result<Vec<DeliveryId>, StoreError> {
    Ok(rows!(tx, (DeliveryId,), UNFOLLOWED, ids(of))?.into_iter().map(|row| row.0).collect())
}
