//! What there is: the rows of the database, what workers have in mind, and what the recipients have been told.
//!
//! It is small so that all of it can be visited: times are a count of what was said, and a token is no more than
//! "still the row's" (tokens only grow, so whoever lost one never gets it back).

use allclear::domain::class::Class;
use allclear::domain::component::Component;
use allclear::domain::connection::{By, Connection, Covering, Fault};
use allclear::domain::delivery::{HandOver, State};
use allclear::domain::time::Timestamp;
use allclear::domain::truth::{Claim, Original, over};
use allclear::flow::gate::{Holds, Item as GateItem, Verdict, View, gate};
use allclear::flow::sender::Step;

/// A state of everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// Counts what was said, as the database's clock.
    pub clock: u8,
    /// How far each voice has come in what it says.
    pub said: [u8; 3],
    pub connections: [Connection; 2],
    pub component: Component,
    /// The ended outages of the component.
    pub episodes: Vec<Episode>,
    /// Planning work not yet done.
    pub plans: Vec<Plan>,
    /// A plan that was read and found true, and whether its fault was proven the own then; not yet committed.
    pub planning: Option<(Plan, bool)>,
    /// Recoveries not yet swept.
    pub recoveries: Vec<Recovery>,
    /// A covering recovery whose connections have still to confirm.
    pub to_confirm: Option<Covering>,
    pub held: bool,
    pub mails: Vec<Mail>,
    /// Workers with something in mind; sorted, for it does not matter which is which.
    pub workers: Vec<Worker>,
    /// Faults still to come.
    pub faults: Faults,
    /// What each subscriber was last told about each connection. Only the properties know it.
    pub heard: [[Heard; 2]; 2],
    /// Outages that ended by the customer's own hand, a bit each. Only the properties know it.
    pub by_hand: [u8; 2],
    /// Promises broken on the way here, a bit each.
    pub broken: u8,
}

/// An ended outage of the component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Episode {
    pub n: u8,
    pub since: u8,
    pub ended: u8,
    pub covers: Option<Covering>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Plan {
    pub connection: u8,
    pub episode: u8,
    pub component_episode: u8,
    pub failed_at: u8,
    /// The outage it was truly made for: a fault may write another one down.
    pub truly: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Recovery {
    /// `None` for a covering one of the component.
    pub connection: Option<u8>,
    pub episode: u8,
    pub by: By,
    pub covering: Option<Covering>,
    /// How far its sweep has come: time of failure, mail.
    pub cursor: (u8, u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mail {
    pub class: Class,
    pub thread: u8,
    pub state: State,
    pub quarantined: bool,
    pub maybe_mailed: bool,
    pub own_fault_lane: bool,
    /// The mail it is a copy of, and how many copies there were before: a mail that nobody asked for again is its own.
    pub copy_of: u8,
    pub resend_no: u8,
    pub repeats: u8,
    pub reaps: u8,
    pub items: [Option<Item>; 4],
    /// How often the relay took it. Only the properties know it.
    pub taken: u8,
    /// How often nobody could know. Only the properties know it.
    pub ambiguous: u8,
}

/// A connection that a mail names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Item {
    pub connection: u8,
    pub episode: u8,
    pub component_episode: u8,
    pub failed_at: u8,
    /// The mail it takes back.
    pub corrects: Option<u8>,
    pub resend_no: u8,
    pub dropped: bool,
    /// The outage it truly speaks of.
    pub truly: u8,
    /// The mail left with it, or may have. Only the properties know it.
    pub said: bool,
}

/// A worker with a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Worker {
    pub mail: u8,
    /// Its token is still the row's.
    pub ours: bool,
    pub at: At,
    /// Items to be moved and dropped, a bit each: what the gate said of the mail.
    pub later: u8,
    pub dropped: u8,
    /// Something it is about to say was untrue in the snapshot it looked at. Only the properties know it.
    pub untrue: bool,
    /// The look was spent on a try already.
    pub spent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum At {
    /// Its claim has read and locked the row and is not committed.
    Claiming,
    /// Rendered, to be looked at: [`Step::Rendered`].
    Rendered,
    /// The mail goes with fewer items: [`Step::Refreezing`].
    Refreezing,
    /// Looked at, to be handed over: [`Step::Looked`].
    Looked,
    /// To be recorded: [`Step::Recording`].
    Recording(Kept),
}

impl At {
    pub fn step(self) -> Step {
        match self {
            Self::Claiming => Step::Armed,
            Self::Rendered => Step::Rendered,
            Self::Refreezing => Step::Refreezing,
            Self::Looked => Step::Looked,
            Self::Recording(_) => Step::Recording,
        }
    }
}

/// What is to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kept {
    Attempt(HandOver),
    /// The gate said wait, or nobody could look.
    Back,
    /// The gate decided.
    Decided(State),
}

/// How often each fault may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Faults {
    /// A worker dies.
    pub crashes: u8,
    /// A lease ends while its worker lives.
    pub zombies: u8,
    /// A reply is lost.
    pub lost: u8,
    /// 5xx.
    pub refused: u8,
    /// The database cannot be asked for the look.
    pub blind: u8,
}

/// The last word a subscriber heard about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Heard {
    Nothing,
    /// Please reconnect: about this outage.
    Asked(u8),
    /// No action needed.
    Calmed,
}

pub const fn at(clock: u8) -> Timestamp {
    Timestamp(clock as i64)
}

pub fn clock_of(at: Option<Timestamp>) -> u8 {
    at.map_or(0, |at| u8::try_from(at.0).unwrap())
}

fn short(n: i64) -> u8 {
    u8::try_from(n).unwrap()
}

impl Mail {
    pub fn items(&self) -> impl Iterator<Item = (usize, Item)> + '_ {
        self.items.iter().enumerate().filter_map(|(i, item)| item.filter(|item| !item.dropped).map(|item| (i, item)))
    }

    /// On its way, so that its thread must wait: the partial unique index `delivery_busy`.
    pub fn is_busy(&self) -> bool {
        self.state == State::Sending || self.quarantined
    }
}

impl World {
    pub fn newest(&self, connection: u8) -> u8 {
        short(self.connections[usize::from(connection)].episode)
    }

    pub fn mail(&self, mail: u8) -> &Mail {
        &self.mails[usize::from(mail)]
    }

    pub fn mail_mut(&mut self, mail: u8) -> &mut Mail {
        &mut self.mails[usize::from(mail)]
    }

    pub fn is_thread_busy(&self, thread: u8) -> bool {
        self.mails.iter().any(|m| m.thread == thread && m.is_busy())
    }

    pub fn is_locked(&self, mail: u8) -> bool {
        self.workers.iter().any(|w| w.mail == mail && w.at == At::Claiming)
    }

    pub fn coverings(&self) -> Vec<Covering> {
        self.episodes.iter().filter_map(|e| e.covers).collect()
    }

    /// As the `covered` column of the statements LOOK and FAILURES.
    fn covered(&self, component_episode: u8, failed_at: u8) -> bool {
        let covers = |e: &Episode| e.covers.is_some_and(|c| c.covers(at(failed_at)));
        self.episodes.iter().any(|e| e.n >= component_episode && covers(e))
    }

    /// Whether a plan is no longer worth a mail.
    pub fn is_over(&self, plan: &Plan) -> bool {
        let c = &self.connections[usize::from(plan.connection)];
        let covered = self.covered(plan.component_episode, plan.failed_at);
        over(plan.episode.into(), c.cleared, c.own_fault, covered).is_some()
    }

    /// As the statement LOOK reads it.
    pub fn claim(&self, item: &Item) -> Claim {
        let c = &self.connections[usize::from(item.connection)];
        let awaits =
            |e: &Episode| e.n >= item.component_episode && e.since <= item.failed_at && item.failed_at <= e.ended;
        Claim {
            episode: item.episode.into(),
            failed_at: at(item.failed_at),
            newest: c.episode,
            cleared: c.cleared,
            own_fault: c.own_fault,
            covered: self.covered(item.component_episode, item.failed_at),
            newest_covered: self.covered(0, clock_of(c.failed_at)),
            awaiting: self.episodes.iter().filter(|e| awaits(e)).map(|e| at(e.ended)).max(),
            component_down: self.component.down_since.is_some(),
        }
    }

    /// What a correction's item takes back, as the statement LOOK reads it.
    pub fn original(&self, of: u8, item: &Item) -> Original {
        let m = self.mail(of);
        let names = m.items().any(|(_, i)| i.connection == item.connection && i.episode == item.episode);
        let maybe_mailed = m.maybe_mailed && names;
        let on_its_way = match m.state {
            // What waits to be repeated never says again what is over.
            State::Queued => !maybe_mailed || self.claim(item).stale().is_none(),
            _ => m.state == State::Sending || m.quarantined,
        };
        Original { decided: !on_its_way, maybe_mailed }
    }

    /// What the gate may know of a mail, in a snapshot taken now.
    pub fn view(&self, mail: u8) -> View {
        let m = self.mail(mail);
        let item = |item: Item| match item.corrects {
            Some(of) => GateItem::Correction(self.claim(&item), self.original(of, &item)),
            None => GateItem::Connection(self.claim(&item)),
        };
        View {
            class: m.class,
            created_at: at(0),
            resend: m.resend_no > 0,
            canary: false,
            holds: Holds { operator: self.held, ..Holds::default() },
            suppressed: false,
            told: false,
            last_mailed_at: None,
            ended: false,
            resolved: None,
            rule: None,
            trouble: false,
            troubled_elsewhere: false,
            newer: None,
            items: m.items().map(|(_, i)| item(i)).collect(),
        }
    }

    pub fn verdict(&self, view: &View) -> Verdict {
        gate(view, &crate::limits(view.class), at(self.clock))
    }

    /// Whether an outage is truly over, whatever the rows say of it.
    pub fn is_truly_over(&self, connection: u8, outage: u8, failed_at: u8) -> bool {
        let c = &self.connections[usize::from(connection)];
        let covered = self.covered(0, failed_at);
        c.cleared >= outage.into() || (covered && c.own_fault != i64::from(outage))
    }

    /// Whether a customer must act now, as far as anybody has said.
    pub fn is_broken(&self, connection: u8) -> bool {
        let c = &self.connections[usize::from(connection)];
        c.fault == Fault::Permanent && !c.is_well(&self.coverings())
    }
}
