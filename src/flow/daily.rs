//! The daily cap at the claim: what each subscriber of a batch was mailed in the last day, one statement for the batch.
//! Two nodes that claim for one subscriber at the same moment may go one mail beyond it.

use super::gate::{DAY, Split, daily_cap};
use super::look::Seen;
use super::setting::Setting;
use crate::domain::class::Class;
use crate::domain::id::SubscriberId;
use crate::domain::time::Timestamp;
use crate::store::daily::{Asked, mailed};
use crate::store::{StoreError, Tx};
use std::collections::{HashMap, HashSet};

/// When the subscribers of a batch were mailed, by class.
#[derive(Debug, Default)]
pub struct Daily(HashMap<(SubscriberId, Class), Vec<Timestamp>>);

impl Daily {
    /// Reads it for the mails of classes that have a cap.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn learn(tx: &mut Tx, setting: &Setting, batch: impl Iterator<Item = &Seen>) -> Result<Self, StoreError> {
        let since = tx.now() - DAY;
        let asked = batch.filter_map(|one| {
            let limits = setting.limits(one.row.class);
            limits.daily_mails.filter(|_| setting.gate)?;
            // What left since then was not older than its class allows when it did.
            let born = limits.greatest_age.map_or(Timestamp(0), |age| since - age);
            Some(Asked { subscriber: one.row.subscriber_id, class: one.row.class, born, since })
        });
        let asked: Vec<Asked> = asked.collect::<HashSet<_>>().into_iter().collect();
        let mut daily = Self::default();
        if !asked.is_empty() {
            for (subscriber, class, at) in mailed(tx, &asked).await? {
                daily.0.entry((subscriber, class)).or_default().push(at);
            }
        }
        Ok(daily)
    }

    /// Until when a mail that could leave waits; one that need not is counted. A repeat of what may have left was
    /// counted before.
    pub fn full_until(&mut self, one: &Seen, split: &Split, setting: &Setting, now: Timestamp) -> Option<Timestamp> {
        if one.row.maybe_mailed {
            return None;
        }
        let mailed = self.0.entry((one.row.subscriber_id, one.row.class)).or_default();
        let until = daily_cap(&one.gate, split, one.row.impact, &setting.limits(one.row.class), mailed, now);
        if until.is_none() {
            mailed.push(now);
        }
        until
    }
}
