//! One run's world: a database, a relay, a clock that is driven, and a worker that is stepped.

use super::course::{self, Course, Said};
use super::{DemoError, failed};
use crate::domain::class::{Class, Limits};
use crate::domain::delivery::State;
use crate::domain::time::{Span, Timestamp};
use crate::flow::copies::Copies;
use crate::flow::dispatch::Shared;
use crate::flow::ingest::{self, Caller, Keyed};
use crate::flow::retry::Schedule;
use crate::flow::setting::{Setting, Stream};
use crate::flow::spill::Spill;
use crate::flow::worker::Worker;
use crate::mail::sink::{Script, Sink};
use crate::mail::{Relay, Transport};
use crate::store::open::Connections;
use crate::store::{Clock, Store, StoreError, Tx, queue, setup};
use crate::template::{Page, Templates};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The file of the database.
pub(super) const DATABASE: &str = "allclear.db";
const LINK: &str = "https://app.example.com/inboxes";

/// A run's world.
pub(super) struct World {
    pub sink: Sink,
    store: Store,
    clock: Clock,
    worker: Worker,
    setting: Arc<Setting>,
}

impl World {
    /// A world with all inboxes in it, before anything has happened.
    pub async fn new(folder: &Path, course: &Course, gate: bool) -> Result<Self, DemoError> {
        let clock = Clock::driven(course::START);
        let url = format!("sqlite://{}", folder.join(DATABASE).display());
        let connections = Connections { sqlite_readers: 2, ..Connections::default() };
        let store = Store::open(&url, connections, clock.clone()).await?;
        fill(&store, course).await?;
        let sink = Sink::start(Script::default()).await.map_err(failed("no port can be had for the relay"))?;
        let setting = Arc::new(setting(gate));
        let relay = Transport::Smtp(Relay::local(sink.port()));
        let transports = setting.streams.iter().map(|s| (s.name.clone(), relay.clone())).collect::<BTreeMap<_, _>>();
        let page = Page {
            name: "Example".to_owned(),
            support_url: None,
            public_url: Some("https://status.example.com".to_owned()),
        };
        let templates = Templates::embedded(&page)?;
        let shared = Shared {
            store: store.clone(),
            // Nobody asks the demo for a mail.
            copies: Arc::new(Copies::new(&setting, &templates, Span::ZERO)),
            setting: Arc::clone(&setting),
            templates: Arc::new(templates),
            owner: "demo".to_owned(),
            spill: Spill::new(folder.join("spill")),
            dialogue: Duration::from_secs(20),
        };
        Ok(Self { sink, store, clock, worker: Worker::new(shared, &transports), setting })
    }

    /// Lets time come to a point: what was said until then is taken in, and the dispatcher does what is to be done.
    pub async fn step(&mut self, now: Timestamp, said: &[(Timestamp, Said)]) -> Result<(), DemoError> {
        self.clock.set(now);
        let caller = Caller { source: "demo".to_owned(), may_cover: false };
        let settings = self.setting.ingest();
        let mut signals = Vec::new();
        for (_, one) in said {
            match one {
                Said::Signal(signal) => signals.push((**signal).clone()),
                Said::Notice(notice) => {
                    let keyed = Keyed { key: None, body: &[] };
                    ingest::notice(&self.store, &settings, &caller, notice, keyed).await?;
                }
            }
        }
        if !signals.is_empty() {
            for answer in ingest::many_signals(&self.store, &settings, &caller, &signals).await? {
                answer?;
            }
        }
        if self.setting.gate {
            self.worker.settle().await?;
        } else {
            self.worker.settle_without_recovery().await?;
        }
        Ok(())
    }

    /// How many mails wait.
    pub async fn waiting(&self) -> Result<usize, StoreError> {
        let counts = queue::counts(&mut self.store.read().await?).await?;
        let waiting = counts.iter().find(|(state, _)| *state == State::Queued).map_or(0, |(_, n)| *n);
        Ok(usize::try_from(waiting).unwrap_or_default())
    }

    /// A connection for reading.
    pub async fn read(&self) -> Result<Tx, StoreError> {
        self.store.read().await
    }
}

/// All inboxes, with one customer each.
async fn fill(store: &Store, course: &Course) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    let component = setup::ComponentRow {
        key: course::COMPONENT.to_owned(),
        name: "Outlook".to_owned(),
        group: None,
        depends_on: Vec::new(),
    };
    let component = setup::put_component(&mut tx, &component).await?;
    for number in 0..course.inboxes.len() {
        let subscriber = setup::SubscriberRow {
            key: course::key(number),
            address: course::address(number),
            name: None,
            locale: "en".to_owned(),
            zone: "UTC".to_owned(),
            attributes: Vec::new(),
        };
        let subscriber = setup::put_subscriber(&mut tx, &subscriber).await?;
        let connection = setup::ConnectionRow {
            key: course::key(number),
            component,
            name: course::address(number),
            link: None,
            subscribers: vec![subscriber],
        };
        setup::put_connection(&mut tx, &connection).await?;
    }
    tx.commit().await
}

/// The defaults; without the gate also without any wait.
fn setting(gate: bool) -> Setting {
    let now = Limits { dwell: Span::ZERO, ..Limits::of(Class::ActionRequired) };
    let limits = |class: &Class| if gate || *class != Class::ActionRequired { Limits::of(*class) } else { now };
    Setting {
        domain: "status.example.com".to_owned(),
        streams: vec![Stream {
            name: "all".to_owned(),
            from: "Example <account@example.com>".to_owned(),
            reply_to: None,
            caps: crate::flow::pace::Caps::default(),
            slots: 8,
            classes: Class::ALL.to_vec(),
        }],
        limits: Class::ALL.iter().map(|c| (*c, limits(c))).collect(),
        retry: Schedule::default(),
        lease: Span::minutes(13),
        quarantine: Span::minutes(15),
        page: 500,
        ask_unconfirmed: true,
        confirm_within: Span::hours(6),
        public_url: Some(LINK.to_owned()),
        support_url: Some("https://example.com/support".to_owned()),
        gate,
    }
}
