//! What may be searched for, read alike from the query of a URL and the flags of the CLI.

use super::compose;
use super::intake::FieldError;
use super::setting::Setting;
use super::show::{self, MOST, Told};
use crate::domain::address::parse_address;
use crate::domain::explain::words;
use crate::domain::id::{ConnectionId, DeliveryId, IncidentId};
use crate::domain::time::Timestamp;
use crate::store::search::{self, Cursor, Filter, MOST_WORDS};
use crate::store::subjects::{self, Name};
use crate::store::{StoreError, Tx};
use serde::Serialize;
use std::fmt::Display;
use std::str::FromStr;
use uuid::Uuid;

const USUAL: usize = 50;
const NAMES: &str =
    "address, subscriber, connection, incident, notice, message_id, reply, state, class, from, until, limit, cursor";

/// A search that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// A parameter is wrong, or what it names is not known.
    #[error("{} {}", .0.field, .0.what)]
    Field(FieldError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// What for.
    pub filter: Filter,
    /// The place in the list.
    pub after: Cursor,
    /// At most so many.
    pub limit: usize,
}

/// A page of deliveries.
#[derive(Debug, Serialize)]
pub struct Page {
    /// Newest first.
    pub deliveries: Vec<Told>,
    /// Where the next page begins; a page may be short, or empty, and yet have one.
    pub next: Option<Cursor>,
}

/// Reads a search out of its parameters, each at most once.
///
/// # Errors
/// When one is unknown or wrong, or names somebody or something unknown.
pub async fn read<'a>(tx: &mut Tx, parameters: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Query, SearchError> {
    let mut query = Query { filter: Filter::default(), after: Cursor::NEWEST, limit: USUAL };
    let mut seen = Vec::new();
    for (name, text) in parameters {
        if seen.contains(&name) {
            return Err(wrong(name, "is given twice"));
        }
        seen.push(name);
        let text = text.trim();
        if text.is_empty() {
            return Err(wrong(name, "is empty"));
        }
        let filter = &mut query.filter;
        match name {
            "address" => {
                let address = parse_address(text).map_err(|fault| wrong(name, fault))?;
                filter.address = Some(address.as_str().to_owned());
            }
            "subscriber" => {
                let found =
                    show::people(tx, text).await?.into_iter().find(|found| !found.is_empty()).unwrap_or_default();
                let [one] = found.as_slice() else {
                    let what = if found.is_empty() { "is nobody's key or id" } else { "is the address of several" };
                    return Err(wrong(name, format!("{what}: `{text}`")));
                };
                filter.subscriber = Some(one.id);
            }
            "connection" => {
                let key = text.parse::<ConnectionId>().map_or(Name::Key(text), |id| Name::Either(id.0, text));
                let found = subjects::connection(tx, key).await?;
                filter.connection = Some(found.ok_or_else(|| wrong(name, format!("is not known: `{text}`")))?.id);
            }
            "incident" => {
                let key = text.parse::<IncidentId>().map_or(Name::Key(text), |id| Name::Either(id.0, text));
                let found = subjects::incident(tx, key).await?;
                filter.incident = Some(found.ok_or_else(|| wrong(name, format!("is not known: `{text}`")))?.id);
            }
            "notice" => filter.notice = Some(parsed(name, text)?),
            "message_id" => {
                // What is nobody's Message-ID is nobody's id either.
                filter.id = Some(compose::named_by(text).unwrap_or(DeliveryId(Uuid::nil())));
            }
            "reply" => {
                filter.words = words(text).collect();
                if filter.words.is_empty() || filter.words.len() > MOST_WORDS {
                    return Err(wrong(
                        name,
                        format!("needs 1 to {MOST_WORDS} words, codes or ids of two letters or more"),
                    ));
                }
            }
            "state" => filter.state = Some(parsed(name, text)?),
            "class" => filter.class = Some(parsed(name, text)?),
            "from" => filter.from = Some(time(name, text)?),
            "until" => query.after = query.after.min(Cursor::until(time(name, text)?)),
            "cursor" => query.after = query.after.min(parsed(name, text)?),
            "limit" => {
                let limit = text.parse().ok().filter(|n| (1..=MOST).contains(n));
                query.limit = limit.ok_or_else(|| wrong(name, format!("is not a number from 1 to {MOST}")))?;
            }
            _ => return Err(wrong(name, format!("is no parameter here; there are {NAMES}"))),
        }
    }
    Ok(query)
}

fn wrong(name: &str, what: impl Display) -> SearchError {
    SearchError::Field(FieldError::new(name, what.to_string()))
}

fn parsed<T: FromStr>(name: &str, text: &str) -> Result<T, SearchError>
where
    T::Err: Display,
{
    text.parse().map_err(|e: T::Err| wrong(name, e))
}

fn time(name: &str, text: &str) -> Result<Timestamp, SearchError> {
    Timestamp::parse(text).map_err(|e| wrong(name, e))
}

/// A page of the deliveries that fit.
///
/// # Errors
/// When the database fails.
pub async fn run(tx: &mut Tx, setting: &Setting, query: &Query) -> Result<Page, StoreError> {
    let found = search::deliveries(tx, &query.filter, query.after, query.limit).await?;
    Ok(Page { deliveries: show::told(tx, setting, &found.ids, false).await?, next: found.next })
}
