//! A provider with three connections of two subscribers: one has all three, the other shares the last.

use super::{Said, Subject, clock};
use crate::support::{Got, World};
use crate::table::what;
use allclear::domain::time::{Span, Timestamp};
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Well,
    /// Heals by itself: nobody is asked.
    Faulty,
    /// Only the customer can mend it.
    Broken,
    /// Declared well with its provider, and to be confirmed until then.
    Covered(Timestamp),
}

struct Connection {
    state: State,
    failed_at: Timestamp,
    own_fault: bool,
    /// When it was broken, and when it no longer was.
    turns: Vec<(Timestamp, bool)>,
    /// When its customer reconnected it: who did that knows, and is not told.
    by_hand: Vec<Timestamp>,
}

impl Connection {
    const fn new() -> Self {
        Self { state: State::Well, failed_at: Timestamp(0), own_fault: false, turns: Vec::new(), by_hand: Vec::new() }
    }

    fn become_(&mut self, state: State, now: Timestamp) {
        self.state = state;
        self.turns.push((now, state == State::Broken));
    }

    fn opens(&mut self, state: State, now: Timestamp) {
        if matches!(self.state, State::Well | State::Covered(_)) {
            (self.failed_at, self.own_fault) = (now, false);
        }
        self.become_(state, now);
    }

    fn was_broken(&self, at: Timestamp) -> bool {
        self.turns.iter().rev().find(|turn| turn.0 <= at).is_some_and(|turn| turn.1)
    }
}

pub struct Provider {
    number: u64,
    /// Something happens in one minute of so many.
    every: u32,
    connections: [Connection; 3],
    down_since: Option<Timestamp>,
    log: Vec<String>,
}

impl Provider {
    pub fn new(number: u64, random: &mut StdRng) -> Self {
        let connections = [Connection::new(), Connection::new(), Connection::new()];
        Self { number, every: [3, 5, 9, 15][random.random_range(0..4)], connections, down_since: None, log: Vec::new() }
    }

    fn key(&self, at: usize) -> String {
        format!("c{}-{at}", self.number)
    }

    fn log(&mut self, now: Timestamp, what: impl std::fmt::Display) {
        self.log.push(format!("{} {what}", clock(now)));
    }

    fn fails(&mut self, at: usize, permanent: bool, now: Timestamp) -> Value {
        let one = &mut self.connections[at];
        match (permanent, one.state) {
            (true, _) if one.state != State::Broken => one.opens(State::Broken, now),
            (false, State::Well | State::Covered(_)) => one.opens(State::Faulty, now),
            _ => {}
        }
        let fault = if permanent { "permanent" } else { "recoverable" };
        self.log(now, format!("{at} fails, {fault}"));
        json!({"connection": self.key(at), "what": "failed", "fault": fault})
    }

    fn recovers(&mut self, at: usize, by: &str, now: Timestamp) -> Value {
        let one = &mut self.connections[at];
        if one.state != State::Well {
            one.become_(State::Well, now);
            if by == "customer" {
                one.by_hand.push(now);
            }
        }
        self.log(now, format!("{at} recovers, {by}"));
        json!({"connection": self.key(at), "what": "recovered", "by": by})
    }

    fn is_not_recovered(&mut self, at: usize, now: Timestamp) -> Value {
        let one = &mut self.connections[at];
        one.opens(State::Broken, now);
        one.own_fault = true;
        self.log(now, format!("{at} cannot be recovered"));
        json!({"connection": self.key(at), "what": "recovery_failed"})
    }

    fn goes_down(&mut self, now: Timestamp) -> Value {
        self.down_since.get_or_insert(now);
        self.log(now, "all down");
        json!({"component": format!("p{}", self.number), "what": "failed"})
    }

    fn comes_up(&mut self, now: Timestamp) -> Value {
        self.down_since = None;
        self.log(now, "up");
        json!({"component": format!("p{}", self.number), "what": "recovered"})
    }

    /// Comes up and declares well what failed from `since` on, or in this outage.
    fn covers(&mut self, since: Timestamp, now: Timestamp) -> Value {
        let deadline = now + Span::minutes(30);
        for one in &mut self.connections {
            let inside = one.failed_at >= since && !one.own_fault;
            if inside && matches!(one.state, State::Faulty | State::Broken) {
                one.become_(State::Covered(deadline), now);
            }
        }
        self.down_since = None;
        self.log(now, format!("up, with what failed since {}", clock(since)));
        json!({"component": format!("p{}", self.number), "what": "recovered", "connections": "all",
            "since": since.to_string(), "confirm_within": "30m"})
    }

    fn own(&self, subscriber: &str) -> &'static [usize] {
        if subscriber.starts_with('a') { &[0, 1, 2] } else { &[2] }
    }
}

/// What a mail says of a connection: it names it as broken, or as well.
fn says(got: &Got, name: &str) -> Option<bool> {
    let line = what(got);
    let names = |list: &str| list.split(", ").any(|one| one == name);
    if let Some(asked) = line.strip_prefix("please reconnect") {
        return names(asked.split_once(": ").unwrap().1).then_some(true);
    }
    let (well, still) = line
        .strip_prefix("no action needed: ")
        .unwrap()
        .split_once("; still: ")
        .unwrap_or_else(|| (line.strip_prefix("no action needed: ").unwrap(), ""));
    match (names(well), names(still)) {
        (true, false) => Some(false),
        (false, true) => Some(true),
        (false, false) => None,
        (true, true) => panic!("{line}"),
    }
}

impl Subject for Provider {
    async fn set_up(&self, w: &World) {
        let n = self.number;
        let component = format!("p{n}");
        w.component(&component, &format!("Provider{n}")).await;
        for subscriber in self.subscribers() {
            w.subscriber(&subscriber).await;
        }
        let (a, b) = (format!("a{n}"), format!("b{n}"));
        w.connection(&self.key(0), &component, &a).await;
        w.connection(&self.key(1), &component, &a).await;
        w.connection_of(&self.key(2), &component, &[&a, &b]).await;
    }

    fn step(&mut self, random: &mut StdRng, now: Timestamp) -> Option<Said> {
        if !random.random_ratio(1, self.every) {
            return None;
        }
        let at = random.random_range(0..3);
        let json = match random.random_range(0..20) {
            0..6 => self.fails(at, true, now),
            6..8 => self.fails(at, false, now),
            8..12 => self.recovers(at, "automatic", now),
            12 => self.recovers(at, "unknown", now),
            13 => self.recovers(at, "customer", now),
            14 => self.is_not_recovered(at, now),
            15 | 16 => self.goes_down(now),
            17 => {
                self.log(now, format!("{at} is being recovered"));
                json!({"connection": self.key(at), "what": "recovering"})
            }
            18 => self.comes_up(now),
            _ => self.covers(now - Span::minutes(random.random_range(0..20)), now),
        };
        Some(Said::Signal(json))
    }

    fn calm(&mut self, random: &mut StdRng, now: Timestamp) -> Option<Said> {
        if let Some(at) = self.connections.iter().position(|one| one.state == State::Faulty) {
            return Some(Said::Signal(match random.random_range(0..2) {
                0 => self.recovers(at, "automatic", now),
                _ => self.fails(at, true, now),
            }));
        }
        // A provider that stays down keeps nobody in the dark for ever.
        (self.down_since.is_some() && random.random_ratio(1, 3)).then(|| Said::Signal(self.comes_up(now)))
    }

    fn pass(&mut self, now: Timestamp) {
        for one in &mut self.connections {
            if matches!(one.state, State::Covered(deadline) if deadline <= now) {
                // Nobody confirmed it: it is taken for broken, whatever the fault was.
                one.opens(State::Broken, now);
            }
        }
    }

    fn judge(&self, subscriber: &str, mails: &[Got]) -> Result<(), String> {
        for at in self.own(subscriber) {
            let (name, one) = (format!("Inbox {}", self.key(*at)), &self.connections[*at]);
            let said: Vec<_> = mails.iter().filter_map(|got| Some((got, says(got, &name)?))).collect();
            let stale =
                said.iter().find(|(got, broken)| *broken && what(got).starts_with("please") && !one.was_broken(got.at));
            if let Some((got, _)) = stale {
                return Err(format!("{name} was not broken at {}, and its customer was asked", clock(got.at)));
            }
            let early = said.iter().find(|(got, broken)| !*broken && one.was_broken(got.at));
            if let Some((got, _)) = early {
                return Err(format!(
                    "{name} was broken at {}, and its customer was told that it is not",
                    clock(got.at)
                ));
            }
            let last = said.last().map(|(got, broken)| (*broken, got.at));
            match (one.state, last) {
                (State::Broken, Some((true, _))) | (State::Well, None | Some((false, _))) => {}
                (State::Well, Some((true, asked))) if one.by_hand.iter().any(|by_hand| *by_hand > asked) => {}
                (state, last) => {
                    let last =
                        last.map(|(broken, at)| format!("{} at {}", if broken { "broken" } else { "well" }, clock(at)));
                    return Err(format!("{name} is {state:?} at rest; the last word: {last:?}"));
                }
            }
        }
        Ok(())
    }

    fn subscribers(&self) -> Vec<String> {
        vec![format!("a{}", self.number), format!("b{}", self.number)]
    }

    fn sequence(&self) -> String {
        self.log.join("; ")
    }
}
