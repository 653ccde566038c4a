//! What ends beside the rounds: dialogues, the opening of sessions, and what nobody waits for.

use super::super::sender::Record;
use super::super::sessions::Seat;
use super::outcomes::is_lost;
use super::seats::Seated;
use super::way::{Finished, Job};
use super::{Dispatcher, GATHER, LANES_AGE, average, count};
use crate::domain::delivery::{HandOver, Outcome};
use crate::mail::{self, Session};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinError, JoinSet};

/// So many mails are remembered with which a session was lost.
const MOST_LOSSES: usize = 1_000;
/// Nor do they wait for the last ones: so many outcomes for each mail that has a session are enough.
const ENOUGH: usize = 10;

/// What ended beside the rounds.
pub(super) enum Ended {
    /// And how long it took, if it was held at all.
    Dialogue(Box<Finished>, Option<Duration>),
    Opening(Result<(Session, Seat), mail::OpenError>),
    /// Nothing that a round waits for.
    Aside,
}

impl Dispatcher {
    /// Waits for what ends, and a little longer for more of it: a round costs much the same for one as for fifty.
    pub(super) async fn gather(&mut self, busy: &mut JoinSet<Ended>, results: &mut Vec<(Job, Record)>) {
        // One slow reply must not keep the other slots from new work: now and then the round is made without.
        let mut end = tokio::time::Instant::now() + LANES_AGE;
        while let Ok(Some(more)) = tokio::time::timeout_at(end, busy.join_next()).await {
            if matches!(more, Ok(Ended::Aside)) {
                continue;
            }
            let first = results.is_empty();
            self.ended(more, results).await;
            let ahead = count(&self.ahead);
            if results.len() >= self.under_way.saturating_sub(ahead) * ENOUGH {
                break;
            }
            if first && !results.is_empty() {
                // A timer of no time at all would still take a millisecond.
                if self.usual > GATHER && ahead == 0 {
                    break;
                }
                end = tokio::time::Instant::now() + GATHER;
            }
        }
    }

    pub(super) async fn ended(&mut self, ended: Result<Ended, JoinError>, results: &mut Vec<(Job, Record)>) {
        match ended {
            Ok(Ended::Dialogue(finished, took)) => {
                self.usual = took.map_or(self.usual, |took| average(self.usual, took));
                self.finish(*finished, results);
            }
            Ok(Ended::Opening(Ok(seated))) => {
                self.opening -= 1;
                let (session, seat) = seated;
                self.pool.give(Seated { session, seat, open: Arc::clone(&self.open) });
                self.opened().await;
            }
            Ok(Ended::Opening(Err(e))) => {
                self.opening -= 1;
                self.not_opened(&e).await;
            }
            Ok(Ended::Aside) => {}
            Err(e) => {
                tracing::error!(error = %e, "a dialogue ended by a fault of the program; its lease will tell: {e}");
                self.under_way = self.under_way.saturating_sub(1);
            }
        }
    }

    fn finish(&mut self, finished: Finished, results: &mut Vec<(Job, Record)>) {
        self.under_way = self.under_way.saturating_sub(1);
        match &finished.job {
            Some((job, record @ Record::Attempt(Outcome { hand_over: HandOver::NotHandedOver, words, .. }))) => {
                tracing::warn!(
                    stream = self.stream.name,
                    "a session was lost before anything was handed over: {words}"
                );
                self.lost += 1;
                if self.losses.len() >= MOST_LOSSES {
                    self.losses.clear();
                }
                if is_lost(record) {
                    *self.losses.entry(job.claimed.id).or_default() += 1;
                }
                // Its mail is due again at once.
                self.look_anew();
            }
            Some((job, Record::Attempt(_))) => {
                (self.lost, self.starved) = (0, self.starved.saturating_sub(1));
                self.losses.remove(&job.claimed.id);
            }
            _ if finished.starved => (self.starved, self.put_back) = (self.starved + 1, true),
            _ => {}
        }
        results.extend(finished.job);
    }
}
