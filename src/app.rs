//! The application: wires the stages, the HTTP face and the signals of the operating system together.

mod stop;
mod wakes;

use crate::cli::Failure;
use crate::config::Config;
use crate::flow::archive::Archive;
use crate::flow::copies::Copies;
use crate::flow::dispatch::{Dispatcher, Shared};
use crate::flow::setting::{Setting, transports};
use crate::flow::spill::Spill;
use crate::flow::trouble::Trouble;
use crate::flow::{alert, caught, sweep, worker};
use crate::http::{Api, router};
use crate::mail::{OpenError, Tls, Transport, check_plaintext};
use crate::store::open::Connections;
use crate::store::{Clock, Store, StoreError, nodes, streams};
use crate::template::{Page, TemplateError, Templates};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use stop::{Name, Signals};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wakes::Wakes;

/// How many loops share the slots of a stream: enough to keep two cores busy.
const GROUPS: usize = 2;
/// How long a loop rests after a failure of the database.
const REST: Duration = Duration::from_secs(1);
/// How long the start waits for the name service.
const NAME_SERVICE: Duration = Duration::from_secs(5);

/// Why the application cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A relay.
    #[error(transparent)]
    Relay(#[from] OpenError),
    /// The templates.
    #[error("the templates cannot be used: {0}")]
    Template(#[from] TemplateError),
    /// The address to listen on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Where outcomes go that cannot be recorded.
    #[error("the spill file {path} cannot be written: {source}")]
    Spill {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It ended with outcomes that only it knew.
    #[error("what became of {0} mails could neither be recorded nor spilled")]
    Unrecorded(usize),
    /// Listening for the signals that end it.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
}

impl AppError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Store(e) => e.hint(),
            Self::Relay(e) => e.hint().to_owned(),
            Self::Template(e) => format!("{}; `allclear templates check` lists all there is", e.hint()),
            Self::Listen { .. } => "choose another `http.listen`, or stop what listens there".to_owned(),
            Self::Spill { .. } => "make its folder and let this user write it, or set `dispatch.spill_file`".to_owned(),
            Self::Unrecorded(_) => {
                "look after the database and the disk of `dispatch.spill_file`; some of these mails may come twice"
                    .to_owned()
            }
            Self::Signals(_) => "look for what limits this process, such as its number of open files".to_owned(),
        }
    }
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        let hint = error.hint();
        match error {
            AppError::Store(error) => error.into(),
            error => Self::new(crate::cli::FAILURE, error.to_string(), hint),
        }
    }
}

/// Opens the database of a configuration and brings it up to date.
///
/// # Errors
/// When it cannot be reached or is not fit.
pub async fn open(config: &Config) -> Result<Store, StoreError> {
    let connections = Connections { sqlite_readers: config.database.readers, postgres: config.database.connections };
    Store::open(config.database.url.expose(), connections, Clock::Database).await
}

/// Serves until it is told to stop: the first signal ends the taking of work and lets attempts finish, the second
/// leaves the rest to their leases.
///
/// # Errors
/// When it cannot start, or has lost its name; once started it survives a database that goes away and comes back, unless its
/// connections never hear of it.
pub async fn serve(config: &Config) -> Result<(), AppError> {
    check_relays(config).await?;
    let templates = Templates::overlaid(config.templates.folder.as_deref(), &Page::of(config))?;
    let store = open(config).await?;
    // Which of the host's names has its outcomes in this folder.
    let named = config.dispatch.spill_file.with_extension("node");
    let before = std::fs::read_to_string(&named).ok();
    let node = nodes::take(&store, config.dispatch.node.as_deref(), before.as_deref(), &config.dispatch.host).await?;
    let setting = Arc::new(Setting::of(config));
    let shared = Shared {
        store: store.clone(),
        copies: Arc::new(Copies::new(&setting, &templates, config.retention.mail_copies)),
        setting,
        templates: Arc::new(templates),
        owner: node.owner.clone(),
        spill: Spill::new(config.dispatch.spill_file.clone()),
        dialogue: config.dispatch.dialogue.to_std(),
        watch: Default::default(),
        archive: Arc::new(Archive::new(config.retention.archive_after)),
    };
    let unfit = |source| AppError::Spill { path: config.dispatch.spill_file.display().to_string(), source };
    shared.spill.append(&[]).and_then(|()| std::fs::write(&named, &node.name)).map_err(unfit)?;
    // Outcomes that could not be recorded go first: what they decide must not be taken for lost.
    shared.spill.merge(&store, &shared.setting, &node.owner).await?;
    while sweep::reap_left_behind(&store, &shared.setting, &node.owner).await? {}
    let mut tx = store.begin().await?;
    streams::probe_now(&mut tx).await?;
    tx.commit().await?;
    let listener = tokio::net::TcpListener::bind(config.http.listen)
        .await
        .map_err(|source| AppError::Listen { address: config.http.listen, source })?;
    let address = listener.local_addr().unwrap_or(config.http.listen);
    let signals = Signals::listen().map_err(AppError::Signals)?;
    tracing::info!(node = node.owner, "serving on http://{address} with {}", store.kind());

    let stop = CancellationToken::new();
    let dispatchers = worker::dispatchers(&shared, &transports(config), GROUPS);
    let mut bells: Vec<_> = dispatchers.iter().map(|dispatcher| Arc::clone(dispatcher.bell())).collect();
    bells.dedup_by(|a, b| Arc::ptr_eq(a, b));
    let wakes = Wakes { send: bells, ..Wakes::default() };
    let poll = config.dispatch.poll.to_std();
    let (mut loops, unrecorded) = (tokio::task::JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    let waking = wakes.clone();
    let plan = move |shared: Shared, mut sure: bool| {
        let wakes = waking.clone();
        async move {
            // What was planned leaves while more is planned.
            while worker::plan_some(&shared, std::mem::take(&mut sure)).await? {
                wakes.planned();
            }
            Ok(())
        }
    };
    let waking = wakes.clone();
    let recover = move |shared: Shared, ()| {
        let wakes = waking.clone();
        async move {
            if worker::recover_all(&shared).await? {
                wakes.swept();
            }
            Ok(())
        }
    };
    loops.spawn(stage_loop("planning", plan, shared.clone(), wakes.plan.subscribe(), poll, stop.clone()));
    loops.spawn(stage_loop("the sweep", recover, shared.clone(), wakes.sweep.subscribe(), poll, stop.clone()));
    loops.spawn(alert_loop(shared.clone(), wakes.post.subscribe(), poll, stop.clone()));
    for dispatcher in dispatchers {
        loops.spawn(dispatch_loop(dispatcher, poll, stop.clone(), Arc::clone(&unrecorded)));
    }
    // The other nodes are told that there is work, and theirs wakes this one.
    loops.spawn(tell_loop(store.clone(), shared.owner.clone(), wakes.tell.subscribe(), stop.clone()));
    loops.spawn(listen_loop(store.clone(), shared.owner.clone(), wakes.clone(), stop.clone()));
    let api = Api { store: store.clone(), setting: shared.setting.clone(), max_body_bytes: config.http.max_body_bytes };
    let routes = router(api).layer(axum::middleware::from_fn_with_state(wakes, woken_by));
    let name = Name::hold(node, store.clone(), stop.clone());
    let stopping = stop.clone();
    let http = axum::serve(listener, routes).with_graceful_shutdown(async move { stopping.cancelled().await });
    tokio::spawn(signals.watch(stop.clone()));
    stop::served(http.into_future(), stop).await;
    name.until_ended(loops, &store).await?;
    let left = unrecorded.load(Ordering::SeqCst);
    if left > 0 {
        return Err(AppError::Unrecorded(left));
    }
    tracing::info!("stopped; nothing is on the wire");
    Ok(())
}

/// Wakes those for whom a request may have made work.
async fn woken_by(State(wakes): State<Wakes>, request: Request, next: Next) -> Response {
    let (path, reads) = (request.uri().path().to_owned(), request.method().is_safe());
    let response = next.run(request).await;
    wakes.answered(&path, reads, response.status() == StatusCode::ACCEPTED);
    response
}

/// Refuses a relay that would get mail in the clear beyond this machine, where that is known already: a name that
/// is not answered for soon must not keep the API down.
async fn check_relays(config: &Config) -> Result<(), OpenError> {
    for transport in transports(config).values() {
        if let Transport::Smtp(relay) = transport
            && relay.tls == Tls::None
            && let Ok(refused @ Err(_)) = tokio::time::timeout(NAME_SERVICE, check_plaintext(relay)).await
        {
            return refused;
        }
    }
    Ok(())
}

/// Rests until there may be work; whether somebody woke it.
async fn rest<T>(woken: impl Future, round: Round<T>, poll: Duration, stop: &CancellationToken) -> bool {
    match round {
        Round::Again => false,
        Round::Failed => tokio::select! { () = tokio::time::sleep(REST) => false, () = stop.cancelled() => false },
        Round::Done(_) => tokio::select! {
            _ = woken => true,
            () = tokio::time::sleep(poll) => false,
            () = stop.cancelled() => false,
        },
    }
}

/// A stage that leaves work to the others; it is told what it was woken with.
async fn stage_loop<W: Copy + Default, F: Future<Output = Result<(), StoreError>>>(
    what: &'static str,
    stage: impl Fn(Shared, W) -> F,
    shared: Shared,
    mut woken: watch::Receiver<W>,
    poll: Duration,
    stop: CancellationToken,
) {
    let (mut with, mut trouble) = (W::default(), Trouble::default());
    while !stop.is_cancelled() {
        // What it has not committed is done by whoever comes next.
        let done = tokio::select! {
            done = round(what, &mut trouble, stage(shared.clone(), with)) => done,
            () = stop.cancelled() => return,
        };
        let is_woken = rest(woken.changed(), done, poll, &stop).await;
        with = if is_woken { *woken.borrow() } else { W::default() };
    }
}

/// Posts to the operators' system, which may be slow to answer: nobody waits for it.
async fn alert_loop(shared: Shared, mut woken: watch::Receiver<()>, poll: Duration, stop: CancellationToken) {
    if shared.setting.operators.webhook.is_none() {
        return;
    }
    let mut trouble = Trouble::default();
    while !stop.is_cancelled() {
        let posted = tokio::select! {
            posted = round("telling the operators", &mut trouble, alert::post(&shared)) => posted,
            () = stop::hanging_up(&stop) => return,
        };
        let posted = if matches!(posted, Round::Done(true)) { Round::Again } else { posted };
        rest(woken.changed(), posted, poll.max(REST), &stop).await;
    }
}

/// Tells the other nodes that there is work here; what comes meanwhile is told with the next.
async fn tell_loop(store: Store, owner: String, mut saying: watch::Receiver<()>, stop: CancellationToken) {
    let telling = async {
        while saying.changed().await.is_ok() {
            if let Err(e) = store.tell(&owner).await {
                tracing::debug!(error = %e, "the other nodes are not told: {e}");
            }
        }
    };
    tokio::select! { () = telling => {} () = stop.cancelled() => {} }
}

/// Wakes who plans and sweeps when another node has work.
async fn listen_loop(store: Store, owner: String, wakes: Wakes, stop: CancellationToken) {
    let hearing = async {
        loop {
            match store.listen(&owner).await {
                Ok(None) => return,
                Ok(Some(mut news)) => {
                    while news.next().await.is_ok() {
                        wakes.came_in();
                    }
                }
                Err(e) => tracing::debug!(error = %e, "the other nodes are not heard: {e}"),
            }
            tokio::time::sleep(REST).await;
        }
    };
    tokio::select! { () = hearing => {} () = stop.cancelled() => {} }
}

/// Dispatches until it is told to stop; adds how many outcomes it could then keep nowhere.
async fn dispatch_loop(
    mut dispatcher: Dispatcher,
    poll: Duration,
    stop: CancellationToken,
    unrecorded: Arc<AtomicUsize>,
) {
    let (bell, mut trouble) = (Arc::clone(dispatcher.bell()), Trouble::default());
    while !stop.is_cancelled() {
        let drained = round("dispatching", &mut trouble, dispatcher.drain(|| stop.is_cancelled())).await;
        let poll = if dispatcher.is_paced() { poll.min(REST) } else { poll };
        rest(bell.notified(), drained, poll, &stop).await;
    }
    let left: Vec<_> = dispatcher.unrecorded().collect();
    if !left.is_empty() {
        tracing::error!("stopped though what became of these could neither be recorded nor spilled: {left:?}");
        unrecorded.fetch_add(left.len(), Ordering::SeqCst);
    }
}

/// How a round of a loop ended.
enum Round<T> {
    Done(T),
    /// Another node had what it wanted: it begins anew at once.
    Again,
    /// It is tried again after a rest.
    Failed,
}

/// A round of a loop; that it failed is told, and that it works again. A panic ends the round and never the loop: the process
/// would go on taking in what nobody plans or sends.
async fn round<T>(what: &str, trouble: &mut Trouble, work: impl Future<Output = Result<T, StoreError>>) -> Round<T> {
    let told = match caught::round(work).await {
        Ok(Ok(done)) => {
            let times = trouble.over();
            if times > 0 {
                tracing::info!("{what} works again, having failed {times} times");
            }
            return Round::Done(done);
        }
        Ok(Err(e)) if e.is_turned_back() => {
            tracing::info!(error = %e, "{what} met another node, and begins anew: {e}");
            return Round::Again;
        }
        Ok(Err(e)) => format!("{what} failed, and is tried again: {e}; {}", e.hint()),
        Err(panic) => format!("{what} met a fault of the program, and is tried again: {panic}"),
    };
    if let Some(times) = trouble.again(Instant::now(), &told) {
        tracing::error!(times, "{told}");
    }
    Round::Failed
}
