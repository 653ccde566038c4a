//! What `show` shows, as JSON and as text.

use super::output::{Table, or_dash, printable};
use crate::domain::id::{DeliveryId, RecoveryId};
use crate::store::browse::{self, Delivery, Page};
use crate::store::recover::Progress;
use crate::store::subjects::{
    Component, Connection, Count, Incident, Notice, Recovery, Signal, Subscriber, Subscription,
};
use crate::store::suppressions::Suppression;
use serde::Serialize;
use std::fmt::Write;

/// What was found.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Sight {
    Customer { customers: Vec<Customer> },
    Connection { connection: History, deliveries: Vec<Delivery>, next: Option<DeliveryId> },
    Incident { incident: Incident, updates: Vec<Notice>, mails: Vec<Count> },
    Component { component: Component },
    Delivery { delivery: Box<Delivery> },
    Notice { notice: Notice, deliveries: Vec<Delivery>, next: Option<DeliveryId> },
    Signal { signal: Signal },
    Recovery { id: RecoveryId, progress: Progress },
}

/// One subscriber with all that concerns them.
#[derive(Serialize)]
pub(super) struct Customer {
    pub subscriber: Subscriber,
    pub subscriptions: Vec<Subscription>,
    pub suppressed: Option<Suppression>,
    pub connections: Vec<History>,
    pub deliveries: Vec<Delivery>,
    pub next: Option<DeliveryId>,
}

/// A connection with what was said about it, newest first.
#[derive(Serialize)]
pub(super) struct History {
    #[serde(flatten)]
    pub now: Connection,
    pub signals: Vec<browse::Signal>,
    pub recoveries: Vec<Recovery>,
}

/// The cursor of the next page, if this one is full.
pub(super) fn next(deliveries: &[Delivery], page: Page) -> Option<DeliveryId> {
    let full = i64::try_from(deliveries.len()).is_ok_and(|n| n == page.limit);
    deliveries.last().filter(|_| full).map(|last| last.id)
}

impl Sight {
    /// The deliveries in it.
    pub(super) fn deliveries_mut(&mut self) -> Vec<&mut Delivery> {
        match self {
            Self::Customer { customers } => customers.iter_mut().flat_map(|c| &mut c.deliveries).collect(),
            Self::Connection { deliveries, .. } | Self::Notice { deliveries, .. } => deliveries.iter_mut().collect(),
            Self::Delivery { delivery } => vec![delivery],
            _ => Vec::new(),
        }
    }
}

/// The text for people. (Writing to a `String` cannot fail.)
pub(super) fn text(sight: &Sight) -> String {
    let mut out = String::new();
    match sight {
        Sight::Customer { customers } => {
            for Customer { subscriber: s, subscriptions, suppressed, connections, deliveries: mails, next } in customers
            {
                let name = s.name.as_deref().map(printable).unwrap_or_default();
                let _ = writeln!(out, "{} <{}> {name} ({}, {}, {})", s.key, s.address, s.locale, s.zone, s.id);
                if let Some(x) = suppressed {
                    let said = x.evidence.as_deref().map(printable).unwrap_or_default();
                    let _ = writeln!(out, "  gets no mail since {}: {} {said}", x.created_at, x.reason);
                    let _ = writeln!(out, "  `allclear suppressions lift {} --reason ...` ends that", s.address);
                }
                for subscription in subscriptions {
                    follows(&mut out, subscription);
                }
                for connection in connections {
                    history(&mut out, connection);
                }
                deliveries(&mut out, mails, *next);
            }
        }
        Sight::Connection { connection, deliveries: mails, next } => {
            history(&mut out, connection);
            deliveries(&mut out, mails, *next);
        }
        Sight::Incident { incident: i, updates, mails } => {
            let _ = writeln!(out, "{} \"{}\": {}, impact {} ({})", i.key, printable(&i.title), i.phase, i.impact, i.id);
            let _ = writeln!(
                out,
                "  began {}, updated {}, resolved {}",
                i.started_at,
                i.updated_at,
                or_dash(i.resolved_at)
            );
            let mut table = Table::new(&["update", "phase", "received", "outcome"]);
            for n in updates {
                table.row([n.id.to_string(), or_dash(n.phase), n.received_at.to_string(), n.outcome.clone()]);
            }
            let _ = write!(out, "\n{table}");
            let mut table = Table::new(&["class", "state", "mails"]);
            for count in mails {
                table.row([count.class.to_string(), count.state.to_string(), count.mails.to_string()]);
            }
            let _ = write!(out, "\n{table}");
        }
        Sight::Component { component: c } => {
            let state = c.down_since.map_or_else(|| "not reported down".to_owned(), |at| format!("down since {at}"));
            let _ =
                writeln!(out, "{} \"{}\": {state}, outages so far {} ({})", c.key, printable(&c.name), c.episode, c.id);
        }
        Sight::Delivery { delivery } => deliveries(&mut out, std::slice::from_ref(&**delivery), None),
        Sight::Notice { notice: n, deliveries: mails, next } => {
            let _ = writeln!(
                out,
                "{}: {} from {}, received {}: {}",
                n.id,
                n.kind,
                printable(&n.source),
                n.received_at,
                n.outcome
            );
            let _ = writeln!(out, "  {}", n.payload);
            deliveries(&mut out, mails, *next);
        }
        Sight::Signal { signal: s } => {
            let subject = s.connection.as_deref().unwrap_or(&s.component);
            let _ = writeln!(out, "{}: {subject} {} {}", s.id, s.what, or_dash(s.fault));
            let _ = writeln!(
                out,
                "  from {}, observed {}, received {}",
                printable(&s.source),
                s.observed_at,
                s.received_at
            );
            let _ = writeln!(out, "  outcome {}", s.outcome);
        }
        Sight::Recovery { id, progress: p } => {
            let _ = writeln!(
                out,
                "{id}: withdrawn {}, corrected {}, on the wire {}",
                p.withdrawn, p.corrected, p.in_flight
            );
            let _ = writeln!(out, "  swept {}, confirm by {}", or_dash(p.swept_at), or_dash(p.confirm_by));
        }
    }
    out
}

fn follows(out: &mut String, s: &Subscription) {
    let what = match (&s.component, &s.group_key) {
        (Some(key), _) => printable(key),
        (None, Some(group)) => format!("the group {}", printable(group)),
        (None, None) => "everything".to_owned(),
    };
    let until = s.ended_at.map(|at| format!(", ended {at}")).unwrap_or_default();
    let _ = writeln!(
        out,
        "  follows {what} since {}{until}: events {}, least impact {}",
        s.created_at, s.events, s.least_impact
    );
}

fn history(out: &mut String, History { now: c, signals, recoveries }: &History) {
    let since = |at: Option<crate::domain::time::Timestamp>| at.map(|at| format!(" since {at}")).unwrap_or_default();
    let state = if c.broken {
        format!("broken{} ({})", since(c.broken_since), c.fault)
    } else {
        format!("not broken{}", since(c.well_as_of))
    };
    let _ = writeln!(out, "\n{} \"{}\" of {}: {state}", c.key, printable(&c.name), c.component);
    if let Some(at) = c.component_down_since {
        let _ = writeln!(out, "  {} is down since {at}", c.component);
    }
    let mut table = Table::new(&["  signal", "observed", "received", "what", "by", "outcome"]);
    for s in signals {
        let what = s.fault.map_or_else(|| s.what.to_string(), |fault| format!("{} {fault}", s.what));
        let at = (s.observed_at.to_string(), s.received_at.to_string());
        table.row([format!("  {}", s.id), at.0, at.1, what, or_dash(s.recovered_by), became(s)]);
    }
    let _ = write!(out, "{table}");
    for r in recoveries {
        let of = if r.connection_id.is_some() { "it" } else { r.component.as_str() };
        let covers = if r.covers_from.is_some() { ", and declared its connections well" } else { "" };
        let _ = writeln!(out, "  {}: {of} recovered at {}, by {}{covers}", r.id, r.committed_at, r.recovered_by);
    }
}

/// What was answered, and what planning made of it where that says more.
fn became(signal: &browse::Signal) -> String {
    match signal.planned.as_deref() {
        Some("planned") | None => signal.outcome.clone(),
        Some("nobody") => format!("{}, concerns nobody", signal.outcome),
        Some(why) => format!("{}, not mailed: {why}", signal.outcome),
    }
}

fn deliveries(out: &mut String, deliveries: &[Delivery], next: Option<DeliveryId>) {
    if deliveries.is_empty() {
        let _ = writeln!(out, "\nno mail");
    }
    for d in deliveries {
        let why = d.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let _ = writeln!(out, "\n{} {}: {}{why}", d.id, d.class, d.state);
        let _ = writeln!(out, "  to {}: {}", d.address, printable(&d.subject));
        let _ = writeln!(out, "  planned {}, due {}, decided {}", d.created_at, d.due_at, or_dash(d.decided_at));
        if let Some(id) = &d.message_id {
            let _ = writeln!(out, "  Message-ID {}", printable(id));
        }
        for item in &d.names {
            let key = item.connection.as_deref().unwrap_or(&item.component);
            let name = item.connection_name.as_deref().unwrap_or(&item.component_name);
            let dropped = item.dropped.as_deref().map(|why| format!(", left out ({why})")).unwrap_or_default();
            let _ = writeln!(out, "  names {} \"{}\"{dropped}", printable(key), printable(name));
        }
        for a in &d.attempts {
            let code = a.code.map(|code| format!(" {code}")).unwrap_or_default();
            let reply = a.reply.as_deref().map(printable).unwrap_or_default();
            let _ = writeln!(out, "  tried {}: {}{code} {reply}", a.ended_at, a.outcome);
        }
    }
    if let Some(next) = next {
        let _ = writeln!(out, "\nmore with --before {next}");
    }
}
