//! The race: two nodes send while connections recover. At rest nobody was asked and left alone with it, and
//! nobody was told of the end of what they had never heard of. The naive worker beside it loses this race.

mod naive;

use crate::amount::{amount, random};
use crate::ledger::{Found, compare};
use crate::site::Site;
use crate::storm::{Size, Storm};
use crate::support::On;
use allclear::mail::sink::{Script, Sink};
use std::collections::HashSet;
use std::time::Instant;

/// A node of the race: many slots, and times that no slow machine reaches. Only that it serves is logged.
pub const RACER: [(&str, &str); 4] = [
    ("ALLCLEAR_STREAMS__ACCOUNT__SLOTS", "24"),
    ("ALLCLEAR_DISPATCH__DIALOGUE_SECONDS", "60"),
    ("ALLCLEAR_DISPATCH__LEASE_SECONDS", "90"),
    ("ALLCLEAR_LOG", "warn,allclear::app=info"),
];

pub fn assert_true(found: &Found) {
    assert!(found.wrong.is_empty(), "{} of {}: {:#?}", found.wrong.len(), found.asked, found.wrong.first());
    assert!(found.after_drained.is_empty(), "began after `drained: true`: {:#?}", found.after_drained);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_asked_is_told_that_it_is_over_and_nobody_else() {
    let mut random = random();
    let (recoveries, mails) = (amount(400, 5_000), usize::try_from(amount(0, 250_000)).unwrap());
    let size = Size { groups: amount(12, 400), crowd: amount(8, 32), recoveries, mails, drained: false };
    let sink = Sink::start(Script::default()).await.unwrap();
    let mut storm = Storm::new(Site::new(On::Postgres, sink.port(), "").await, size).await;
    storm.start("one", &RACER).await;
    storm.start("two", &RACER).await;
    let began = Instant::now();
    storm.rage(&sink, &mut random, async {}).await;
    let found = compare(&storm.ears.heard(), &storm.connections, &HashSet::new());
    println!(
        "race: {} recoveries, {} mails, {} corrections, {} wrong, {} copies, {:.0} s; {}",
        storm.recoveries(),
        found.asked,
        found.corrected,
        found.wrong.len(),
        found.copies.len(),
        began.elapsed().as_secs_f64(),
        found.after_recovery(),
    );
    assert_true(&found);
    assert!(found.copies.is_empty(), "nobody died, and mails came twice: {:?}", found.copies);
    assert!(found.asked >= 80 && found.corrected > 0, "too little was sent to show anything");
    storm.site.audit().await;
}
