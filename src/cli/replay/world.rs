//! One history's world: its components and subscribers, and the stepping of time through its course.

use super::history::{Arrival, Follows, History, Mode, Subscriber};
use crate::cli::drill::{self, Drill, DrillError};
use crate::domain::delivery::State;
use crate::domain::hold::{HoldCause, HoldScope};
use crate::domain::incident::Impact;
use crate::domain::subscription::Events;
use crate::domain::time::{Span, Timestamp};
use crate::flow::intake::{self, FieldError, NoticeIn};
use crate::mail::sink::Received;
use crate::store::{StoreError, holds, queue, setup};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// What waits longer than this after the last update never leaves.
const AFTER: Span = Span::hours(8 * 24);
const WHO: &str = "replay";

/// A history that is replayed.
pub(super) struct World<'a> {
    drill: Drill,
    history: &'a History,
    /// How many mails there were when, to tell later when each was handed over.
    marks: Vec<(usize, Timestamp)>,
    stopped: bool,
}

/// What became of the deliveries, as the database says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct States {
    pub folded: i64,
    pub withdrawn: i64,
    /// Still in the queue, on the wire, unknown or parked.
    pub undecided: i64,
}

impl<'a> World<'a> {
    /// A world with everybody in it, before anything has happened.
    pub async fn new(
        url: &str,
        folder: &Path,
        history: &'a History,
        subscribers: &[Subscriber],
        at: Timestamp,
    ) -> Result<Self, DrillError> {
        let page = if history.page.is_empty() { "Example" } else { &history.page };
        let setting = drill::setting("Example <status@example.com>");
        let drill = Drill::open(url, folder, at, page, setting).await?;
        fill(&drill, history, subscribers).await?;
        Ok(Self { drill, history, marks: Vec::new(), stopped: false })
    }

    /// Goes through a course; `told` hears of every step.
    pub async fn play(
        &mut self,
        course: &[Arrival],
        mode: Mode,
        mut told: impl FnMut(usize),
    ) -> Result<(), DrillError> {
        let mut open = HashSet::new();
        let mut rest = course;
        while let Some(first) = rest.first() {
            self.wait(first.at).await?;
            let now = first.at;
            let (batch, later) = rest.split_at(rest.partition_point(|arrival| arrival.at <= now));
            rest = later;
            self.drill.clock.set(now);
            for arrival in batch {
                self.drill.hear(&notice(self.history, *arrival)?).await?;
                match self.history.incidents[arrival.incident].is_open(now) {
                    true => open.insert(arrival.incident),
                    false => open.remove(&arrival.incident),
                };
            }
            if mode == Mode::Blocked {
                self.stop(!open.is_empty()).await?;
            }
            self.settle(now).await?;
            told(batch.len());
        }
        let last = course.last().map_or(Timestamp(0), |arrival| arrival.at);
        self.wait(last + AFTER).await
    }

    /// Lets time pass, from one thing that is due to the next.
    async fn wait(&mut self, until: Timestamp) -> Result<(), DrillError> {
        while let Some(due) = self.next_due().await?.filter(|due| *due < until) {
            self.drill.clock.set(due);
            self.settle(due).await?;
        }
        Ok(())
    }

    /// When the next waiting mail is due; what is due already waits for something else.
    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        if self.stopped {
            return Ok(None);
        }
        let mut tx = self.drill.store.read().await?;
        let now = tx.now();
        let lanes = queue::lanes(&mut tx, &HashMap::new()).await?;
        Ok(lanes.into_iter().filter_map(|lane| lane.next_due).filter(|due| *due > now).min())
    }

    async fn settle(&mut self, now: Timestamp) -> Result<(), DrillError> {
        self.drill.worker.settle().await?;
        let mails = usize::try_from(self.drill.sink.count()).unwrap_or(usize::MAX);
        if self.marks.last().map_or(0, |mark| mark.0) < mails {
            self.marks.push((mails, now));
        }
        Ok(())
    }

    /// Stops the queue, or lets it go.
    async fn stop(&mut self, stop: bool) -> Result<(), StoreError> {
        if self.stopped == stop {
            return Ok(());
        }
        self.stopped = stop;
        let mut tx = self.drill.store.begin().await?;
        if stop {
            holds::put(&mut tx, HoldScope::Everything, HoldCause::Stop, "an incident is open", None, WHO).await?;
        } else {
            holds::release(&mut tx, |_| true, "no incident is open", WHO).await?;
        }
        tx.commit().await
    }

    /// The mails, in the order in which they were handed over.
    pub fn mails(&self) -> Vec<Received> {
        self.drill.sink.mails()
    }

    /// When the mail at a position was handed over.
    pub fn handed_over(&self, position: usize) -> Timestamp {
        let mark = self.marks.partition_point(|(mails, _)| *mails <= position);
        self.marks.get(mark).map_or(Timestamp::END, |mark| mark.1)
    }

    /// What became of the deliveries.
    pub async fn states(&self) -> Result<States, StoreError> {
        let mut states = States::default();
        for (state, count) in queue::counts(&mut self.drill.store.read().await?).await? {
            match state {
                State::Folded => states.folded += count,
                State::Withdrawn => states.withdrawn += count,
                State::Queued | State::Sending | State::Unknown | State::Parked => states.undecided += count,
                State::Accepted | State::Failed | State::Suppressed | State::Cancelled => {}
            }
        }
        Ok(states)
    }
}

async fn fill(drill: &Drill, history: &History, subscribers: &[Subscriber]) -> Result<(), StoreError> {
    let mut tx = drill.store.begin().await?;
    for component in history.components() {
        let row = setup::ComponentRow {
            key: component.key.clone(),
            name: component.name.clone(),
            group: None,
            depends_on: Vec::new(),
        };
        setup::put_component(&mut tx, &row).await?;
    }
    for subscriber in subscribers {
        let row = setup::SubscriberRow {
            key: subscriber.key.clone(),
            address: subscriber.address.clone(),
            name: None,
            locale: "en".to_owned(),
            zone: "UTC".to_owned(),
            attributes: Vec::new(),
        };
        let id = setup::put_subscriber(&mut tx, &row).await?;
        let component = match &subscriber.follows {
            Follows::Nothing => continue,
            Follows::Everything => None,
            Follows::One(key) => setup::component_id(&mut tx, key).await?,
        };
        let row = setup::SubscriptionRow {
            subscriber: id,
            component,
            group: None,
            events: Events::All,
            least_impact: Impact::None,
            active: true,
        };
        setup::put_subscription(&mut tx, &row).await?;
    }
    tx.commit().await
}

/// What the status system says.
fn notice(history: &History, arrival: Arrival) -> Result<NoticeIn, FieldError> {
    let incident = &history.incidents[arrival.incident];
    let update = &incident.updates[arrival.update];
    let components: Vec<_> = update.components.iter().map(|c| json!({"key": c.key, "status": c.status})).collect();
    let said = json!({
        "kind": "incident", "incident": incident.key, "update": update.key, "title": incident.title,
        "phase": update.phase, "impact": incident.impact, "components": components, "body": update.body,
        "started_at": incident.started_at, "observed_at": update.observed_at, "deliver": update.deliver,
    });
    intake::read(said.to_string().as_bytes())
}
