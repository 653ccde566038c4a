//! Surges: a flood of permanent failures of one component is its provider's outage, and its customers are not asked.

mod counting;

use super::time::{Span, Timestamp};
pub use counting::{Evidence, Finding, MINUTE, Rule, minute, normal, of_thousandths, thousandths, unsuspected, within};

/// All rules of detection and release.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Distinct connections newly failed for good: opens a surge.
    pub flood: Rule,
    /// The same over hours: only tells the operators.
    pub slow: Rule,
    /// Connections recovered by themselves: a release stops.
    pub recoveries: Rule,
    /// Normal is the mean over so long.
    pub baseline: Span,
    /// A surge must have been over for so many minutes before a release begins by itself.
    pub calm_minutes: i64,
    /// A release sends so many mails ahead,
    pub canary_least: i64,
    /// or so many percent of those that wait, whichever is more,
    pub canary_percent: i64,
    /// and waits so long before the rest follows.
    pub canary_wait: Span,
    /// When so many components are flooded at once, the reports are suspect;
    pub reporter_components: i64,
    /// or when several are, and more than so many percent of all connections fail.
    pub reporter_percent: i64,
    /// With more than so many percent of a component's connections broken, that no more fail is no sign of health.
    pub exhausted_percent: i64,
}

impl Default for Rules {
    /// The thresholds are of a simulated year (`tests/random/surge.rs`): with 6 deviations a provider whose normal is 5
    /// in 10 minutes would be held in vain many times a year.
    fn default() -> Self {
        Self {
            flood: Rule { minutes: 10, least: 20, times: 4.0, deviations: 12.0 },
            slow: Rule { minutes: 120, least: 40, times: 2.0, deviations: 12.0 },
            recoveries: Rule { minutes: 5, least: 5, times: 4.0, deviations: 6.0 },
            baseline: Span::hours(7 * 24),
            calm_minutes: 15,
            canary_least: 20,
            canary_percent: 1,
            canary_wait: Span::minutes(5),
            reporter_components: 3,
            reporter_percent: 30,
            exhausted_percent: 30,
        }
    }
}

impl Rules {
    /// From the count of a window on that nobody would call a flood's end.
    #[must_use]
    pub fn is_calm(&self, counted: i64, normal: f64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let (n, least) = (counted as f64, self.flood.least as f64);
        n < (2.0 * normal).max(least / 4.0)
    }

    /// Whether every window that ended in the last minutes was calm, given the counts by minute, the last being now's.
    #[must_use]
    pub fn has_been_calm(&self, counts: &[(i64, i64)], now: i64, normal: f64) -> bool {
        (0..self.calm_minutes).all(|ago| self.is_calm(within(counts, now - ago, self.flood.minutes), normal))
    }

    /// How many mails a release sends ahead.
    #[must_use]
    pub fn canaries(&self, waiting: i64) -> i64 {
        self.canary_least.max(waiting.saturating_mul(self.canary_percent) / 100)
    }

    /// The longest time back that an evaluation looks, in minutes.
    #[must_use]
    pub fn look_back(&self) -> i64 {
        self.slow.minutes.max(self.flood.minutes + self.calm_minutes)
    }
}

/// Whether it is not the providers but our own reports: several components are flooded at once.
#[must_use]
pub const fn suspects_reporter(rules: &Rules, flooded: i64, failed: i64, connections: i64) -> bool {
    flooded >= rules.reporter_components
        || (flooded >= 2 && failed.saturating_mul(100) > connections.saturating_mul(rules.reporter_percent))
}

names!(
    /// What a surge is.
    Kind {
        /// One component's failures: its customers are not asked.
        Flood = "flood",
        /// Many more failures than is normal, over hours: the operators are told, nothing is held.
        Slow = "slow",
        /// Several components at once: our own reports are suspect, and nobody is asked.
        Reporter = "reporter",
    }
);

names!(
    /// What a surge is for.
    Occasion {
        /// Connections newly failed.
        Failures = "failures",
        /// An outage that a source reported lasts.
        Lasting = "lasting",
        /// Connections have not come back with their component, and the longest hold of their customers is over.
        NotBack = "not_back",
        /// Connections for which a covering recovery spoke have not confirmed it by its deadline.
        Unconfirmed = "unconfirmed",
        /// An operator's word.
        ByHand = "by_hand",
    }
);

impl Occasion {
    /// Whether nothing failed newly: a few are asked first, as in a surge, and where one begins it takes over.
    #[must_use]
    pub const fn nothing_failed(self) -> bool {
        matches!(self, Self::NotBack | Self::Unconfirmed)
    }
}

names!(
    /// How far a surge has come.
    Stage {
        /// Nobody is asked.
        Holding = "holding",
        /// A few are asked, to find out.
        Canary = "canary",
        /// All that are still broken are asked.
        Releasing = "releasing",
        /// It is over.
        Over = "over",
    }
);

names!(
    /// Why a surge stays or goes on.
    Why {
        /// It has just begun.
        Opened = "opened",
        /// Connections for which a recovery spoke have not confirmed it.
        Unconfirmed = "unconfirmed",
        /// Connections go on failing.
        StillFailing = "still_failing",
        /// An operator wants it held until then.
        HeldUntil = "held_until",
        /// No more fail, but most have failed: that says nothing of the component.
        MostlyBroken = "mostly_broken",
        /// The reports are suspect.
        ReporterSuspect = "reporter_suspect",
        /// Failures have been as rare as normal for a while.
        Calm = "calm",
        /// Whoever is truly broken has waited for the longest hold.
        LongestHold = "longest_hold",
        /// An operator's word.
        ByHand = "by_hand",
        /// The canary is to show whether it was right.
        CanaryWaits = "canary_waits",
        /// The canary has not left yet.
        CanaryOnItsWay = "canary_on_its_way",
        /// The canary showed nothing against it.
        CanaryWell = "canary_well",
        /// More connections recover by themselves than is normal.
        RecoveriesRise = "recoveries_rise",
        /// Connections fail in floods once more.
        SurgeReturns = "surge_returns",
        /// Mails are still leaving.
        RestLeaves = "rest_leaves",
        /// Nobody waits any more.
        NobodyWaits = "nobody_waits",
        /// A source said that the component is back.
        ComponentRecovered = "component_recovered",
        /// A source says that the component is down.
        ComponentDown = "component_down",
    }
);

impl Why {
    /// The reason in words.
    #[must_use]
    pub const fn explained(self) -> &'static str {
        match self {
            Self::Opened => "it has just begun",
            Self::Unconfirmed => "many connections have not confirmed the recovery that spoke for them",
            Self::StillFailing => "connections go on failing",
            Self::HeldUntil => "an operator has it held",
            Self::MostlyBroken => "no more fail, but most have failed already: that is no sign of health",
            Self::ReporterSuspect => "our own reports are suspect",
            Self::Calm => "failures have been as rare as normal for a while",
            Self::LongestHold => "whoever is truly broken has waited for the longest hold",
            Self::ByHand => "an operator decided so",
            Self::CanaryWaits => "the first few were asked, and we wait for what follows",
            Self::CanaryOnItsWay => "the first few have not left yet",
            Self::CanaryWell => "asking the first few showed nothing against it",
            Self::RecoveriesRise => "more connections recover by themselves than is normal",
            Self::SurgeReturns => "connections fail in floods once more",
            Self::RestLeaves => "those still broken are being asked",
            Self::NobodyWaits => "nobody waits any more",
            Self::ComponentRecovered => "a source said that the component is back",
            Self::ComponentDown => "a source says that the component is down",
        }
    }
}

/// All that the next step of a surge depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// What it is.
    pub kind: Kind,
    /// What it is for.
    pub occasion: Occasion,
    /// How far it has come.
    pub stage: Stage,
    /// Since when.
    pub stage_at: Timestamp,
    /// Why it came there.
    pub why: Why,
    /// Since when its longest hold counts: when its first connection failed.
    pub since: Timestamp,
    /// An operator wants it held until then.
    pub until: Option<Timestamp>,
    /// Connections failed in floods when the release began.
    pub flooding: bool,
    /// Failures in the window of the rule that opened it, and what is normal.
    pub failed: Evidence,
    /// It has been calm for long enough; where nothing failed newly, that nothing floods.
    pub calm: bool,
    /// Recoveries by themselves in their window, and what is normal.
    pub recovered: Evidence,
    /// A source ended its outage of the component.
    pub recovered_by_source: bool,
    /// Percent of the component's connections that are broken in it.
    pub broken_percent: i64,
    /// Mails that wait for it; when its component is back and no operator keeps them, those whose time is over.
    pub waiting: i64,
    /// Of those that waited when the release began, some have not left.
    pub rest_leaves: bool,
    /// Mails of the canary that have not left.
    pub canaries_left: i64,
    /// Those that have left, or need not any more.
    pub canaries_gone: i64,
    /// A source says that the component is down, and not only we.
    pub reported: bool,
    /// It says so of an outage that began after an operator had the rest released.
    pub reported_anew: bool,
    /// A surge of kind [`Kind::Reporter`] is open.
    pub reporter_suspect: bool,
    /// The longest that a mail is held.
    pub longest_hold: Option<Span>,
}

/// The next step of a surge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It stays where it is.
    Stay(Why),
    /// A few are asked.
    Canary(Why),
    /// All that are still broken are asked.
    Release(Why),
    /// The release stops, and nobody is asked again.
    Stop(Why),
    /// It is over.
    End(Why),
}

/// Decides about a surge with what is known at `now`.
#[must_use]
pub fn next(view: &View, rules: &Rules, now: Timestamp) -> Next {
    match (view.kind, view.stage) {
        (_, Stage::Over) => Next::Stay(Why::NobodyWaits),
        (Kind::Slow, _) => {
            if view.calm {
                Next::End(Why::Calm)
            } else {
                Next::Stay(Why::StillFailing)
            }
        }
        (Kind::Reporter, _) => reporter(view, now),
        (Kind::Flood, _) if view.recovered_by_source => back(view, rules, now),
        (Kind::Flood, Stage::Holding) => holding(view, rules, now),
        (Kind::Flood, Stage::Canary) => canary(view, rules, now),
        (Kind::Flood, Stage::Releasing) => releasing(view, rules, now),
    }
}

/// Whose own longest hold ends within so long is asked with those whose has ended: a wave of failures has one canary.
pub const WAVE: Span = Span::hours(1);

/// By when the mails were planned whose longest hold has ended or ends within [`WAVE`].
#[must_use]
pub fn ripe(now: Timestamp, longest_hold: Option<Span>) -> Timestamp {
    longest_hold.map_or(Timestamp(0), |longest| now + WAVE - longest)
}

/// Whether the longest hold is over, or will be in that time; who has not come back has waited already.
fn waited(view: &View, ahead: Span, now: Timestamp) -> bool {
    view.occasion == Occasion::NotBack
        || view.longest_hold.is_some_and(|longest| now - view.since >= Span(longest.0 - ahead.0))
}

/// Its component is back. Who can still come back waits for that alone; those whose time is over would be asked all at once. An
/// operator keeps all of them.
fn back(view: &View, rules: &Rules, now: Timestamp) -> Next {
    let few = if view.until.is_some_and(|until| now < until) { 0 } else { rules.canary_least };
    if view.waiting > few { Next::Stop(Why::ComponentRecovered) } else { Next::End(Why::ComponentRecovered) }
}

fn reporter(view: &View, now: Timestamp) -> Next {
    match view.until {
        Some(until) if now < until => Next::Stay(Why::HeldUntil),
        _ if waited(view, Span::ZERO, now) => Next::End(Why::LongestHold),
        _ if view.calm => Next::End(Why::Calm),
        _ => Next::Stay(Why::StillFailing),
    }
}

fn holding(view: &View, rules: &Rules, now: Timestamp) -> Next {
    if view.until.is_some_and(|until| now < until) {
        return Next::Stay(Why::HeldUntil);
    }
    // Also a release that was stopped is not tried again at once.
    if now - view.stage_at < Span::minutes(rules.calm_minutes) {
        return Next::Stay(view.why);
    }
    if view.reporter_suspect {
        return Next::Stay(Why::ReporterSuspect);
    }
    // The canary's own time is part of the longest hold.
    let why = if waited(view, rules.canary_wait, now) { Why::LongestHold } else { Why::Calm };
    match why {
        _ if rises(view, rules, now) => Next::Stay(Why::RecoveriesRise),
        why if !view.calm && (why == Why::Calm || view.occasion == Occasion::NotBack) => Next::Stay(Why::StillFailing),
        Why::Calm if view.reported => Next::Stay(Why::ComponentDown),
        why if view.waiting == 0 => {
            if view.calm {
                Next::Release(Why::NobodyWaits)
            } else {
                Next::Stay(why)
            }
        }
        Why::Calm if view.broken_percent > rules.exhausted_percent && !view.occasion.nothing_failed() => {
            Next::Stay(Why::MostlyBroken)
        }
        why => Next::Canary(why),
    }
}

fn canary(view: &View, rules: &Rules, now: Timestamp) -> Next {
    // A relay may put off some of them for days, and nobody's silence may depend on another's mailbox.
    let late = match view.occasion {
        Occasion::NotBack => now - view.stage_at >= WAVE,
        _ => waited(view, Span::ZERO, now),
    };
    let mostly_left = view.canaries_left <= view.canaries_gone || late;
    // An operator may know better than the source.
    let by_hand = view.why == Why::ByHand;
    match goes_wrong(view, rules, now) {
        Some(why) => Next::Stop(why),
        None if view.reported && !by_hand && !waited(view, rules.canary_wait, now) => Next::Stop(Why::ComponentDown),
        None if now - view.stage_at < rules.canary_wait => Next::Stay(Why::CanaryWaits),
        // All were still in their dwell: nothing was asked, so nothing is known.
        None if view.canaries_left + view.canaries_gone == 0 && view.waiting > 0 && !late => Next::Canary(view.why),
        None if !mostly_left => Next::Stay(Why::CanaryOnItsWay),
        None => Next::Release(if by_hand { Why::ByHand } else { Why::CanaryWell }),
    }
}

fn releasing(view: &View, rules: &Rules, now: Timestamp) -> Next {
    // An operator may know better than the source, of what it had said by then.
    let overruled = view.why == Why::ByHand && !view.reported_anew;
    let is_down = view.reported && !overruled && !waited(view, rules.canary_wait, now);
    match goes_wrong(view, rules, now) {
        _ if !view.rest_leaves && !is_down => Next::End(Why::NobodyWaits),
        Some(why) => Next::Stop(why),
        None if is_down => Next::Stop(Why::ComponentDown),
        None => Next::Stay(Why::RestLeaves),
    }
}

/// What stops a release: its customers would be asked in vain.
fn goes_wrong(view: &View, rules: &Rules, now: Timestamp) -> Option<Why> {
    let floods = rules.flood.judge(view.failed.counted, view.failed.normal) == Finding::Flood;
    if rises(view, rules, now) {
        Some(Why::RecoveriesRise)
    } else if view.reporter_suspect && view.why != Why::ByHand {
        Some(Why::ReporterSuspect)
    } else {
        (floods && !view.flooding).then_some(Why::SurgeReturns)
    }
}

/// More recover by themselves than is normal, and not so few of those that wait that it would take days; once the longest
/// hold is over, not so few that it would take a night.
fn rises(view: &View, rules: &Rules, now: Timestamp) -> bool {
    let Evidence { counted, normal, .. } = view.recovered;
    let windows = if waited(view, rules.canary_wait, now) { 100 } else { 1_000 };
    rules.recoveries.judge(counted, normal) == Finding::Flood && counted.saturating_mul(windows) >= view.waiting
}

#[cfg(test)]
mod tests;
