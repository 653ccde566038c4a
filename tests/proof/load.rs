//! A steady load over HTTP, and the ledger of what was accepted: who was told what, as a caller can know it.

use crate::site::Site;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Limits under which everything is decided within seconds.
pub const SETTINGS: &str = "[limits.incident_update]\ngap_seconds = 0\ntold_elsewhere_seconds = 0\ndaily_mails = 0\n\
    [limits.all_clear]\nstable_for_seconds = 0\n[streams.incidents]\nslots = 8\n";
/// Slots of a node with [`SETTINGS`], over all its streams.
pub const SLOTS: u64 = 16;
/// Callers that post beside each other.
const CALLERS: u64 = 4;
/// Components of each caller, so that an incident is long over when its component has the next.
const COMPONENTS: u64 = 32;
/// More than this may not wait to be planned or sent: a load that outruns the program would only show a queue.
const BACKLOG: i64 = 60;

/// How often a caller looks whether less is waiting before it speaks all the same.
const LOOKS: u64 = 50;

/// What callers know: each entry was answered with a 202, or repeated until it was.
#[derive(Default, Debug)]
pub struct Ledger {
    /// All that was accepted.
    pub accepted: u64,
    /// Of those, what had been accepted before, its answer lost.
    pub replayed: u64,
    /// What is known of each connection.
    pub connections: BTreeMap<u64, Known>,
    /// Subject and recipient of each free notice.
    pub free: BTreeMap<String, String>,
    /// Title and recipient of each incident; all are resolved.
    pub incidents: BTreeMap<String, String>,
}

/// A connection, as its caller knows it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Known {
    pub broken: bool,
    /// How often it broke.
    pub failures: u64,
    /// How often the customer repaired it by hand.
    pub by_hand: u64,
}

/// Callers that post to whichever node is up.
pub struct Load {
    site: Arc<Site>,
    door: Mutex<String>,
    ending: AtomicBool,
    pub accepted: AtomicU64,
    /// What a node said when it could not take something, and how often.
    refusals: Mutex<BTreeMap<String, u64>>,
}

/// A running load.
pub struct Running {
    pub load: Arc<Load>,
    callers: Vec<JoinHandle<Ledger>>,
}

impl Running {
    /// Sets up customers and followers, and begins as soon as a node is announced with [`Load::open`].
    pub async fn start(site: &Arc<Site>, customers: u64, random: &mut StdRng) -> Self {
        site.customers(customers).await;
        site.followers(CALLERS).await;
        let load = Arc::new(Load {
            site: site.clone(),
            door: Mutex::default(),
            ending: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            refusals: Mutex::default(),
        });
        let callers = (0..CALLERS).map(|number| {
            let caller =
                Caller { number, customers, random: StdRng::seed_from_u64(random.random()), said: 0, incidents: 0 };
            tokio::spawn(caller.call(load.clone()))
        });
        Self { load: load.clone(), callers: callers.collect() }
    }

    /// Ends the load, with every incident resolved; what was accepted.
    pub async fn end(self) -> Ledger {
        self.load.ending.store(true, Ordering::SeqCst);
        let mut all = Ledger::default();
        for caller in self.callers {
            let one = caller.await.unwrap();
            all.accepted += one.accepted;
            all.replayed += one.replayed;
            all.connections.extend(one.connections);
            all.free.extend(one.free);
            all.incidents.extend(one.incidents);
        }
        all
    }
}

impl Load {
    /// Says where a node listens.
    pub fn open(&self, address: &str) {
        *self.door.lock().unwrap() = address.to_owned();
    }

    /// What a node said when it could not take something, and how often.
    pub fn refusals(&self) -> BTreeMap<String, u64> {
        self.refusals.lock().unwrap().clone()
    }

    /// Waits while much is waiting, unless the database is away or cannot be written: then nothing gets less.
    async fn pace(&self) {
        const WAITING: &str = "SELECT (SELECT COUNT(*) FROM plan WHERE done_at IS NULL)
            + (SELECT COUNT(*) FROM delivery WHERE state = 'queued')
            + (SELECT COUNT(*) FROM delivery WHERE state = 'sending')";
        let waits = async || self.site.try_count(WAITING).await.is_ok_and(|waiting| waiting > BACKLOG);
        for _ in 0..LOOKS {
            if self.ending.load(Ordering::SeqCst) || !waits().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Posts until it is accepted, always with the same key.
    async fn post(&self, ledger: &mut Ledger, path: &str, body: &Value, key: &str) {
        loop {
            let door = self.door.lock().unwrap().clone();
            match self.site.post_to(&door, path, body, Some(key)).await {
                Some((status @ (200 | 202), _)) => {
                    ledger.replayed += u64::from(status == 200);
                    break;
                }
                Some((status, answer)) if status >= 500 => {
                    let said = format!("{status} {}", answer["detail"].as_str().unwrap_or_default());
                    *self.refusals.lock().unwrap().entry(said).or_default() += 1;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Some(other) => panic!("{path} {body}: {other:?}"),
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        ledger.accepted += 1;
        self.accepted.fetch_add(1, Ordering::SeqCst);
    }
}

/// One caller, with connections and a component of its own: what it says comes in the order in which it says it.
struct Caller {
    number: u64,
    customers: u64,
    random: StdRng,
    said: u64,
    incidents: u64,
}

impl Caller {
    async fn call(mut self, load: Arc<Load>) -> Ledger {
        let mut ledger = Ledger::default();
        let mut open = None;
        while !load.ending.load(Ordering::SeqCst) {
            load.pace().await;
            match self.random.random_range(0..10) {
                0..6 => self.signal(&load, &mut ledger).await,
                6..8 => self.free(&load, &mut ledger).await,
                _ => open = self.incident(&load, &mut ledger, open).await,
            }
        }
        if open.is_some() {
            self.incident(&load, &mut ledger, open).await;
        }
        ledger
    }

    fn key(&mut self) -> String {
        self.said += 1;
        format!("{}-{}", self.number, self.said)
    }

    /// Breaks a connection of this caller, or brings it back.
    async fn signal(&mut self, load: &Load, ledger: &mut Ledger) {
        let n = 1 + self.number + CALLERS * self.random.random_range(0..self.customers / CALLERS);
        let mut known = ledger.connections.get(&n).copied().unwrap_or_default();
        let body = if known.broken {
            let by = ["automatic", "automatic", "unknown", "customer"][self.random.random_range(0..4)];
            known.by_hand += u64::from(by == "customer");
            json!({"connection": format!("c{n}"), "what": "recovered", "by": by})
        } else {
            known.failures += 1;
            json!({"connection": format!("c{n}"), "what": "failed", "fault": "permanent"})
        };
        known.broken = !known.broken;
        let key = self.key();
        load.post(ledger, "/v1/signals", &body, &key).await;
        ledger.connections.insert(n, known);
    }

    async fn free(&mut self, load: &Load, ledger: &mut Ledger) {
        let n = self.random.random_range(1..=self.customers);
        let key = self.key();
        let subject = format!("Letter {key}");
        let body = json!({"kind": "free", "subject": subject, "body": "Good news.", "recipients": [format!("p{n}")]});
        load.post(ledger, "/v1/notices", &body, &key).await;
        ledger.free.insert(subject, format!("p{n}@example.net"));
    }

    /// The next update of this caller's incident: investigating, then resolved.
    async fn incident(&mut self, load: &Load, ledger: &mut Ledger, open: Option<String>) -> Option<String> {
        let key = self.key();
        let title = open.clone().unwrap_or_else(|| format!("Incident {key}"));
        let (phase, status) =
            if open.is_none() { ("investigating", "partial_outage") } else { ("resolved", "operational") };
        // The same for both updates: only the second resolves.
        let component = format!("web{}-{}", self.number, self.incidents / 2 % COMPONENTS);
        self.incidents += 1;
        let body = json!({
            "kind": "incident", "incident": title, "title": title, "phase": phase, "impact": "major",
            "components": [{"key": component, "status": status}], "body": "We are on it.",
            "recipients": [format!("f{}", self.number)],
        });
        load.post(ledger, "/v1/notices", &body, &key).await;
        ledger.incidents.insert(title.clone(), format!("f{}@example.net", self.number));
        open.is_none().then_some(title)
    }
}

impl Site {
    /// Followers `f0…`, and components `web0-0…` for each.
    async fn followers(&self, count: u64) {
        use allclear::store::setup;
        for n in 0..count {
            let mut tx = self.store.begin().await.unwrap();
            for part in 0..COMPONENTS {
                let row = setup::ComponentRow {
                    key: format!("web{n}-{part}"),
                    name: format!("Web {n}-{part}"),
                    group: None,
                    depends_on: vec![],
                };
                setup::put_component(&mut tx, &row).await.unwrap();
            }
            let row = setup::SubscriberRow {
                key: format!("f{n}"),
                address: format!("f{n}@example.net"),
                name: None,
                locale: "en".into(),
                zone: "UTC".into(),
                attributes: vec![],
            };
            setup::put_subscriber(&mut tx, &row).await.unwrap();
            tx.commit().await.unwrap();
            let said = json!({"subscriber": format!("f{n}")});
            allclear::flow::subscription::put(&self.store, &serde_json::from_value(said).unwrap()).await.unwrap();
        }
    }
}
