//! The work that ingest leaves to planning: what comes next, and how far it has come.

use super::rows::json;
use super::{StoreError, Tx};
use crate::domain::class::Class;
use crate::domain::id::{ComponentId, IncidentId, NoticeId, PlanId, SubscriberId};
use crate::domain::incident::{Impact, Phase};
use crate::domain::time::Timestamp;
use sqlx::{FromRow, Row};
use uuid::Uuid;

/// Of one matter the oldest goes first: an end is never planned before the update it ends. The database's time says which:
/// ids carry the time of the node that made them, and clocks differ.
macro_rules! next {
    ($lock:literal) => {
        concat!(
            "SELECT p.id, p.notice_id, p.component_id, p.cursor_list, p.cursor_id, p.created_at, n.class, n.incident_id, n.revision,
                n.payload, i.key AS incident_key, i.title, CASE WHEN n.phase = 'update' THEN i.phase ELSE n.phase END AS phase, i.impact, i.created_at AS heard_at, i.resolved_at
             FROM (SELECT * FROM plan p WHERE p.kind <> 'failure' AND p.done_at IS NULL AND NOT EXISTS (SELECT 1 FROM plan q
                WHERE q.matter_id = p.matter_id AND q.done_at IS NULL AND q.kind <> 'failure' AND (q.created_at, q.id) < (p.created_at, p.id))
                ORDER BY p.id LIMIT 1", $lock, ") AS p
             LEFT JOIN notice n ON n.id = p.notice_id LEFT JOIN incident i ON i.id = n.incident_id"
        )
    };
}

statements! {
    NEXT = super::Sql::differs(next!(""), next!(" FOR NO KEY UPDATE SKIP LOCKED"));
    ANYTHING_TO_PLAN = super::Sql::same(
        "SELECT EXISTS (SELECT 1 FROM plan WHERE kind <> 'failure' AND done_at IS NULL) AS others,
            EXISTS (SELECT 1 FROM plan WHERE kind = 'failure' AND done_at IS NULL) AS failures",
    );
    MOVE_CURSOR = super::Sql::same("UPDATE plan SET cursor_list = $2, cursor_id = $3 WHERE id = $1");
    FINISH = over_few_rows!(
        "UPDATE plan SET done_at = j.at, outcome = j.outcome FROM", [id uuid, at bigint, outcome text],
        "WHERE plan.id = j.id AND plan.done_at IS NULL"
    );
    FINISH_LISTS = super::Sql::same(
        "UPDATE plan SET done_at = $2, outcome = CASE WHEN EXISTS (SELECT 1 FROM delivery d WHERE d.cause_id = plan.notice_id)
            THEN 'planned' ELSE 'nobody' END
         WHERE id = $1 AND done_at IS NULL",
    );
    FIRST_TITLE = super::Sql::same(
        "SELECT subject FROM thread WHERE matter_id = $1 LIMIT 1",
    );
    PLANNED_ALREADY = over_rows!(
        "SELECT d.subscriber_id FROM", [cause_id uuid, subscriber_id uuid],
        "JOIN delivery d ON d.cause_id = j.cause_id AND d.subscriber_id = j.subscriber_id AND d.resend_no = 0"
    );
    OPEN_INCIDENTS_OF = super::Sql::same(
        "SELECT i.id, i.revision, (SELECT n.id FROM notice n WHERE n.incident_id = i.id
                AND n.outcome NOT IN ('repeated', 'stale_at_birth') ORDER BY n.revision DESC LIMIT 1) AS notice_id
         FROM incident_component ic JOIN incident i ON i.id = ic.incident_id
         WHERE ic.component_id = $1 AND i.resolved_at IS NULL AND i.phase NOT IN ('scheduled', 'in_progress', 'verifying')
         ORDER BY i.id",
    );
}

/// Planning work of a notice, or of a component that came back.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Job {
    /// Its id.
    pub id: PlanId,
    /// The notice to plan.
    pub notice_id: Option<NoticeId>,
    /// The component that came back.
    pub component_id: Option<ComponentId>,
    /// Which list of subscribers is being read.
    pub cursor_list: i64,
    /// Up to whom it was read.
    pub cursor_id: Option<Uuid>,
    /// When it was left.
    pub created_at: Timestamp,
}

/// A notice as planning needs it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Notice {
    /// Its id.
    #[sqlx(rename = "notice_id")]
    pub id: NoticeId,
    /// The class of its mails.
    pub class: Class,
    /// Its incident.
    pub incident_id: Option<IncidentId>,
    /// Which update of it, counted from 1.
    pub revision: Option<i64>,
    /// The phase it tells: of an update without one where the incident stands now.
    pub phase: Option<Phase>,
    /// How bad the incident is.
    pub impact: Option<Impact>,
    /// When the incident was first heard of.
    pub heard_at: Option<Timestamp>,
    /// What was said, as JSON.
    pub payload: String,
    /// The incident's key.
    pub incident_key: Option<String>,
    /// The incident's title.
    pub title: Option<String>,
    /// When the incident was resolved, as known now.
    pub resolved_at: Option<Timestamp>,
}

/// What comes next, and the notice that is to be planned then.
#[derive(Clone, Debug)]
pub struct Next {
    /// The work.
    pub job: Job,
    /// Its notice.
    pub notice: Option<Notice>,
}

impl<'r, R: Row> FromRow<'r, R> for Next
where
    Job: FromRow<'r, R>,
    Notice: FromRow<'r, R>,
{
    fn from_row(row: &'r R) -> sqlx::Result<Self> {
        let job = Job::from_row(row)?;
        let notice = job.notice_id.map(|_| Notice::from_row(row)).transpose()?;
        Ok(Self { job, notice })
    }
}

/// The next notice or returned component to plan, locked.
///
/// # Errors
/// When the database fails.
pub async fn next(tx: &mut Tx) -> Result<Option<Next>, StoreError> {
    first!(tx, Next, NEXT)
}

/// Whether anything is to be planned: notices and what else is not of failures, and failures.
///
/// # Errors
/// When the database fails.
pub async fn anything(tx: &mut Tx) -> Result<(bool, bool), StoreError> {
    on_db!(tx, ANYTHING_TO_PLAN, query_as::<(bool, bool)>, fetch_one)
}

/// Ends a piece of work of which every list has been read: planned when its notice has made any delivery.
///
/// # Errors
/// When the database fails.
pub async fn finish_lists(tx: &mut Tx, id: PlanId) -> Result<(), StoreError> {
    let now = tx.now();
    exec!(tx, FINISH_LISTS, id, now).map(drop)
}

/// The subject that the matter's threads already have.
///
/// # Errors
/// When the database fails.
pub async fn subject_of(tx: &mut Tx, matter: Uuid) -> Result<Option<String>, StoreError> {
    Ok(first!(tx, (String,), FIRST_TITLE, matter)?.map(|row| row.0))
}

/// Remembers how far a piece of work has come.
///
/// # Errors
/// When the database fails.
pub async fn move_cursor(tx: &mut Tx, id: PlanId, list: i64, at: Option<Uuid>) -> Result<(), StoreError> {
    exec!(tx, MOVE_CURSOR, id, list, at).map(drop)
}

/// Ends pieces of work with what became of them.
///
/// # Errors
/// When the database fails.
pub async fn finish(tx: &mut Tx, of: &[(PlanId, &str)]) -> Result<(), StoreError> {
    let at = tx.now().0;
    let list = of.iter().map(|(id, outcome)| columns! { id: id.0, at, outcome });
    exec!(tx, FINISH, json(list)).map(drop)
}

/// Those of some subscribers for whom a cause has made a delivery already.
///
/// # Errors
/// When the database fails.
pub async fn planned_already(tx: &mut Tx, cause: Uuid, of: &[SubscriberId]) -> Result<Vec<SubscriberId>, StoreError> {
    let list = of.iter().map(|s| columns! { cause_id: cause, subscriber_id: s.0 });
    Ok(rows!(tx, (SubscriberId,), PLANNED_ALREADY, json(list))?.into_iter().map(|row| row.0).collect())
}

/// The unresolved incidents, maintenances apart, that have named a component: each with its revision and its newest update.
///
/// # Errors
/// When the database fails.
pub async fn open_incidents_of(
    tx: &mut Tx,
    component: ComponentId,
) -> Result<Vec<(IncidentId, i64, Option<NoticeId>)>, StoreError> {
    rows!(tx, (IncidentId, i64, Option<NoticeId>), OPEN_INCIDENTS_OF, component)
}
