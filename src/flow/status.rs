//! How our own queue does: how much waits and why, how old it is, how fast it drains.

use super::setting::Setting;
use crate::domain::class::Class;
use crate::domain::delivery::{Reason, State};
use crate::domain::hold::HoldCause;
use crate::domain::time::{Span, Timestamp};
use crate::store::holds::{self, HoldRow};
use crate::store::relays::{self, Unreached};
use crate::store::status::{self as db, Aside, Depth};
use crate::store::streams::{self, Pause};
use crate::store::surge::{self, Surge};
use crate::store::{StoreError, Tx};
use serde::Serialize;

/// Our own queue at a moment.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The moment.
    pub at: Timestamp,
    /// How many mails wait.
    pub waiting: i64,
    /// How many of them could leave now: due, and nothing holds them back.
    pub due: i64,
    /// How many a hold, a stop, a pause or an outage of their component keeps back.
    pub held_back: i64,
    /// Since when the oldest that could leave is due.
    pub oldest_due_at: Option<Timestamp>,
    /// Its age in seconds.
    pub oldest_due_seconds: Option<i64>,
    /// How many are on the wire.
    pub sending: i64,
    /// How many are left alone for a while, because nobody knows whether they left.
    pub quarantined: i64,
    /// Mails planned a minute, over the last five minutes at most.
    pub in_per_minute: f64,
    /// Mails that relays took a minute.
    pub out_per_minute: f64,
    /// Mails that relays refused for good a minute.
    pub refused_per_minute: f64,
    /// What a relay said of one of these.
    pub refusal: Option<String>,
    /// When those that could leave, or wait for a rate cap, are gone at these rates; nothing when more comes than leaves.
    pub drained_in_seconds: Option<i64>,
    /// What waits, by class, reason and component.
    pub depth: Vec<Line>,
    /// Mails that wait for a person.
    pub parked: Vec<Aside>,
    /// Mails of which nobody knows whether they left.
    pub unknown: Vec<Aside>,
    /// The holds in force.
    pub holds: Vec<HoldRow>,
    /// The paused streams.
    pub pauses: Vec<Pause>,
    /// The relays that cannot be reached.
    pub unreached: Vec<Unreached>,
    /// The open surges.
    pub surges: Vec<Surge>,
}

/// Fewer refusals a minute are addresses that are gone.
const MANY: f64 = 2.0;

impl Status {
    /// Whether relays refuse most of what they are offered, for good.
    #[must_use]
    pub fn is_mostly_refused(&self) -> bool {
        self.refused_per_minute >= MANY && self.refused_per_minute > self.out_per_minute
    }
}

/// Mails that wait for one reason.
#[derive(Debug, Serialize)]
pub struct Line {
    /// What they are for.
    pub class: Class,
    /// Why they wait, as of now; nothing: for their turn.
    pub reason: Option<Reason>,
    /// The reason in words.
    pub explained: &'static str,
    /// The component that they are about.
    pub component: Option<String>,
    /// How many.
    pub mails: i64,
    /// How many of them are due.
    pub due: i64,
    /// When the first is or was due.
    pub oldest_due_at: Timestamp,
}

/// Reads how the queue does.
///
/// # Errors
/// When the database fails.
pub async fn status(tx: &mut Tx, setting: &Setting) -> Result<Status, StoreError> {
    let (holds, pauses) = (holds::in_force(tx).await?, streams::pauses(tx).await?);
    let (sending, quarantined) = db::on_the_way(tx).await?;
    let rates = db::rates(tx).await?;
    let paused = |class| setting.stream(class).is_some_and(|s| pauses.iter().any(|p| p.stream == s.name));
    let unreached = relays::unreached(tx).await?;
    let limits = setting.limits(Class::ActionRequired);
    let overdue = limits.longest_hold.map(|longest| Span(longest.0 - limits.dwell.0));
    let away = |class| setting.is_unreached(class, &unreached);
    let depth = lines(db::depth(tx, overdue).await?, &holds, paused, away);
    let free = || depth.iter().filter(|line| !keeps_back(line.reason));
    let (due, now) = (free().map(|line| line.due).sum(), tx.now());
    let paced: i64 = free().filter(|l| l.reason == Some(Reason::Paced)).map(|line| line.mails - line.due).sum();
    let oldest_due_at = free().map(|line| line.oldest_due_at).filter(|at| *at <= now).min();
    Ok(Status {
        at: now,
        waiting: depth.iter().map(|line| line.mails).sum(),
        due,
        held_back: depth.iter().filter(|line| keeps_back(line.reason)).map(|line| line.mails).sum(),
        oldest_due_at,
        oldest_due_seconds: oldest_due_at.map(|at| (now - at).as_seconds()),
        sending,
        quarantined,
        in_per_minute: rates.planned,
        out_per_minute: rates.accepted,
        refused_per_minute: rates.refused,
        refusal: rates.refusal,
        drained_in_seconds: drained_in(due + paced + sending, rates.planned, rates.accepted + rates.refused),
        depth,
        parked: db::aside(tx, State::Parked).await?,
        unknown: db::aside(tx, State::Unknown).await?,
        holds,
        pauses,
        unreached,
        surges: surge::open(tx).await?,
    })
}

const fn keeps_back(reason: Option<Reason>) -> bool {
    matches!(reason, Some(Reason::Stopped | Reason::Held | Reason::ComponentDown | Reason::StreamPaused))
}

/// Workers skip a lane that is held without touching its mails: the reason is found here.
fn lines(
    depth: Vec<Depth>,
    holds: &[HoldRow],
    paused: impl Fn(Class) -> bool,
    away: impl Fn(Class) -> bool,
) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for d in depth {
        let stopped = holds.iter().any(|hold| hold.cause == HoldCause::Stop);
        let passes = |hold: &HoldRow| {
            hold.cause == HoldCause::Surge && (d.class != Class::ActionRequired || d.fence_kind == "none")
        };
        let held = d.class != Class::Correction
            && holds.iter().filter(|hold| !passes(hold)).any(|hold| match (hold.class, hold.component_id) {
                (Some(class), _) => class == d.class,
                (None, Some(component)) => d.fence_kind == "component" && component.0 == d.fence_id,
                (None, None) => true,
            });
        let reason = match d.class {
            _ if stopped => Some(Reason::Stopped),
            _ if held => Some(Reason::Held),
            Class::ActionRequired if d.down_since.is_some() && !d.ripe => Some(Reason::ComponentDown),
            class if paused(class) => Some(Reason::StreamPaused),
            class if d.reason.is_none() && away(class) => Some(Reason::RelayAway),
            _ => d.reason,
        };
        let same = |line: &&mut Line| (line.class, line.reason, &line.component) == (d.class, reason, &d.component);
        match lines.iter_mut().find(same) {
            Some(line) => {
                line.mails += d.mails;
                line.due += d.due;
                line.oldest_due_at = line.oldest_due_at.min(d.oldest_due_at);
            }
            None => lines.push(Line {
                class: d.class,
                reason,
                explained: reason.map_or("it waits for its turn", Reason::explained),
                component: d.component,
                mails: d.mails,
                due: d.due,
                oldest_due_at: d.oldest_due_at,
            }),
        }
    }
    lines.sort_by_key(|line| std::cmp::Reverse(line.mails));
    lines
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "an estimate, in seconds")]
fn drained_in(mails: i64, in_per_minute: f64, gone_per_minute: f64) -> Option<i64> {
    let net = gone_per_minute - in_per_minute;
    match mails {
        0 => Some(0),
        _ => (net > 0.0).then(|| (mails as f64 / net * 60.0).ceil() as i64),
    }
}

#[cfg(test)]
mod tests {
    use super::drained_in;

    #[test]
    fn a_drain_is_foretold_only_when_more_leaves_than_comes() {
        assert_eq!(drained_in(0, 9.0, 0.0), Some(0));
        assert_eq!(drained_in(100, 10.0, 60.0), Some(120));
        assert_eq!(drained_in(100, 60.0, 60.0), None);
    }
}
