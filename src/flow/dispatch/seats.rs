//! The sessions of a dispatcher: opened when there is work for them, given back when others wait for one.

use super::super::relation;
use super::super::sessions::Seat;
use super::{Dispatcher, Ended, count};
use crate::mail::{self, Session, Transport};
use crate::store::StoreError;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// A session nobody needs is given back after this.
const IDLE: Duration = Duration::from_secs(30);
/// After a session that could not be opened beside others, no more are asked for.
const GROW: Duration = Duration::from_secs(30);

/// A session, and the right to it.
pub(super) struct Seated {
    pub session: Session,
    pub seat: Seat,
    pub open: Arc<()>,
}

impl Seated {
    /// Says good-bye, which a relay may leave unanswered; the right ends with it.
    pub(super) fn close(self) -> impl Future<Output = Ended> {
        let Self { session, seat, open } = self;
        drop(open);
        async move {
            session.close().await;
            drop(seat);
            Ended::Aside
        }
    }
}

impl Dispatcher {
    pub(super) async fn not_opened(&mut self, e: &mail::OpenError) {
        tracing::warn!(stream = self.stream.name, "{e}; {}", e.hint());
        // What others are open takes the mail; asking for more again and again would only be refused.
        self.grow_at = Some(Instant::now() + GROW);
        if count(&self.open) > 0 {
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
        let idle = self.pool.take_idle(|s| all || s.session.idle_for() > IDLE);
        for seated in idle.into_iter().chain(self.pool.parting()) {
            // New work does not wait for it.
            tokio::spawn(seated.close());
        }
    }

    /// Whether there are sessions for mail to be claimed; opens some if there is more work than that. Trouble with the relay is
    /// probed by one session every now and then, and claims nothing: what is not claimed is not lost.
    pub(super) async fn provide_sessions(&mut self, busy: &mut JoinSet<Ended>) -> bool {
        let now = Instant::now();
        for mut seated in self.pool.take_idle(|s| !s.session.usable(now) || s.session.idle_for() > IDLE) {
            if seated.session.usable(now) && seated.session.alive().await {
                self.pool.give(seated);
            } else {
                busy.spawn(seated.close());
            }
        }
        let open = count(&self.open) + self.opening;
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
            busy.spawn(async move { Ended::Opening(open_session(&transport, seat).await) });
        }
        self.wanted() > 0
    }
}

async fn open_session(transport: &Transport, seat: Seat) -> Result<(Session, Seat), mail::OpenError> {
    Ok((Session::open(transport).await?, seat))
}
