//! What mails say of incidents: updates and ends, post-mortems, all-clears.

use super::super::intake::IncidentIn;
use super::super::look::Seen;
use super::super::setting::Setting;
use super::super::words::Words;
use super::connections::still_open;
use super::{ComposeError, own};
use crate::domain::class::Class;
use crate::domain::delivery::Rule;
use crate::domain::incident::{Impact, Phase};
use crate::domain::time::{Span, Timestamp};
use crate::store::view::DeliveryView;
use crate::template::context::{AllClearMail, Because, ComponentLine, IncidentMail, PostMortemMail};

/// From then on a mail says that it is late.
const LATE: Span = Span::minutes(30);

fn needed<T>(value: Option<T>, what: &str) -> Result<T, ComposeError> {
    value.ok_or_else(|| ComposeError(format!("its incident has no {what}")))
}

fn component_lines(seen: &Seen) -> Vec<ComponentLine> {
    seen.items
        .iter()
        .map(|item| ComponentLine { name: item.component_name.clone(), status: item.present_status() })
        .collect()
}

fn because(row: &DeliveryView) -> Because {
    match (row.addressed, row.follows) {
        (true, _) => Because::Addressed,
        (_, true) => Because::Follows,
        _ => Because::Told,
    }
}

pub(super) fn incident(
    seen: &Seen,
    said: &Words,
    setting: &Setting,
    now: Timestamp,
) -> Result<IncidentMail, ComposeError> {
    let row = &seen.row;
    let update: IncidentIn = own(seen, said)?;
    let posted_at = needed(row.observed_at, "time")?;
    let late = now - due(row, posted_at, setting);
    // An update without a phase of its own that replaces a change of phase tells it.
    let untold = row.phase.filter(|phase| update.phase == Phase::Update && row.last_phase != Some(*phase));
    Ok(IncidentMail {
        title: needed(row.title.clone(), "title")?,
        reference: needed(row.incident_key.clone(), "key")?,
        phase: untold.unwrap_or(update.phase),
        impact: update.impact.or(row.impact).unwrap_or(Impact::Minor),
        still_open: still_open(seen, said),
        because: because(&seen.row),
        body: update.body,
        components: component_lines(seen),
        started_at: needed(row.started_at, "beginning")?,
        ended_at: row.resolved_at.filter(|_| row.class == Class::IncidentEnd),
        posted_at,
        late_by: (late >= LATE).then(|| late.as_seconds()),
        consequences: update.consequences,
        not_affected: update.not_affected,
        // A mail that waited promises nothing that is past.
        next_update_at: update.next_update_at.filter(|at| *at > now),
        link: update.link,
        support_link: update.support_link.or_else(|| setting.support_url.clone()),
    })
}

/// When a post was to be mailed: at once, or when the thread had been silent for long with nothing new to say.
fn due(row: &DeliveryView, posted_at: Timestamp, setting: &Setting) -> Timestamp {
    let silence = setting.limits(row.class).longest_silence.filter(|_| row.rule == Some(Rule::NothingNew));
    let spoken = silence.and_then(|silence| row.last_mailed_at.map(|last| last + silence));
    spoken.map_or(posted_at, |spoken| spoken.max(posted_at))
}

pub(super) fn post_mortem(seen: &Seen, said: &Words, setting: &Setting) -> Result<PostMortemMail, ComposeError> {
    let update: IncidentIn = own(seen, said)?;
    Ok(PostMortemMail {
        because: because(&seen.row),
        title: needed(seen.row.title.clone(), "title")?,
        reference: needed(seen.row.incident_key.clone(), "key")?,
        body: update.body,
        components: component_lines(seen),
        started_at: needed(seen.row.started_at, "beginning")?,
        ended_at: seen.row.resolved_at,
        link: update.link,
        support_link: update.support_link.or_else(|| setting.support_url.clone()),
    })
}

pub(super) fn all_clear(seen: &Seen, said: &Words, setting: &Setting) -> Result<AllClearMail, ComposeError> {
    let started_at = needed(seen.row.started_at, "beginning")?;
    let joined = seen.items.iter().map(|i| i.joined_at).min().flatten();
    let worked_again = seen.items.iter().filter_map(|i| i.worked_again(started_at)).max();
    Ok(AllClearMail {
        title: needed(seen.row.title.clone(), "title")?,
        reference: needed(seen.row.incident_key.clone(), "key")?,
        components: seen.items.iter().map(|i| i.component_name.clone()).collect(),
        started_at: seen.row.relapsed_at.or(joined).unwrap_or(started_at),
        recovered_at: worked_again.unwrap_or(seen.row.created_at),
        trouble_elsewhere: seen.row.trouble_elsewhere,
        still_open: still_open(seen, said),
        because: because(&seen.row),
        link: None,
        support_link: setting.support_url.clone(),
    })
}
