//! Outcomes: what the relay said becomes durable, guarded by token and state; the attempt is kept even when the
//! guard fails.

use super::copies::{self, MailCopy};
use super::parameter::ids;
use super::rows::json;
use super::search::{self, REMEMBER_WORDS};
use super::{StoreError, Tx};
use crate::domain::delivery::{Outcome, Reason, State};
use crate::domain::id::{AttemptId, DeliveryId};
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};

// The parts of RECORD: the outcomes are in `$1`. Here and below a lease stands for the state `sending`, as the table's
// CHECK says: planners that see the state would go through the small index of all that is on the wire, and through all
// that has been since it was last vacuumed.
const ATTEMPTS: super::Sql = over_few_rows!(
    "$2",
    "INSERT INTO attempt (id, delivery_id, token, owner, ended_at, outcome, code, enhanced, kind, reply, guarded)
     SELECT j.id, j.delivery_id, j.token, j.owner, j.at, j.outcome, j.code, j.enhanced, j.kind, j.reply,
        EXISTS (SELECT 1 FROM delivery d WHERE d.id = j.delivery_id AND d.token = j.token AND d.lease_until IS NOT NULL)
     FROM",
    [id uuid, delivery_id uuid, token bigint, owner text, at bigint, outcome text, code bigint, enhanced text, kind text,
     reply text],
    // A commit that failed may have been made all the same, and a spill file may be merged twice, or into a database that was
    // restored from before.
    "WHERE EXISTS (SELECT 1 FROM delivery d WHERE d.id = j.delivery_id) ON CONFLICT (delivery_id, token) DO NOTHING"
);
// The thread remembers the mail before its delivery leaves `sending`: the guard is still to be seen.
const THREADS: super::Sql = over_few_rows!(
    "UPDATE thread SET last_message_id = d.message_id, last_phase = COALESCE(d.phase, thread.last_phase),
        told_revision = COALESCE(d.revision, thread.told_revision), last_class = d.class, last_mailed_at = j.at,
        told_at = COALESCE(thread.told_at, j.at),
        ended_at = CASE WHEN d.class IN ('incident_end', 'all_clear') THEN j.at
                        WHEN d.class = 'post_mortem' AND thread.told_at IS NULL THEN j.at
                        WHEN d.class = 'incident_update' THEN NULL ELSE thread.ended_at END
     FROM",
    [id uuid, token bigint, at bigint, mailed bigint],
    "JOIN delivery d ON d.id = j.id AND d.token = j.token AND d.lease_until IS NOT NULL
     WHERE thread.id = d.thread_id AND j.mailed = 1"
);
const OUTCOMES: super::Sql = over_few_rows!(
    "UPDATE delivery SET state = j.state, reason = j.reason, due_at = COALESCE(j.due_at, delivery.due_at),
        decided_at = j.decided_at, quarantine_until = j.quarantine_until, owner = NULL, lease_until = NULL,
        tries = delivery.tries + j.counts, maybe_mailed = delivery.maybe_mailed OR j.mailed = 1 FROM",
    [id uuid, token bigint, state text, reason text, due_at bigint, decided_at bigint, quarantine_until bigint, counts bigint,
     mailed bigint],
    "WHERE delivery.id = j.id AND delivery.token = j.token AND delivery.lease_until IS NOT NULL"
);
/// The mails `n` that ask, of those in `j`, and the corrections `c` that wait in their threads.
macro_rules! over_waiting_corrections {
    ($head:expr, $columns:tt, $tail:expr) => {
        row_by_row!(
            over_few_rows, $head, $columns,
            ["delivery" "n" on "n.id = j.id AND n.class = 'action_required'";
             "delivery" "c" on "c.thread_id = n.thread_id AND c.class = 'correction' AND c.state = 'queued'"],
            $tail
        )
    };
}
// Whether corrections wait in the threads of what was accepted: mostly there is none.
const CORRECTIONS: super::Sql =
    over_waiting_corrections!("EXISTS (SELECT 1 FROM", [id uuid, state text], "WHERE j.state = 'accepted')");
const WAITING_CORRECTIONS: super::Sql = over_waiting_corrections!("SELECT c.id FROM", [id uuid], "");

statements! {
    // What became of tries, in one exchange: how many claims still held, and whether corrections may have to be replaced.
    // Each part reads of the others' tables only what was there before: PostgreSQL runs them as of one moment.
    RECORD = super::Sql::differs(
        joined!(ATTEMPTS.sqlite, "; ", REMEMBER_WORDS.sqlite, "; ", copies::KEEP.sqlite, "; ", THREADS.sqlite, "; ", OUTCOMES.sqlite,
            "; SELECT changes(), ", CORRECTIONS.sqlite),
        joined!("WITH a AS (", ATTEMPTS.postgres, "), w AS (", REMEMBER_WORDS.postgres, "), k AS (", copies::KEEP.postgres,
            "), t AS (", THREADS.postgres, "), o AS (", OUTCOMES.postgres,
            " RETURNING 1) SELECT (SELECT COUNT(*) FROM o), ", CORRECTIONS.postgres),
    );
    // A 250 that comes when its claim was reaped already, and the mail still in quarantine, or waits to be repeated: nobody
    // need wonder any more. The claim gets its number back, and is recorded like any other. No claim had the next number: it
    // would have left an attempt. One of a thread is busy at a time: while another is, the repeat is left to its turn.
    CLAIM_AGAIN = over_rows!(
        "UPDATE delivery SET state = 'sending', token = j.token, owner = j.owner, lease_until = j.at, reason = NULL,
            repeats = delivery.repeats - CASE WHEN delivery.quarantine_until IS NULL THEN 1 ELSE 0 END,
            quarantine_until = NULL, decided_at = NULL FROM",
        [id uuid, token bigint, owner text, at bigint],
        concat!("WHERE delivery.id = j.id AND delivery.token = j.token + 1
            AND (delivery.quarantine_until IS NOT NULL OR (", waits!("delivery"), " AND delivery.repeats > 0
                AND NOT EXISTS (SELECT 1 FROM delivery s WHERE s.thread_id = delivery.thread_id
                    AND (s.state = 'sending' OR (s.state = 'unknown' AND s.quarantine_until IS NOT NULL)))))
            AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.delivery_id = delivery.id AND a.token = delivery.token)")
    );
    TOLD = over_few_rows!(
        "INSERT INTO thread_component (thread_id, component_id, status, told_at, was_down)
         SELECT d.thread_id, i.component_id, i.status, j.at, CASE WHEN i.status = 'operational' THEN FALSE ELSE TRUE END FROM",
        [id uuid, token bigint, at bigint],
        "JOIN delivery d ON d.id = j.id AND d.token = j.token AND d.state IN ('sending', 'unknown')
            AND d.class IN ('incident_update', 'incident_end', 'all_clear')
         JOIN delivery_item i ON i.delivery_id = d.id AND i.dropped IS NULL AND i.status IS NOT NULL
         WHERE TRUE ON CONFLICT (thread_id, component_id) DO UPDATE SET status = excluded.status, told_at = excluded.told_at,
            was_down = thread_component.was_down OR excluded.was_down"
    );
    // A "please reconnect" about a newer outage was taken by the relay: what took back an older one about the same
    // connections would now be untrue. A correction of this very mail, written while it was on the wire, stays.
    REPLACE_CORRECTED = over_waiting_corrections!(
        "UPDATE delivery_item SET dropped = 'replaced_by_newer' FROM", [id uuid],
        "JOIN delivery_item ni ON ni.delivery_id = n.id AND ni.dropped IS NULL
         WHERE delivery_item.delivery_id = c.id AND delivery_item.connection_id = ni.connection_id
            AND delivery_item.episode < ni.episode AND delivery_item.dropped IS NULL"
    );
    // All that an outcome changes, in the order in which others take rows: two of which each holds what the other wants
    // would have to begin anew. And only what is read after waiting for a sweep that joins a correction is the truth.
    LOCK = super::Sql::differs(
        "SELECT 1 WHERE $1 IS NULL",
        joined!("SELECT 1 FROM delivery WHERE id = ANY(ARRAY(SELECT (value->>'id')::uuid FROM jsonb_array_elements($1::jsonb)
            UNION ALL ", WAITING_CORRECTIONS.postgres, ")) ORDER BY id FOR NO KEY UPDATE"),
    );
    FOLD_EMPTY = over_waiting_corrections!(
        "UPDATE delivery SET state = 'folded', reason = 'replaced_by_newer', folded_into = n.id, decided_at = j.at FROM",
        [id uuid, at bigint],
        concat!("WHERE delivery.id = c.id AND ", waits!("delivery"), "
            AND NOT EXISTS (SELECT 1 FROM delivery_item i WHERE i.delivery_id = c.id AND i.dropped IS NULL)")
    );
    ASKED_SINCE = over_rows!(
        "SELECT DISTINCT n.id FROM", [id uuid],
        "JOIN delivery c ON c.id = j.id JOIN delivery_item i ON i.delivery_id = c.id AND i.dropped IS NULL
         JOIN delivery n ON n.thread_id = c.thread_id AND n.class = 'action_required' AND n.state = 'accepted'
         JOIN delivery_item ni ON ni.delivery_id = n.id AND ni.connection_id = i.connection_id AND ni.episode > i.episode
            AND ni.dropped IS NULL"
    );
}

/// An outcome to be recorded. It can also wait in the spill file while the database is away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The delivery.
    pub id: DeliveryId,
    /// The claim it belongs to.
    pub token: i64,
    /// What the relay said, when it was asked.
    pub outcome: Option<Outcome>,
    /// The state that follows.
    pub state: State,
    /// Why, for people.
    pub reason: Option<Reason>,
    /// When it is due again.
    pub due_at: Option<Timestamp>,
    /// The end of the quarantine.
    pub quarantine_until: Option<Timestamp>,
    /// It counts as a try.
    pub counts: bool,
    /// It tells how components of an incident are doing.
    #[serde(default)]
    pub tells: bool,
    /// The mail, when any of it may have left.
    #[serde(default)]
    pub copy: Option<MailCopy>,
    /// The address, where the relay said that it is dead: it gets no more mail.
    #[serde(default)]
    pub dead: Option<String>,
}

impl Settled {
    const fn is_mailed(&self) -> bool {
        matches!(self.state, State::Accepted | State::Unknown)
    }
}

/// Records outcomes.
///
/// # Errors
/// When the database fails, or another node took the thread of a repeat just now ([`StoreError::is_conflict`]).
pub async fn outcomes(tx: &mut Tx, owner: &str, of: &[Settled]) -> Result<(), StoreError> {
    lock!(tx, LOCK, ids(&of.iter().map(|s| s.id).collect::<Vec<_>>()))?;
    let all: Vec<&Settled> = of.iter().collect();
    let (held, mut corrections) = record(tx, owner, &all).await?;
    let taken: Vec<&Settled> = of.iter().filter(|s| s.state == State::Accepted).collect();
    if held < of.len() && claim_again(tx, owner, &taken).await? > 0 {
        corrections |= record(tx, owner, &taken).await?.1;
    }
    if corrections {
        replace_corrections(tx, &taken.iter().map(|s| s.id).collect::<Vec<_>>()).await?;
    }
    Ok(())
}

/// How many of the claims still held, and whether corrections wait in the threads of what was accepted.
async fn record(tx: &mut Tx, owner: &str, of: &[&Settled]) -> Result<(usize, bool), StoreError> {
    tell(tx, of).await?;
    let now = tx.now();
    let tried = of.iter().filter_map(|s| Some((s.id, s.outcome.as_ref()?)));
    let mails = of.iter().filter_map(|s| Some((s.id, s.outcome.as_ref()?.hand_over, s.copy.as_ref()?)));
    let (held, corrections) = on_db!(
        tx,
        RECORD,
        query_as::<(i64, bool)>,
        fetch_one,
        settled(now, of),
        attempts(now, owner, of),
        copies::rows(now, mails),
        search::said(tried)
    )?;
    Ok((usize::try_from(held).unwrap_or(0), corrections))
}

/// Threads remember which state of their components they were told.
async fn tell(tx: &mut Tx, of: &[&Settled]) -> Result<(), StoreError> {
    let at = tx.now().0;
    let tells = of.iter().filter(|s| s.tells && s.is_mailed());
    let rows: Vec<_> = tells.map(|s| columns! { id: s.id, token: s.token, at }).collect();
    if rows.is_empty() { Ok(()) } else { exec!(tx, TOLD, json(rows)).map(drop) }
}

async fn claim_again(tx: &mut Tx, owner: &str, of: &[&Settled]) -> Result<u64, StoreError> {
    if of.is_empty() {
        return Ok(0);
    }
    let at = tx.now().0;
    let list = of.iter().map(|s| columns! { id: s.id, token: s.token, owner, at });
    exec!(tx, CLAIM_AGAIN, json(list))
}

fn attempts(at: Timestamp, owner: &str, of: &[&Settled]) -> String {
    let list = of.iter().filter_map(|s| s.outcome.as_ref().map(|outcome| (s, outcome))).map(|(s, outcome)| {
        columns! {
            id: AttemptId::new().0,
            delivery_id: s.id,
            token: s.token,
            owner,
            at: at.0,
            outcome: outcome.hand_over.as_str(),
            code: outcome.code.map(i64::from),
            enhanced: outcome.enhanced.as_deref(),
            kind: outcome.kind.map(|kind| kind.as_str()),
            reply: &outcome.words,
        }
    });
    json(list)
}

fn settled(at: Timestamp, of: &[&Settled]) -> String {
    let list = of.iter().map(|s| {
        columns! {
            id: s.id,
            token: s.token,
            at: at.0,
            state: s.state.as_str(),
            reason: s.reason.map(|r| r.as_str()),
            due_at: s.due_at,
            decided_at: (s.state != State::Queued).then_some(at.0),
            quarantine_until: s.quarantine_until,
            counts: i64::from(s.counts),
            mailed: i64::from(s.is_mailed()),
        }
    });
    json(list)
}

/// Replaces corrections that were written when the relay had already taken the newer mail: the sweep was late.
///
/// # Errors
/// When the database fails.
pub async fn replace_late_corrections(tx: &mut Tx, of: &[DeliveryId]) -> Result<(), StoreError> {
    let newer: Vec<(DeliveryId,)> = rows!(tx, (DeliveryId,), ASKED_SINCE, ids(of))?;
    let newer: Vec<DeliveryId> = newer.into_iter().map(|row| row.0).collect();
    lock!(tx, LOCK, ids(&newer))?;
    replace_corrections(tx, &newer).await
}

async fn replace_corrections(tx: &mut Tx, accepted: &[DeliveryId]) -> Result<(), StoreError> {
    if accepted.is_empty() {
        return Ok(());
    }
    let at = tx.now().0;
    let list = json(accepted.iter().map(|id| columns! { id: id.0, at }));
    if exec!(tx, REPLACE_CORRECTED, &list)? > 0 {
        exec!(tx, FOLD_EMPTY, &list)?;
    }
    Ok(())
}
