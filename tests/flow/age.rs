//! Day 400: lanes of what is long over are asked no more, and a connection that has failed for the thousandth time is
//! planned and swept as it was the first time.

use super::table::{assert_table, until};
use crate::on_both;
use crate::support::{On, World};
use allclear::domain::time::{Span, Timestamp};
use allclear::flow::floors::Floors;
use allclear::store::queue;
use serde_json::json;
use std::collections::HashMap;

on_both! {
    the_lane_of_an_incident_long_over_is_closed_and_opened_again;
    a_lane_with_something_in_it_is_not_closed;
    nothing_due_is_missed_behind_the_floor_for_longer_than_a_moment;
    each_outage_of_one_connection_is_asked_and_taken_back_by_itself;
}

const START: &str = "2025-06-02T08:00:00Z";

async fn world(on: On) -> World {
    let w = World::new(on, START).await;
    w.component("imap", "IMAP").await;
    w.subscriber("ann").await;
    w.subscribe("ann", "imap").await;
    w.connection("inbox", "imap", "ann").await;
    w
}

async fn incident(w: &World, id: &str, phase: &str, status: &str) {
    let components = json!([{"key": "imap", "status": status}]);
    w.notice(json!({"kind": "incident", "incident": id, "title": id, "phase": phase, "body": phase,
        "components": components}))
        .await;
}

async fn open_incident_lanes(w: &World) -> usize {
    w.query("SELECT class FROM lane WHERE fence_kind = 'incident' AND closed_at IS NULL").await.len()
}

async fn the_lane_of_an_incident_long_over_is_closed_and_opened_again(on: On) {
    let mut w = world(on).await;
    incident(&w, "INC-1", "investigating", "partial_outage").await;
    w.pass(10).await;
    incident(&w, "INC-1", "resolved", "operational").await;
    w.pass(10).await;
    assert_eq!(open_incident_lanes(&w).await, 2, "of its updates, and of its ends");
    until(&mut w, "2025-06-03T09:00:00Z").await;
    assert_eq!(open_incident_lanes(&w).await, 0);
    incident(&w, "INC-1", "investigating", "partial_outage").await;
    w.pass(10).await;
    assert_eq!(open_incident_lanes(&w).await, 1);
    assert_table(
        w.all(),
        "UTC",
        "Mon 2 Jun 08:01 ann Investigating: IMAP has a partial outage.
         Mon 2 Jun 08:11 ann Resolved: IMAP works normally again.
         Tue 3 Jun 09:00 ann Investigating: IMAP has a partial outage.",
    );
}

async fn a_lane_with_something_in_it_is_not_closed(on: On) {
    let mut w = world(on).await;
    incident(&w, "INC-1", "investigating", "partial_outage").await;
    w.pass(1).await;
    // Resolved by hand in the database, so that what waits has not been folded into its end.
    incident(&w, "INC-1", "identified", "partial_outage").await;
    w.pass(1).await;
    w.execute("UPDATE incident SET resolved_at = 1").await;
    let mut tx = w.store.begin().await.unwrap();
    allclear::store::lanes::close(&mut tx, 100).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(open_incident_lanes(&w).await, 1);
    // Whatever closed one with mail in it, it is opened again.
    w.execute("UPDATE lane SET closed_at = 1").await;
    let mut tx = w.store.begin().await.unwrap();
    allclear::store::lanes::close(&mut tx, 100).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(open_incident_lanes(&w).await, 1);
    w.execute("UPDATE incident SET resolved_at = NULL").await;
    w.pass(10).await;
}

async fn nothing_due_is_missed_behind_the_floor_for_longer_than_a_moment(on: On) {
    let mut w = world(on).await;
    w.broken("inbox").await;
    w.pass(1).await;
    let due = async |w: &World, floors: &HashMap<_, Timestamp>| {
        let mut tx = w.store.read().await.unwrap();
        queue::lanes(&mut tx, floors).await.unwrap().iter().filter_map(|lane| lane.next_due).min()
    };
    let first = due(&w, &HashMap::new()).await.unwrap();
    let mut floors = Floors::default();
    let mut tx = w.store.read().await.unwrap();
    assert!(floors.to_read_from().is_empty(), "the first reading is whole");
    let lanes = queue::lanes(&mut tx, floors.to_read_from()).await.unwrap();
    drop(tx);
    floors.learn(&lanes, w.now());
    let lowest = floors.to_read_from().values().min().copied().unwrap();
    assert!(lowest < w.now(), "what becomes due now is above every floor: {lowest}");
    assert_eq!(due(&w, floors.to_read_from()).await, Some(first));
    let above: HashMap<_, _> = lanes.iter().map(|lane| (lane.id, first + Span(1))).collect();
    // SQLite has no need of floors, and no dead entries.
    let beyond = (on == On::Sqlite).then_some(first);
    assert_eq!(due(&w, &above).await, beyond, "the floor is obeyed");
    floors.forget();
    assert!(floors.to_read_from().is_empty());
    w.pass(10).await;
}

async fn each_outage_of_one_connection_is_asked_and_taken_back_by_itself(on: On) {
    let mut w = world(on).await;
    for _ in 0..12 {
        // Every third heals before it is mailed, and of the others every second by the customer's own hand: who did that is
        // never told that it was not needed.
        for n in 0..3 {
            w.broken("inbox").await;
            w.pass(if n == 2 { 3 } else { 6 }).await;
            w.recovered("inbox", if n == 1 { "customer" } else { "automatic" }).await;
            w.move_to(w.now() + Span::hours(9)).await;
        }
    }
    let count = |what: &str| w.all().iter().filter(|got| got.text().contains(what)).count();
    assert_eq!((count("Action needed"), count("No action needed")), (24, 12), "{:?}", w.deliveries().await);
}
