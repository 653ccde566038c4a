//! What goes wrong on the way: workers that vanish with armed mails, and a relay that takes a mail and does not say so.

use crate::support::World;
use allclear::domain::id::DeliveryId;
use allclear::flow::claim;
use allclear::flow::lanes::Lanes;
use allclear::mail::sink::{Act, Answer, Phase, Script};
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};

#[derive(Default)]
pub struct Relay {
    silent_to: Arc<Mutex<HashSet<String>>>,
    silences: Arc<Mutex<usize>>,
    lost: Mutex<HashSet<DeliveryId>>,
}

impl Relay {
    /// Takes everything; to some it hangs up without a word after that.
    pub fn script(&self) -> Script {
        let (silent_to, silences) = (Arc::clone(&self.silent_to), Arc::clone(&self.silences));
        Script::default().answering(move |at, envelope, _| {
            let silent = at == Phase::Dot && silent_to.lock().unwrap().remove(&envelope.to);
            *silences.lock().unwrap() += usize::from(silent);
            silent.then_some(Answer { at, act: Act::TakeAndClose })
        })
    }

    /// In this minute, the next mail to some of these is taken without an answer.
    pub fn be_silent_to(&self, subscribers: &[String], random: &mut StdRng) {
        let mut silent_to = self.silent_to.lock().unwrap();
        for subscriber in subscribers {
            if random.random_ratio(1, 20) {
                silent_to.insert(format!("{subscriber}@example.net"));
            }
        }
    }

    pub fn answer_all(&self) {
        self.silent_to.lock().unwrap().clear();
    }

    pub fn unanswered(&self) -> usize {
        *self.silences.lock().unwrap()
    }

    /// Now and then a worker arms what is due, perhaps some of it, and is never heard of again; how many mails it had.
    /// No mail is lost twice: sent again once, it is then left alone, and a person looks.
    pub async fn crash(&self, w: &mut World, random: &mut StdRng) -> usize {
        if random.random_ratio(1, 10) {
            w.restart();
        }
        if !random.random_ratio(1, 3) {
            return 0;
        }
        let (setting, most) = (&*w.shared.setting, random.random_range(1..40));
        let stream = &setting.streams[random.random_range(0..2)];
        let mut tx = w.store.begin().await.unwrap();
        let mut lanes = Lanes::default();
        lanes.read(&mut tx, setting, stream).await.unwrap();
        let taken = claim::claim(&mut tx, setting, stream, "vanished", "", &mut lanes, most).await.unwrap();
        let ids: HashSet<DeliveryId> = taken.claimed.iter().map(|claimed| claimed.id).collect();
        let seen_before = {
            let mut lost = self.lost.lock().unwrap();
            let seen = !lost.is_disjoint(&ids);
            lost.extend(ids.iter().filter(|_| !seen));
            seen
        };
        if seen_before {
            return 0;
        }
        tx.commit().await.unwrap();
        ids.len()
    }
}
