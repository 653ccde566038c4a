//! A small world to test in: a database, a driven clock, a scripted relay, and a worker that is stepped.
#![allow(dead_code)]

use allclear::domain::class::{Class, Limits};
use allclear::domain::time::{Span, Timestamp};
use allclear::flow::archive::Archive;
use allclear::flow::copies::Copies;
use allclear::flow::dispatch::Shared;
use allclear::flow::ingest::{self, Answer, Caller, IngestError, Keyed};
use allclear::flow::intake;
use allclear::flow::retry::Schedule;
use allclear::flow::setting::{Setting, Stream};
use allclear::flow::spill::Spill;
use allclear::flow::subscription;
use allclear::flow::worker::Worker;
use allclear::mail::sink::{Script, Sink};
use allclear::mail::{Relay, Transport};
use allclear::store::open::Connections;
use allclear::store::{Clock, Store, setup};
use allclear::template::{Page, Templates};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Which database a case runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    Sqlite,
    Postgres,
}

/// A fresh database of a kind. PostgreSQL: a schema of its own, in the server of `ALLCLEAR_TEST_POSTGRES`.
pub async fn store(on: On, clock: Clock) -> (Store, tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let url = match on {
        On::Sqlite => format!("sqlite://{}", folder.path().join("test.db").display()),
        On::Postgres => postgres_schema().await,
    };
    let connections = Connections { sqlite_readers: 2, postgres: 6 };
    let store = Store::open(&url, connections, clock).await.unwrap();
    (store, folder, url)
}

/// The URL of a fresh schema.
pub async fn postgres_schema() -> String {
    let base = std::env::var("ALLCLEAR_TEST_POSTGRES")
        .expect("set ALLCLEAR_TEST_POSTGRES to a server's URL, or run ./tests/run, which starts one");
    let schema = format!("t_{}", uuid::Uuid::now_v7().simple());
    let mut conn = <sqlx::PgConnection as sqlx::Connection>::connect(&base).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).execute(&mut conn).await.unwrap();
    let sign = if base.contains('?') { '&' } else { '?' };
    format!("{base}{sign}options[search_path]={schema}")
}

/// A time in RFC 3339.
pub fn t(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

/// A mail as the relay got it.
#[derive(Clone, Debug)]
pub struct Got {
    pub to: String,
    pub subject: String,
    pub raw: String,
    /// The driven time at which it arrived.
    pub at: Timestamp,
}

impl Got {
    /// The value of a header, unfolded.
    pub fn header(&self, name: &str) -> Option<String> {
        let head = self.raw.split("\r\n\r\n").next()?.replace("\r\n ", " ").replace("\r\n\t", " ");
        let prefix = format!("{}:", name.to_lowercase());
        head.lines().find(|l| l.to_lowercase().starts_with(&prefix)).map(|l| l[prefix.len()..].trim().to_owned())
    }

    /// The whole mail with quoted-printable soft breaks undone, good enough to look for words.
    pub fn text(&self) -> String {
        self.raw.replace("=\r\n", "").replace("\r\n", " ")
    }
}

pub struct World {
    pub store: Store,
    pub clock: Clock,
    pub sink: Sink,
    pub worker: Worker,
    pub shared: Shared,
    pub transports: BTreeMap<String, Transport>,
    pub url: String,
    seen: Vec<Got>,
    now: Timestamp,
    _folder: Arc<tempfile::TempDir>,
}

tokio::task_local! {
    /// The worlds a test has made, so that each is audited when the test is done.
    static MADE: RefCell<Vec<(Store, Arc<tempfile::TempDir>)>>;
}

/// Runs a test, then the audit over every database it used: the promises hold at the end of whatever happened.
pub async fn audited(test: impl Future<Output = ()>) {
    MADE.scope(RefCell::default(), async {
        test.await;
        let made = MADE.with(RefCell::take);
        for (store, _folder) in made {
            let mut tx = store.read().await.unwrap();
            let findings = allclear::store::audit::run(&mut tx).await.unwrap();
            assert!(findings.is_empty(), "the audit found: {findings:#?}");
        }
    })
    .await;
}

pub fn setting(change: impl FnOnce(&mut Setting)) -> Setting {
    let stream = |name: &str, from: &str, classes: &[Class]| Stream {
        name: name.to_owned(),
        from: from.to_owned(),
        reply_to: None,
        relay: "main".to_owned(),
        caps: allclear::flow::pace::Caps::default(),
        slots: 4,
        classes: classes.to_vec(),
    };
    let account = [Class::ActionRequired, Class::Correction];
    let rest: Vec<Class> = Class::ALL.iter().copied().filter(|c| !account.contains(c)).collect();
    let mut setting = Setting {
        domain: "status.example.com".to_owned(),
        streams: vec![
            stream("account", "Example account <account@example.com>", &account),
            stream("incidents", "Example status <status@example.com>", &rest),
        ],
        limits: Class::ALL.iter().map(|c| (*c, Limits::of(*c))).collect(),
        retry: Schedule::default(),
        lease: Span::minutes(13),
        quarantine: Span::minutes(15),
        page: 50,
        ask_unconfirmed: true,
        confirm_within: Span::hours(6),
        public_url: Some("https://example.com/connections".to_owned()),
        support_url: Some("https://example.com/support".to_owned()),
        operators: Default::default(),
        surge: None,
        patience: None,
        gate: true,
    };
    change(&mut setting);
    setting
}

pub fn page() -> Page {
    Page { name: "Example".to_owned(), support_url: None, public_url: Some("https://example.com".to_owned()) }
}

impl World {
    pub async fn new(on: On, at: &str) -> Self {
        Self::with(on, at, Script::default(), |_| {}).await
    }

    pub async fn with(on: On, at: &str, script: Script, change: impl FnOnce(&mut Setting)) -> Self {
        Self::with_relay(on, at, script, change, |_| {}).await
    }

    pub async fn with_relay(
        on: On,
        at: &str,
        script: Script,
        change: impl FnOnce(&mut Setting),
        limit: impl Fn(&mut Relay),
    ) -> Self {
        let now = t(at);
        let clock = Clock::driven(now);
        let (store, folder, url) = store(on, clock.clone()).await;
        let sink = Sink::start(script).await.unwrap();
        let setting = Arc::new(setting(change));
        let mut relay = Relay::local(sink.port());
        limit(&mut relay);
        let transports: BTreeMap<_, _> =
            setting.streams.iter().map(|s| (s.name.clone(), Transport::Smtp(relay.clone()))).collect();
        let templates = Templates::embedded(&page()).unwrap();
        let shared = Shared {
            store: store.clone(),
            copies: Arc::new(Copies::new(&setting, &templates, Span::hours(45 * 24))),
            setting,
            templates: Arc::new(templates),
            owner: "test".to_owned(),
            spill: Spill::new(folder.path().join("spill")),
            dialogue: Duration::from_secs(20),
            watch: Default::default(),
            archive: Arc::new(Archive::new(Some(Span::hours(90 * 24)))),
        };
        let worker = Worker::new(shared.clone(), &transports);
        let folder = Arc::new(folder);
        let _ = MADE.try_with(|made| made.borrow_mut().push((store.clone(), folder.clone())));
        Self { store, clock, sink, worker, shared, transports, url, seen: Vec::new(), now, _folder: folder }
    }

    /// Moves the clock to a time and steps the worker until nothing is left to do; what arrived.
    pub async fn at(&mut self, at: &str) -> Vec<Got> {
        self.move_to(t(at)).await
    }

    pub async fn move_to(&mut self, at: Timestamp) -> Vec<Got> {
        assert!(at >= self.now, "time goes on: {at} after {}", self.now);
        self.now = at;
        self.clock.set(at);
        self.settle().await
    }

    /// Lets time pass in steps of a minute.
    pub async fn pass(&mut self, minutes: i64) -> Vec<Got> {
        let mut got = Vec::new();
        for _ in 0..minutes {
            got.extend(self.move_to(self.now + Span::minutes(1)).await);
        }
        got
    }

    /// Steps the worker until nothing is left to do; what arrived.
    pub async fn settle(&mut self) -> Vec<Got> {
        self.worker.settle().await.unwrap();
        let mails = self.sink.mails();
        let new: Vec<Got> = mails[self.seen.len()..]
            .iter()
            .map(|m| Got {
                to: m.to.clone(),
                subject: m.subject.clone(),
                raw: String::from_utf8_lossy(&m.body).into_owned(),
                at: self.now,
            })
            .collect();
        self.seen.extend(new.clone());
        new
    }

    /// A new worker on the same database: the old one forgets what it knew.
    pub fn restart(&mut self) {
        self.worker = Worker::new(self.shared.clone(), &self.transports);
    }

    /// Another node on the same database and relay.
    pub fn another(&self, owner: &str) -> Worker {
        let shared = Shared { owner: owner.to_owned(), watch: Default::default(), ..self.shared.clone() };
        Worker::new(shared, &self.transports)
    }

    /// Everything that arrived so far.
    pub fn all(&self) -> &[Got] {
        &self.seen
    }

    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// What the driven clock shows, which a test may have moved by itself.
    pub fn clock_now(&self) -> Timestamp {
        match &self.clock {
            Clock::Driven(micros) => Timestamp(micros.load(std::sync::atomic::Ordering::SeqCst)),
            Clock::Database => self.now,
        }
    }

    pub async fn component(&self, key: &str, name: &str) {
        let mut tx = self.store.begin().await.unwrap();
        let row = setup::ComponentRow { key: key.into(), name: name.into(), group: None, depends_on: vec![] };
        setup::put_component(&mut tx, &row).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// A subscriber `key` with the address `key@example.net`, in Berlin.
    pub async fn subscriber(&self, key: &str) {
        self.subscriber_in(key, "Europe/Berlin").await;
    }

    pub async fn subscriber_in(&self, key: &str, zone: &str) {
        let mut tx = self.store.begin().await.unwrap();
        let row = setup::SubscriberRow {
            key: key.into(),
            address: format!("{key}@example.net"),
            name: None,
            locale: "en".into(),
            zone: zone.into(),
            attributes: vec![],
        };
        setup::put_subscriber(&mut tx, &row).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub async fn subscribe(&self, subscriber: &str, component: &str) {
        self.subscription(serde_json::json!({"subscriber": subscriber, "component": component})).await;
    }

    pub async fn subscribe_to_everything(&self, subscriber: &str) {
        self.subscription(serde_json::json!({"subscriber": subscriber})).await;
    }

    /// A subscription as the API takes it.
    pub async fn subscription(&self, said: serde_json::Value) {
        subscription::put(&self.store, &serde_json::from_value(said).unwrap()).await.unwrap();
    }

    /// What a subscriber's subscriptions ask for.
    pub async fn prefer(&self, subscriber: &str, events: &str, least_impact: &str) {
        use sqlx::Connection;
        let set = "UPDATE subscription SET events = $2, least_impact = $3 WHERE subscriber_id = (SELECT id FROM subscriber WHERE key = $1)";
        if self.url.starts_with("sqlite") {
            let mut conn = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
            sqlx::query(set).bind(subscriber).bind(events).bind(least_impact).execute(&mut conn).await.unwrap();
        } else {
            let mut conn = sqlx::PgConnection::connect(&self.url).await.unwrap();
            sqlx::query(set).bind(subscriber).bind(events).bind(least_impact).execute(&mut conn).await.unwrap();
        }
    }

    /// A connection `key`, called `Inbox <key>`, of a component, with one subscriber.
    pub async fn connection(&self, key: &str, component: &str, subscriber: &str) {
        self.connection_of(key, component, &[subscriber]).await;
    }

    pub async fn connection_of(&self, key: &str, component: &str, of: &[&str]) {
        let mut tx = self.store.begin().await.unwrap();
        let mut subscribers = Vec::new();
        for subscriber in of {
            subscribers.push(setup::subscriber_id(&mut tx, subscriber).await.unwrap().unwrap());
        }
        let component = setup::component_id(&mut tx, component).await.unwrap().unwrap();
        let row =
            setup::ConnectionRow { key: key.into(), component, name: format!("Inbox {key}"), link: None, subscribers };
        setup::put_connection(&mut tx, &row).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub fn caller(&self) -> Caller {
        Caller { source: "test".to_owned(), may_cover: true }
    }

    pub async fn try_signal(&self, json: serde_json::Value) -> Result<Answer, IngestError> {
        let body = json.to_string();
        let said = intake::read(body.as_bytes())?;
        let keyed = Keyed { key: None, body: body.as_bytes() };
        ingest::signal(&self.store, &self.shared.setting.ingest(), &self.caller(), &said, keyed).await
    }

    pub async fn signal(&self, json: serde_json::Value) -> Answer {
        self.try_signal(json).await.unwrap()
    }

    pub async fn try_notice(&self, json: serde_json::Value) -> Result<Answer, IngestError> {
        let body = json.to_string();
        let said = intake::read(body.as_bytes())?;
        let keyed = Keyed { key: None, body: body.as_bytes() };
        ingest::notice(&self.store, &self.shared.setting.ingest(), &self.caller(), &said, keyed).await
    }

    pub async fn notice(&self, json: serde_json::Value) -> Answer {
        self.try_notice(json).await.unwrap()
    }

    pub async fn broken(&self, connection: &str) -> Answer {
        self.signal(serde_json::json!({"connection": connection, "what": "failed", "fault": "permanent"})).await
    }

    pub async fn recovered(&self, connection: &str, by: &str) -> Answer {
        self.signal(serde_json::json!({"connection": connection, "what": "recovered", "by": by})).await
    }

    pub async fn down(&self, component: &str) -> Answer {
        self.signal(serde_json::json!({"component": component, "what": "failed"})).await
    }

    pub async fn up(&self, component: &str) -> Answer {
        self.signal(serde_json::json!({"component": component, "what": "recovered"})).await
    }

    /// State and reason of every delivery, oldest first: `class state reason`.
    pub async fn deliveries(&self) -> Vec<String> {
        let rows: Vec<(String, String, Option<String>)> = self
            .query("SELECT class, state, reason FROM delivery ORDER BY id")
            .await
            .into_iter()
            .map(|r| (r[0].clone().unwrap(), r[1].clone().unwrap(), r[2].clone()))
            .collect();
        rows.into_iter().map(|(c, s, r)| format!("{c} {s} {}", r.unwrap_or_default()).trim_end().to_owned()).collect()
    }

    /// A statement of the test's own.
    pub async fn execute(&self, sql: &'static str) {
        use sqlx::Connection;
        if self.url.starts_with("sqlite") {
            let mut conn = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
            sqlx::query(sql).execute(&mut conn).await.unwrap();
        } else {
            let mut conn = sqlx::PgConnection::connect(&self.url).await.unwrap();
            sqlx::query(sql).execute(&mut conn).await.unwrap();
        }
    }

    /// A query of the test's own whose columns are all text.
    pub async fn query(&self, sql: &'static str) -> Vec<Vec<Option<String>>> {
        use sqlx::{Column, Connection, Row};
        fn texts<R: Row>(rows: &[R]) -> Vec<Vec<Option<String>>>
        where
            usize: sqlx::ColumnIndex<R>,
            for<'a> Option<String>: sqlx::Decode<'a, R::Database> + sqlx::Type<R::Database>,
        {
            rows.iter().map(|r| (0..r.columns().len()).map(|i| r.get(r.columns()[i].ordinal())).collect()).collect()
        }
        if self.url.starts_with("sqlite") {
            let mut conn = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
            texts(&sqlx::query(sql).fetch_all(&mut conn).await.unwrap())
        } else {
            let mut conn = sqlx::PgConnection::connect(&self.url).await.unwrap();
            texts(&sqlx::query(sql).fetch_all(&mut conn).await.unwrap())
        }
    }
}

/// Makes one test for each database out of an async function that takes `On`.
#[macro_export]
macro_rules! on_both {
    ($($(#[$meta:meta])* $name:ident;)+) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                $crate::support::audited(super::$name($crate::support::On::Sqlite)).await;
            }
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                $crate::support::audited(super::$name($crate::support::On::Postgres)).await;
            }
        }
    )+};
}
