//! The sessions of a dispatcher: opened when there is work for them, given back when others wait for one.

use super::super::relation;
use super::super::sessions::Seat;
use super::{Dispatcher, Ended};
use crate::mail::{self, Session, Transport};
use crate::store::StoreError;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// A session nobody needs is given back after this.
const IDLE: Duration = Duration::from_secs(30);
/// A busy stream gives a session to one that has waited for it so long.
const PATIENCE: Duration = Duration::from_secs(2);
/// After a session that could not be opened beside others, no more are asked for.
const GROW: Duration = Duration::from_secs(30);

/// A session, and the right to it.
pub(super) struct Seated {
    pub session: Session,
    seat: Seat,
}

impl Seated {
    /// Says good-bye, which a relay may leave unanswered; the right ends with it.
    async fn close(self) {
        self.session.close().await;
        drop(self.seat);
    }
}

impl Dispatcher {
    pub(super) async fn not_opened(&mut self, e: &mail::OpenError) {
        tracing::warn!(stream = self.stream.name, "{e}; {}", e.hint());
        // What others are open takes the mail; asking for more again and again would only be refused.
        self.grow_at = Some(Instant::now() + GROW);
        if self.dialogues + self.idle.len() > 0 {
            return;
        }
        let told = async {
            self.sessions.unreachable(self.shared.store.read().await?.now());
            let others = self.sessions.any();
            relation::not_let_in(&self.shared.store, &self.stream, e, others, &self.shared.owner).await
        };
        self.trouble = StoreError::in_time("tell of the relay", told).await.err();
        self.lanes_at = None;
        self.lanes.open.clear();
    }

    pub(super) async fn opened(&mut self) {
        if self.sessions.reached() {
            let told = relation::let_in(&self.shared.store, &self.stream, &self.shared.owner);
            // What is not taken back is not believed for long.
            if let Err(e) = StoreError::in_time("tell of the relay", told).await {
                tracing::warn!(stream = self.stream.name, "the relay is reached again, which could not be noted: {e}");
            }
        }
    }

    /// Nothing to do: what others wait for, or nobody has needed for a while, is given back.
    pub(super) async fn rest(&mut self) {
        if self.lanes.open.is_empty() {
            self.sessions.content(self.number);
        }
        let all = self.sessions.others_wait(self.number, Duration::ZERO);
        for seated in self.idle.extract_if(.., |s| all || s.session.idle_for() > IDLE) {
            // New work does not wait for it.
            tokio::spawn(seated.close());
        }
    }

    /// Whether a session is open and idle; opens some if there is more work than that. Trouble with the relay is
    /// probed by one session every now and then, and claims nothing: what is not claimed is not lost.
    pub(super) async fn provide_sessions(&mut self, busy: &mut JoinSet<Ended>) -> bool {
        let now = Instant::now();
        let mut kept = Vec::new();
        for mut seated in self.idle.drain(..) {
            if seated.session.usable(now) && seated.session.alive().await {
                kept.push(seated);
            } else {
                busy.spawn(closing(seated));
            }
        }
        self.idle = kept;
        if self.sessions.others_wait(self.number, PATIENCE)
            && let Some(seated) = self.idle.pop()
        {
            busy.spawn(closing(seated));
            return !self.idle.is_empty();
        }
        let open = self.dialogues + self.opening + self.idle.len();
        // One mail needs one session; where work is plenty, as many again as there are.
        let more = match open {
            0 => 1,
            _ if self.hungry && self.grow_at.is_none_or(|at| now >= at) => open.min(self.slots.saturating_sub(open)),
            _ => 0,
        };
        for _ in 0..more {
            let Some(seat) = self.sessions.take(self.number, open) else { break };
            let transport = self.transport.clone();
            self.opening += 1;
            busy.spawn(async move { Ended::Opening(open_seated(&transport, seat).await) });
        }
        !self.idle.is_empty()
    }
}

async fn closing(seated: Seated) -> Ended {
    seated.close().await;
    Ended::Aside
}

async fn open_seated(transport: &Transport, seat: Seat) -> Result<Seated, mail::OpenError> {
    Ok(Seated { session: Session::open(transport).await?, seat })
}
