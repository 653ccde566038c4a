//! What is long over is moved out of the tables that dispatchers work in, whole threads at a time: day 400 is to be as
//! fast as day 1. Support finds it as before; it is only not sent again.

use super::setting::Setting;
use super::show;
use crate::domain::class::Class;
use crate::domain::id::{DeliveryId, ThreadId};
use crate::domain::time::{Span, Timestamp};
use crate::store::archive as db;
use crate::store::lanes::Fence;
use crate::store::{Store, StoreError, lanes};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

/// So many deliveries are looked at in one transaction: it holds SQLite's only writer for some milliseconds.
const PAGE: i64 = 200;
/// How often the whole table is gone through.
const EVERY: Span = Span::hours(1);

/// Where a process is in going through the deliveries, oldest first.
#[derive(Debug)]
pub struct Archive {
    after: Option<Span>,
    place: Mutex<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    seen: DeliveryId,
    next_at: Timestamp,
}

const START: DeliveryId = DeliveryId(Uuid::nil());

impl Archive {
    /// Puts away what ended so long ago; with `None` nothing.
    #[must_use]
    pub const fn new(after: Option<Span>) -> Self {
        Self { after, place: Mutex::new(Place { seen: START, next_at: Timestamp(i64::MIN) }) }
    }

    /// Goes on by one page; whether there may be more to put away now. Nothing waits for it: where it fails it is tried
    /// again in an hour.
    pub async fn page(&self, store: &Store, setting: &Setting) -> bool {
        match self.try_page(store, setting).await {
            Ok(more) => more,
            Err(e) => {
                tracing::error!(error = %e, "what is over is not archived: {e}; {}", e.hint());
                if let Ok(read) = store.read().await {
                    let place = Place { seen: START, next_at: read.now() + EVERY };
                    *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
                }
                false
            }
        }
    }

    async fn try_page(&self, store: &Store, setting: &Setting) -> Result<bool, StoreError> {
        let Some(after) = self.after else { return Ok(false) };
        let place = *self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let mut read = store.read().await?;
        let now = read.now();
        if now < place.next_at || db::under_way(&mut read).await? {
            return Ok(false);
        }
        let before = now - after;
        let page = db::oldest(&mut read, place.seen, PAGE).await?;
        drop(read);
        let old: BTreeSet<_> =
            page.iter().filter(|d| d.decided_at.is_some_and(|at| at < before)).map(|d| d.thread_id).collect();
        if !old.is_empty() {
            put_away(store, setting, &old.into_iter().collect::<Vec<_>>(), before).await?;
        }
        // Ids follow the time of planning: beyond a page of young ones all are young.
        let last = page.last().filter(|_| page.iter().any(|d| d.created_at < before));
        let next = match last {
            Some(last) => Place { seen: last.id, ..place },
            None => Place { seen: START, next_at: now + EVERY },
        };
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(last.is_some())
    }
}

async fn put_away(store: &Store, setting: &Setting, threads: &[ThreadId], before: Timestamp) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    // No sweep may find what is moved, and none have begun before this was held.
    lanes::lane(&mut tx, Class::Correction, Fence::None).await?;
    if db::under_way(&mut tx).await? {
        return Ok(());
    }
    let ids = db::over(&mut tx, threads, before).await?;
    // A recovery that was recorded between the two is to find what it takes back.
    if db::under_way(&mut tx).await? {
        return Ok(());
    }
    let mut documents = Vec::new();
    for told in show::told(&mut tx, setting, &ids, true).await? {
        let text = serde_json::to_string(&told).map_err(|e| StoreError::Corrupt {
            table: "delivery",
            column: "document",
            row: told.row.id.to_string(),
            what: e.to_string(),
        })?;
        documents.push((told.row.id, text));
    }
    if documents.is_empty() {
        return Ok(());
    }
    db::put_away(&mut tx, &documents).await?;
    tx.commit().await
}
