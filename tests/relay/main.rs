//! Real relays: a Postfix, with postgrey, and an Exim take our mail and deliver it into Maildirs; `tests/run` starts
//! them. What no honest relay does on demand (a reply cut short, silence) is played by the scripted one of `tests/mail`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod arrival;
mod proxy;
mod refusals;
mod relays;
mod serve;

use allclear::mail::sink::Script;
use allclear::mail::{Relay, Transport};
use relays::Relays;
use serde_json::json;
use support::{On, World};

/// A world whose mail goes to a relay, over so many sessions a stream.
async fn world(on: On, relay: &Relay, slots: usize) -> World {
    let change =
        |s: &mut allclear::flow::setting::Setting| s.streams.iter_mut().for_each(|stream| stream.slots = slots);
    let mut w = World::with(on, "2025-06-02T08:00:00Z", Script::default(), change).await;
    to(&mut w, relay);
    w
}

/// From now on the mail goes to this relay.
fn to(w: &mut World, relay: &Relay) {
    w.transports.values_mut().for_each(|transport| *transport = Transport::Smtp(relay.clone()));
    w.restart();
}

/// Subscribers by these names, whose addresses are no other test's.
async fn subscribers(w: &World, relays: &Relays, names: &[&str]) {
    for name in names {
        w.subscriber(&relays.key(name)).await;
    }
}

/// A mail for each of these names.
async fn write_to(w: &World, relays: &Relays, names: &[&str]) {
    let keys: Vec<_> = names.iter().map(|name| relays.key(name)).collect();
    let body = "Zwölf Boxkämpfer jagen Viktor.\n\n.a line that begins with a dot\n..\n\nEnd.";
    w.notice(json!({"kind": "free", "subject": "Über alles", "body": body, "recipients": keys})).await;
}

/// The rows of a query, their columns joined.
async fn rows(w: &World, sql: &'static str) -> Vec<String> {
    let rows = w.query(sql).await.into_iter();
    rows.map(|row| row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join(" ")).collect()
}
