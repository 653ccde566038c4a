//! Suppressions: addresses that get no mail, with the evidence. Only a dead address is suppressed by itself.

use super::rows::json;
use super::{StoreError, Tx, journal};
use crate::domain::address::parse_address;
use crate::domain::class::Class;
use crate::domain::time::Timestamp;
use serde::Serialize;

statements! {
    SUPPRESS = over_rows!(
        "INSERT INTO suppression (address, class, reason, evidence, created_at, created_by)
         SELECT j.address, j.class, j.reason, j.evidence, j.at, j.who FROM",
        [address text, class text, reason text, evidence text, at bigint, who text],
        "WHERE TRUE ON CONFLICT DO NOTHING"
    );
    SUPPRESSIONS = super::Sql::same(
        "SELECT address, COUNT(*) AS classes, MIN(reason) AS reason, MIN(evidence) AS evidence, MIN(created_at) AS created_at,
            MIN(created_by) AS created_by FROM suppression WHERE lower(address) = lower($1) GROUP BY address",
    );
    ALL_SUPPRESSIONS = super::Sql::same(
        "SELECT address, COUNT(*) AS classes, MIN(reason) AS reason, MIN(evidence) AS evidence, MIN(created_at) AS created_at,
            MIN(created_by) AS created_by FROM suppression WHERE address > $1 GROUP BY address ORDER BY address LIMIT $2",
    );
    LIFT = super::Sql::same("DELETE FROM suppression WHERE lower(address) = lower($1)");
}

/// An address that gets no mail.
#[derive(Clone, Debug, Serialize, PartialEq, Eq, sqlx::FromRow)]
pub struct Suppression {
    /// The address.
    pub address: String,
    /// Of how many classes; all of them when the address is dead.
    pub classes: i64,
    /// Why.
    pub reason: String,
    /// The relay's words, if it was the relay's.
    pub evidence: Option<String>,
    /// Since when.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// Suppresses addresses for all classes, each with its evidence; what is suppressed already stays as it is.
///
/// # Errors
/// When the database fails.
pub async fn suppress(tx: &mut Tx, of: &[(&str, String)], reason: &str, who: &str) -> Result<(), StoreError> {
    let at = tx.now().0;
    let rows = of.iter().flat_map(|(address, evidence)| {
        Class::ALL.iter().map(move |class| columns! { address, class: class.as_str(), reason, evidence, at, who })
    });
    exec!(tx, SUPPRESS, json(rows)).map(drop)
}

/// What is suppressed of an address, whatever its case, and an international one also as people write it.
///
/// # Errors
/// When the database fails.
pub async fn of_address(tx: &mut Tx, address: &str) -> Result<Option<Suppression>, StoreError> {
    first!(tx, Suppression, SUPPRESSIONS, as_stored(address))
}

/// International domains are stored as A-labels.
fn as_stored(address: &str) -> String {
    parse_address(address).map_or_else(|_| address.to_owned(), |parsed| parsed.as_str().to_owned())
}

/// A page of all suppressions, by address, those after an address.
///
/// # Errors
/// When the database fails.
pub async fn page(tx: &mut Tx, after: &str, most: i64) -> Result<Vec<Suppression>, StoreError> {
    rows!(tx, Suppression, ALL_SUPPRESSIONS, after, most)
}

/// Lets mail go to an address again; whether it was suppressed. What was not sent meanwhile stays unsent.
///
/// # Errors
/// When the database fails.
pub async fn lift(tx: &mut Tx, address: &str, who: &str, why: &str) -> Result<bool, StoreError> {
    if exec!(tx, LIFT, as_stored(address))? == 0 {
        return Ok(false);
    }
    journal::append(tx, who, "lift_suppression", address, why).await?;
    Ok(true)
}
