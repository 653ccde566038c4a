//! A recorded history: incidents with their updates in the order in which they were posted. Data alone: what is
//! counted is counted from it.

use crate::domain::incident::{ComponentStatus, Impact, Phase};
use crate::domain::time::{Span, Timestamp};
use serde::Serialize;

/// What one page recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The page's name.
    pub page: String,
    /// Its incidents.
    pub incidents: Vec<Incident>,
}

/// An incident or a maintenance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// The source's key.
    pub key: String,
    /// Its title.
    pub title: String,
    /// How bad it is.
    pub impact: Option<Impact>,
    /// When it began, as far as that is sensible.
    pub started_at: Option<Timestamp>,
    /// Its updates, in the order in which they were posted.
    pub updates: Vec<Update>,
}

/// An update of an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The source's id, unique within the incident.
    pub key: String,
    /// When we hear of it first.
    pub arrives: Timestamp,
    /// The time it is said to be of.
    pub observed_at: Timestamp,
    /// Where the incident stands.
    pub phase: Phase,
    /// The components it names.
    pub components: Vec<Component>,
    /// Its text.
    pub body: String,
    /// Whether anybody is to be notified.
    pub deliver: bool,
}

/// A component as an update names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Its key.
    pub key: String,
    /// Its name.
    pub name: String,
    /// How it is doing, when that is said.
    pub status: Option<ComponentStatus>,
}

/// Whom a replay writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// The key, which is also the folder of the mails.
    pub key: String,
    /// The address.
    pub address: String,
    /// What is followed.
    pub follows: Follows,
}

/// What a subscriber follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Follows {
    /// One component, by key.
    One(String),
    /// Everything.
    Everything,
    /// Nothing.
    Nothing,
}

/// How a history is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The queue runs
    Free,
    /// Nothing leaves while an incident is open
    Blocked,
    /// Every update comes twice, and neighbours in the wrong order
    Doubled,
}

/// An update comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When.
    pub at: Timestamp,
    /// Which incident, by position.
    pub incident: usize,
    /// Which of its updates, by position.
    pub update: usize,
}

impl Follows {
    /// Whether a component is one of those followed.
    #[must_use]
    pub fn includes(&self, component: &str) -> bool {
        match self {
            Self::One(key) => key == component,
            Self::Everything => true,
            Self::Nothing => false,
        }
    }
}

impl Update {
    /// Whether it reports a component down that somebody follows.
    #[must_use]
    pub fn is_down(&self, follows: &Follows) -> bool {
        let down =
            |c: &&Component| matches!(c.status, Some(ComponentStatus::PartialOutage | ComponentStatus::MajorOutage));
        self.components.iter().filter(down).any(|c| follows.includes(&c.key))
    }

    /// Whether it reports anything but normal work of a component that somebody follows.
    #[must_use]
    pub fn is_trouble(&self, follows: &Follows) -> bool {
        self.troubled().any(|c| follows.includes(&c.key))
    }

    /// The components of which it reports anything but normal work.
    pub fn troubled(&self) -> impl Iterator<Item = &Component> {
        self.components.iter().filter(|c| c.status.is_some_and(|status| status != ComponentStatus::Operational))
    }
}

/// Whether an update of this phase ends an incident.
#[must_use]
pub const fn is_end(phase: Phase) -> bool {
    matches!(phase, Phase::Resolved | Phase::Completed)
}

impl Incident {
    /// Whether any of its updates names a component.
    #[must_use]
    pub fn names(&self, component: &str) -> bool {
        self.updates.iter().flat_map(|u| &u.components).any(|c| c.key == component)
    }

    /// Whether it is over, by what has come in until a time. What comes after the end opens it again only by
    /// reporting a component down.
    #[must_use]
    pub fn is_over(&self, at: Timestamp) -> bool {
        self.updates
            .iter()
            .filter(|u| u.arrives <= at)
            .fold(false, |over, update| is_end(update.phase) || (over && !update.is_down(&Follows::Everything)))
    }

    /// Whether it is open: begun, not over, and not at its last word.
    #[must_use]
    pub fn is_open(&self, at: Timestamp) -> bool {
        let came = self.updates.iter().filter(|u| u.arrives <= at).count();
        came > 0 && came < self.updates.len() && !self.is_over(at)
    }
}

impl History {
    /// The components that are named, each once, in the order in which they first are.
    #[must_use]
    pub fn components(&self) -> Vec<&Component> {
        let mut all: Vec<&Component> = Vec::new();
        let named = self.incidents.iter().flat_map(|i| &i.updates).flat_map(|u| &u.components);
        for component in named {
            if all.iter().all(|known| known.key != component.key) {
                all.push(component);
            }
        }
        all
    }

    /// One subscriber of each component, one of everything, one of nothing.
    #[must_use]
    pub fn subscribers(&self) -> Vec<Subscriber> {
        let ones = self.components().into_iter().map(|c| (folder(&c.key), Follows::One(c.key.clone())));
        let both = [("everything", Follows::Everything), ("nothing", Follows::Nothing)];
        let all = both.into_iter().map(|(key, follows)| (key.to_owned(), follows)).chain(ones);
        let mut subscribers: Vec<Subscriber> = Vec::new();
        for (number, (key, follows)) in all.enumerate() {
            let taken = subscribers.iter().any(|s| s.key.eq_ignore_ascii_case(&key));
            let key = if taken { format!("{key} {number}") } else { key };
            subscribers.push(Subscriber { key, address: format!("subscriber-{number}@replay.example"), follows });
        }
        subscribers
    }

    /// What comes in, in the order of time. Doubled: of two neighbours of an incident the later one comes first, when
    /// it was posted, the earlier one a second after it, and then both again.
    pub fn course(&mut self, mode: Mode) -> Vec<Arrival> {
        let mut all = Vec::new();
        for (incident, of) in self.incidents.iter_mut().enumerate() {
            let mut come = |at, update| all.push(Arrival { at, incident, update });
            for (pair, updates) in of.updates.chunks_mut(2).enumerate() {
                let first = 2 * pair;
                match (mode, updates) {
                    (Mode::Doubled, [earlier, later]) => {
                        let at = later.arrives;
                        earlier.arrives = at + Span::seconds(1);
                        for (second, update) in (0..).zip([first + 1, first, first + 1, first]) {
                            come(at + Span::seconds(second), update);
                        }
                    }
                    (Mode::Doubled, [one]) => {
                        come(one.arrives, first);
                        come(one.arrives + Span::seconds(1), first);
                    }
                    (_, updates) => {
                        for (update, one) in (first..).zip(updates) {
                            come(one.arrives, update);
                        }
                    }
                }
            }
        }
        all.sort_by_key(|arrival| arrival.at);
        all
    }
}

/// A key as the name of a folder.
fn folder(key: &str) -> String {
    let fits = |c: char| !c.is_control() && !matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|');
    let name: String = key.chars().take(100).map(|c| if fits(c) { c } else { '_' }).collect();
    let name = name.trim_matches(|c: char| c == '.' || c.is_whitespace());
    if name.is_empty() { "_".to_owned() } else { name.to_owned() }
}
