//! Somebody between a node and its relay who cuts, delays, drips, resets and falls silent, each connection as it is told.

#![allow(dead_code)]

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Whose bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The node's.
    Up,
    /// The relay's.
    Down,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Close,
    /// With a TCP reset.
    Reset,
    /// Not at all: nothing is carried any more, and neither side hears of it.
    Silence,
    /// An error for an answer, and on it goes.
    Error,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    None,
    /// After so many bytes.
    After(Way, usize, End),
    /// Each answer comes so late.
    Late(Duration),
    /// Answers come byte by byte, so far apart.
    Drip(Duration),
    /// At the node's QUIT.
    Quit(End),
}

type Plan = dyn Fn(u64) -> Fault + Send + Sync;

struct State {
    relay: AtomicU16,
    plan: Box<Plan>,
    down: AtomicBool,
    calm: AtomicBool,
    taken: Mutex<Vec<Instant>>,
    struck: AtomicU64,
    mute: AtomicUsize,
    most_mute: AtomicUsize,
}

pub struct Cut {
    pub port: u16,
    state: Arc<State>,
}

impl Cut {
    /// Stands before a relay at a port of this machine; `plan` says what befalls the n-th connection, from 0.
    pub async fn before(relay: u16, plan: impl Fn(u64) -> Fault + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            relay: AtomicU16::new(relay),
            plan: Box::new(plan),
            down: AtomicBool::new(false),
            calm: AtomicBool::new(false),
            taken: Mutex::default(),
            struck: AtomicU64::new(0),
            mute: AtomicUsize::new(0),
            most_mute: AtomicUsize::new(0),
        });
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let nth = {
                    let mut taken = shared.taken.lock().unwrap();
                    taken.push(Instant::now());
                    taken.len() as u64 - 1
                };
                if shared.down.load(SeqCst) {
                    continue;
                }
                let state = shared.clone();
                tokio::spawn(async move { state.carry(client, (state.plan)(nth)).await });
            }
        });
        Self { port, state }
    }

    /// Down: hangs up on whoever comes. Who is there stays.
    pub fn set_down(&self, down: bool) {
        self.state.down.store(down, SeqCst);
    }

    /// Stands before another relay from now on.
    pub fn lead_to(&self, relay: u16) {
        self.state.relay.store(relay, SeqCst);
    }

    /// Nothing befalls any connection any more.
    pub fn calm(&self) {
        self.state.calm.store(true, SeqCst);
    }

    /// When each connection came.
    pub fn taken(&self) -> Vec<Instant> {
        self.state.taken.lock().unwrap().clone()
    }

    /// How many faults have befallen connections.
    pub fn struck(&self) -> u64 {
        self.state.struck.load(SeqCst)
    }

    /// The most connections there were at once on which a QUIT got no answer.
    pub fn most_mute(&self) -> usize {
        self.state.most_mute.load(SeqCst)
    }
}

impl State {
    async fn carry(&self, mut client: TcpStream, fault: Fault) -> Option<()> {
        let mut relay = TcpStream::connect(("127.0.0.1", self.relay.load(SeqCst))).await.ok()?;
        client.set_nodelay(true).ok()?;
        relay.set_nodelay(true).ok()?;
        let (mut from_client, mut from_relay) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
        let mut carried = [0; 2];
        loop {
            let (way, mut bytes) = tokio::select! {
                read = client.read(&mut from_client) => (Way::Up, from_client[..read.ok()?].to_vec()),
                read = relay.read(&mut from_relay) => (Way::Down, from_relay[..read.ok()?].to_vec()),
            };
            if bytes.is_empty() {
                return None;
            }
            let sum = &mut carried[usize::from(way == Way::Down)];
            let mut end = None;
            let fault = if self.calm.load(SeqCst) { Fault::None } else { fault };
            match fault {
                Fault::After(of, after, how) if of == way && *sum + bytes.len() > after => {
                    bytes.truncate(after - *sum);
                    end = Some(how);
                }
                Fault::Quit(how) if way == Way::Up && bytes.starts_with(b"QUIT") => {
                    bytes.clear();
                    end = Some(how);
                }
                Fault::Late(by) if way == Way::Down => {
                    self.struck.fetch_add(1, SeqCst);
                    tokio::time::sleep(by).await;
                }
                _ => {}
            }
            *sum += bytes.len();
            let to = if way == Way::Up { &mut relay } else { &mut client };
            if let (Fault::Drip(apart), Way::Down) = (fault, way) {
                self.struck.fetch_add(1, SeqCst);
                for byte in bytes {
                    tokio::time::sleep(apart).await;
                    to.write_all(&[byte]).await.ok()?;
                }
            } else {
                to.write_all(&bytes).await.ok()?;
            }
            let Some(how) = end else { continue };
            self.struck.fetch_add(1, SeqCst);
            match how {
                End::Close => return None,
                End::Reset => {
                    client.set_zero_linger().ok()?;
                    return None;
                }
                End::Error => client.write_all(b"500 5.5.1 what?\r\n").await.ok()?,
                End::Silence => {
                    let mute = self.mute.fetch_add(1, SeqCst) + 1;
                    self.most_mute.fetch_max(mute, SeqCst);
                    // Until the node gives it up.
                    while client.read(&mut from_client).await.is_ok_and(|read| read > 0) {}
                    self.mute.fetch_sub(1, SeqCst);
                    // The relay hears nothing of that.
                    return std::future::pending().await;
                }
            }
        }
    }
}
