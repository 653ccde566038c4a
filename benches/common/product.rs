//! The product as it runs, with one stream for all and no dwell.

use super::Fallible;
use allclear::domain::class::{Class, Limits};
use allclear::domain::surge::Rules;
use allclear::domain::time::Span;
use allclear::flow::archive::Archive;
use allclear::flow::copies::Copies;
use allclear::flow::dispatch::Shared;
use allclear::flow::retry::Schedule;
use allclear::flow::setting::{Setting, Stream};
use allclear::flow::spill::Spill;
use allclear::store::open::Connections;
use allclear::store::{Clock, Store};
use allclear::template::{Page, Templates};
use std::sync::Arc;
use std::time::Duration;

fn setting(slots: usize, surge: Option<Rules>) -> Setting {
    let limits = |class: &Class| match class {
        Class::ActionRequired => Limits { dwell: Span::ZERO, ..Limits::of(*class) },
        _ => Limits::of(*class),
    };
    Setting {
        domain: "bench.example.com".to_owned(),
        streams: vec![Stream {
            caps: allclear::flow::pace::Caps::default(),
            name: "all".to_owned(),
            from: "Example <account@example.com>".to_owned(),
            reply_to: None,
            relay: "main".to_owned(),
            slots,
            classes: Class::ALL.to_vec(),
        }],
        limits: Class::ALL.iter().map(|c| (*c, limits(c))).collect(),
        retry: Schedule::default(),
        lease: Span::minutes(13),
        quarantine: Span::minutes(15),
        page: 1_000,
        ask_unconfirmed: true,
        confirm_within: Span::hours(6),
        public_url: Some("https://example.com/connections".to_owned()),
        support_url: Some("https://example.com/support".to_owned()),
        gate: true,
        operators: Default::default(),
        surge,
        patience: None,
    }
}

pub async fn open(url: &str) -> Fallible<Store> {
    Ok(Store::open(url, Connections::default(), Clock::Database).await?)
}

/// All of it on a database, with so many slots; surges are looked for by these rules.
pub async fn shared(url: &str, slots: usize, surge: Option<Rules>) -> Fallible<Shared> {
    let page = Page { name: "Example".to_owned(), support_url: None, public_url: None };
    let (setting, templates) = (setting(slots, surge), Templates::embedded(&page)?);
    Ok(Shared {
        store: open(url).await?,
        copies: Arc::new(Copies::new(&setting, &templates, Span::hours(45 * 24))),
        setting: Arc::new(setting),
        templates: Arc::new(templates),
        owner: "bench".to_owned(),
        spill: Spill::new(std::env::temp_dir().join(format!("bench-spill-{}", std::process::id()))),
        dialogue: Duration::from_secs(60),
        watch: Default::default(),
        archive: Arc::new(Archive::new(None)),
    })
}

/// The settings that make a commit durable, as the database has them.
pub async fn durability(store: &Store) -> Fallible<String> {
    let settings: Vec<_> = store.durability().await?.iter().map(|(name, is)| format!("{name}={is}")).collect();
    Ok(settings.join(", "))
}
