//! Relays that a node cannot reach: rows, so that whoever asks hears of it where the node's log is not at hand.

use super::{StoreError, Tx};
use crate::domain::time::{Span, Timestamp};
use serde::Serialize;

/// What a node said is believed for so long: it says it again with each try, as long as mails wait.
const BELIEVED: Span = Span::minutes(2);

statements! {
    FORGET_REACHED = super::Sql::same("DELETE FROM relay_trouble WHERE tried_at <= $1");
    NOT_REACHED = super::Sql::same(
        "INSERT INTO relay_trouble (relay, node, since, tried_at, words) VALUES ($1, $2, $3, $3, $4)
         ON CONFLICT (relay, node) DO UPDATE SET tried_at = excluded.tried_at, words = excluded.words",
    );
    REACHED = super::Sql::same("DELETE FROM relay_trouble WHERE relay = $1 AND node = $2");
    UNREACHED_RELAYS = super::Sql::same(
        "SELECT relay, node, since, words FROM relay_trouble WHERE tried_at > $1 ORDER BY since, relay, node",
    );
}

/// A relay that a node cannot reach.
#[derive(Clone, Debug, Serialize, PartialEq, Eq, sqlx::FromRow)]
pub struct Unreached {
    /// The relay's name.
    pub relay: String,
    /// The node's name.
    pub node: String,
    /// Since when.
    pub since: Timestamp,
    /// What became of the last try.
    pub words: String,
}

/// The relays that cannot be reached, first the one that is away longest.
///
/// # Errors
/// When the database fails.
pub async fn unreached(tx: &mut Tx) -> Result<Vec<Unreached>, StoreError> {
    let since = tx.now() - BELIEVED;
    rows!(tx, Unreached, UNREACHED_RELAYS, since)
}

/// A process could not reach a relay.
///
/// # Errors
/// When the database fails.
pub async fn not_reached(tx: &mut Tx, relay: &str, owner: &str, words: &str) -> Result<(), StoreError> {
    let now = tx.now();
    exec!(tx, FORGET_REACHED, now - BELIEVED)?;
    exec!(tx, NOT_REACHED, relay, node(owner), now, words).map(drop)
}

/// A process reached a relay again.
///
/// # Errors
/// When the database fails.
pub async fn reached(tx: &mut Tx, relay: &str, owner: &str) -> Result<(), StoreError> {
    exec!(tx, REACHED, relay, node(owner)).map(drop)
}

/// The node's name, of what a process writes as the owner of its claims.
fn node(owner: &str) -> &str {
    owner.rsplit_once('/').map_or(owner, |(name, _)| name)
}
