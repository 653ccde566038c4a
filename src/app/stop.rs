//! How `serve` ends: told to by the system, or because it has lost its name. The name is kept until the last loop has ended.

use super::REST;
use crate::flow::trouble::Trouble;
use crate::store::{Store, StoreError, nodes};
use std::time::{Duration, Instant};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// How long a process that stops waits for those who talk with it over HTTP, and one that lost its name for its own loops; who
/// still talks then goes on for as long as mail is on the wire.
const HANGING_UP: Duration = Duration::from_secs(5);

/// What tells `serve` to stop: TERM, INT, and HUP of a terminal that is closed. Heard from when this is made, else a signal in
/// the first moment would simply kill.
#[cfg(unix)]
pub(super) struct Signals(Vec<tokio::signal::unix::Signal>);

#[cfg(unix)]
impl Signals {
    pub fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut kinds = vec![SignalKind::terminate(), SignalKind::interrupt()];
        if !ignores_hangup() {
            kinds.push(SignalKind::hangup());
        }
        kinds.into_iter().map(signal).collect::<std::io::Result<_>>().map(Self)
    }

    async fn next(&mut self) {
        futures_util::future::select_all(self.0.iter_mut().map(|signal| Box::pin(signal.recv()))).await;
    }
}

/// Whoever started this with `nohup` wants it to outlive the terminal: it is started with HUP, the first of the mask, ignored.
#[cfg(unix)]
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(not(unix))]
pub(super) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Signals {
    /// The first ends the taking of work and lets attempts finish, the second leaves the rest to their leases.
    pub async fn watch(mut self, stop: CancellationToken) {
        self.next().await;
        tracing::info!("stopping: no new work is taken, what is on the wire is finished; once more to stop at once");
        stop.cancel();
        self.next().await;
        tracing::warn!("stopped at once: what was on the wire comes back when its lease ends");
        std::process::exit(1);
    }
}

/// Serves HTTP until it is told to stop, and no longer: whoever still talks, or only keeps a connection, does not keep this
/// process.
pub(super) async fn served(http: impl Future<Output = std::io::Result<()>>, stop: CancellationToken) {
    tokio::select! {
        ended = http => if let Err(e) = ended {
            tracing::error!(error = %e, "the HTTP face ended: {e}");
        },
        () = hanging_up(&stop) => {}
    }
}

/// The end of what does not keep a process that stops.
pub(super) async fn hanging_up(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(HANGING_UP).await;
}

/// The node's name, held beside everything else.
pub(super) struct Name {
    holding: JoinHandle<(nodes::Node, Option<StoreError>)>,
    done: CancellationToken,
}

impl Name {
    /// Holds it; `stop` is told when it is lost.
    pub fn hold(node: nodes::Node, store: Store, stop: CancellationToken) -> Self {
        let done = CancellationToken::new();
        Self { holding: tokio::spawn(hold(node, store, stop, done.clone())), done }
    }

    /// Waits for the loops, then gives it back.
    ///
    /// # Errors
    /// When it was lost.
    pub async fn until_ended(mut self, mut loops: JoinSet<()>, store: &Store) -> Result<(), StoreError> {
        let mut ended = async || while loops.join_next().await.is_some() {};
        let held = tokio::select! {
            biased;
            lost = &mut self.holding => {
                // Nobody to wait for for long: another takes this one for dead, or there is no way to the database.
                let _ = tokio::time::timeout(HANGING_UP, ended()).await;
                lost
            }
            () = ended() => {
                self.done.cancel();
                self.holding.await
            }
        };
        let (node, lost) = held.unwrap_or_else(|fault| std::panic::resume_unwind(fault.into_panic()));
        if let Some(lost) = lost {
            return Err(lost);
        }
        // What is remembered of a node that ended costs the next one a look whether it lives.
        if let Err(e) = StoreError::in_time("give back the name", node.leave(store)).await {
            tracing::warn!(error = %e, "the name of this node is not given back: {e}");
        }
        Ok(())
    }
}

/// Holds a name until everything is done; a node that lost it stops, since another takes it for dead. What it was lost by comes
/// with it: until it is dropped nobody else has the name.
async fn hold(
    mut node: nodes::Node,
    store: Store,
    stop: CancellationToken,
    done: CancellationToken,
) -> (nodes::Node, Option<StoreError>) {
    // A fault of the program here would let go of the name, too.
    let _stop = stop.drop_guard();
    let mut trouble = Trouble::default();
    loop {
        let held = tokio::select! { held = node.hold(&store) => held, () = done.cancelled() => return (node, None) };
        match held {
            Err(e @ StoreError::Unfit { .. }) => {
                tracing::error!("stopping: {e}; {}", e.hint());
                return (node, Some(e));
            }
            Err(e) => {
                if let Some(times) = trouble.again(Instant::now(), &e.to_string()) {
                    tracing::warn!(times, "the name of this node cannot be held: {e}");
                }
            }
            Ok(()) => {
                if trouble.over() > 0 {
                    tracing::info!("the name of this node is held again");
                }
            }
        }
        tokio::select! { () = tokio::time::sleep(REST) => {} () = done.cancelled() => return (node, None) }
    }
}
