//! What operators do about surges: release, hold, extend, or open one that no rule saw. The same for the CLI and the API.

use super::detect::{Flood, baseline, begin, open_outage};
use super::release::{carry_out, locked};
use super::step::{floods, view};
use crate::domain::class::Class;
use crate::domain::hold::HoldScope;
use crate::domain::id::SurgeId;
use crate::domain::surge::{Kind, Next, Occasion, Stage, Why, minute, normal, within};
use crate::domain::time::{Span, Timestamp};
use crate::flow::alert;
use crate::flow::setting::Setting;
use crate::store::holds::{self, HoldRow};
use crate::store::surge::Surge;
use crate::store::{Store, StoreError, journal, surge as db, tallies};
use serde::Serialize;

/// An operator's act on a surge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Ask a few, and after their time the rest.
    Release,
    /// Ask the rest without waiting for what comes of the few.
    ReleaseRest,
    /// Ask nobody, whatever the rules say, until this time or until it is released.
    Hold(Option<Timestamp>),
}

/// An act with who does it and why.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Who.
    pub who: &'a str,
    /// Why: stands in the journal.
    pub reason: &'a str,
}

/// A surge after an act.
#[derive(Clone, Debug, Serialize)]
pub struct Acted {
    /// The surge.
    #[serde(flatten)]
    pub surge: Surge,
    /// What else keeps its component's mails, released or not.
    pub held_by: Vec<HoldRow>,
}

/// Why an act is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is none of the id.
    #[error("there is no such surge")]
    Unknown,
    /// It is over.
    #[error("this surge is over")]
    Over,
    /// It only told the operators.
    #[error("this surge holds nothing: it only tells of many failures over hours")]
    HoldsNothing,
    /// All are being asked already.
    #[error("this surge is being released already")]
    Released,
    /// A few are being asked: it was said twice, or by two.
    #[error("this surge is being released already: the first few are asked, and the rest after them")]
    Asking,
    /// The time has passed.
    #[error("the time is in the past")]
    Past,
    /// The time has not come.
    #[error("the time is in the future")]
    Future,
    /// There is no such component.
    #[error("no component has the key {0:?}")]
    NoComponent(String),
    /// There is nothing to open.
    #[error("this component is down or has a surge: its own customers are not asked, those of what depends on it are")]
    HeldAlready,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Refused {
    /// What to do instead.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown | Self::Over | Self::HeldAlready => "`allclear surge` lists those that are open".to_owned(),
            Self::HoldsNothing => "`allclear surge hold --component KEY` holds its component's mails".to_owned(),
            Self::Released => "`allclear surge hold` stops the release".to_owned(),
            Self::Asking => "`allclear surge release --rest` does not wait; `allclear surge hold` stops it".to_owned(),
            Self::Past => "name a later time".to_owned(),
            Self::Future => "name an earlier time, in UTC or with its offset".to_owned(),
            Self::NoComponent(_) => "check the key".to_owned(),
            Self::Store(e) => e.hint(),
        }
    }
}

/// Does something about a surge.
///
/// # Errors
/// When it cannot be done as the surge stands, or the database fails; nothing was changed then.
pub async fn act(store: &Store, setting: &Setting, id: SurgeId, act: Act, asked: Asked<'_>) -> Result<Acted, Refused> {
    let rules = setting.surge.unwrap_or_default();
    let mut tx = store.read().await?;
    let seen = db::surge(&mut tx, id).await?.ok_or(Refused::Unknown)?;
    let view = view(&mut tx, setting, &rules, &seen, true).await?;
    drop(tx);
    let mut tx = store.begin().await?;
    let mut surge = locked(&mut tx, &seen).await?.ok_or(Refused::Over)?;
    let now = tx.now();
    let change = match (act, surge.kind, surge.stage) {
        (Act::Hold(Some(until)), ..) if until <= now => return Err(Refused::Past),
        (Act::Hold(_), Kind::Slow, _) => return Err(Refused::HoldsNothing),
        (Act::Hold(until), _, stage) => {
            surge.until = Some(until.unwrap_or(Timestamp::END));
            (stage != Stage::Holding).then_some(Next::Stop(Why::ByHand))
        }
        (Act::Release | Act::ReleaseRest, Kind::Slow | Kind::Reporter, _) => Some(Next::End(Why::ByHand)),
        (Act::Release, Kind::Flood, Stage::Holding) => Some(Next::Canary(Why::ByHand)),
        (Act::Release, Kind::Flood, Stage::Canary) => return Err(Refused::Asking),
        (Act::ReleaseRest, Kind::Flood, Stage::Holding | Stage::Canary) => Some(Next::Release(Why::ByHand)),
        (Act::Release | Act::ReleaseRest, Kind::Flood, _) => return Err(Refused::Released),
    };
    if !matches!(act, Act::Hold(_)) {
        surge.until = None;
    }
    match change {
        Some(change) => {
            let flooding = floods(&rules, &view.failed);
            carry_out(&mut tx, setting, &rules, &mut surge, change, flooding, asked.who, Some(asked.reason)).await?;
        }
        None => {
            surge.why = Why::HeldUntil;
            db::save(&mut tx, &surge).await?;
            let until = surge.until.filter(|until| *until < Timestamp::END).map(|until| format!("until {until}: "));
            let reason = until.unwrap_or_default() + asked.reason;
            journal::append(&mut tx, asked.who, "surge hold", &surge.subject(), &reason).await?;
            alert::post_later(&mut tx, setting, &surge, surge.why).await?;
        }
    }
    let keeps = |hold: &HoldRow| match hold.scope() {
        HoldScope::Everything => true,
        HoldScope::Class(class) => class == Class::ActionRequired,
        HoldScope::Component(component) => Some(component) == surge.component_id,
    };
    let mut held_by = holds::in_force(&mut tx).await?;
    held_by.retain(|hold| Some(hold.id) != surge.hold_id && keeps(hold));
    tx.commit().await?;
    Ok(Acted { surge, held_by })
}

/// Opens a surge of a component that no rule has seen: its customers are not asked from now on, and those who wait
/// belong to it when their connections failed since this time, or lately.
///
/// # Errors
/// When the component is unknown, down or has a surge already, or the database fails.
pub async fn hold(
    store: &Store,
    setting: &Setting,
    key: &str,
    since: Option<Timestamp>,
    asked: Asked<'_>,
) -> Result<Surge, Refused> {
    let rules = setting.surge.unwrap_or_default();
    let mut tx = store.read().await?;
    let now = tx.now();
    if since.is_some_and(|since| since > now) {
        return Err(Refused::Future);
    }
    let component = tallies::suspect(&mut tx, key).await?.ok_or_else(|| Refused::NoComponent(key.to_owned()))?;
    let id = component.id;
    let until = minute(now) - rules.flood.minutes + 1;
    let (totals, seen) = baseline(&mut tx, &rules, &component, until).await?;
    let counts = tallies::counts(&mut tx, Some(id), until - 1).await?;
    let counted: Vec<_> = counts.iter().map(|c| (c.minute, c.failed)).collect();
    let counted = within(&counted, minute(now), rules.flood.minutes);
    let dwell = setting.limits(Class::ActionRequired).dwell.max(Span::minutes(rules.flood.minutes));
    // One that only watches has seen when it began.
    let slow = db::open(&mut tx).await?.into_iter().find(|s| s.component_id == Some(id) && s.kind == Kind::Slow);
    let flood = Flood {
        kind: Kind::Flood,
        occasion: Occasion::ByHand,
        evidence: rules.flood.evidence(counted, normal(totals.failed, seen, rules.flood.minutes)),
        normal_recovered: normal(totals.recovered, seen, rules.recoveries.minutes),
        since: since.or(slow.map(|s| s.since)).unwrap_or(now - dwell),
        connections: db::connections(&mut tx, Some(id)).await?,
        component,
    };
    drop(tx);
    let mut tx = store.begin().await?;
    let opened = begin(&mut tx, setting, &flood, asked.who, Some(asked.reason)).await?;
    let surge = opened.ok_or(Refused::HeldAlready)?;
    tx.commit().await?;
    open_outage(store, &surge).await?;
    Ok(surge)
}
