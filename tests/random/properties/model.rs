//! The reference: what was said, as lists of outages with their times; no counters, no states, no tables.

use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const MINUTE: i64 = 60_000_000;
const DWELL: i64 = 5 * MINUTE;
const LONGEST_HOLD: i64 = 12 * 60 * MINUTE;

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Fails,
    /// With a fault that heals by itself.
    Stutters,
    Recovers,
    IsReconnected,
    CannotBeRecovered,
}

#[derive(Clone, Debug)]
pub enum Transition {
    /// Observed so many minutes ago, under a source's running number, with an idempotency key.
    Connection {
        at: usize,
        what: What,
        ago: i64,
        sequence: Option<i64>,
        key: Option<u8>,
    },
    Down,
    Up {
        covers: bool,
    },
    /// An update with this id: 0 resolves, 1 reports a component down, the others only say something.
    Update {
        id: u8,
        says: u8,
        ago: i64,
    },
    /// The same request once more.
    Again(u8),
    Pass(i64),
    Settle,
    Restart,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Expected {
    #[default]
    Nothing,
    /// The outcome, and whether it is an answer given before.
    Answer(String, bool),
    Conflict,
}

#[derive(Clone, Debug)]
pub struct Said {
    pub body: Value,
    pub key: Option<String>,
    pub is_notice: bool,
}

#[derive(Clone, Debug)]
struct Outage {
    from: i64,
    /// The newest time at which it was seen to last.
    seen: i64,
    permanent: bool,
    own_fault: bool,
    cleared: bool,
    /// When mail about it was asked for.
    ask: Option<i64>,
    mailed: bool,
    /// How many outages the component had by then.
    outages: usize,
}

#[derive(Clone, Debug, Default)]
struct Connection {
    outages: Vec<Outage>,
    well_as_of: Option<i64>,
    sequence: Option<i64>,
    /// A "please reconnect" has to be taken back.
    owed: bool,
    told: Vec<String>,
}

/// An outage of the component that is over.
#[derive(Clone, Copy, Debug)]
struct Over {
    since: i64,
    until: i64,
    covers: bool,
}

#[derive(Clone, Debug, Default)]
struct Incident {
    /// Ids of updates, each with its phase: an edit has both.
    ids: BTreeSet<(u8, u8)>,
    /// When each update was observed, and whether it reports a component down.
    heard: Vec<(i64, bool)>,
    resolved: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub now: i64,
    pub said: Option<Said>,
    pub expected: Expected,
    connections: [Connection; 2],
    down_since: Option<i64>,
    over: Vec<Over>,
    incident: Option<Incident>,
    keys: BTreeMap<u8, (Said, String)>,
}

pub struct Reference;

impl ReferenceStateMachine for Reference {
    type State = Model;
    type Transition = Transition;

    fn init_state() -> BoxedStrategy<Model> {
        Just(Model::default()).boxed()
    }

    fn transitions(_: &Model) -> BoxedStrategy<Transition> {
        use What::{CannotBeRecovered, Fails, IsReconnected, Recovers, Stutters};
        let what = prop_oneof![5 => Just(Fails), 2 => Just(Stutters), 4 => Just(Recovers), 1 => Just(IsReconnected), 1 => Just(CannotBeRecovered)];
        let ago = prop_oneof![3 => Just(0), 1 => 0..30_i64];
        let sequence = proptest::option::weighted(0.2, 1..6_i64);
        let key = proptest::option::weighted(0.2, 0..4_u8);
        prop_oneof![
            12 => (0..2_usize, what, ago.clone(), sequence, key)
                .prop_map(|(at, what, ago, sequence, key)| Transition::Connection { at, what, ago, sequence, key }),
            2 => Just(Transition::Down),
            2 => any::<bool>().prop_map(|covers| Transition::Up { covers }),
            3 => (0..8_u8, 0..4_u8, ago).prop_map(|(id, says, ago)| Transition::Update { id, says, ago }),
            1 => (0..4_u8).prop_map(Transition::Again),
            6 => prop_oneof![6 => 1..12_i64, 1 => 12..300_i64].prop_map(Transition::Pass),
            3 => Just(Transition::Settle),
            1 => Just(Transition::Restart),
        ]
        .boxed()
    }

    fn preconditions(model: &Model, transition: &Transition) -> bool {
        match transition {
            Transition::Again(key) => model.keys.contains_key(key),
            Transition::Up { covers: true } => model.down_since.is_some(),
            _ => true,
        }
    }

    fn apply(mut model: Model, transition: &Transition) -> Model {
        // No two things at one time.
        model.now += 1_000_000;
        model.expected = Expected::Nothing;
        match transition {
            Transition::Connection { at, what, ago, sequence, key } => model.signal(*at, *what, *ago, *sequence, *key),
            Transition::Down => model.down(),
            Transition::Up { covers } => model.up(*covers),
            Transition::Update { id, says, ago } => model.update(*id, *says, *ago),
            Transition::Again(key) => {
                let (said, outcome) = model.keys[key].clone();
                (model.said, model.expected) = (Some(said), Expected::Answer(outcome, true));
            }
            Transition::Pass(minutes) => {
                model.now += minutes * MINUTE;
                model.settle();
            }
            Transition::Settle => model.settle(),
            Transition::Restart => {}
        }
        model
    }
}

fn time(at: i64) -> String {
    allclear::domain::time::Timestamp(crate::support::t("2025-06-02T08:00:00Z").0 + at).to_string()
}

impl Model {
    pub fn connections(&self) -> Vec<(String, String)> {
        let cleared = |c: &Connection| c.outages.last().is_none_or(|outage| outage.cleared);
        let word = |yes| if yes { "yes" } else { "no" }.to_owned();
        self.connections.iter().map(|c| (c.outages.len().to_string(), word(cleared(c)))).collect()
    }

    pub fn resolved(&self) -> Option<bool> {
        self.incident.as_ref().map(|incident| incident.resolved)
    }

    pub fn told(&self) -> [&[String]; 2] {
        [&self.connections[0].told, &self.connections[1].told]
    }

    fn covered(&self, from: i64) -> bool {
        self.over.iter().any(|over| over.covers && over.since <= from && from <= over.until)
    }

    fn is_broken(&self, outage: &Outage) -> bool {
        !outage.cleared && (outage.own_fault || !self.covered(outage.from))
    }

    fn signal(&mut self, at: usize, what: What, ago: i64, sequence: Option<i64>, key: Option<u8>) {
        // A covering recovery leaves a source that lies about the order nothing to win.
        let ago = if sequence.is_some() && self.over.iter().any(|over| over.covers) { 0 } else { ago };
        let observed = self.now - ago * MINUTE;
        let (word, detail) = match what {
            What::Fails => ("failed", json!({"fault": "permanent"})),
            What::Stutters => ("failed", json!({"fault": "recoverable"})),
            What::Recovers => ("recovered", json!({"by": "automatic"})),
            What::IsReconnected => ("recovered", json!({"by": "customer"})),
            What::CannotBeRecovered => ("recovery_failed", json!({})),
        };
        let mut body = json!({"connection": format!("c{at}"), "what": word, "observed_at": time(observed)});
        body.as_object_mut().unwrap().extend(detail.as_object().unwrap().clone());
        if let Some(sequence) = sequence {
            body["sequence"] = json!(sequence);
        }
        let said = Said { body, key: key.map(|key| format!("k{key}")), is_notice: false };
        self.said = Some(said.clone());
        if key.is_some_and(|key| self.keys.contains_key(&key)) {
            self.expected = Expected::Conflict;
            return;
        }
        let outcome = self.hear(at, what, observed, sequence);
        self.expected = Expected::Answer(outcome.to_owned(), false);
        if let Some(key) = key {
            self.keys.insert(key, (said, outcome.to_owned()));
        }
    }

    fn hear(&mut self, at: usize, what: What, observed: i64, sequence: Option<i64>) -> &'static str {
        let latest = self.connections[at].sequence;
        if sequence.is_some() && sequence <= latest {
            return "stale_at_birth";
        }
        self.connections[at].sequence = latest.max(sequence);
        let in_order = sequence.is_some();
        let broken = self.connections[at].outages.last().is_some_and(|outage| self.is_broken(outage));
        let covered = self.covered(observed);
        let (now, outages) = (self.now, self.over.len() + usize::from(self.down_since.is_some()));
        let one = &mut self.connections[at];
        let old = one.well_as_of.is_some_and(|well| observed <= well) && !in_order;
        let from = one.well_as_of.map_or(observed, |well| observed.max(well + 1));
        let new = Outage {
            from,
            seen: from,
            permanent: false,
            own_fault: false,
            cleared: false,
            ask: None,
            mailed: false,
            outages,
        };
        match what {
            What::Fails | What::Stutters => {
                if !old && covered && one.outages.last().is_none_or(|outage| outage.cleared) {
                    one.outages.push(new);
                    return "stale_at_birth";
                }
                if old || covered {
                    return "stale_at_birth";
                }
                let permanent = what == What::Fails;
                if !broken {
                    one.outages.push(new);
                }
                let outage = one.outages.last_mut().unwrap();
                outage.seen = outage.seen.max(observed);
                if broken && (outage.permanent || !permanent) {
                    return "repeated";
                }
                outage.permanent |= permanent;
                if !permanent {
                    return "recorded";
                }
                // Mail is asked for with what is known of the component by then.
                (outage.ask, outage.outages) = (Some(now), outages);
                "waiting"
            }
            What::Recovers | What::IsReconnected => {
                one.well_as_of = one.well_as_of.max(Some(observed));
                let Some(outage) = one.outages.last_mut().filter(|outage| !outage.cleared) else { return "repeated" };
                if outage.seen > observed && !in_order {
                    return "stale_at_birth";
                }
                outage.cleared = true;
                // What was covered is taken back already.
                one.owed |= broken && outage.mailed && what == What::Recovers;
                "recovering"
            }
            What::CannotBeRecovered => {
                if old {
                    return "stale_at_birth";
                }
                if !broken {
                    one.outages.push(new);
                }
                let outage = one.outages.last_mut().unwrap();
                outage.seen = outage.seen.max(observed);
                if outage.own_fault {
                    return "repeated";
                }
                (outage.own_fault, outage.permanent) = (true, true);
                outage.ask.get_or_insert(now);
                "planned"
            }
        }
    }

    fn of_component(&mut self, body: Value, outcome: &str) {
        self.said = Some(Said { body, key: None, is_notice: false });
        self.expected = Expected::Answer(outcome.to_owned(), false);
    }

    fn down(&mut self) {
        let outcome = if self.down_since.is_some() { "repeated" } else { "recorded" };
        self.of_component(json!({"component": "p", "what": "failed"}), outcome);
        self.down_since.get_or_insert(self.now);
    }

    fn up(&mut self, covers: bool) {
        let connections = if covers { "all" } else { "none" };
        let body = json!({"component": "p", "what": "recovered", "connections": connections});
        let Some(since) = self.down_since.take() else { return self.of_component(body, "repeated") };
        self.of_component(body, "recovering");
        let broken_before: Vec<bool> =
            self.connections.iter().map(|c| c.outages.last().is_some_and(|outage| self.is_broken(outage))).collect();
        self.over.push(Over { since, until: self.now, covers });
        for (at, broken) in broken_before.into_iter().enumerate() {
            let well = self.connections[at].outages.last().is_some_and(|outage| !self.is_broken(outage));
            let mailed = self.connections[at].outages.last().is_some_and(|outage| outage.mailed);
            self.connections[at].owed |= broken && well && mailed;
        }
    }

    fn update(&mut self, id: u8, says: u8, ago: i64) {
        let observed = self.now - ago * MINUTE;
        let (phase, status) = match says {
            0 => ("resolved", None),
            1 => ("identified", Some("major_outage")),
            2 => ("monitoring", Some("degraded_performance")),
            _ => ("update", Some("operational")),
        };
        let components = status.map(|status| json!([{"key": "x", "status": status}])).unwrap_or_else(|| json!([]));
        let body = json!({"kind": "incident", "incident": "i", "update": format!("u{id}"), "title": "Trouble", "phase": phase,
            "components": components, "body": format!("Said at {}.", self.now), "observed_at": time(observed)});
        self.said = Some(Said { body, key: None, is_notice: true });
        let (over, down) = (says == 0, says == 1);
        let first = self.incident.is_none();
        let incident = self.incident.get_or_insert_default();
        let is_new = incident.ids.insert((id, says));
        let newest = incident.heard.iter().all(|(at, _)| *at < observed);
        // An end that comes late ends all the same, unless something newer reports a component down.
        let ends = over && !incident.resolved && !incident.heard.iter().any(|(at, down)| *at > observed && *down);
        let outcome = match (is_new, newest) {
            (false, _) => "repeated",
            (true, true) if first && over => "recorded",
            (true, true) => "planned",
            (true, false) if ends => "planned",
            (true, false) => "stale_at_birth",
        };
        if is_new {
            incident.heard.push((observed, down));
            incident.resolved = match (newest, over, down) {
                (true, true, _) => true,
                (true, _, true) => false,
                (false, true, _) if ends => true,
                _ => incident.resolved,
            };
        }
        self.expected = Expected::Answer(outcome.to_owned(), false);
    }

    fn settle(&mut self) {
        for at in 0..2 {
            let name = format!("Inbox c{at}");
            let one = &self.connections[at];
            let Some(outage) = one.outages.last() else { continue };
            let broken = self.is_broken(outage);
            let asks = broken && !outage.mailed && self.may_ask(outage);
            let again = one.told.last().is_some_and(|told| told.starts_with("no action"));
            let one = &mut self.connections[at];
            if asks {
                one.outages.last_mut().unwrap().mailed = true;
                one.owed = false;
                let after_all = if again { " after all" } else { "" };
                one.told.push(format!("please reconnect{after_all}: {name}"));
            } else if one.owed && !broken {
                one.owed = false;
                one.told.push(format!("no action needed: {name}"));
            }
        }
    }

    fn may_ask(&self, outage: &Outage) -> bool {
        let Some(asked) = outage.ask else { return false };
        // Also what failed before it and was heard of in it; what a recovery spoke for is not broken.
        let inside = |over: &Over| [outage.from, asked].iter().any(|at| over.since <= *at && *at <= over.until);
        // The component's number of outages was read when it was accepted. One that was back for long keeps nobody.
        let over = &self.over[outage.outages.saturating_sub(1).min(self.over.len())..];
        let back = over.iter().filter(|over| inside(over)).map(|over| over.until).max();
        let waits = self.down_since.is_some() || back.is_some_and(|back| back + LONGEST_HOLD > asked);
        outage.own_fault || self.now >= asked + if waits { LONGEST_HOLD } else { DWELL }
    }
}
