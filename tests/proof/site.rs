//! A place where nodes of the real program run: a database, a folder for each node, and a relay outside of them.
#![allow(dead_code)]

use crate::support::{self, On};
use allclear::domain::key::Scope;
use allclear::store::keys;
use allclear::store::{Clock, Store, setup};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The database that nodes share, looked at from outside.
pub struct Site {
    pub url: String,
    pub store: Store,
    pub key: String,
    folder: tempfile::TempDir,
    relay: u16,
    settings: String,
}

/// Times in seconds, so that leases and quarantines end while a test waits. Its connections fail in floods on purpose, and
/// each is to be asked: nobody looks for surges, and nobody has enough for the day.
const SETTINGS: &str = "[http]\nlisten = \"127.0.0.1:0\"\n\
    [dispatch]\npoll_milliseconds = 20\nlease_seconds = 4\ndialogue_seconds = 3\nquarantine_seconds = 2\n\
    retry_first_seconds = 1\nretry_cap_seconds = 2\n\
    [limits.action_required]\ndwell_seconds = 0\ndaily_mails = 0\n[limits.free]\ndaily_mails = 0\n\
    [surge]\nenabled = false\n\
    [streams.account]\nslots = 8\n";

impl Site {
    /// On a fresh database, with a relay at a port of this machine. `settings` are laid over [`SETTINGS`] as TOML
    /// lines for the end of the file.
    pub async fn new(on: On, relay: u16, settings: &str) -> Self {
        let (store, folder, url) = support::store(on, Clock::Database).await;
        Self::with(store, folder, url, relay, settings).await
    }

    /// On a database of the test's own.
    pub async fn with(store: Store, folder: tempfile::TempDir, url: String, relay: u16, settings: &str) -> Self {
        let mut tx = store.begin().await.unwrap();
        let key = keys::create(&mut tx, "proof", Scope::ALL).await.unwrap();
        tx.commit().await.unwrap();
        Self { url, store, key, folder, relay, settings: settings.to_owned() }
    }

    /// So many customers `p1…`, each with a connection `c1…` of the component `imap`.
    pub async fn customers(&self, count: u64) {
        let mut tx = self.store.begin().await.unwrap();
        let row = setup::ComponentRow { key: "imap".into(), name: "Mail sync".into(), group: None, depends_on: vec![] };
        setup::put_component(&mut tx, &row).await.unwrap();
        let component = setup::component_id(&mut tx, "imap").await.unwrap().unwrap();
        for n in 1..=count {
            let row = setup::SubscriberRow {
                key: format!("p{n}"),
                address: format!("p{n}@example.net"),
                name: None,
                locale: "en".into(),
                zone: "UTC".into(),
                attributes: vec![],
            };
            setup::put_subscriber(&mut tx, &row).await.unwrap();
            let subscriber = setup::subscriber_id(&mut tx, &row.key).await.unwrap().unwrap();
            let row = setup::ConnectionRow {
                key: format!("c{n}"),
                component,
                name: format!("Inbox {n}"),
                link: None,
                subscribers: vec![subscriber],
            };
            setup::put_connection(&mut tx, &row).await.unwrap();
        }
        tx.commit().await.unwrap();
    }

    /// The folder of a node, with its configuration.
    pub fn home(&self, node: &str) -> PathBuf {
        let home = self.folder.path().join(node);
        if !home.exists() {
            std::fs::create_dir(&home).unwrap();
        }
        let config = format!(
            "{SETTINGS}[relays.default]\ntransport = \"smtp\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\n{}\n",
            self.relay, self.settings,
        );
        std::fs::write(home.join("allclear.toml"), config).unwrap();
        home
    }

    /// The program in a node's folder, to be given arguments.
    pub fn command(&self, node: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_allclear"));
        self.equip(node, &mut command);
        command
    }

    pub fn equip(&self, node: &str, command: &mut Command) {
        let home = self.home(node);
        // The lock on a node's name is the whole server's, and other tests run beside this one.
        let name = format!("{node}{}", self.folder.path().file_name().unwrap().display());
        command.current_dir(home).env("ALLCLEAR_DATABASE__URL", &self.url).env("ALLCLEAR_DISPATCH__NODE", name);
        command.env("ALLCLEAR_LOG", "info");
    }

    /// A node that serves.
    pub async fn node(&self, name: &str) -> Node {
        self.node_with(name, &[]).await
    }

    /// A node that serves and stops at a failpoint, such as `armed:3`.
    pub async fn node_stopping_at(&self, name: &str, failpoint: &str) -> Node {
        self.node_with(name, &[("ALLCLEAR_TEST_FAILPOINT", failpoint)]).await
    }

    pub async fn node_with(&self, name: &str, env: &[(&str, &str)]) -> Node {
        let mut command = self.command(name);
        command.arg("serve").envs(env.iter().copied());
        Node::start(command).await.expect("serve ended before it listened")
    }

    /// Waits until no delivery is left to be decided: none queued, on the wire or in quarantine. A correction waits as
    /// long as its connection is broken again; a newer mail that arrived would end that, but not one that was given up
    /// as ambiguous. Once the connection is back it leaves, and keeps its reason until somebody claims it.
    pub async fn settled(&self) {
        until(async || self.is_settled().await).await;
    }

    /// Whether that is so now.
    pub async fn is_settled(&self) -> bool {
        const OPEN: &str =
            "SELECT COUNT(*) FROM delivery d WHERE (d.state IN ('queued', 'sending') OR d.quarantine_until IS NOT NULL)
                AND NOT (d.class = 'correction' AND d.reason = 'connection_open_again' AND EXISTS (
                    SELECT 1 FROM delivery_item i JOIN connection c ON c.id = i.connection_id
                    WHERE i.delivery_id = d.id AND i.dropped IS NULL AND c.cleared < c.episode)
                AND EXISTS (
                    SELECT 1 FROM delivery n WHERE n.thread_id = d.thread_id AND n.class = 'action_required'
                        AND n.state = 'unknown' AND n.quarantine_until IS NULL AND n.created_at > d.created_at))";
        const PLANS: &str = "SELECT (SELECT COUNT(*) FROM plan WHERE done_at IS NULL)
            + (SELECT COUNT(*) FROM recovery WHERE swept_at IS NULL)";
        // Plans and sweeps first: what they make between the two counts is then in the second.
        self.count(PLANS).await == 0 && self.count(OPEN).await == 0
    }

    /// Posts JSON to whichever node listens at an address.
    pub async fn post_to(
        &self,
        address: &str,
        path: &str,
        body: &Value,
        idempotency: Option<&str>,
    ) -> Option<(u16, Value)> {
        let idempotency = idempotency.map(|key| format!("Idempotency-Key: {key}\r\n")).unwrap_or_default();
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\n{idempotency}Content-Length: {}\r\n\r\n",
            self.key,
            body.len(),
        );
        exchange(address, &(head + &body)).await
    }

    /// A query for one column of texts.
    pub async fn texts(&self, sql: &'static str) -> Vec<String> {
        use sqlx::Connection;
        if self.url.starts_with("sqlite") {
            let mut conn = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
            sqlx::query_scalar(sql).fetch_all(&mut conn).await.unwrap()
        } else {
            let mut conn = sqlx::PgConnection::connect(&self.url).await.unwrap();
            sqlx::query_scalar(sql).fetch_all(&mut conn).await.unwrap()
        }
    }

    /// A query for one number.
    pub async fn count(&self, sql: &'static str) -> i64 {
        self.try_count(sql).await.unwrap()
    }

    /// The same of a database that may be away.
    pub async fn try_count(&self, sql: &'static str) -> Result<i64, sqlx::Error> {
        use sqlx::Connection;
        if self.url.starts_with("sqlite") {
            sqlx::query_scalar(sql).fetch_one(&mut sqlx::SqliteConnection::connect(&self.url).await?).await
        } else {
            sqlx::query_scalar(sql).fetch_one(&mut sqlx::PgConnection::connect(&self.url).await?).await
        }
    }

    /// The promises hold in the database.
    pub async fn audit(&self) {
        let mut tx = self.store.read().await.unwrap();
        let findings = allclear::store::audit::run(&mut tx).await.unwrap();
        assert!(findings.is_empty(), "the audit found: {findings:#?}");
    }
}

/// Waits for a condition that somebody else brings about; the test's own limit ends a wait in vain.
pub async fn until(mut condition: impl AsyncFnMut() -> bool) {
    while !condition().await {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// A running node. Dropped, it is killed.
pub struct Node {
    child: Child,
    pub address: String,
    log: Arc<Mutex<String>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the node said:\n{}", self.log());
        }
    }
}

impl Node {
    /// Runs a command that serves; `None` when it ends, or freezes, before it listens.
    pub async fn start(mut command: Command) -> Option<Self> {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let kept = log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut kept = kept.lock().unwrap();
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        let mut node = Self { child, address: String::new(), log };
        loop {
            let said = node.log();
            if let Some((_, rest)) = said.split_once("serving on http://") {
                node.address = rest.split(|c: char| c != '.' && c != ':' && !c.is_ascii_digit()).next()?.to_owned();
                return Some(node);
            }
            if node.child.try_wait().unwrap().is_some() || node.is_frozen() {
                return None;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    /// Whether it is stopped, by [`Node::freeze`] or by a failpoint.
    pub fn is_frozen(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// Posts JSON with an idempotency key; status and answer, or nothing when the node did not answer.
    pub async fn post(&self, site: &Site, path: &str, body: &Value, idempotency: Option<&str>) -> Option<(u16, Value)> {
        site.post_to(&self.address, path, body, idempotency).await
    }

    /// Gets JSON.
    pub async fn get(&self, site: &Site, path: &str) -> Option<(u16, Value)> {
        let key = &site.key;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {key}\r\n\r\n");
        exchange(&self.address, &request).await
    }
}

/// Longer than any answer takes. Where a node has just been killed, its port may be a stranger's, who says nothing.
const ANSWER: std::time::Duration = std::time::Duration::from_secs(30);

async fn exchange(address: &str, request: &str) -> Option<(u16, Value)> {
    tokio::time::timeout(ANSWER, ask(address, request)).await.ok()?
}

async fn ask(address: &str, request: &str) -> Option<(u16, Value)> {
    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}
