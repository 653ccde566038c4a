//! The race that only PostgreSQL can show: a mail is claimed while its connection recovers. Whoever compares the
//! claim with the fence inside the claiming transaction (V1 of `research/reliability.md`) lets a mail go that the
//! recovery's sweep did not see. Our order (arm, commit, look in a new statement; recovery, commit, sweep) has
//! no such interleaving: either the look sees the recovery, or the sweep sees the armed row.
//!
//! Deterministic: the steps are run in a written order. Where a step waits for a lock of another, the lock
//! itself says so, and the next step is run.

use crate::support::{On, World};
use allclear::domain::class::{Class, Limits};
use allclear::domain::delivery::Reason;
use allclear::domain::id::DeliveryId;
use allclear::domain::time::Span;
use allclear::flow::gate::{Verdict, gate};
use allclear::flow::{look, sweep};
use allclear::store::claims::{Armed, arm};
use allclear::store::{Store, Tx};
use sqlx::{Connection, PgConnection, Postgres, Transaction};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Broken connections, each of a customer of its own, whose mails are planned and due.
async fn due(keys: &[String]) -> (World, Vec<DeliveryId>) {
    let mut w = World::new(On::Postgres, "2025-03-01T20:40:00Z").await;
    w.component("outlook", "Outlook").await;
    for key in keys {
        w.subscriber(key).await;
        w.connection(key, "outlook", key).await;
        w.broken(key).await;
    }
    w.settle().await;
    w.clock.set(w.now() + Span::minutes(5));
    let mut conn = PgConnection::connect(&w.url).await.unwrap();
    const QUEUED: &str = "SELECT d.id FROM delivery d JOIN subscriber s ON s.id = d.subscriber_id WHERE s.key = $1 AND d.state = 'queued'";
    let mut ids = Vec::new();
    for key in keys {
        let id: Uuid = sqlx::query_scalar(QUEUED).bind(key).fetch_one(&mut conn).await.unwrap();
        ids.push(DeliveryId(id));
    }
    (w, ids)
}

fn start_sweep(w: &World) -> JoinHandle<()> {
    let (store, setting): (Store, _) = (w.store.clone(), w.shared.setting.clone());
    tokio::spawn(async move { while sweep::sweep(&store, &setting).await.unwrap() {} })
}

/// Returns when the sweep is done, or waits for a lock that somebody in this schema holds.
async fn done_or_waiting(w: &World, sweep: &JoinHandle<()>) {
    let mut conn = PgConnection::connect(&w.url).await.unwrap();
    const WAITING: &str =
        "SELECT EXISTS (SELECT 1 FROM pg_locks l JOIN pg_locks h ON h.pid = ANY (pg_blocking_pids(l.pid))
        JOIN pg_class c ON c.oid = h.relation WHERE NOT l.granted AND c.relnamespace = current_schema()::regnamespace)";
    while !sweep.is_finished() && !sqlx::query_scalar::<_, bool>(WAITING).fetch_one(&mut conn).await.unwrap() {
        tokio::task::yield_now().await;
    }
}

async fn corrections(w: &World, of: DeliveryId) -> i64 {
    let mut conn = PgConnection::connect(&w.url).await.unwrap();
    let sql = "SELECT COUNT(*) FROM delivery_item WHERE corrects_id = $1";
    sqlx::query_scalar(sql).bind(of.0).fetch_one(&mut conn).await.unwrap()
}

const CLAIM: &str = "UPDATE delivery SET state = 'sending', token = token + 1, owner = 'naive', lease_until = 1, claimed_at = 1,
        message_id = 'naive', context = '{}', reason = NULL
    WHERE id = $1 AND state = 'queued' AND EXISTS (SELECT 1 FROM delivery_item i JOIN connection c ON c.id = i.connection_id
        WHERE i.delivery_id = $1 AND c.cleared < i.episode)";
const FENCE: &str = "SELECT c.cleared < i.episode FROM delivery_item i JOIN connection c ON c.id = i.connection_id WHERE i.delivery_id = $1";

/// The naive claim, not committed yet; whether its own fence lets the mail go.
async fn naive_claim(
    conn: &mut PgConnection,
    id: DeliveryId,
    fence_in_the_update: bool,
) -> (Transaction<'_, Postgres>, bool) {
    let mut tx = conn.begin().await.unwrap();
    let claimed = sqlx::query(CLAIM).bind(id.0).execute(&mut *tx).await.unwrap().rows_affected() == 1;
    let still_true = fence_in_the_update || sqlx::query_scalar(FENCE).bind(id.0).fetch_one(&mut *tx).await.unwrap();
    (tx, claimed && still_true)
}

async fn a_naive_mail_is_sent_and_never_corrected(fence_in_the_update: bool) {
    let (w, ids) = due(&["ann".to_owned()]).await;
    let id = ids[0];
    let mut conn = PgConnection::connect(&w.url).await.unwrap();
    let (claim, goes) = naive_claim(&mut conn, id, fence_in_the_update).await;
    assert!(goes, "the fence was read before the recovery");
    w.recovered("ann", "automatic").await;
    let sweep = start_sweep(&w);
    done_or_waiting(&w, &sweep).await;
    // The sweep saw the row as queued: the claim is not committed. It waits to withdraw it, in vain.
    claim.commit().await.unwrap();
    sweep.await.unwrap();
    assert_eq!(w.deliveries().await, ["action_required sending"], "the naive worker sends it now");
    assert_eq!(corrections(&w, id).await, 0, "and nobody will ever take it back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_read_in_the_claiming_update_lets_a_mail_go_uncorrected() {
    a_naive_mail_is_sent_and_never_corrected(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_read_in_the_claiming_transaction_lets_a_mail_go_uncorrected() {
    a_naive_mail_is_sent_and_never_corrected(false).await;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    ArmCommit,
    Look,
    RecoveryCommit,
    Sweep,
}

/// Every order of the four steps in which the arm precedes its look and the recovery its sweep.
fn interleavings() -> Vec<[Step; 4]> {
    use Step::{ArmCommit as A, Look as L, RecoveryCommit as R, Sweep as S};
    vec![[A, L, R, S], [A, R, L, S], [A, R, S, L], [R, A, L, S], [R, A, S, L], [R, S, A, L]]
}

async fn armed(w: &World, id: DeliveryId) -> Tx {
    let mut tx = w.store.begin().await.unwrap();
    let frozen = Armed {
        id,
        message_id: "ours".to_owned(),
        template_set: String::new(),
        address: "ann@example.net".to_owned(),
        context: "{}".to_owned(),
    };
    let lease = tx.now() + Span::minutes(13);
    arm(&mut tx, "ours", lease, &[frozen]).await.unwrap();
    tx
}

/// The last look as the dispatcher takes it: whether the mail may leave.
async fn may_leave(w: &World, id: DeliveryId) -> bool {
    let mut tx = w.store.read().await.unwrap();
    let now = tx.now();
    let seen = look::look(&mut tx, &[id], &[]).await.unwrap();
    let ours = seen.get(&id).filter(|seen| seen.token == 1 && seen.state.as_str() == "sending");
    match ours.map(|seen| gate(&seen.gate, &Limits::of(Class::ActionRequired), now)) {
        Some(Verdict::Send(_)) => true,
        Some(Verdict::Withdraw(reason)) => {
            assert_eq!(reason, Reason::Recovered);
            false
        }
        None => false,
        other => panic!("{other:?}"),
    }
}

/// Runs the steps in this order; `early` has the arm's rows written (and locked) before the first step.
async fn ours(w: &World, key: &str, id: DeliveryId, order: [Step; 4], early: bool) {
    let mut arming = if early { Some(armed(w, id).await) } else { None };
    let (mut sweep, mut leaves) = (None, None);
    for step in order {
        match step {
            Step::ArmCommit => {
                let tx = match arming.take() {
                    Some(tx) => tx,
                    None => armed(w, id).await,
                };
                tx.commit().await.unwrap();
            }
            Step::Look => leaves = Some(may_leave(w, id).await),
            Step::RecoveryCommit => drop(w.recovered(key, "automatic").await),
            Step::Sweep => {
                let started = start_sweep(w);
                done_or_waiting(w, &started).await;
                sweep = Some(started);
            }
        }
    }
    sweep.unwrap().await.unwrap();
    let (leaves, corrections) = (leaves.unwrap(), corrections(w, id).await);
    assert!(!leaves || corrections == 1, "{order:?}, early {early}: sent, and not taken back");
    assert!(corrections <= 1, "{order:?}, early {early}");
    // What was looked at before the recovery leaves; what was looked at after it does not.
    let seen = order.iter().position(|s| *s == Step::RecoveryCommit) < order.iter().position(|s| *s == Step::Look);
    assert_eq!(leaves, !seen, "{order:?}, early {early}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_order_holds_in_every_interleaving() {
    let keys: Vec<_> = (1..=12).map(|n| format!("c{n}")).collect();
    let (w, ids) = due(&keys).await;
    let cases = interleavings().into_iter().flat_map(|order| [(order, false), (order, true)]);
    for ((key, id), (order, early)) in keys.iter().zip(ids).zip(cases) {
        ours(&w, key, id, order, early).await;
    }
}
