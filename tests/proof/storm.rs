//! A storm: connections of many subscribers break and recover at random through the API of running nodes, while
//! mail goes. What the API answered is kept outside of the nodes.

use crate::amount::amount;
use crate::ledger::Heard;
use crate::site::{Node, Site, until};
use allclear::mail::sink::Sink;
use allclear::store::setup;
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::{RwLock, Semaphore};

/// A node that does not answer for so long is asked no more: another is, with the same key.
const ANSWER: Duration = Duration::from_secs(5);

/// Connections to which something happens at once.
const AT_ONCE: usize = 24;

/// How big it is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Groups of subscribers; each has two connections, and each of its subscribers is told of both.
    pub groups: u64,
    /// Subscribers of a group.
    pub crowd: u64,
    /// Recoveries until it is over.
    pub recoveries: u64,
    /// Mails until it is over, too.
    pub mails: usize,
    /// After each recovery it is waited for that nothing of it is on the wire, and a moment longer.
    pub drained: bool,
}

/// A connection, and what was said of it.
#[derive(Debug, Default)]
pub struct Connection {
    pub key: String,
    /// The addresses of its subscribers.
    pub told: Vec<String>,
    group: usize,
    component: usize,
    said: Mutex<Vec<Said>>,
}

/// A failure or a recovery that the API took.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    pub failed: bool,
    pub sent: Instant,
    pub answered: Instant,
    /// When the API answered that nothing of it is on the wire any more.
    pub drained: Option<Instant>,
}

impl Connection {
    pub fn said(&self) -> MutexGuard<'_, Vec<Said>> {
        self.said.lock().unwrap()
    }

    fn is_broken(&self) -> bool {
        self.said().last().is_some_and(|said| said.failed)
    }
}

/// Mails that arrived, counted by group too, so that a recovery can come in the middle of them.
pub struct Ears {
    heard: Mutex<Vec<Heard>>,
    groups: Vec<AtomicU64>,
}

impl Ears {
    fn new(groups: u64) -> Self {
        Self { heard: Mutex::default(), groups: (0..groups).map(|_| AtomicU64::new(0)).collect() }
    }

    pub fn hear(&self, mail: Heard) {
        let group = mail.to.trim_start_matches('g').split('s').next().and_then(|n| n.parse::<usize>().ok());
        self.groups[group.unwrap()].fetch_add(1, Ordering::Relaxed);
        self.heard.lock().unwrap().push(mail);
    }

    pub fn count(&self) -> usize {
        self.heard.lock().unwrap().len()
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    fn empty(&self, sink: &Sink) {
        for mail in sink.take_mails() {
            self.hear(Heard::of(&mail));
        }
    }
}

pub struct Storm {
    pub site: Site,
    pub nodes: Vec<Node>,
    /// Those that can be asked.
    pub awake: Vec<AtomicBool>,
    pub connections: Vec<Connection>,
    pub ears: Ears,
    size: Size,
    components: Vec<RwLock<()>>,
    requests: AtomicU64,
    left: AtomicU64,
    /// Recoveries beyond those.
    more: AtomicU64,
    /// So many connections at once have something happen to them.
    turns: Semaphore,
}

impl Storm {
    /// Makes the subscribers and their connections.
    pub async fn new(site: Site, size: Size) -> Self {
        let mut tx = site.store.begin().await.unwrap();
        let mut components = Vec::new();
        for n in 0..3 {
            let key = format!("k{n}");
            let row = setup::ComponentRow { key: key.clone(), name: key.clone(), group: None, depends_on: vec![] };
            setup::put_component(&mut tx, &row).await.unwrap();
            components.push(setup::component_id(&mut tx, &key).await.unwrap().unwrap());
        }
        let mut connections = Vec::new();
        for group in 0..size.groups {
            let component = usize::try_from(group % 3).unwrap();
            let (mut ids, mut told) = (Vec::new(), Vec::new());
            for n in 0..size.crowd {
                let key = format!("g{group}s{n}");
                let address = format!("{key}@example.net");
                let (locale, zone) = ("en".to_owned(), "UTC".to_owned());
                let row = setup::SubscriberRow {
                    key,
                    address: address.clone(),
                    name: None,
                    locale,
                    zone,
                    attributes: vec![],
                };
                setup::put_subscriber(&mut tx, &row).await.unwrap();
                ids.push(setup::subscriber_id(&mut tx, &row.key).await.unwrap().unwrap());
                told.push(address);
            }
            for n in 0..2 {
                let key = format!("g{group}c{n}");
                let row = setup::ConnectionRow {
                    key: key.clone(),
                    component: components[component],
                    name: format!("Inbox {key}"),
                    link: None,
                    subscribers: ids.clone(),
                };
                setup::put_connection(&mut tx, &row).await.unwrap();
                let group = usize::try_from(group).unwrap();
                connections.push(Connection { key, told: told.clone(), group, component, said: Mutex::default() });
            }
        }
        tx.commit().await.unwrap();
        Self {
            site,
            nodes: Vec::new(),
            awake: Vec::new(),
            connections,
            ears: Ears::new(size.groups),
            size,
            components: components.iter().map(|_| RwLock::default()).collect(),
            requests: AtomicU64::new(0),
            left: AtomicU64::new(size.recoveries),
            more: AtomicU64::new(0),
            turns: Semaphore::new(AT_ONCE),
        }
    }

    pub async fn start(&mut self, name: &str, env: &[(&str, &str)]) {
        self.nodes.push(self.site.node_with(name, env).await);
        self.awake.push(AtomicBool::new(true));
    }

    /// Lets it rage, then waits for rest. What runs beside it is told when it is over.
    pub async fn rage(&self, sink: &Sink, random: &mut StdRng, beside: impl Future<Output = ()>) {
        let connections = self.connections.iter().map(|one| self.drive(one, StdRng::seed_from_u64(random.random())));
        let all = async {
            tokio::join!(join_all(connections), beside);
            self.site.settled().await;
        };
        let listen = until(async || {
            self.ears.empty(sink);
            false
        });
        tokio::select! { () = all => {}, () = listen => {} }
        self.ears.empty(sink);
    }

    /// How many recoveries there were in the end.
    pub fn recoveries(&self) -> u64 {
        self.size.recoveries + self.more.load(Ordering::Relaxed)
    }

    /// Ends it; how many recoveries there were.
    pub fn end(&self) -> u64 {
        self.size.recoveries - self.left.swap(0, Ordering::Relaxed)
    }

    /// One connection fails and recovers until there were enough recoveries; at the end it is left either way.
    async fn drive(&self, connection: &Connection, mut random: StdRng) {
        loop {
            let _turn = self.turns.acquire().await.unwrap();
            if !self.goes_on() {
                break;
            }
            self.fail(connection, &mut random).await;
            self.mails(connection, &mut random).await;
            if random.random_ratio(1, 25) {
                self.cover(connection, &mut random).await;
            } else {
                self.recover(connection, &mut random).await;
            }
        }
        if random.random() {
            self.fail(connection, &mut random).await;
        }
    }

    /// Whether there is another recovery: there were not enough, or too few mails.
    fn goes_on(&self) -> bool {
        let one_less = |left: u64| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() || {
            let more = self.ears.count() < self.size.mails;
            self.more.fetch_add(u64::from(more), Ordering::Relaxed);
            more
        }
    }

    /// Waits until some of the group's mails have arrived, none or all; what does not come is not waited for.
    pub async fn mails(&self, connection: &Connection, random: &mut StdRng) {
        let arrived = &self.ears.groups[connection.group];
        // In a deep run more than the group's half: what is withdrawn races nothing.
        let half = amount(0, self.size.crowd / 2);
        let enough = arrived.load(Ordering::Relaxed) + random.random_range(half..=self.size.crowd);
        let limit = Duration::from_millis(random.random_range(0..amount(2_000, 60_000)));
        let _ = tokio::time::timeout(limit, until(async || arrived.load(Ordering::Relaxed) >= enough)).await;
    }

    pub async fn fail(&self, connection: &Connection, random: &mut StdRng) {
        let _apart = self.components[connection.component].read().await;
        if connection.is_broken() {
            return;
        }
        let signal = json!({"connection": connection.key, "what": "failed", "fault": "permanent"});
        let (sent, answered, answer) = self.signal(&signal, random).await;
        assert_eq!(answer["outcome"], "waiting", "{answer}");
        connection.said().push(Said { failed: true, sent, answered, drained: None });
    }

    pub async fn recover(&self, connection: &Connection, random: &mut StdRng) {
        let _apart = self.components[connection.component].read().await;
        if !connection.is_broken() {
            return;
        }
        let signal = json!({"connection": connection.key, "what": "recovered", "by": "automatic"});
        let (sent, answered, answer) = self.signal(&signal, random).await;
        let drained = self.drained(&answer, random).await;
        connection.said().push(Said { failed: false, sent, answered, drained });
        self.a_moment_longer().await;
    }

    /// The whole component recovers, and all its connections with it. They stand still meanwhile, so that it is
    /// known what it covers.
    async fn cover(&self, connection: &Connection, random: &mut StdRng) {
        let _alone = self.components[connection.component].write().await;
        let signal = json!({"component": format!("k{}", connection.component), "what": "recovered", "by": "automatic",
            "connections": "all", "since": "2020-01-01T00:00:00Z"});
        let (sent, answered, answer) = self.signal(&signal, random).await;
        let drained = self.drained(&answer, random).await;
        for one in self.connections.iter().filter(|one| one.component == connection.component && one.is_broken()) {
            one.said().push(Said { failed: false, sent, answered, drained });
        }
        self.a_moment_longer().await;
    }

    /// A mail that begins too late needs a moment in which it can.
    async fn a_moment_longer(&self) {
        if self.size.drained {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn drained(&self, answer: &Value, random: &mut StdRng) -> Option<Instant> {
        let recovery = answer["recovery_id"].as_str().unwrap();
        if answer["drained"] == true {
            return Some(Instant::now());
        }
        if !self.size.drained {
            return None;
        }
        loop {
            let path = format!("/v1/recoveries/{recovery}?wait=2");
            let node = self.somebody(random);
            if let Ok(Some((200, progress))) = tokio::time::timeout(ANSWER, node.get(&self.site, &path)).await
                && progress["drained"] == true
            {
                return Some(Instant::now());
            }
        }
    }

    /// Says it to one node after the other, until one answers.
    async fn signal(&self, signal: &Value, random: &mut StdRng) -> (Instant, Instant, Value) {
        let key = format!("r{}", self.requests.fetch_add(1, Ordering::Relaxed));
        let sent = Instant::now();
        loop {
            let node = self.somebody(random);
            let post = node.post(&self.site, "/v1/signals", signal, Some(&key));
            match tokio::time::timeout(ANSWER, post).await {
                Ok(Some((202 | 200, answer))) => return (sent, Instant::now(), answer),
                // It was frozen or killed, or another node has the same request in hands.
                Ok(None) | Err(_) | Ok(Some((409 | 503, _))) => tokio::task::yield_now().await,
                Ok(Some(other)) => panic!("{signal}: {other:?}"),
            }
        }
    }

    fn somebody(&self, random: &mut StdRng) -> &Node {
        let awake: Vec<usize> = (0..self.nodes.len()).filter(|n| self.awake[*n].load(Ordering::Relaxed)).collect();
        &self.nodes[awake[random.random_range(0..awake.len())]]
    }
}
