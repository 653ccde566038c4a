//! A connection that is given to others while it is broken: nobody is asked about what is not theirs, and whoever has it
//! now is asked.

use crate::on_both;
use crate::support::{On, World};
use allclear::flow::register;
use serde_json::json;

on_both! {
    whose_connection_it_is_no_longer_is_not_asked_and_whose_it_is_now_is;
    what_failed_before_anybody_had_it_is_told_whoever_gets_it;
    putting_the_same_again_asks_nobody_twice;
    a_mail_about_others_too_leaves_without_what_was_given_away;
}

async fn world(on: On) -> World {
    let w = World::new(on, "2025-06-02T08:00:00Z").await;
    w.component("a", "Alpha").await;
    for key in ["ann", "bob"] {
        w.subscriber(key).await;
    }
    for key in ["s1", "s2"] {
        give(&w, key, &["ann"]).await;
    }
    w
}

/// Puts a connection as the API does.
async fn give(w: &World, key: &str, to: &[&str]) {
    let said = json!({"component": "a", "name": format!("Inbox {key}"), "subscribers": to});
    register::connection(&w.store, key, &serde_json::from_value(said).unwrap()).await.unwrap();
}

fn to(w: &World) -> Vec<&str> {
    w.all().iter().map(|mail| mail.to.split('@').next().unwrap()).collect()
}

async fn whose_connection_it_is_no_longer_is_not_asked_and_whose_it_is_now_is(on: On) {
    let mut w = world(on).await;
    w.broken("s1").await;
    w.pass(1).await;
    give(&w, "s1", &["bob"]).await;
    w.pass(10).await;
    assert_eq!(to(&w), ["bob"]);
    // After its mail has left, who had it is told when it is back, and who has it now is asked.
    give(&w, "s1", &["ann"]).await;
    w.pass(10).await;
    assert_eq!(to(&w), ["bob", "ann"]);
    w.recovered("s1", "automatic").await;
    w.pass(10).await;
    let mut corrected = to(&w).split_off(2);
    corrected.sort_unstable();
    assert_eq!(corrected, ["ann", "bob"]);
}

async fn what_failed_before_anybody_had_it_is_told_whoever_gets_it(on: On) {
    let mut w = world(on).await;
    give(&w, "new", &[]).await;
    w.broken("new").await;
    w.pass(10).await;
    assert_eq!(to(&w).len(), 0);
    give(&w, "new", &["bob"]).await;
    w.pass(10).await;
    assert_eq!(to(&w), ["bob"]);
    // What is well again is nobody's to be asked about.
    w.recovered("new", "automatic").await;
    w.pass(10).await;
    give(&w, "new", &["ann", "bob"]).await;
    w.pass(10).await;
    assert_eq!(to(&w), ["bob", "bob"]);
}

async fn putting_the_same_again_asks_nobody_twice(on: On) {
    let mut w = world(on).await;
    w.broken("s1").await;
    for _ in 0..4 {
        give(&w, "s1", &["ann"]).await;
        w.pass(10).await;
    }
    assert_eq!(to(&w), ["ann"]);
    give(&w, "s1", &["ann", "bob"]).await;
    w.pass(10).await;
    assert_eq!(to(&w), ["ann", "bob"]);
    assert_eq!(w.query("SELECT outcome FROM plan").await.len(), 2, "one for each who had to be asked");
}

async fn a_mail_about_others_too_leaves_without_what_was_given_away(on: On) {
    let mut w = world(on).await;
    w.broken("s1").await;
    w.broken("s2").await;
    w.pass(1).await;
    give(&w, "s1", &["bob"]).await;
    w.pass(10).await;
    assert_eq!(to(&w), ["ann", "bob"]);
    let names = |n: usize, key: &str| w.all()[n].text().contains(&format!("Inbox {key}"));
    assert!(names(0, "s2") && !names(0, "s1") && names(1, "s1") && !names(1, "s2"));
}
