//! Holds: rows that keep true mail back, until they are released or run out. Every act is in the journal.

use super::{StoreError, Tx, journal};
use crate::domain::class::Class;
use crate::domain::hold::{HoldCause, HoldScope};
use crate::domain::id::{ComponentId, HoldId};
use crate::domain::time::Timestamp;
use serde::Serialize;

statements! {
    ADD_HOLD = super::Sql::same(
        "INSERT INTO hold (id, scope, class, component_id, cause, reason, since, until, created_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    );
    IN_FORCE = super::Sql::same(
        "SELECT h.id, h.scope, h.class, h.component_id, c.key AS component, h.cause, h.reason, h.since, h.until, h.created_by
         FROM hold h LEFT JOIN component c ON c.id = h.component_id
         WHERE h.released_at IS NULL AND (h.until IS NULL OR h.until > $1) ORDER BY h.since, h.id",
    );
    RELEASE_HOLD = super::Sql::same(
        "UPDATE hold SET released_at = $2, released_by = $3 WHERE id = $1 AND released_at IS NULL",
    );
}

/// A hold in force.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct HoldRow {
    /// Its id.
    pub id: HoldId,
    /// `everything`, `class` or `component`.
    pub scope: String,
    /// The class, if it is on one.
    pub class: Option<Class>,
    /// The component, if it is on one.
    pub component_id: Option<ComponentId>,
    /// That component's key.
    pub component: Option<String>,
    /// What it came from.
    pub cause: HoldCause,
    /// Why, in words.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when at most.
    pub until: Option<Timestamp>,
    /// Who put it.
    pub created_by: String,
}

impl HoldRow {
    /// What it is on.
    #[must_use]
    pub const fn scope(&self) -> HoldScope {
        match (self.class, self.component_id) {
            (Some(class), _) => HoldScope::Class(class),
            (None, Some(component)) => HoldScope::Component(component),
            (None, None) => HoldScope::Everything,
        }
    }

    /// As the journal names it.
    fn subject(&self) -> String {
        let on = match (&self.class, &self.component) {
            (Some(class), _) => class.as_str(),
            (None, Some(component)) => component,
            (None, None) => "everything",
        };
        format!("{} ({on})", self.id)
    }
}

/// The holds in force, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn in_force(tx: &mut Tx) -> Result<Vec<HoldRow>, StoreError> {
    let now = tx.now();
    rows!(tx, HoldRow, IN_FORCE, now)
}

/// Puts a hold. `until` is the latest time it lasts; the global stop is the cause `stop` on everything.
///
/// # Errors
/// When the database fails.
pub async fn put(
    tx: &mut Tx,
    scope: HoldScope,
    cause: HoldCause,
    reason: &str,
    until: Option<Timestamp>,
    who: &str,
) -> Result<HoldId, StoreError> {
    let id = HoldId::new();
    let now = tx.now();
    exec!(tx, ADD_HOLD, id, scope.as_str(), scope.class(), scope.component(), cause, reason, now, until, who)?;
    let action = if cause == HoldCause::Stop { "stop" } else { "hold" };
    let held = in_force(tx).await?.into_iter().find(|hold| hold.id == id);
    let subject = held.map_or_else(|| id.to_string(), |hold| hold.subject());
    let until = until.map(|until| format!("until {until}: ")).unwrap_or_default();
    journal::append(tx, who, action, &subject, &(until + reason)).await?;
    Ok(id)
}

/// Releases the holds in force that `which` picks; returns them.
///
/// # Errors
/// When the database fails.
pub async fn release(
    tx: &mut Tx,
    which: impl Fn(&HoldRow) -> bool,
    reason: &str,
    who: &str,
) -> Result<Vec<HoldRow>, StoreError> {
    let now = tx.now();
    let mut released = Vec::new();
    for hold in in_force(tx).await?.into_iter().filter(which) {
        // Another may have released it since it was read.
        if exec!(tx, RELEASE_HOLD, hold.id, now, who)? == 0 {
            continue;
        }
        let action = if hold.cause == HoldCause::Stop { "resume" } else { "release" };
        journal::append(tx, who, action, &hold.subject(), reason).await?;
        released.push(hold);
    }
    Ok(released)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing;

    #[tokio::test]
    async fn a_hold_is_in_force_until_it_is_released_or_runs_out() {
        let (_dir, store, clock) = testing::store().await;
        let now = testing::NOW;
        let mut tx = store.begin().await.unwrap();
        let until = Some(Timestamp(now.0 + 10));
        let class = HoldScope::Class(Class::Free);
        put(&mut tx, class, HoldCause::Operator, "checking", until, "jo").await.unwrap();
        put(&mut tx, HoldScope::Everything, HoldCause::Stop, "alarm", None, "jo").await.unwrap();
        assert_eq!(in_force(&mut tx).await.unwrap().len(), 2);
        tx.commit().await.unwrap();

        clock.set(Timestamp(now.0 + 10));
        let mut tx = store.begin().await.unwrap();
        let held = in_force(&mut tx).await.unwrap();
        assert_eq!(
            held.iter().map(|h| (h.cause, h.scope())).collect::<Vec<_>>(),
            [(HoldCause::Stop, HoldScope::Everything)]
        );
        let released = release(&mut tx, |h| h.cause == HoldCause::Stop, "over", "jo").await.unwrap();
        assert_eq!(released.len(), 1);
        assert!(in_force(&mut tx).await.unwrap().is_empty());
        let lines = journal::lines(&mut tx, 0).await.unwrap();
        let on = |subject: &str| subject.split_once(' ').unwrap().1.to_owned();
        let said: Vec<_> = lines.iter().map(|l| (l.action.as_str(), on(&l.subject), l.detail.clone())).collect();
        let (free, all) = ("(free)".to_owned(), "(everything)".to_owned());
        let until = format!("until {}: checking", Timestamp(now.0 + 10));
        assert_eq!(
            said,
            [("hold", free, until), ("stop", all.clone(), "alarm".to_owned()), ("resume", all, "over".to_owned())]
        );
        assert_eq!(journal::broken(&mut tx).await.unwrap(), None);
        testing::sql(&mut tx, "UPDATE journal SET detail = 'nothing' WHERE n = 2").await;
        assert_eq!(journal::broken(&mut tx).await.unwrap(), Some(2));
    }
}
