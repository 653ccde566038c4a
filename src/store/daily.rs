//! What subscribers were mailed in the last day.

use super::rows::json;
use super::{StoreError, Tx};
use crate::domain::class::Class;
use crate::domain::id::SubscriberId;
use crate::domain::time::Timestamp;

statements! {
    // By the index of a subscriber's mails, from the oldest on that its class's greatest age can have let go. PostgreSQL
    // cannot know how few that are, and would read the whole table for a batch: the OFFSET keeps it to one at a time.
    MAILED_LATELY = super::Sql::differs(
        "SELECT d.subscriber_id, d.class, d.claimed_at FROM (SELECT unhex(value->>'subscriber_id') AS subscriber_id,
            value->>'class' AS class, value->>'born' AS born, value->>'since' AS since FROM json_each($1)) AS j
         JOIN delivery d ON d.subscriber_id = j.subscriber_id AND d.created_at >= j.born AND d.class = j.class
            AND d.claimed_at > j.since AND (d.maybe_mailed OR d.state = 'sending')",
        "SELECT m.subscriber_id, m.class, m.claimed_at
         FROM json_to_recordset($1::json) AS j(subscriber_id uuid, class text, born bigint, since bigint)
         CROSS JOIN LATERAL (SELECT d.subscriber_id, d.class, d.claimed_at FROM delivery d
            WHERE d.subscriber_id = j.subscriber_id AND d.created_at >= j.born AND d.class = j.class
                AND d.claimed_at > j.since AND (d.maybe_mailed OR d.state = 'sending') OFFSET 0) AS m",
    );
}

/// Whose mails are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    /// The subscriber.
    pub subscriber: SubscriberId,
    /// Mails of this class.
    pub class: Class,
    /// Planned at this time or later.
    pub born: Timestamp,
    /// Handed over after this time.
    pub since: Timestamp,
}

/// When mails left, or may have left, or are leaving.
///
/// # Errors
/// When the database fails.
pub async fn mailed(tx: &mut Tx, of: &[Asked]) -> Result<Vec<(SubscriberId, Class, Timestamp)>, StoreError> {
    let row = |a: &Asked| columns! { subscriber_id: a.subscriber, class: a.class, born: a.born, since: a.since };
    rows!(tx, (SubscriberId, Class, Timestamp), MAILED_LATELY, json(of.iter().map(row)))
}
