//! Faults of what the program stands on. It is not killed here, so it knows the outcome of every mail: there is no
//! second copy of any, and nothing is stuck.

mod database;
mod disk;

use crate::load::{self, Load, Running};
use crate::site::{Node, Site, until};
use crate::verdict::{Counts, judge};
use allclear::mail::sink::{Script, Sink};
use allclear::store::open::Connections;
use allclear::store::{Clock, Store};
use rand::rngs::StdRng;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So long that an outcome which waited for the database is there before its mail would be sent again.
const QUARANTINE: (&str, &str) = ("ALLCLEAR_DISPATCH__QUARANTINE_SECONDS", "10");
/// A machine under load may need it; the figure is printed.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// A node under load on a database of the test's own, and a relay some way off: mails are on the wire at any time.
struct Ground {
    site: Arc<Site>,
    sink: Sink,
    node: Node,
    running: Running,
    slowest: Duration,
}

impl Ground {
    async fn on(url: String, env: &[(&str, &str)], random: &mut StdRng) -> Self {
        let sink = Sink::start(Script { latency: Duration::from_millis(20), ..Script::default() }).await.unwrap();
        let connections = Connections { sqlite_readers: 2, postgres: 4 };
        let store = Store::open(&url, connections, Clock::Database).await.unwrap();
        let site = Site::with(store, tempfile::tempdir().unwrap(), url, sink.port(), load::SETTINGS).await;
        let site = Arc::new(site);
        let running = Running::start(&site, 80, random).await;
        let node = site.node_with("one", &[&[QUARANTINE], env].concat()).await;
        running.load.open(&node.address);
        Self { site, sink, node, running, slowest: Duration::ZERO }
    }

    fn load(&self) -> &Load {
        &self.running.load
    }

    /// Waits until the relay has taken so many more.
    async fn goes_on(&self, mails: u64) {
        self.sink.wait_for(self.sink.count() + mails).await;
    }

    /// The fault is over: measures how long it is until the next mail.
    async fn is_back(&mut self) {
        let begun = Instant::now();
        self.goes_on(1).await;
        self.slowest = self.slowest.max(begun.elapsed());
        assert!(self.slowest < BACK_WITHIN, "sent again only after {:?}", self.slowest);
    }

    /// Ends the load and judges; the node as well, so that nothing writes any more.
    async fn judged(self) -> (Counts, Duration) {
        let ledger = self.running.end().await;
        let counts = judge(&self.site, &self.node, &self.sink, &ledger).await;
        // A reply that took longer than a dialogue may, on a machine under load: that nobody can know.
        let unheard = self.site.count("SELECT COUNT(*) FROM attempt WHERE outcome = 'unknown'").await;
        assert!(
            counts.copies <= unheard as u64,
            "the relay took it, and that was forgotten: {unheard} unheard, {counts}"
        );
        let spill = self.site.home("one").join("allclear.spill");
        until(async || !spill.exists() && !spill.with_extension("merging").exists()).await;
        (counts, self.slowest)
    }
}
