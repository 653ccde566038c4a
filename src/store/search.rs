//! Looking for deliveries, newest first. What is asked for most narrowly is walked by its index, in the order of the
//! list; the rest is compared row by row. A page looks at a bounded number of rows, so that it costs the same whatever
//! there is: a filter that almost nothing fits may answer a short page with a cursor to go on from.

use super::rows::json;
use super::{Sql, StoreError, Tx};
use crate::domain::class::Class;
use crate::domain::delivery::{HandOver, Outcome, State};
use crate::domain::explain::words;
use crate::domain::id::{ConnectionId, DeliveryId, IncidentId, NoticeId, SubscriberId};
use crate::domain::time::Timestamp;
use serde::Serialize;
use sqlx::{Encode, Postgres, Sqlite, Type};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// How many rows one page looks at, about.
const MOST_LOOKED_AT: usize = 5_000;
const AT_ONCE: usize = 1_000;
/// A queue up to this long is read as a whole to list what waits in it.
const SHORT_QUEUE: i64 = 5_000;
/// The most words of a reply that can be asked for.
pub const MOST_WORDS: usize = 4;
/// Of what a relay says when it takes a mail only its own ids are kept: so many, at least so long, with a digit.
const IDS_OF_ACCEPTED: usize = 4;
const SHORTEST_ID: usize = 6;

macro_rules! candidates {
    ($items:literal, $from:literal, $at:literal, $id:literal, $which:literal) => {
        Sql::same(concat!(
            "SELECT d.created_at, d.id,
                d.subscriber_id = COALESCE($6, d.subscriber_id) AND d.class = COALESCE($7, d.class) AND d.state = COALESCE($8, d.state)
                AND COALESCE(d.incident_id = $9, $9 IS NULL) AND COALESCE(d.notice_id = $10, $10 IS NULL)
                AND (COALESCE($11, d.id) = d.id OR EXISTS (SELECT 1 FROM ", $items, " i WHERE i.delivery_id = d.id AND i.connection_id = $11))
                AND (COALESCE($12, '') = ''
                    OR lower(COALESCE(d.address, (SELECT s.address FROM subscriber s WHERE s.id = d.subscriber_id))) = lower($12))
                AND (COALESCE($13, '') = '' OR EXISTS (SELECT 1 FROM reply_word w WHERE w.word = $13 AND w.created_at = d.created_at AND w.delivery_id = d.id))
                AND (COALESCE($14, '') = '' OR EXISTS (SELECT 1 FROM reply_word w WHERE w.word = $14 AND w.created_at = d.created_at AND w.delivery_id = d.id))
                AND (COALESCE($15, '') = '' OR EXISTS (SELECT 1 FROM reply_word w WHERE w.word = $15 AND w.created_at = d.created_at AND w.delivery_id = d.id))
                AND (COALESCE($16, '') = '' OR EXISTS (SELECT 1 FROM reply_word w WHERE w.word = $16 AND w.created_at = d.created_at AND w.delivery_id = d.id))
                AS fits
             FROM ", $from, " WHERE ", $which, " AND (", $at, ", ", $id, ") < ($2, $3) AND ", $at, " >= $4
             ORDER BY ", $at, " DESC, ", $id, " DESC LIMIT $5"
        ))
    };
    ($which:literal) => { candidates!("delivery_item", "delivery d", "d.created_at", "d.id", $which) };
}

macro_rules! archived {
    ($which:literal) => {
        candidates!("archived_item", "archived_delivery d", "d.created_at", "d.id", $which)
    };
}

statements! {
    BY_ID = candidates!("d.id = $1");
    ARCHIVED_BY_ID = archived!("d.id = $1");
    // Whose the address is or was; whether the mail went there, or would go there now, the filter says.
    BY_ADDRESS = candidates!(
        "d.subscriber_id IN (SELECT s.id FROM subscriber s WHERE lower(s.address) = lower($1) UNION ALL
            SELECT f.subscriber_id FROM former_address f WHERE lower(f.address) = lower($1))"
    );
    ARCHIVED_BY_ADDRESS = archived!("lower(d.address) = lower($1)");
    BY_CONNECTION = candidates!("d.id IN (SELECT n.delivery_id FROM delivery_item n WHERE n.connection_id = $1)");
    ARCHIVED_BY_CONNECTION = archived!("d.id IN (SELECT n.delivery_id FROM archived_item n WHERE n.connection_id = $1)");
    BY_SUBSCRIBER = candidates!("d.subscriber_id = $1");
    ARCHIVED_BY_SUBSCRIBER = archived!("d.subscriber_id = $1");
    BY_WORD = candidates!(
        "delivery_item", "reply_word r JOIN delivery d ON d.id = r.delivery_id", "r.created_at", "r.delivery_id", "r.word = $1"
    );
    ARCHIVED_BY_WORD = candidates!(
        "archived_item", "reply_word r JOIN archived_delivery d ON d.id = r.delivery_id", "r.created_at", "r.delivery_id", "r.word = $1"
    );
    BY_NOTICE = candidates!("d.notice_id = $1");
    ARCHIVED_BY_NOTICE = archived!("d.notice_id = $1");
    BY_INCIDENT = candidates!("d.incident_id = $1");
    ARCHIVED_BY_INCIDENT = archived!("d.incident_id = $1");
    BY_STATE = candidates!("d.state = $1 AND d.state NOT IN ('queued', 'sending', 'accepted')");
    ARCHIVED_BY_STATE = archived!("d.state = $1");
    ON_THE_WIRE = candidates!("d.state = $1 AND d.state = 'sending'");
    // The whole of a short queue: the limit keeps the planners from another way.
    WAITING = candidates!(
        "delivery_item", "(SELECT * FROM delivery WHERE state = 'queued' AND state = $1 ORDER BY lane_id, due_at, id LIMIT 5001) AS d",
        "d.created_at", "d.id", "TRUE"
    );
    BY_CLASS = candidates!("lower(d.class) = $1");
    ARCHIVED_BY_CLASS = archived!("lower(d.class) = $1");
    QUEUE_UP_TO = Sql::same(
        "SELECT COUNT(*) FROM (SELECT 1 FROM delivery WHERE state = 'queued' ORDER BY lane_id, due_at, id LIMIT $1) AS few",
    );
}

/// What deliveries are looked for; all that is said must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// One alone.
    pub id: Option<DeliveryId>,
    /// The address it went to, or would go to now.
    pub address: Option<String>,
    /// To whom.
    pub subscriber: Option<SubscriberId>,
    /// A connection it names.
    pub connection: Option<ConnectionId>,
    /// The incident of its thread.
    pub incident: Option<IncidentId>,
    /// The notice it tells of.
    pub notice: Option<NoticeId>,
    /// Words of the relay's replies to it: at most [`MOST_WORDS`].
    pub words: Vec<String>,
    /// What it is for.
    pub class: Option<Class>,
    /// Where it stands.
    pub state: Option<State>,
    /// Planned at this time or later.
    pub from: Option<Timestamp>,
}

/// A place in a list: what comes after it is older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, sqlx::FromRow)]
pub struct Cursor {
    at: Timestamp,
    id: Uuid,
}

impl Cursor {
    /// The beginning of a list.
    pub const NEWEST: Self = Self { at: Timestamp(i64::MAX), id: Uuid::max() };

    /// Only what was planned before a time.
    #[must_use]
    pub const fn until(at: Timestamp) -> Self {
        Self { at, id: Uuid::nil() }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{}", self.at.0, self.id.simple())
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_at_checked(16).filter(|_| text.len() == 48);
        parts
            .and_then(|(at, id)| Some((i64::from_str_radix(at, 16).ok()?, Uuid::try_parse(id).ok()?)))
            .map(|(at, id)| Self { at: Timestamp(at), id })
            .ok_or("is not the `next` of a page before")
    }
}

impl Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// A page of what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The deliveries, newest first.
    pub ids: Vec<DeliveryId>,
    /// Where the next page begins, if there may be one.
    pub next: Option<Cursor>,
}

#[derive(sqlx::FromRow)]
struct Candidate {
    created_at: Timestamp,
    id: Uuid,
    fits: bool,
}

/// A page of the deliveries that fit, of those after a place in the list.
///
/// # Errors
/// When the database fails.
pub async fn deliveries(tx: &mut Tx, of: &Filter, after: Cursor, limit: usize) -> Result<Found, StoreError> {
    let (mut ids, mut place, mut looked, mut size) = (Vec::new(), after, 0, limit + 1);
    let short_queue = of.state == Some(State::Queued) && value!(tx, i64, QUEUE_UP_TO, SHORT_QUEUE + 1)? <= SHORT_QUEUE;
    loop {
        let chunk = chunk(tx, of, place, size, short_queue).await?;
        let whole = chunk.len() < size;
        looked += chunk.len();
        for row in chunk {
            if ids.len() == limit {
                return Ok(Found { ids, next: Some(place) });
            }
            place = Cursor { at: row.created_at, id: row.id };
            if row.fits {
                ids.push(DeliveryId(row.id));
            }
        }
        if whole || looked >= MOST_LOOKED_AT {
            return Ok(Found { ids, next: (!whole).then_some(place) });
        }
        size = AT_ONCE;
    }
}

/// The next rows of the narrowest index, of what is worked on and of what was put away.
async fn chunk(
    tx: &mut Tx,
    of: &Filter,
    after: Cursor,
    size: usize,
    short: bool,
) -> Result<Vec<Candidate>, StoreError> {
    let page = Page { of, after, size };
    if let Some(id) = of.id {
        return page.both(tx, (BY_ID, ARCHIVED_BY_ID), id).await;
    }
    if let Some(id) = of.connection {
        return page.both(tx, (BY_CONNECTION, ARCHIVED_BY_CONNECTION), id).await;
    }
    if let Some(id) = of.subscriber {
        return page.both(tx, (BY_SUBSCRIBER, ARCHIVED_BY_SUBSCRIBER), id).await;
    }
    if let Some(address) = &of.address {
        return page.both(tx, (BY_ADDRESS, ARCHIVED_BY_ADDRESS), address.as_str()).await;
    }
    // The longest word is most probably the rarest.
    if let Some(word) = of.words.iter().max_by_key(|word| word.len()) {
        return page.both(tx, (BY_WORD, ARCHIVED_BY_WORD), word.as_str()).await;
    }
    if let Some(id) = of.notice {
        return page.both(tx, (BY_NOTICE, ARCHIVED_BY_NOTICE), id).await;
    }
    match of.state {
        Some(State::Sending) => return page.strand(tx, ON_THE_WIRE, State::Sending).await,
        Some(State::Queued) if short => return page.strand(tx, WAITING, State::Queued).await,
        // Of an incident most mails may be folded or withdrawn: its own index is at least as narrow.
        Some(State::Queued | State::Accepted) | None => {}
        Some(State::Folded | State::Withdrawn) if of.incident.is_some() => {}
        Some(state) => return page.both(tx, (BY_STATE, ARCHIVED_BY_STATE), state).await,
    }
    if let Some(id) = of.incident {
        return page.both(tx, (BY_INCIDENT, ARCHIVED_BY_INCIDENT), id).await;
    }
    let mut rows = Vec::new();
    for class in Class::ALL.iter().filter(|class| of.class.is_none_or(|asked| asked == **class)) {
        rows.extend(page.both(tx, (BY_CLASS, ARCHIVED_BY_CLASS), *class).await?);
    }
    Ok(page.newest(rows))
}

/// What a page is to hold.
#[derive(Clone, Copy)]
struct Page<'k> {
    of: &'k Filter,
    after: Cursor,
    size: usize,
}

impl<'k> Page<'k> {
    /// Rows of one index of each of the two tables, newest first.
    async fn both<K>(self, tx: &mut Tx, (live, archived): (Sql, Sql), key: K) -> Result<Vec<Candidate>, StoreError>
    where
        K: 'k + Copy + Send + Encode<'k, Sqlite> + Type<Sqlite> + Encode<'k, Postgres> + Type<Postgres>,
    {
        let mut rows = self.strand(tx, live, key).await?;
        rows.extend(self.strand(tx, archived, key).await?);
        Ok(self.newest(rows))
    }

    fn newest(self, mut rows: Vec<Candidate>) -> Vec<Candidate> {
        rows.sort_unstable_by_key(|row| std::cmp::Reverse((row.created_at, row.id)));
        rows.truncate(self.size);
        rows
    }

    /// Rows of one index, newest first, each with whether the whole filter fits it.
    async fn strand<K>(self, tx: &mut Tx, sql: Sql, key: K) -> Result<Vec<Candidate>, StoreError>
    where
        K: 'k + Send + Encode<'k, Sqlite> + Type<Sqlite> + Encode<'k, Postgres> + Type<Postgres>,
    {
        let Self { of, after, size } = self;
        let word = |n: usize| of.words.get(n).map(String::as_str);
        rows!(
            tx,
            Candidate,
            sql,
            key,
            after.at,
            after.id,
            of.from.unwrap_or_default(),
            i64::try_from(size).unwrap_or(i64::MAX),
            of.subscriber,
            of.class,
            of.state,
            of.incident,
            of.notice,
            of.connection,
            of.address.as_deref(),
            word(0),
            word(1),
            word(2),
            word(3)
        )
    }
}

/// Makes replies found by their words (`$4`, see [`said`]).
pub(super) const REMEMBER_WORDS: Sql = over_few_rows!(
    "$4",
    "INSERT INTO reply_word (word, created_at, delivery_id) SELECT j.word, d.created_at, d.id FROM",
    [id uuid, word text],
    "JOIN delivery d ON d.id = j.id WHERE TRUE ON CONFLICT DO NOTHING"
);

/// The rows of [`REMEMBER_WORDS`]: of an acceptance only what may be an id at the relay, of all else every word and code.
pub(super) fn said<'a>(of: impl Iterator<Item = (DeliveryId, &'a Outcome)>) -> String {
    json(of.flat_map(|(id, outcome)| kept(outcome).into_iter().map(move |word| columns! { id, word })))
}

fn kept(outcome: &Outcome) -> BTreeSet<String> {
    if outcome.hand_over == HandOver::Accepted {
        let is_id = |word: &String| word.len() >= SHORTEST_ID && word.contains(|c: char| c.is_ascii_digit());
        return words(&outcome.words).filter(is_id).take(IDS_OF_ACCEPTED).collect();
    }
    let codes = outcome.code.map(|code| code.to_string()).into_iter().chain(outcome.enhanced.clone());
    words(&outcome.words).chain(codes).collect()
}
