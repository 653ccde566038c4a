//! Detection: from counts by minute to floods, and what a flood opens.

use super::{WHO, release};
use crate::domain::component::{Component, Effect, Said};
use crate::domain::connection::What;
use crate::domain::hold::{HoldCause, HoldScope};
use crate::domain::id::SurgeId;
use crate::domain::surge::{
    self, Evidence, Finding, Kind, Occasion, Rule, Rules, Stage, Why, minute, normal, thousandths, unsuspected, within,
};
use crate::domain::time::{Span, Timestamp};
use crate::flow::alert;
use crate::flow::setting::Setting;
use crate::store::surge::Surge;
use crate::store::tallies::{self, Counts, Suspect, Totals};
use crate::store::{Store, StoreError, Tx, holds, ingest, journal, surge as db};

/// The longest time before its detection to which an outage is dated back: later news of older failures is no reason to
/// take back what was rightly asked then.
pub(super) const BACK: Span = Span::hours(2);

/// A flood that was found.
#[derive(Clone, Debug)]
pub(super) struct Flood {
    pub kind: Kind,
    pub occasion: Occasion,
    pub component: Suspect,
    pub evidence: Evidence,
    pub normal_recovered: f64,
    /// When its first connection failed.
    pub since: Timestamp,
    /// How many connections the component has.
    pub connections: i64,
}

/// Counts by minute of one column.
pub(super) fn column(counts: &[Counts], of: impl Fn(&Counts) -> i64) -> Vec<(i64, i64)> {
    counts.iter().map(|c| (c.minute, of(c))).collect()
}

/// Judges every component of which enough came in, and that has no open surge of the kind.
pub(super) async fn look(tx: &mut Tx, rules: &Rules, open: &[Surge]) -> Result<Vec<Flood>, StoreError> {
    let now = minute(tx.now());
    let (flood, slow) = (&rules.flood, &rules.slow);
    let after = (now - flood.minutes, now - slow.minutes);
    let mut found = Vec::new();
    for component in tallies::suspects(tx, after, (flood.least, slow.least)).await? {
        let known = open.iter().find(|s| s.component_id == Some(component.id));
        if known.is_some_and(|s| s.kind == Kind::Flood && !s.occasion.nothing_failed()) {
            continue;
        }
        // What came in while it was known to be down is no evidence that it is down again.
        let quiet = tallies::quiet_since(tx, component.id).await?.map_or(i64::MIN, |at| minute(at) - 1);
        let counts = tallies::counts(tx, Some(component.id), after.1.max(quiet)).await?;
        let mut judged = judge(tx, rules, &component, &counts, flood, Kind::Flood).await?;
        if judged.is_none() && known.is_none() {
            // What an operator had enough of is not found again in the same failures.
            let released = db::watched_until(tx, component.id).await?.map_or(i64::MIN, minute);
            let counts: Vec<_> = counts.into_iter().filter(|c| c.minute > released).collect();
            judged = judge(tx, rules, &component, &counts, slow, Kind::Slow).await?;
        }
        found.extend(judged);
    }
    Ok(found)
}

async fn judge(
    tx: &mut Tx,
    rules: &Rules,
    component: &Suspect,
    counts: &[Counts],
    rule: &Rule,
    kind: Kind,
) -> Result<Option<Flood>, StoreError> {
    let now = minute(tx.now());
    let failed = |c: &Counts| if kind == Kind::Slow { c.failed_slow } else { c.failed };
    let counted = within(&column(counts, failed), now, rule.minutes);
    if counted < rule.least {
        return Ok(None);
    }
    let (totals, seen) = baseline(tx, rules, component, now - rule.minutes + 1).await?;
    let total = if kind == Kind::Slow { totals.failed_slow } else { totals.failed };
    let usual = normal(total, seen, rule.minutes);
    if rule.judge(counted, usual) != Finding::Flood {
        return Ok(None);
    }
    let first = counts.iter().filter(|c| c.minute > now - rule.minutes).filter_map(|c| c.first_at).min();
    let since = first.unwrap_or(tx.now()).max(tx.now() - BACK);
    let connections = db::connections(tx, Some(component.id)).await?;
    Ok(Some(Flood {
        kind,
        occasion: Occasion::Failures,
        component: component.clone(),
        evidence: rule.evidence(counted, usual),
        normal_recovered: normal(totals.recovered, seen, rules.recoveries.minutes),
        since,
        connections,
    }))
}

/// What came in before a minute and while nothing was wrong, and in how many minutes.
pub(super) async fn baseline(
    tx: &mut Tx,
    rules: &Rules,
    component: &Suspect,
    until: i64,
) -> Result<(Totals, i64), StoreError> {
    let from = (tx.now() - rules.baseline).max(component.created_at);
    let counting = tallies::counting_since(tx).await?.unwrap_or(until);
    let spans = tallies::suspect_spans(tx, component.id, from).await?;
    let from = minute(from).max(counting);
    let (seen, spans) = unsuspected(from, until, &spans);
    Ok((tallies::totals(tx, component.id, (from, until), &spans).await?, seen))
}

/// Opens what was found, unless another node was first.
pub(super) async fn open(store: &Store, setting: &Setting, flood: &Flood) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let Some(surge) = begin(&mut tx, setting, flood, WHO, None).await? else { return Ok(false) };
    tx.commit().await?;
    if flood.kind == Kind::Flood {
        open_outage(store, &surge).await?;
    }
    let key = &flood.component.key;
    match flood.kind {
        Kind::Flood => tracing::error!(
            surge = %surge.id,
            "component {key} is taken for down, and its customers are not asked: {}; `allclear surge` shows it",
            flood.evidence
        ),
        _ => tracing::warn!(surge = %surge.id, "many connections of component {key} fail: {}", flood.evidence),
    }
    Ok(true)
}

/// Records a surge and holds the mails of its component's customers; `None` when the component is known to be down or
/// has a surge. It waits for nobody but others who write the journal: the component itself is locked by every signal, and
/// there are many just now.
pub(super) async fn begin(
    tx: &mut Tx,
    setting: &Setting,
    flood: &Flood,
    who: &str,
    reason: Option<&str>,
) -> Result<Option<Surge>, StoreError> {
    // What goes ahead of those who have not come back is called back: its component first, as everywhere.
    if db::open(tx).await?.iter().any(|known| gives_way(known, flood)) {
        ingest::components(tx, &[&flood.component.key], true).await?;
    }
    journal::lock(tx).await?;
    if db::is_down(tx, flood.component.id).await? {
        return Ok(None);
    }
    let because = reason.map_or_else(|| flood.evidence.to_string(), str::to_owned);
    let surge = row(flood, tx.now(), who, because);
    let Some(surge) = make_way(tx, setting, flood, surge).await? else { return Ok(None) };
    let surge = record(tx, setting, surge).await?;
    alert::mail(tx, setting, &surge, Why::Opened).await?;
    Ok(Some(surge))
}

/// Records one that has just begun, with the hold that it is; the operators' system is to hear of it.
pub(super) async fn record(tx: &mut Tx, setting: &Setting, mut surge: Surge) -> Result<Surge, StoreError> {
    if surge.kind != Kind::Slow {
        let scope = surge.component_id.map_or(HoldScope::Everything, HoldScope::Component);
        let hold = holds::put(tx, scope, HoldCause::Surge, &surge.because, None, &surge.opened_by).await?;
        surge.hold_id = Some(hold);
    }
    db::save(tx, &surge).await?;
    alert::post_later(tx, setting, &surge, surge.why).await?;
    Ok(surge)
}

/// Whether an open surge ends where another begins: one that only watches, or in which nothing failed newly. Who did not confirm
/// is held with those who have not come back, and not the other way round.
fn gives_way(known: &Surge, flood: &Flood) -> bool {
    let asks = match known.occasion {
        Occasion::NotBack => flood.occasion != Occasion::NotBack,
        Occasion::Unconfirmed => !flood.occasion.nothing_failed(),
        Occasion::Failures | Occasion::Lasting | Occasion::ByHand => false,
    };
    known.component_id == Some(flood.component.id) && flood.kind == Kind::Flood && (known.kind == Kind::Slow || asks)
}

/// The new surge, held for as long as an operator wants the one held in whose place it begins; `None` when its component has one
/// that stays. The journal is locked.
pub(super) async fn make_way(
    tx: &mut Tx,
    setting: &Setting,
    flood: &Flood,
    surge: Surge,
) -> Result<Option<Surge>, StoreError> {
    let known = db::open(tx).await?.into_iter().find(|s| s.component_id == Some(flood.component.id));
    let Some(known) = known else { return Ok(Some(surge)) };
    if !gives_way(&known, flood) {
        return Ok(None);
    }
    let until = known.until.filter(|until| *until > tx.now());
    release::give_way(tx, setting, known).await?;
    Ok(Some(Surge { until, ..surge }))
}

/// Opens the outage of a surge that has just begun, dated back to its first failure; one that a source has reported
/// meanwhile is taken for it.
pub(super) async fn open_outage(store: &Store, seen: &Surge) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let Some(mut surge) = release::locked(&mut tx, seen).await? else { return Ok(false) };
    let (Some(key), None, Why::Opened) = (surge.component.clone(), surge.episode, surge.why) else { return Ok(false) };
    let opened = open_episode(&mut tx, &key, surge.since, surge.since).await?;
    // It is down already: a source has said so, at the moment in which the surge began.
    surge.reported |= opened.is_some_and(|(_, is_new)| !is_new);
    surge.episode = opened.map(|(n, _)| n);
    db::save(&mut tx, &surge).await?;
    tx.commit().await?;
    Ok(true)
}

/// The number of the outage that was opened, or of the one that is known, and whether it is a new one. What recovered before
/// `failing_as_of` does not end it.
pub(super) async fn open_episode(
    tx: &mut Tx,
    key: &str,
    since: Timestamp,
    failing_as_of: Timestamp,
) -> Result<Option<(i64, bool)>, StoreError> {
    let Some(component) = ingest::components(tx, &[key], true).await?.pop() else { return Ok(None) };
    // Nobody's word is repeated here.
    let mut state = Component { overruled: false, ..component.domain() };
    // After whatever is known to be over: a recovery that covered its connections must not cover these.
    let since = state.up_since.map_or(since, |up| since.max(up + Span(1)));
    let said = Said {
        what: What::Failed,
        observed_at: since,
        covers: false,
        since: None,
        newest_in_sequence: true,
        out_of_sequence: false,
    };
    let Effect::Opened { since } = state.hear(said) else { return Ok(Some((state.episode, false))) };
    state.failing_as_of = Some(since.max(failing_as_of));
    ingest::save_episode(tx, component.id, state.episode, since, None, None, None).await?;
    ingest::save_component(tx, component.id, &state).await?;
    Ok(Some((state.episode, true)))
}

pub(super) fn row(flood: &Flood, now: Timestamp, who: &str, because: String) -> Surge {
    Surge {
        component_id: Some(flood.component.id),
        component: Some(flood.component.key.clone()),
        name: Some(flood.component.name.clone()),
        since: flood.since,
        occasion: flood.occasion,
        normal_recovered: thousandths(flood.normal_recovered),
        ..opened(flood.kind, flood.evidence, flood.connections, now, who, because)
    }
}

/// One that has just begun, of no component.
fn opened(kind: Kind, evidence: Evidence, connections: i64, now: Timestamp, who: &str, because: String) -> Surge {
    Surge {
        id: SurgeId::new(),
        kind,
        component_id: None,
        component: None,
        name: None,
        opened_at: now,
        opened_by: who.to_owned(),
        because,
        since: now,
        waits_since: None,
        counted: evidence.counted,
        normal: thousandths(evidence.normal),
        minutes: evidence.minutes,
        normal_recovered: 0,
        connections,
        occasion: Occasion::Failures,
        episode: None,
        hold_id: None,
        stage: Stage::Holding,
        stage_at: now,
        why: Why::Opened,
        until: None,
        flooding: false,
        ceased: false,
        reported: false,
        ended_at: None,
    }
}

/// That our own reports are suspect, with the numbers.
#[derive(Clone, Debug)]
pub(super) struct Suspicion {
    flooded: i64,
    evidence: Evidence,
    connections: i64,
}

/// Whether so many components are flooded at once that it is rather our own reports.
pub(super) async fn reporter(
    tx: &mut Tx,
    rules: &Rules,
    open: &[Surge],
    found: &[Flood],
) -> Result<Option<Suspicion>, StoreError> {
    let at = tx.now() - Span::minutes(rules.flood.minutes);
    let lately =
        |s: &&Surge| s.kind == Kind::Flood && !s.reported && s.occasion == Occasion::Failures && s.opened_at >= at;
    let lately = open.iter().filter(lately).map(Surge::evidence);
    let floods: Vec<_> = lately.chain(found.iter().filter(|f| f.kind == Kind::Flood).map(|f| f.evidence)).collect();
    let flooded = i64::try_from(floods.len()).unwrap_or(i64::MAX);
    // What an operator has just cleared of suspicion stays so.
    if flooded < 2 || db::reporter_suspect_since(tx, at).await? {
        return Ok(None);
    }
    let now = minute(tx.now());
    let counts = tallies::counts(tx, None, now - rules.flood.minutes).await?;
    let counted = within(&column(&counts, |c| c.failed), now, rules.flood.minutes);
    let connections = db::connections(tx, None).await?;
    let evidence = rules.flood.evidence(floods.iter().map(|f| f.counted).sum(), floods.iter().map(|f| f.normal).sum());
    let suspect = surge::suspects_reporter(rules, flooded, counted, connections);
    Ok(suspect.then_some(Suspicion { flooded, evidence, connections }))
}

/// Holds everybody's "please reconnect", unless another node was first.
pub(super) async fn suspect_reporter(
    store: &Store,
    setting: &Setting,
    suspicion: &Suspicion,
) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let now = tx.now();
    // Nothing else to lock: whoever opens one writes the journal.
    journal::lock(&mut tx).await?;
    if db::reporter_suspect_since(&mut tx, now).await? {
        return Ok(false);
    }
    let Suspicion { flooded, evidence, connections } = suspicion;
    let because = format!("{flooded} components are flooded at once, so our own reports are suspect: {evidence}");
    let surge = opened(Kind::Reporter, *evidence, *connections, now, WHO, because);
    let surge = record(&mut tx, setting, surge).await?;
    alert::mail(&mut tx, setting, &surge, Why::Opened).await?;
    tx.commit().await?;
    tracing::error!(surge = %surge.id, "nobody is asked to act: {}; `allclear surge` shows it", surge.because);
    Ok(true)
}
