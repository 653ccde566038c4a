//! A scripted relay on this machine, for the demo, the tests and the benches. It takes mail, keeps or
//! counts it, and can be told to answer, stall, hang up or be down.

mod session;
mod wire;

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The points of a dialogue where a script can step in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The greeting.
    Connect,
    /// EHLO or HELO.
    Ehlo,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The mail has been read whole.
    Dot,
}

/// What the sink does instead of its usual answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Says this line, such as `451 4.7.1 try later`; 2xx and 3xx also do what the command asks.
    Reply(String),
    /// Hangs up without a word.
    Close,
    /// Says nothing more, and keeps the connection.
    Stall,
    /// Says this line and hangs up.
    CloseAfterReply(String),
    /// At [`Phase::Dot`]: takes the mail and hangs up without saying so. Elsewhere as [`Act::Close`].
    TakeAndClose,
}

/// One scripted answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When.
    pub at: Phase,
    /// What.
    pub act: Act,
}

impl Answer {
    /// The given line at the given point.
    #[must_use]
    pub fn reply(at: Phase, line: &str) -> Self {
        Self { at, act: Act::Reply(line.to_owned()) }
    }
}

/// What is known when a script is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The sender, from MAIL on.
    pub from: String,
    /// The recipient, from RCPT on.
    pub to: String,
}

/// A script's closure.
pub type Answers = dyn Fn(Phase, &Envelope, u32) -> Option<Answer> + Send + Sync;

/// How the sink behaves.
#[derive(Clone)]
pub struct Script {
    /// Offers PIPELINING.
    pub pipelining: bool,
    /// Offers 8BITMIME.
    pub eight_bit: bool,
    /// Offers SMTPUTF8.
    pub utf8: bool,
    /// Offers ENHANCEDSTATUSCODES, and says them.
    pub enhanced: bool,
    /// Wants this user and password before MAIL.
    pub login: Option<(String, String)>,
    /// Keeps the mails; else it only counts, in constant memory.
    pub keep: bool,
    /// Waits this long before each answer, as a relay far away would.
    pub latency: Duration,
    /// Hangs up on whoever is silent for so long within a mail's dialogue.
    pub patience: Option<Duration>,
    /// The scripted answers; see [`Script::answering`].
    pub answers: Option<Arc<Answers>>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            pipelining: true,
            eight_bit: true,
            utf8: true,
            enhanced: true,
            login: None,
            keep: true,
            latency: Duration::ZERO,
            patience: None,
            answers: None,
        }
    }
}

impl Script {
    /// A sink that only counts.
    #[must_use]
    pub fn counting() -> Self {
        Self { keep: false, ..Self::default() }
    }

    /// Asks the closure at every point: with the envelope as far as it is known and, from RCPT on, the
    /// how-many-th try for this recipient it is (before that: the how-many-th session), counted from 1.
    /// An answer for another point is passed over.
    #[must_use]
    pub fn answering(self, answers: impl Fn(Phase, &Envelope, u32) -> Option<Answer> + Send + Sync + 'static) -> Self {
        Self { answers: Some(Arc::new(answers)), ..self }
    }

    /// The same answer every time.
    #[must_use]
    pub fn always(self, answer: Answer) -> Self {
        self.answering(move |_, _, _| Some(answer.clone()))
    }
}

/// A mail the sink has taken; one for each recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The envelope's recipient.
    pub to: String,
    /// The envelope's sender.
    pub from: String,
    /// The Message-ID header's value.
    pub message_id: String,
    /// The Subject header's value, unfolded but as encoded.
    pub subject: String,
    /// The whole mail, as it was before dots were doubled.
    pub body: Vec<u8>,
    /// When its DATA command was read.
    pub begun: Instant,
    /// When its final dot was read.
    pub at: Instant,
}

/// What all sessions share.
struct Shared {
    pub script: Script,
    pub mails: Mutex<Vec<Received>>,
    pub attempts: Mutex<HashMap<String, u32>>,
    pub count: AtomicU64,
    pub bytes: AtomicU64,
    pub sessions: AtomicU64,
    pub open: AtomicU64,
    pub most_open: AtomicU64,
    pub early: AtomicU64,
    pub taken: Notify,
    down: AtomicBool,
    up: Mutex<CancellationToken>,
}

/// A running sink; dropping it ends it and its sessions.
pub struct Sink {
    port: u16,
    shared: Arc<Shared>,
    accepting: tokio::task::AbortHandle,
}

impl Sink {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(script: Script) -> io::Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST, script).await
    }

    /// Listens on a free port of an address of this machine, for those in other network namespaces.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start_at(address: Ipv4Addr, script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind((address, 0)).await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            script,
            mails: Mutex::default(),
            attempts: Mutex::default(),
            count: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
            open: AtomicU64::new(0),
            most_open: AtomicU64::new(0),
            early: AtomicU64::new(0),
            taken: Notify::new(),
            down: AtomicBool::new(false),
            up: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { port, shared, accepting })
    }

    /// The port it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The mails kept so far.
    #[must_use]
    pub fn mails(&self) -> Vec<Received> {
        lock(&self.shared.mails).clone()
    }

    /// The mails kept since this was last asked, which are then forgotten: for more of them than memory holds.
    #[must_use]
    pub fn take_mails(&self) -> Vec<Received> {
        std::mem::take(&mut lock(&self.shared.mails))
    }

    /// The mails taken so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.shared.count.load(Ordering::Relaxed)
    }

    /// Their bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// The connections taken so far.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.shared.sessions.load(Ordering::Relaxed)
    }

    /// The most connections there were at once.
    #[must_use]
    pub fn most_open(&self) -> u64 {
        self.shared.most_open.load(Ordering::Relaxed)
    }

    /// The commands that came before the reply to the one before them: pipelining, wanted or not.
    #[must_use]
    pub fn early_commands(&self) -> u64 {
        self.shared.early.load(Ordering::Relaxed)
    }

    /// Waits until this many mails have been taken.
    pub async fn wait_for(&self, count: u64) {
        loop {
            let taken = self.shared.taken.notified();
            tokio::pin!(taken);
            // Registered before looking, or a mail taken in between would go unnoticed.
            taken.as_mut().enable();
            if self.count() >= count {
                return;
            }
            taken.await;
        }
    }

    /// Down: ends all sessions and hangs up on new ones at once. Up again: on the same port.
    pub fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::SeqCst);
        let mut up = lock(&self.shared.up);
        up.cancel();
        if !down {
            *up = CancellationToken::new();
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.accepting.abort();
        lock(&self.shared.up).cancel();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: let other tasks return some.
            tokio::task::yield_now().await;
            continue;
        };
        let up = lock(&shared.up).clone();
        if shared.down.load(Ordering::SeqCst) {
            continue;
        }
        let session = shared.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let _ = up.run_until_cancelled(session::run(socket, &shared, session)).await;
        });
    }
}

/// A poisoned lock holds counts and mails that are whole all the same.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
