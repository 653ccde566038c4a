//! Surges: what is decided about floods of failures.

use super::waiting::Planned;
use super::{StoreError, Tx};
use crate::domain::component::Component;
use crate::domain::id::{ComponentId, HoldId, SurgeId};
use crate::domain::surge::{Evidence, Kind, Occasion, Stage, Why, of_thousandths, ripe};
use crate::domain::time::{Span, Timestamp};
use serde::Serialize;

/// Surges, as [`Surge`] reads them.
macro_rules! surges {
    ($rest:literal) => {
        concat!(
            "SELECT s.id, s.kind, s.component_id, k.key AS component, k.name, s.opened_at, s.opened_by, s.because, s.since, s.waits_since, s.counted,
                s.normal, s.minutes, s.normal_recovered, s.connections, s.occasion, s.episode, s.hold_id, s.stage, s.stage_at, s.why,
                s.until, s.flooding, s.ceased, s.reported, s.ended_at
             FROM surge s LEFT JOIN component k ON k.id = s.component_id WHERE ",
            $rest
        )
    };
}

statements! {
    OPEN_SURGES = super::Sql::same(surges!("s.ended_at IS NULL ORDER BY s.opened_at, s.id"));
    SURGE = super::Sql::differs(surges!("s.id = $1"), surges!("s.id = $1 FOR NO KEY UPDATE OF s"));
    SURGES = super::Sql::same(surges!(
        "s.opened_at < $1 AND (CAST($2 AS UUID) IS NULL OR s.component_id = $2) ORDER BY s.opened_at DESC, s.id DESC LIMIT $3"
    ));
    REPORTER_SUSPECT_SINCE = super::Sql::same(
        "SELECT COUNT(*) FROM surge WHERE component_id IS NULL AND (ended_at IS NULL OR ended_at >= $1)",
    );
    SAVE_SURGE = super::Sql::same(
        "INSERT INTO surge (id, kind, component_id, opened_at, opened_by, because, since, waits_since, counted, normal, minutes, normal_recovered,
            connections, occasion, episode, hold_id, stage, stage_at, why, until, flooding, ceased, reported, ended_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)
         ON CONFLICT (id) DO UPDATE SET waits_since = excluded.waits_since, occasion = excluded.occasion, episode = excluded.episode, hold_id = excluded.hold_id,
            stage = excluded.stage, stage_at = excluded.stage_at, why = excluded.why, until = excluded.until,
            flooding = excluded.flooding, ceased = excluded.ceased, reported = excluded.reported, ended_at = excluded.ended_at",
    );
    ALL_CONNECTIONS = super::Sql::same("SELECT COUNT(*) FROM connection");
    CONNECTIONS_OF = super::Sql::same("SELECT COUNT(*) FROM connection WHERE component_id = $1");
    BROKEN_SINCE = super::Sql::same(
        "SELECT COUNT(*) FROM connection WHERE component_id = $1 AND failed_at >= $2 AND cleared < episode",
    );
    REPORTED = super::Sql::same(
        "UPDATE surge SET reported = TRUE, episode = $2 WHERE component_id = $1 AND kind = 'flood' AND ended_at IS NULL
            AND NOT reported AND (episode = $2 OR episode IS NULL) AND occasion <> 'not_back'",
    );
    // A source has taken its word back: what it says next is news.
    UNREPORTED = super::Sql::same(
        "UPDATE surge SET reported = FALSE WHERE component_id = $1 AND ended_at IS NULL AND stage = 'releasing' AND why = 'by_hand'",
    );
    WATCHED_UNTIL = super::Sql::same(
        "SELECT MAX(ended_at) FROM surge WHERE component_id = $1 AND kind = 'slow' AND why = 'by_hand'",
    );
    IS_DOWN = super::Sql::same("SELECT COUNT(*) FROM component WHERE id = $1 AND down_since IS NOT NULL");
    ENDED_ELSEHOW = super::Sql::same("SELECT COUNT(*) FROM component WHERE id = $1 AND (episode > $2 OR down_since IS NULL)");
    IS_COVERED = super::Sql::same("SELECT COUNT(*) FROM episode WHERE component_id = $1 AND n >= $2 AND covers_until >= $3");
    RELEASE_EPISODE = super::Sql::same(
        "UPDATE episode SET ended_at = $3, released_at = $3 WHERE component_id = $1 AND n = $2 AND ended_at IS NULL",
    );
}

/// A surge.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Surge {
    /// Its id.
    pub id: SurgeId,
    /// What it is.
    pub kind: Kind,
    /// Its component; none when the reports are suspect.
    pub component_id: Option<ComponentId>,
    /// That component's key.
    pub component: Option<String>,
    /// That component's name.
    #[serde(skip)]
    pub name: Option<String>,
    /// When it was seen.
    pub opened_at: Timestamp,
    /// Who saw it: `surge`, or an operator.
    pub opened_by: String,
    /// Why, in words.
    pub because: String,
    /// When its first connection failed.
    pub since: Timestamp,
    /// Since when its longest hold counts, where a flood came when that of its beginning was over.
    #[serde(skip)]
    pub waits_since: Option<Timestamp>,
    /// How many were counted when it was seen.
    pub counted: i64,
    /// How many are normal, in thousandths.
    #[serde(rename = "normal_thousandths")]
    pub normal: i64,
    /// In a window of so many minutes.
    pub minutes: i64,
    /// How many recoveries are normal in their window, in thousandths.
    #[serde(skip)]
    pub normal_recovered: i64,
    /// How many connections the component had.
    pub connections: i64,
    /// What it is for.
    pub occasion: Occasion,
    /// The outage that it opened and that nobody has ended.
    #[serde(skip)]
    pub episode: Option<i64>,
    /// The hold in force for it.
    pub hold_id: Option<HoldId>,
    /// How far it has come.
    pub stage: Stage,
    /// Since when.
    pub stage_at: Timestamp,
    /// Why it came there, or stays there.
    pub why: Why,
    /// An operator wants it held until then; [`Timestamp::END`], said as none: until it is released.
    #[serde(serialize_with = "said_until")]
    pub until: Option<Timestamp>,
    /// Connections failed in floods when the release began.
    #[serde(skip)]
    pub flooding: bool,
    /// That has been calm since: what floods now is new.
    #[serde(skip)]
    pub ceased: bool,
    /// A source said that the component is down: what ends is the waiting, not the outage.
    pub reported: bool,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
}

fn said_until<S: serde::Serializer>(until: &Option<Timestamp>, s: S) -> Result<S::Ok, S::Error> {
    until.filter(|until| *until < Timestamp::END).serialize(s)
}

impl Surge {
    /// When the mails were planned that leave when it is released now, for a reason; `None`: whenever it was. When its component
    /// is back the others wait for their own connections.
    #[must_use]
    pub fn planned(&self, why: Why, now: Timestamp, longest_hold: Option<Span>) -> Option<Planned> {
        let (is_back, each) = (why == Why::ComponentRecovered, self.asks_each_in_time(why));
        let unconfirmed = self.occasion == Occasion::Unconfirmed && (is_back || !each);
        let since = if unconfirmed { self.opened_at } else { Timestamp::END };
        (is_back || each || unconfirmed).then(|| (ripe(now, longest_hold), since))
    }

    /// The same, of each kind of which a few are asked first.
    #[must_use]
    pub fn canaries_of(&self, why: Why, now: Timestamp, longest_hold: Option<Span>) -> Vec<Option<Planned>> {
        match self.planned(why, now, longest_hold) {
            Some((by, since)) if since < Timestamp::END => {
                vec![Some((Timestamp(0), since)), Some((by, Timestamp::END))]
            }
            planned => vec![planned],
        }
    }

    /// Whether each of those who wait is asked when his own time has come, and not all when it is released: they wait for an
    /// outage that goes on, or for their own connections.
    #[must_use]
    pub fn asks_each_in_time(&self, why: Why) -> bool {
        self.occasion == Occasion::NotBack || (self.reported && why != Why::ByHand)
    }

    /// As the journal names it.
    #[must_use]
    pub fn subject(&self) -> String {
        format!("{} ({})", self.id, self.component.as_deref().unwrap_or("everything"))
    }

    /// The numbers when it was seen.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        Evidence { counted: self.counted, normal: of_thousandths(self.normal), minutes: self.minutes }
    }
}

/// The open surges, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn open(tx: &mut Tx) -> Result<Vec<Surge>, StoreError> {
    rows!(tx, Surge, OPEN_SURGES)
}

/// A surge, locked against change.
///
/// # Errors
/// When the database fails.
pub async fn surge(tx: &mut Tx, id: SurgeId) -> Result<Option<Surge>, StoreError> {
    first!(tx, Surge, SURGE, id)
}

/// Surges opened before a time, newest first: of a component or all.
///
/// # Errors
/// When the database fails.
pub async fn list(
    tx: &mut Tx,
    of: Option<ComponentId>,
    before: Timestamp,
    most: i64,
) -> Result<Vec<Surge>, StoreError> {
    rows!(tx, Surge, SURGES, before, of, most)
}

/// Whether our own reports are suspect, or were at a time.
///
/// # Errors
/// When the database fails.
pub async fn reporter_suspect_since(tx: &mut Tx, at: Timestamp) -> Result<bool, StoreError> {
    Ok(value!(tx, i64, REPORTER_SUSPECT_SINCE, at)? > 0)
}

/// Stores a surge: a new one as a whole, of a known one how far it has come.
///
/// # Errors
/// When the database fails, or its component has an open one ([`StoreError::is_conflict`]).
pub async fn save(tx: &mut Tx, s: &Surge) -> Result<(), StoreError> {
    exec!(
        tx,
        SAVE_SURGE,
        s.id,
        s.kind,
        s.component_id,
        s.opened_at,
        &s.opened_by,
        &s.because,
        s.since,
        s.waits_since,
        s.counted,
        s.normal,
        s.minutes,
        s.normal_recovered,
        s.connections,
        s.occasion,
        s.episode,
        s.hold_id,
        s.stage,
        s.stage_at,
        s.why,
        s.until,
        s.flooding,
        s.ceased,
        s.reported,
        s.ended_at
    )
    .map(drop)
}

/// How many connections there are, of a component or in all. It reads them all, and is asked once a surge.
///
/// # Errors
/// When the database fails.
pub async fn connections(tx: &mut Tx, of: Option<ComponentId>) -> Result<i64, StoreError> {
    match of {
        Some(component) => value!(tx, i64, CONNECTIONS_OF, component),
        None => value!(tx, i64, ALL_CONNECTIONS),
    }
}

/// How many of a component's connections failed at a time or later, and are broken.
///
/// # Errors
/// When the database fails.
pub async fn broken_since(tx: &mut Tx, of: ComponentId, at: Timestamp) -> Result<i64, StoreError> {
    value!(tx, i64, BROKEN_SINCE, of, at)
}

/// A source reports an outage: the surge that has opened it, or would, does not end it by itself. Whose time was over before
/// does not wait for it.
///
/// # Errors
/// When the database fails.
pub async fn reported(tx: &mut Tx, of: ComponentId, state: &Component) -> Result<(), StoreError> {
    match state.down_since {
        Some(_) => exec!(tx, REPORTED, of, state.episode).map(drop),
        None => Ok(()),
    }
}

/// A source says that a component is back whose customers an operator has asked against its word.
///
/// # Errors
/// When the database fails.
pub async fn unreported(tx: &mut Tx, of: ComponentId) -> Result<(), StoreError> {
    exec!(tx, UNREPORTED, of).map(drop)
}

/// When an operator last ended a surge of a component that only watched.
///
/// # Errors
/// When the database fails.
pub async fn watched_until(tx: &mut Tx, of: ComponentId) -> Result<Option<Timestamp>, StoreError> {
    value!(tx, Option<Timestamp>, WATCHED_UNTIL, of)
}

/// Whether a component is known to be down.
///
/// # Errors
/// When the database fails.
pub async fn is_down(tx: &mut Tx, of: ComponentId) -> Result<bool, StoreError> {
    Ok(value!(tx, i64, IS_DOWN, of)? > 0)
}

/// Whether an outage was ended by a source.
///
/// # Errors
/// When the database fails.
pub async fn ended_elsehow(tx: &mut Tx, of: ComponentId, n: i64) -> Result<bool, StoreError> {
    Ok(value!(tx, i64, ENDED_ELSEHOW, of, n)? > 0)
}

/// Whether a source declared the connections well that failed in an outage, or in one after it, as of some time or later.
///
/// # Errors
/// When the database fails.
pub async fn is_covered(tx: &mut Tx, of: ComponentId, n: i64, until: Timestamp) -> Result<bool, StoreError> {
    Ok(value!(tx, i64, IS_COVERED, of, n, until)? > 0)
}

/// Ends an outage without anybody having said that it is over: those who failed in it no longer wait for it.
///
/// # Errors
/// When the database fails.
pub async fn release_episode(tx: &mut Tx, of: ComponentId, n: i64) -> Result<(), StoreError> {
    let now = tx.now();
    exec!(tx, RELEASE_EPISODE, of, n, now).map(drop)
}
