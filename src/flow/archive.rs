//! What is long over is moved out of the tables that dispatchers work in, once its whole thread is over: day 400 is to be
//! as fast as day 1. Support finds it as before; it is only not sent again.

use super::setting::Setting;
use super::show::{self, Told};
use crate::domain::class::Class;
use crate::domain::id::{DeliveryId, ThreadId};
use crate::domain::time::{Span, Timestamp};
use crate::store::archive as db;
use crate::store::lanes::Fence;
use crate::store::{Store, StoreError, Tx, copies, lanes};
use serde::Serialize;
use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

/// So many deliveries are looked at at a time.
const PAGE: i64 = 200;
/// About so many are put away in one transaction, with what is linked to them: it holds SQLite's only writer for some
/// milliseconds, and the documents of all are in memory.
pub const AT_ONCE: i64 = 32;
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
        let old: BTreeSet<_> =
            page.iter().filter(|d| d.decided_at.is_some_and(|at| at < before)).map(|d| d.thread_id).collect();
        let over = match old.is_empty() {
            true => Vec::new(),
            false => db::over(&mut read, &old.into_iter().collect::<Vec<_>>(), before).await?,
        };
        if !over.is_empty() {
            let part = db::first_of(&mut read, &over, AT_ONCE).await?;
            let documents = documents(&mut read, setting, &part.deliveries).await?;
            drop(read);
            // The place stays: there may be more of these threads.
            return put_away(store, &part.threads, &documents, before).await;
        }
        drop(read);
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

/// What is kept of deliveries. Nothing waits while this is made: what happened to them meanwhile would make their threads no
/// longer over.
async fn documents(
    read: &mut Tx,
    setting: &Setting,
    of: &[DeliveryId],
) -> Result<Vec<(DeliveryId, String)>, StoreError> {
    let removed: HashSet<_> = copies::removed(read, of).await?.into_iter().collect();
    let text = |told: Told| {
        let id = told.row.id;
        let kept = Kept { copy_removed: removed.contains(&id), told };
        let text = serde_json::to_string(&kept).map_err(|e| StoreError::Corrupt {
            table: "delivery",
            column: "document",
            row: id.to_string(),
            what: e.to_string(),
        })?;
        Ok((id, text))
    };
    show::told(read, setting, of, true).await?.into_iter().map(text).collect()
}

/// A document: what people read of a delivery, and whether there was a copy of its mail.
#[derive(Serialize)]
struct Kept {
    #[serde(flatten)]
    told: Told,
    copy_removed: bool,
}

/// Puts deliveries of these threads away, if all of them are still over; whether it did.
async fn put_away(
    store: &Store,
    threads: &[ThreadId],
    documents: &[(DeliveryId, String)],
    before: Timestamp,
) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    // No sweep may find what is moved, and none have begun before this was held.
    lanes::lane(&mut tx, Class::Correction, Fence::None).await?;
    if db::under_way(&mut tx).await? || db::over(&mut tx, threads, before).await?.len() < threads.len() {
        return Ok(false);
    }
    // A recovery that was recorded between the two is to find what it takes back.
    if documents.is_empty() || db::under_way(&mut tx).await? {
        return Ok(false);
    }
    db::put_away(&mut tx, documents).await?;
    tx.commit().await?;
    Ok(true)
}
