//! Drills: the real dispatcher in driven time, with a relay of its own that keeps what it takes. Nobody is mailed.

use crate::domain::class::{Class, Limits};
use crate::domain::time::{Span, Timestamp};
use crate::flow::archive::Archive;
use crate::flow::copies::Copies;
use crate::flow::dispatch::Shared;
use crate::flow::ingest::{self, Caller, IngestError, Keyed};
use crate::flow::intake::{FieldError, NoticeIn};
use crate::flow::pace::Caps;
use crate::flow::retry::Schedule;
use crate::flow::setting::{Setting, Stream};
use crate::flow::spill::Spill;
use crate::flow::worker::Worker;
use crate::mail::sink::{Script, Sink};
use crate::mail::{Relay, Transport};
use crate::store::open::Connections;
use crate::store::{Clock, Store, StoreError};
use crate::template::{Page, Templates};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A drill cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The folder has something in it.
    #[error("the folder {} already has a demo in it", .0.display())]
    Taken(PathBuf),
    /// A file or a port.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The simulation did not go as it must.
    #[error("the simulation went wrong: {0}")]
    Simulation(String),
    /// Its own input was refused.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The templates.
    #[error("the templates cannot be loaded: {0}")]
    Templates(#[from] crate::template::TemplateError),
}

impl From<FieldError> for DrillError {
    fn from(error: FieldError) -> Self {
        Self::Ingest(error.into())
    }
}

impl DrillError {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Taken(_) => "name a new folder",
            Self::Io { .. } => "check that the folder can be written and has room",
            _ => "this is a fault of the program: please report it with this line",
        }
    }
}

/// A file or a port that failed.
pub(super) fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> DrillError {
    let what = what.into();
    move |source| DrillError::Io { what, source }
}

/// A drill's world: a database, a relay, a clock that is driven, and a worker that is stepped.
pub(super) struct Drill {
    pub sink: Sink,
    pub store: Store,
    pub clock: Clock,
    pub worker: Worker,
    pub setting: Arc<Setting>,
    pub shared: Shared,
}

impl Drill {
    /// A world at a time; `folder` is where a worker leaves what its database cannot take.
    pub async fn open(
        url: &str,
        folder: &Path,
        at: Timestamp,
        page: &str,
        setting: Setting,
    ) -> Result<Self, DrillError> {
        let clock = Clock::driven(at);
        let connections = Connections { sqlite_readers: 2, ..Connections::default() };
        let store = Store::open(url, connections, clock.clone()).await?;
        let sink = Sink::start(Script::default()).await.map_err(failed("no port can be had for the relay"))?;
        let setting = Arc::new(setting);
        let relay = Transport::Smtp(Relay::local(sink.port()));
        let transports = setting.streams.iter().map(|s| (s.name.clone(), relay.clone())).collect::<BTreeMap<_, _>>();
        let public_url = Some("https://status.example.com".to_owned());
        let templates = Templates::embedded(&Page { name: page.to_owned(), support_url: None, public_url })?;
        let shared = Shared {
            store: store.clone(),
            // Nobody asks a drill for a mail.
            copies: Arc::new(Copies::new(&setting, &templates, Span::ZERO)),
            setting: Arc::clone(&setting),
            templates: Arc::new(templates),
            owner: "drill".to_owned(),
            spill: Spill::new(folder.join("spill")),
            dialogue: Duration::from_secs(20),
            watch: Default::default(),
            archive: Arc::new(Archive::new(None)),
        };
        Ok(Self { sink, store, clock, worker: Worker::new(shared.clone(), &transports), setting, shared })
    }

    /// Takes a notice in.
    pub async fn hear(&self, notice: &NoticeIn) -> Result<(), DrillError> {
        let keyed = Keyed { key: None, body: &[] };
        ingest::notice(&self.store, &self.setting.ingest(), &caller(), notice, keyed).await?;
        Ok(())
    }
}

/// Who speaks in a drill.
pub(super) fn caller() -> Caller {
    Caller { source: "drill".to_owned(), may_cover: false }
}

/// The defaults, in one stream.
pub(super) fn setting(from: &str) -> Setting {
    Setting {
        domain: "status.example.com".to_owned(),
        streams: vec![Stream {
            name: "all".to_owned(),
            from: from.to_owned(),
            reply_to: None,
            relay: "main".to_owned(),
            caps: Caps::default(),
            slots: 8,
            classes: Class::ALL.to_vec(),
        }],
        limits: Class::ALL.iter().map(|c| (*c, Limits::of(*c))).collect(),
        retry: Schedule::default(),
        lease: Span::minutes(13),
        quarantine: Span::minutes(15),
        page: 500,
        ask_unconfirmed: true,
        confirm_within: Span::hours(6),
        public_url: None,
        support_url: None,
        operators: Default::default(),
        surge: None,
        patience: None,
        gate: true,
    }
}
