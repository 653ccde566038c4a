//! The next step of an open surge: reads what it depends on, asks the rules, and carries their decision out.

use super::detect::{column, open_outage};
use super::{WHO, release};
use crate::domain::class::Class;
use crate::domain::surge::{
    Evidence, Finding, Kind, Next, Occasion, Rule, Rules, Stage, View, WAVE, Why, minute, next, of_thousandths, ripe,
    within,
};
use crate::domain::time::{Span, Timestamp};
use crate::flow::setting::Setting;
use crate::store::surge::Surge;
use crate::store::tallies::{self, Counts};
use crate::store::{Store, StoreError, Tx, surge as db, waiting};

/// Brings a surge one step further, or remembers why it stays, if it is time; whether it did.
pub(super) async fn step(
    store: &Store,
    setting: &Setting,
    rules: &Rules,
    seen: &Surge,
    thorough: bool,
) -> Result<bool, StoreError> {
    // Another node may have died between the hold and the outage.
    if (seen.kind, seen.why, seen.episode) == (Kind::Flood, Why::Opened, None) {
        return open_outage(store, seen).await;
    }
    let mut tx = store.read().await?;
    let now = tx.now();
    let view = view(&mut tx, setting, rules, seen, thorough).await?;
    drop(tx);
    let next = next(&view, rules, now);
    // From then on a flood is a new one.
    let ceased = seen.flooding
        && !seen.ceased
        && view.calm
        && seen.occasion != Occasion::NotBack
        && matches!(seen.stage, Stage::Canary | Stage::Releasing);
    if let Next::Stay(why) = next {
        // Who asks `allclear surge` is to read what it waits for; only a thorough look knows.
        let is_news = thorough && seen.stage == Stage::Holding && why != seen.why;
        if !is_news && !ceased {
            return Ok(false);
        }
    }
    let mut tx = store.begin().await?;
    let Some(mut surge) = unchanged(&mut tx, seen).await? else { return Ok(false) };
    if let (Some(component), Some(n)) = (surge.component_id, surge.episode)
        && db::ended_elsehow(&mut tx, component, n).await? != view.recovered_by_source
    {
        // Its component came back since: nobody is asked by what was seen before.
        return Ok(false);
    }
    surge.ceased |= ceased;
    let flooding = floods(rules, &view.failed);
    release::carry_out(&mut tx, setting, rules, &mut surge, next, flooding, WHO, None).await?;
    tx.commit().await?;
    if surge.stage_at != seen.stage_at {
        tracing::warn!(surge = %surge.id, "surge {}: {} ({})", surge.id, surge.stage, surge.why.explained());
    }
    Ok(true)
}

/// A surge, locked, unless another node was first, or an operator.
async fn unchanged(tx: &mut Tx, seen: &Surge) -> Result<Option<Surge>, StoreError> {
    let told = |s: &Surge| (s.stage, s.stage_at, s.until, s.reported);
    let same = |s: &Surge| told(s) == told(seen);
    Ok(release::locked(tx, seen).await?.filter(same))
}

pub(super) fn floods(rules: &Rules, failed: &Evidence) -> bool {
    rules.flood.judge(failed.counted, failed.normal) == Finding::Flood
}

/// All that the next step depends on. What is costly to know is asked only when it matters; unless `thorough`, it stays
/// as if the time had not come.
pub(super) async fn view(
    tx: &mut Tx,
    setting: &Setting,
    rules: &Rules,
    surge: &Surge,
    thorough: bool,
) -> Result<View, StoreError> {
    let now = tx.now();
    let counts = tallies::counts(tx, surge.component_id, minute(now) - rules.look_back() - rules.calm_minutes).await?;
    let failed = column(&counts, |c| c.failed);
    let usual = surge.evidence().normal;
    let in_window = rules.flood.evidence(within(&failed, minute(now), rules.flood.minutes), usual);
    let calm = match surge.kind {
        Kind::Slow => has_been_unsuspicious(rules, &counts, minute(now), usual),
        Kind::Flood if surge.occasion.nothing_failed() => !floods(rules, &in_window),
        Kind::Flood => rules.has_been_calm(&failed, minute(now), usual),
        Kind::Reporter => now - surge.opened_at >= Span::minutes(rules.calm_minutes),
    };
    let longest_hold = setting.limits(Class::ActionRequired).longest_hold;
    let window = &rules.recoveries;
    let recovered = within(&column(&counts, |c| c.recovered), minute(now), window.minutes);
    let mut view = View {
        kind: surge.kind,
        occasion: surge.occasion,
        stage: surge.stage,
        stage_at: surge.stage_at,
        why: surge.why,
        since: surge.waits_since.unwrap_or(surge.since),
        until: surge.until,
        flooding: surge.flooding && !surge.ceased,
        failed: in_window,
        calm,
        recovered: window.evidence(recovered, of_thousandths(surge.normal_recovered)),
        recovered_by_source: false,
        broken_percent: 0,
        waiting: 0,
        rest_leaves: false,
        canaries_left: 0,
        canaries_gone: 0,
        reported: surge.reported,
        reported_anew: surge.stage == Stage::Releasing && surge.episode.is_some(),
        reporter_suspect: false,
        longest_hold,
    };
    let open = db::open(tx).await?;
    if surge.kind == Kind::Reporter {
        // Each component that was flooded is to be calm by its own measure: others never were, and fail as they always do.
        for flood in open.iter().filter(|s| s.kind == Kind::Flood && !s.occasion.nothing_failed()) {
            let counts = tallies::counts(tx, flood.component_id, minute(now) - rules.look_back()).await?;
            let failed = column(&counts, |c| c.failed);
            view.calm &= rules.has_been_calm(&failed, minute(now), flood.evidence().normal);
        }
    }
    let (Some(component), Kind::Flood) = (surge.component_id, surge.kind) else {
        return Ok(view);
    };
    view.reporter_suspect = open.iter().any(|s| s.kind == Kind::Reporter);
    if let Some(n) = surge.episode {
        view.recovered_by_source = db::ended_elsehow(tx, component, n).await?;
    }
    // Whoever is declared well is kept by nobody, also where that is said after the component was back.
    let back = match surge.episode {
        Some(n) => Some((n, surge.since)).filter(|_| view.recovered_by_source),
        None => Some((0, surge.stage_at)).filter(|_| surge.occasion == Occasion::NotBack),
    };
    if let (Some((n, until)), Some(_)) = (back, view.until)
        && db::is_covered(tx, component, n, until).await?
    {
        view.until = None;
    }
    // Whose time is over does not wait for an outage, however many fail in it.
    if surge.occasion == Occasion::NotBack && db::is_down(tx, component).await? {
        (view.calm, view.flooding) = (true, true);
    }
    let due =
        view.calm || longest_hold.is_some_and(|longest| now - view.since >= Span(longest.0 - rules.canary_wait.0));
    let planned = surge.planned(surge.why, now, longest_hold);
    match surge.stage {
        Stage::Holding if due && !thorough && !view.recovered_by_source => {
            (view.calm, view.longest_hold) = (false, None)
        }
        Stage::Holding if due && surge.until.is_none_or(|until| until <= now) => {
            view.waiting = waiting::count(tx, component, planned).await?;
            let broken = db::broken_since(tx, component, surge.since).await?;
            view.broken_percent = broken.saturating_mul(100) / surge.connections.max(1);
        }
        Stage::Canary => {
            (view.canaries_left, view.canaries_gone) = waiting::canaries(tx, surge.id, surge.stage_at).await?;
            if view.canaries_left + view.canaries_gone == 0 {
                view.waiting = waiting::count(tx, component, planned).await?;
            }
        }
        Stage::Releasing => {
            let dwell = setting.limits(Class::ActionRequired).dwell;
            view.rest_leaves = if surge.asks_each_in_time(surge.why) {
                // The next wave has a canary of its own, however slowly this one leaves.
                now < surge.stage_at + WAVE
                    && waiting::is_ripe(tx, component, surge.stage_at + WAVE, ripe(surge.stage_at, longest_hold))
                        .await?
            } else {
                waiting::leaves_of(tx, component, surge.stage_at, dwell).await?
            };
        }
        _ => {}
    }
    let rises = |r: &Evidence| rules.recoveries.judge(r.counted, r.normal) == Finding::Flood;
    let unknown = within(&column(&counts, |c| c.recovered_unknown), minute(now), window.minutes);
    if unknown > 0 && rises(&view.recovered) {
        // As many may be customers who reconnected as were asked; while the rest leaves, that may be all of them.
        let asked = if surge.stage == Stage::Releasing { unknown } else { waiting::asked_ahead(tx, surge.id).await? };
        view.recovered.counted -= unknown.min(asked);
    }
    if view.recovered_by_source {
        let over = surge.planned(Why::ComponentRecovered, now, longest_hold);
        let all = view.until.filter(|until| now < *until).map(|_| (Timestamp::END, Timestamp::END));
        view.waiting = waiting::count(tx, component, all.or(over)).await?;
    } else if rises(&view.recovered) && matches!(surge.stage, Stage::Canary | Stage::Releasing) {
        view.waiting = waiting::count(tx, component, planned).await?;
    }
    Ok(view)
}

/// Of what opened a slow one: no window that ended in the last minutes would open it again.
fn has_been_unsuspicious(rules: &Rules, counts: &[Counts], now: i64, usual: f64) -> bool {
    let failed = column(counts, |c| c.failed_slow);
    let rule: &Rule = &rules.slow;
    (0..rules.calm_minutes).all(|ago| rule.judge(within(&failed, now - ago, rule.minutes), usual) != Finding::Flood)
}
