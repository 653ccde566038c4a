//! A round's transaction: what ended is recorded, and slots get new work.

use super::super::claim::{Claimed, claim};
use super::super::relation::{self, PROBE_PAUSED, PROBE_SOON};
use super::super::sender::{Record, Step};
use super::Dispatcher;
use super::outcomes::{AtFault, is_accepted, refused_for_good};
use super::way::Job;
use crate::domain::time::{Span, Timestamp};
use crate::failpoint;
use crate::store::queue::MOST_DUE;
use crate::store::{StoreError, Tx, streams};
use std::sync::PoisonError;
use std::time::Instant;

impl Dispatcher {
    /// One transaction records what ended and claims new work.
    pub(super) async fn round(&mut self, results: Vec<(Job, Record)>, taking: bool) -> Result<Vec<Job>, StoreError> {
        if results.is_empty() && !taking {
            return Ok(Vec::new());
        }
        let claimed = match self.record_and_claim(&results, taking).await {
            Ok(claimed) => claimed,
            Err(e) => {
                self.unrecorded = self.record_one_by_one(results, may_help_alone(&e)).await;
                self.lanes.open.clear();
                // Another node had the thread: nothing is wrong, the next round sees it.
                return if e.is_conflict() { Ok(Vec::new()) } else { Err(e) };
            }
        };
        let lost = &self.losses;
        let jobs = claimed.into_iter().map(|claimed| Job {
            lost_before: lost.contains_key(&claimed.id),
            claimed,
            probe: self.pause.is_some(),
            step: Step::Armed,
            bytes: Vec::new(),
            copy: None,
            claimed_at: Instant::now(),
            looked: Instant::now(),
        });
        Ok(jobs.collect())
    }

    async fn record_and_claim(&mut self, results: &[(Job, Record)], taking: bool) -> Result<Vec<Claimed>, StoreError> {
        let wanted = self.wanted();
        let (tx, noted, turned, claimed) = StoreError::in_time("record", async {
            let mut tx = self.shared.store.begin().await?;
            let noted = if results.is_empty() { None } else { self.shared.copies.note(&mut tx).await? };
            let turned = self.shared.record(&mut tx, &self.stream, results).await?;
            let claimed = if taking && wanted > 0 && !turned { self.claim(&mut tx, wanted).await? } else { Vec::new() };
            Ok((tx, noted, turned, claimed))
        })
        .await?;
        if !results.is_empty() {
            failpoint::pass("recording");
        }
        if !claimed.is_empty() {
            failpoint::pass("arming");
        }
        let now = tx.now();
        StoreError::committed(tx.commit()).await?;
        if !results.is_empty() {
            failpoint::pass("recorded");
        }
        if !claimed.is_empty() {
            failpoint::pass("armed");
        }
        self.trouble = None;
        self.shared.copies.noted(noted);
        self.tell_refusals(now, results);
        if turned {
            self.pool.turn_away();
            self.lanes_at = None;
            self.lanes.open.clear();
        }
        self.hungry = claimed.len() == wanted.min(MOST_DUE);
        if self.hungry && !claimed.is_empty() {
            self.bell.notify_last();
        }
        Ok(claimed)
    }

    /// Says that the relay refuses most of what it is offered.
    fn tell_refusals(&self, now: Timestamp, results: &[(Job, Record)]) {
        let refused: Vec<_> = results.iter().filter_map(refused_for_good).collect();
        let taken = results.iter().filter(|(_, record)| is_accepted(record)).count();
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((refused_lately, taken)) = refusals.count(now, refused.len(), taken)
            && let Some(outcome) = refused.last()
        {
            let (name, code) = (&self.stream.name, outcome.code.unwrap_or_default());
            tracing::error!(
                stream = name,
                "stream {name}: the relay has refused {refused_lately} mails for good within minutes, and taken {taken}: {code} {}; {}",
                outcome.words,
                relation::FAILED_FOR_GOOD
            );
        }
    }

    /// Claims so many; of a paused stream one mail, if no other node sends it.
    async fn claim(&mut self, tx: &mut Tx, mut most: usize) -> Result<Vec<Claimed>, StoreError> {
        let shared = &self.shared;
        if let Some(pause) = self.pause {
            most = 1;
            if !streams::take_probe(tx, pause, tx.now() + PROBE_PAUSED).await? {
                // Another has taken it, and says when the next is.
                self.lanes.open.clear();
                return Ok(Vec::new());
            }
        }
        let set = shared.templates.set_hash();
        let taken = claim(tx, &shared.setting, &self.stream, &shared.owner, set, &mut self.lanes, most).await?;
        self.turn_at = taken.turn_at;
        if self.pause.is_some() {
            self.lanes.open.clear();
            if taken.claimed.is_empty() {
                // Nothing was there to find out with: the next that is due does.
                streams::probe_later(tx, &self.stream.name, tx.now() + PROBE_SOON).await?;
            }
        }
        Ok(taken.claimed)
    }

    /// A shared commit failed: each outcome for itself, if that may help, and into the spill file what still cannot be
    /// recorded. What cannot even be spilled is kept, and comes again with the next round.
    pub(super) async fn record_one_by_one(
        &mut self,
        results: Vec<(Job, Record)>,
        mut alone: bool,
    ) -> Vec<(Job, Record)> {
        let (mut spilled, mut left, mut why) = (0, Vec::new(), None);
        for one in results {
            if alone {
                let recording = self.shared.record_alone(&self.stream, std::slice::from_ref(&one));
                match StoreError::in_time("record", recording).await {
                    Ok(()) => continue,
                    Err(e) => alone = may_help_alone(&e),
                }
            }
            match self.spill(&one) {
                Ok(()) => spilled += 1,
                Err(e) => {
                    left.push(one);
                    why = Some(e);
                }
            }
        }
        if spilled > 0 {
            tracing::error!("{spilled} outcomes cannot be recorded; they are in the spill file");
        }
        match why {
            None => drop(self.unspilled.over()),
            Some(e) => {
                if let Some(times) = self.unspilled.again(Instant::now(), &e.to_string()) {
                    let kept = left.len();
                    tracing::error!(
                        times,
                        "{kept} outcomes can neither be recorded nor spilled; they are kept in memory: {e}"
                    );
                }
            }
        }
        left
    }

    fn spill(&self, one: &(Job, Record)) -> std::io::Result<()> {
        let of = std::slice::from_ref(one);
        // The database, whose clock counts, is away.
        let since = i64::try_from(one.0.claimed_at.elapsed().as_micros()).unwrap_or_default();
        let settled = self.shared.settled(of, &AtFault::default(), one.0.claimed.at + Span(since));
        self.shared.spill.append(&settled)?;
        // What was taken back at the last look is spilled, too: the point is that of a relay's answer.
        if settled.iter().any(|one| one.outcome.is_some()) {
            failpoint::pass("spilled");
        }
        Ok(())
    }
}

/// Of a database that is away, each would only wait for it again.
fn may_help_alone(e: &StoreError) -> bool {
    e.is_conflict() || !e.is_away()
}
