//! A relay that is away, slow, half-dead or mad, under the real program and under load. The truth is the relay's own
//! ledger: what it took was accepted, or nobody can know; what it did not take was not. Nothing is stuck, nothing lost.

use crate::amount::{amount, seed};
use crate::cut::{Cut, End, Fault, Way};
use crate::poison::{broken, named};
use crate::site::Site;
use crate::support::On;
use allclear::mail::sink::{Act, Answer, Phase, Received, Script, Sink};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sqlx::Connection as _;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Random numbers that several tasks draw from; what a failure showed is drawn again from its seed.
#[derive(Clone)]
struct Dice(Arc<Mutex<StdRng>>);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    fn below(&self, n: usize) -> usize {
        self.0.lock().unwrap().random_range(0..n)
    }
}

/// What became of a mail: its Message-ID and state, the tries the relay took, and those of which nobody can know.
struct Row {
    message_id: String,
    state: String,
    accepted: i64,
    ambiguous: i64,
}

const ROWS: &str = "SELECT d.message_id, d.state, SUM(CASE WHEN a.outcome = 'accepted' THEN 1 ELSE 0 END) AS accepted,
        SUM(CASE WHEN a.outcome = 'unknown' THEN 1 ELSE 0 END) + d.reaps AS ambiguous
    FROM delivery d LEFT JOIN attempt a ON a.delivery_id = d.id GROUP BY d.id, d.message_id, d.state, d.reaps";

async fn rows(site: &Site) -> Vec<Row> {
    macro_rules! read {
        ($connection:ty) => {{
            let mut conn = <$connection>::connect(&site.url).await.unwrap();
            let rows = sqlx::query(ROWS).fetch_all(&mut conn).await.unwrap();
            let row = |r: &_| Row {
                message_id: sqlx::Row::get::<Option<String>, _>(r, 0).unwrap_or_default(),
                state: sqlx::Row::get(r, 1),
                accepted: sqlx::Row::get::<Option<i64>, _>(r, 2).unwrap_or_default(),
                ambiguous: sqlx::Row::get::<Option<i64>, _>(r, 3).unwrap_or_default(),
            };
            rows.iter().map(row).collect()
        }};
    }
    if site.url.starts_with("sqlite") { read!(sqlx::SqliteConnection) } else { read!(sqlx::PgConnection) }
}

/// The relay's ledger against ours; how many tries nobody can know about, and how many copies there are of mails beyond
/// the first.
fn agree(mails: &[Received], rows: &[Row]) -> (i64, i64) {
    let mut ledger: HashMap<String, Vec<&Received>> = HashMap::new();
    for mail in mails {
        ledger.entry(mail.message_id.trim_matches(['<', '>']).to_owned()).or_default().push(mail);
    }
    let (mut ambiguous, mut more) = (0, 0);
    for row in rows {
        let copies = ledger.remove(&row.message_id).unwrap_or_default();
        let taken = copies.len() as i64;
        let told = format!(
            "{} {}: taken {taken}, accepted {}, ambiguous {}",
            row.message_id, row.state, row.accepted, row.ambiguous
        );
        match row.state.as_str() {
            "accepted" => assert!(taken >= 1 && row.accepted == 1, "never accepted when it was not taken: {told}"),
            "unknown" => assert!(row.ambiguous >= 1 && row.accepted == 0, "{told}"),
            _ => panic!("neither accepted nor unknown: {told}"),
        }
        assert!(taken <= row.accepted + row.ambiguous, "more copies than doubts: {told}");
        assert!(copies.iter().all(|mail| mail.body == copies[0].body), "other bytes: {told}");
        ambiguous += row.ambiguous;
        more += (taken - 1).max(0);
    }
    assert!(ledger.is_empty(), "mails of nobody's: {:?}", ledger.keys());
    (ambiguous, more)
}

fn never_spilled(site: &Site, node: &str) {
    let home = site.home(node);
    let spilled = std::fs::read_dir(home).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    assert!(!spilled.into_iter().any(|file| file.starts_with("allclear.spill") || file.ends_with("merging")));
}

/// What befalls one connection in four.
fn befalls(dice: &Dice) -> Fault {
    if dice.below(4) > 0 {
        return Fault::None;
    }
    let end = [End::Close, End::Reset, End::Silence][dice.below(3)];
    match dice.below(8) {
        0..=2 => Fault::After(Way::Up, dice.below(16_000), end),
        3..=5 => Fault::After(Way::Down, dice.below(500), end),
        6 if dice.below(2) == 0 => Fault::Late(Duration::from_millis(300)),
        6 => Fault::Drip(Duration::from_millis(2)),
        _ => Fault::Quit([End::Close, End::Reset, End::Silence, End::Error][dice.below(4)]),
    }
}

/// What a mad relay does at any phase, one time in fifty.
fn does(dice: &Dice, at: Phase) -> Option<Answer> {
    let down = || "421 4.3.2 shutting down".to_owned();
    let act = match dice.below(250) {
        0 => Act::Reply(down()),
        1 => Act::CloseAfterReply(down()),
        2 => Act::Close,
        3 => Act::Stall,
        4 => Act::TakeAndClose,
        _ => return None,
    };
    Some(Answer { at, act })
}

const SHORT: &str = "greeting_seconds = 2\ncommand_seconds = 1\ndata_seconds = 1\nblock_seconds = 1\nend_seconds = 1\n\
    messages_per_session = 4\n";

async fn under_all_faults_at_once(on: On) {
    let seed = seed();
    println!("replay with ALLCLEAR_TEST_SEED={seed}");
    let (dice, mad) = (Dice::new(seed), Arc::new(AtomicBool::new(true)));
    let (drawn, is_mad, did) = (dice.clone(), mad.clone(), Arc::new(AtomicU64::new(0)));
    let done = did.clone();
    let script = Script::default().answering(move |at, _, _| {
        let answer = is_mad.load(SeqCst).then(|| does(&drawn, at)).flatten();
        done.fetch_add(u64::from(answer.is_some()), SeqCst);
        answer
    });
    let sink = Sink::start(script).await.unwrap();
    let cut = Cut::before(sink.port(), move |_| befalls(&dice)).await;
    let site = Site::new(on, cut.port, SHORT).await;
    let (mails, after) = (amount(200, 5_000), 10);
    site.customers(mails + after).await;
    let name = named("one");
    let node = site.node(&name).await;
    for n in 1..=mails {
        broken(&site, &node, n).await;
    }
    // Most leave in spite of it all; the last few need luck, and get a relay in its right mind.
    crate::site::until(async || site.count(LEFT).await * 10 <= mails as i64).await;
    mad.store(false, SeqCst);
    cut.calm();
    site.settled().await;
    let parked = site.count("SELECT COUNT(*) FROM delivery WHERE state = 'parked'").await;
    let (ambiguous, more) = agree(&sink.mails(), &rows(&site).await);
    // No slot is stuck: what comes now leaves, once, and of nothing new can nobody know.
    for n in mails + 1..=mails + after {
        broken(&site, &node, n).await;
    }
    site.settled().await;
    let (still, _) = agree(&sink.mails(), &rows(&site).await);
    assert_eq!((still, parked), (ambiguous, 0));
    never_spilled(&site, &name);
    site.audit().await;
    println!(
        "{on:?}: {mails} mails over {} connections with {} faults on the way and {} of the relay: 0 wrong outcomes, \
         {ambiguous} ambiguous tries, {more} copies more, {after} of {after} mails afterwards",
        cut.taken().len(),
        cut.struck(),
        did.load(SeqCst),
    );
    assert!(cut.struck() >= 10, "too little befell: {}", cut.struck());
}

const LEFT: &str = "SELECT COUNT(*) FROM delivery WHERE state IN ('queued', 'sending') OR quarantine_until IS NOT NULL";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_on_the_way_makes_a_wrong_outcome_or_a_stuck_slot_on_sqlite() {
    under_all_faults_at_once(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_on_the_way_makes_a_wrong_outcome_or_a_stuck_slot_on_postgres() {
    under_all_faults_at_once(On::Postgres).await;
}

/// The relay takes one mail in twenty without a word: just these are ambiguous.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_just_the_mails_that_were_taken_without_a_word_nobody_can_know() {
    let seed = seed();
    println!("replay with ALLCLEAR_TEST_SEED={seed}");
    let (dice, dropped) = (Dice::new(seed), Arc::new(AtomicU64::new(0)));
    let counted = dropped.clone();
    let script = Script::default().answering(move |at, _, _| {
        let drops = at == Phase::Dot && dice.below(20) == 0;
        counted.fetch_add(u64::from(drops), SeqCst);
        drops.then_some(Answer { at, act: Act::TakeAndClose })
    });
    let sink = Sink::start(script).await.unwrap();
    let site = Site::new(On::Sqlite, sink.port(), "").await;
    let mails = amount(300, 10_000);
    site.customers(mails).await;
    // However slow this machine is just now, no try ends for it.
    let patient = [("ALLCLEAR_DISPATCH__DIALOGUE_SECONDS", "500"), ("ALLCLEAR_DISPATCH__LEASE_SECONDS", "600")];
    let node = site.node_with("one", &patient).await;
    for n in 1..=mails {
        broken(&site, &node, n).await;
    }
    site.settled().await;
    let (ambiguous, more) = agree(&sink.mails(), &rows(&site).await);
    let dropped = dropped.load(SeqCst) as i64;
    println!(
        "{mails} mails, 5 % of the 250s dropped: {dropped} dropped, {ambiguous} ambiguous, {more} copies more, same bytes"
    );
    assert_eq!(ambiguous, dropped);
    assert!(dropped > 0);
    assert_eq!(sink.count() as i64, mails as i64 + more);
    never_spilled(&site, "one");
    site.audit().await;
}

/// Sessions that have had their share of mails are ended while the next mails leave: a loop that waited for its
/// good-byes one by one would have one of them unanswered at a time, and there are two loops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_leaves_good_byes_unanswered_keeps_no_mail_waiting() {
    let sink = Sink::start(Script::default()).await.unwrap();
    let cut = Cut::before(sink.port(), |_| Fault::Quit(End::Silence)).await;
    let site = Site::new(On::Sqlite, cut.port, "messages_per_session = 1\ncommand_seconds = 8\n").await;
    site.customers(16).await;
    let node = site.node("one").await;
    for n in 1..=16 {
        broken(&site, &node, n).await;
    }
    sink.wait_for(16).await;
    println!("16 mails over sessions of one mail each; {} good-byes unanswered at once", cut.most_mute());
    assert!(cut.most_mute() > 2, "a loop waited for its good-byes: {}", cut.most_mute());
    site.settled().await;
    site.audit().await;
}

/// The judgement itself must be able to say no.
#[test]
fn a_ledger_that_does_not_agree_is_noticed() {
    let mail = |body: &str| Received {
        to: String::new(),
        from: String::new(),
        message_id: "<m>".to_owned(),
        subject: String::new(),
        body: body.into(),
        begun: Instant::now(),
        at: Instant::now(),
    };
    let row = |state: &str, accepted, ambiguous| Row {
        message_id: "m".to_owned(),
        state: state.to_owned(),
        accepted,
        ambiguous,
    };
    assert_eq!(agree(&[mail("a"), mail("a")], &[row("accepted", 1, 1)]), (1, 1));
    let wrong = [
        (vec![], row("accepted", 1, 0)),
        (vec![mail("a")], row("failed", 0, 0)),
        (vec![mail("a")], row("queued", 0, 1)),
        (vec![mail("a")], row("unknown", 0, 0)),
        (vec![mail("a"), mail("a")], row("accepted", 1, 0)),
        (vec![mail("a"), mail("b")], row("accepted", 1, 1)),
    ];
    for (mails, row) in wrong {
        let told = format!("{} with {} copies", row.state, mails.len());
        assert!(std::panic::catch_unwind(|| agree(&mails, &[row])).is_err(), "{told} was let pass");
    }
}

/// In a normal run seconds, in a deep one a real hour, with two nodes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_was_away_gets_everything_soon_after_it_is_back() {
    let sink = Sink::start(Script::default()).await.unwrap();
    let cut = Cut::before(sink.port(), |_| Fault::None).await;
    let capped = "mails_per_minute = 600\n";
    let site = Site::new(On::Postgres, cut.port, capped).await;
    let (mails, away) = (20, Duration::from_secs(amount(5, 3_600)));
    site.customers(mails).await;
    let nodes = [site.node(&named("one")).await, site.node(&named("two")).await];
    cut.set_down(true);
    let down = Instant::now();
    for n in 1..=mails {
        broken(&site, &nodes[(n % 2) as usize], n).await;
    }
    tokio::time::sleep(away.saturating_sub(down.elapsed())).await;
    assert_eq!(sink.count(), 0);
    cut.set_down(false);
    let back = Instant::now();
    sink.wait_for(1).await;
    let first = back.elapsed();
    sink.wait_for(mails).await;
    site.settled().await;
    site.audit().await;
    assert_eq!(sink.count(), mails);
    let probes = cut.taken().iter().filter(|at| (down..back).contains(at)).count();
    // One at once by whoever finds out, then one in 30 s of each node; two loops of a stream may find out together.
    let most = 2 * (2 + away.as_secs() as usize / 30);
    println!(
        "relay away {away:?}: {probes} probes by 2 nodes, first mail {first:?} after its return, {mails} of {mails}"
    );
    assert!(probes <= most, "{probes} probes, at most {most}");
    assert!(first <= Duration::from_secs(60), "{first:?}");
}
