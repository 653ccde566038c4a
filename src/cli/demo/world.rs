//! One run's world: a database, a relay, a clock that is driven, and a worker that is stepped.

use super::course::{self, Course, Said};
use crate::cli::drill::{self, Drill, DrillError};
use crate::domain::class::{Class, Limits};
use crate::domain::delivery::State;
use crate::domain::time::{Span, Timestamp};
use crate::flow::ingest;
use crate::flow::setting::Setting;
use crate::mail::sink::Sink;
use crate::store::{Store, StoreError, Tx, queue, setup};
use std::path::Path;

/// The file of the database.
pub(super) const DATABASE: &str = "allclear.db";
const LINK: &str = "https://app.example.com/inboxes";

/// A run's world.
pub(super) struct World(Drill);

impl World {
    /// A world with all inboxes in it, before anything has happened.
    pub async fn new(folder: &Path, course: &Course, gate: bool) -> Result<Self, DrillError> {
        let url = format!("sqlite://{}", folder.join(DATABASE).display());
        let drill = Drill::open(&url, folder, course::START, "Example", setting(gate)).await?;
        fill(&drill.store, course).await?;
        Ok(Self(drill))
    }

    /// The relay.
    pub const fn sink(&self) -> &Sink {
        &self.0.sink
    }

    /// Lets time come to a point: what was said until then is taken in, and the dispatcher does what is to be done.
    pub async fn step(&mut self, now: Timestamp, said: &[(Timestamp, Said)]) -> Result<(), DrillError> {
        let drill = &mut self.0;
        drill.clock.set(now);
        let mut signals = Vec::new();
        for (_, one) in said {
            match one {
                Said::Signal(signal) => signals.push((**signal).clone()),
                Said::Notice(notice) => drill.hear(notice).await?,
            }
        }
        if !signals.is_empty() {
            let settings = drill.setting.ingest();
            for answer in ingest::many_signals(&drill.store, &settings, &drill::caller(), &signals).await? {
                answer?;
            }
        }
        if drill.setting.gate {
            drill.worker.settle().await?;
        } else {
            drill.worker.settle_without_recovery().await?;
        }
        Ok(())
    }

    /// How many mails wait.
    pub async fn waiting(&self) -> Result<usize, StoreError> {
        let counts = queue::counts(&mut self.0.store.read().await?).await?;
        let waiting = counts.iter().find(|(state, _)| *state == State::Queued).map_or(0, |(_, n)| *n);
        Ok(usize::try_from(waiting).unwrap_or_default())
    }

    /// A connection for reading.
    pub async fn read(&self) -> Result<Tx, StoreError> {
        self.0.store.read().await
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
        limits: Class::ALL.iter().map(|c| (*c, limits(c))).collect(),
        public_url: Some(LINK.to_owned()),
        support_url: Some("https://example.com/support".to_owned()),
        gate,
        ..drill::setting("Example <account@example.com>")
    }
}
