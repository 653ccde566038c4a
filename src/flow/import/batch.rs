//! One batch: what it names is looked up, each line is judged in order, and what differs is written.

use super::super::addressing::no_group;
use super::super::anew::anew;
use super::super::intake::FieldError;
use super::super::register::{no_component, no_subscriber};
use super::lines::Batch;
use super::row::{Line, Row};
use super::{Counts, Event, Refusal};
use crate::store::import::{Change, known_components, known_subscribers};
use crate::store::import_subscriptions::known_groups;
use crate::store::{Store, StoreError, Tx};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

/// What an import remembers from batch to batch.
pub(super) struct Book {
    pub(super) counts: Counts,
    dry_run: bool,
    /// Components are few and never go away: each is looked up once.
    components: HashSet<String>,
    groups: HashSet<String>,
    /// In a dry run what earlier lines would have written, as hashes of identity and row: 16 bytes a line, so that a
    /// line which repeats an earlier one is counted as the true run will count it. (What it leaves out is taken from
    /// the database or its own batch: only lines of JSON that leave out different fields may count otherwise.)
    written: HashMap<u64, u64>,
    hasher: RandomState,
}

/// What a line does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Inserts,
    Updates,
    Nothing,
}

impl Book {
    pub(super) fn new(dry_run: bool) -> Self {
        let (components, groups) = (HashSet::new(), HashSet::new());
        let (written, hasher) = (HashMap::new(), RandomState::new());
        Self { counts: Counts::default(), dry_run, components, groups, written, hasher }
    }

    /// Judges a batch, and writes it. What it counts is durable when it returns. Somebody else may put one of its
    /// rows between the look and the write: then it is judged again.
    pub(super) async fn take<R: Row>(
        &mut self,
        store: &Store,
        batch: &Batch<R>,
        hear: &mut (dyn FnMut(Event) + Send),
    ) -> Result<(), StoreError> {
        anew!(StoreError, self.attempt(store, batch, hear))
    }

    async fn attempt<R: Row>(
        &mut self,
        store: &Store,
        batch: &Batch<R>,
        hear: &mut (dyn FnMut(Event) + Send),
    ) -> Result<(), StoreError> {
        let mut tx = if self.dry_run { store.read().await? } else { store.begin().await? };
        let (current, subscribers) = self.look_up(&mut tx, batch).await?;
        // In order: two imports at once lock rows in the same one, and what lies together is written together.
        let mut changes = BTreeMap::<Cow<'_, str>, Change<R>>::new();
        let mut counts = self.counts;
        let mut refused = Vec::new();
        for (line, read) in &batch.lines {
            counts.lines += 1;
            let judged = read.as_ref().map_err(Clone::clone).and_then(|line| {
                let identity = line.row.identity();
                let earlier = changes.get(&identity).map(|change| &change.row);
                let (effect, to) =
                    self.judge(line, &identity, earlier.or_else(|| current.get(&*identity)), &subscribers)?;
                Ok((identity, effect, to))
            });
            match judged {
                Ok((_, Effect::Nothing, _)) => counts.unchanged += 1,
                Ok((identity, effect, row)) => {
                    let row = row.into_owned();
                    let new = effect == Effect::Inserts || changes.get(&identity).is_some_and(|change| change.new);
                    counts.inserted += u64::from(effect == Effect::Inserts);
                    counts.updated += u64::from(effect == Effect::Updates);
                    self.components.extend(row.component().map(str::to_owned));
                    if self.dry_run {
                        self.written.insert(self.hasher.hash_one(&identity), self.hasher.hash_one(&row));
                    }
                    changes.insert(identity, Change { row, new });
                }
                Err(errors) => {
                    counts.refused += 1;
                    refused.extend(errors.into_iter().map(|e| Refusal { line: *line, field: e.field, reason: e.what }));
                }
            }
        }
        drop(current);
        if !self.dry_run && !changes.is_empty() {
            R::put(&mut tx, &changes.into_values().collect::<Vec<_>>()).await?;
            tx.commit().await?;
        }
        self.counts = counts;
        refused.into_iter().map(Event::Refused).for_each(hear);
        Ok(())
    }

    /// What there is of the batch, by identity, and the subscribers that it names and that there are.
    async fn look_up<R: Row>(
        &mut self,
        tx: &mut Tx,
        batch: &Batch<R>,
    ) -> Result<(HashMap<String, R>, HashSet<String>), StoreError> {
        let rows: Vec<&R> = batch.lines.iter().filter_map(|(_, read)| Some(&read.as_ref().ok()?.row)).collect();
        let named = rows.iter().flat_map(|row| row.components()).map(|(_, key)| key);
        let unknown: HashSet<&str> = named.filter(|key| !self.components.contains(*key)).collect();
        if !unknown.is_empty() {
            self.components.extend(known_components(tx, &unknown).await?);
        }
        let named = rows.iter().filter_map(|row| row.group());
        let unknown: HashSet<&str> = named.filter(|key| !self.groups.contains(*key)).collect();
        if !unknown.is_empty() {
            self.groups.extend(known_groups(tx, &unknown).await?);
        }
        let named: HashSet<&str> = rows.iter().flat_map(|row| row.subscribers()).map(|(_, key)| key).collect();
        let subscribers = match named.is_empty() {
            true => HashSet::new(),
            false => known_subscribers(tx, &named).await?.into_iter().collect(),
        };
        let current = R::current(tx, &rows).await?;
        Ok((current.into_iter().map(|row| (row.identity().into_owned(), row)).collect(), subscribers))
    }

    fn judge<'r, R: Row>(
        &self,
        line: &'r Line<R>,
        identity: &str,
        current: Option<&R>,
        subscribers: &HashSet<String>,
    ) -> Result<(Effect, Cow<'r, R>), Vec<FieldError>> {
        let row = &line.row;
        let components = row.components().into_iter();
        let missing = components.filter(|(_, key)| !self.components.contains(*key));
        let mut errors: Vec<_> = missing.map(|(field, key)| no_component(&field, key)).collect();
        errors.extend(row.group().filter(|key| !self.groups.contains(*key)).map(|key| no_group("group", key)));
        let missing = row.subscribers().into_iter().filter(|(_, key)| !subscribers.contains(*key));
        errors.extend(missing.map(|(field, key)| no_subscriber(&field, key)));
        if !errors.is_empty() {
            return Err(errors);
        }
        let row = line.over(current).map_err(|error| vec![error])?;
        let written = self.written.get(&self.hasher.hash_one(identity)).filter(|_| self.dry_run);
        let same = match written {
            Some(written) => Some(*written == self.hasher.hash_one(&row)),
            None => current.map(|current| *current == *row),
        };
        let effect = match same {
            None if row.only_ends() => Effect::Nothing,
            None => Effect::Inserts,
            Some(false) => Effect::Updates,
            Some(true) => Effect::Nothing,
        };
        Ok((effect, row))
    }
}
