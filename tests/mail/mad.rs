//! A relay that does anything at one phase, once, and is a plain relay otherwise.

use allclear::mail::Relay;
use allclear::mail::sink::Phase;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};

/// What the relay does instead of its usual reply, the first time a phase comes.
#[derive(Clone, Debug)]
pub enum Do {
    Say(Vec<u8>),
    Wait(Duration),
    /// Says this, one byte each interval.
    Drip(&'static str, Duration),
    /// Hangs up, with a TCP reset.
    Reset,
    Close,
    /// Keeps the connection, and neither reads nor writes again.
    Deaf,
}

pub fn say(text: &str) -> Do {
    Do::Say(text.as_bytes().to_vec())
}

pub fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The same bytes every second, for longer than any limit.
pub fn flood(bytes: &str) -> Vec<Do> {
    std::iter::repeat_n([say(bytes), Do::Wait(seconds(1))], 900).flatten().collect()
}

#[derive(Clone)]
pub struct Mad {
    pub at: Phase,
    pub acts: Vec<Do>,
    /// The capabilities beside the name, in the reply to EHLO.
    pub offers: &'static [&'static str],
    pub noops: Arc<AtomicU32>,
}

impl Mad {
    pub fn new(at: Phase, acts: &[Do], pipelining: bool) -> Self {
        let offers: &[&str] = if pipelining { &["PIPELINING"] } else { &[] };
        Self { at, acts: acts.to_vec(), offers, noops: Arc::default() }
    }

    /// Serves every connection to a port of its own.
    pub async fn start(&self) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Relay::local(listener.local_addr().unwrap().port());
        let mad = self.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let mad = mad.clone();
                tokio::spawn(async move { mad.serve(socket).await });
            }
        });
        relay
    }

    async fn serve(mut self, socket: TcpStream) -> Option<()> {
        socket.set_nodelay(true).ok()?;
        let mut wire = BufStream::new(socket);
        self.answer(&mut wire, Phase::Connect, "220 mad.test\r\n").await?;
        let mut line = Vec::new();
        while wire.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&std::mem::take(&mut line)).to_ascii_uppercase();
            match text.split_whitespace().next().unwrap_or_default() {
                "EHLO" => {
                    let offers: String = self.offers.iter().map(|offer| format!("250-{offer}\r\n")).collect();
                    self.answer(&mut wire, Phase::Ehlo, &format!("250-mad.test\r\n{offers}250 HELP\r\n")).await?;
                }
                "AUTH" => {
                    assert_eq!(text.trim(), "AUTH LOGIN");
                    for prompt in ["334 VXNlcm5hbWU6\r\n", "334 UGFzc3dvcmQ6\r\n"] {
                        self.say(&mut wire, prompt.as_bytes()).await?;
                        wire.read_until(b'\n', &mut line).await.ok()?;
                    }
                    let right = line.ends_with(b"dXNlcg==\r\ncGFzc3dvcmQ=\r\n");
                    line.clear();
                    self.say(&mut wire, if right { b"235 2.7.0 ok\r\n" } else { b"535 5.7.8 no\r\n" }).await?;
                }
                "MAIL" => self.answer(&mut wire, Phase::Mail, "250 2.1.0 ok\r\n").await?,
                "RCPT" => self.answer(&mut wire, Phase::Rcpt, "250 2.1.5 ok\r\n").await?,
                "DATA" => {
                    self.answer(&mut wire, Phase::Data, "354 go\r\n").await?;
                    while line != b".\r\n" {
                        line.clear();
                        if wire.read_until(b'\n', &mut line).await.ok()? == 0 {
                            return None;
                        }
                    }
                    line.clear();
                    self.answer(&mut wire, Phase::Dot, "250 2.0.0 taken\r\n").await?;
                }
                "NOOP" => {
                    self.noops.fetch_add(1, Ordering::SeqCst);
                    self.say(&mut wire, b"250 2.0.0 ok\r\n").await?;
                }
                _ => self.say(&mut wire, b"250 2.0.0 ok\r\n").await?,
            }
        }
        Some(())
    }

    async fn answer(&mut self, wire: &mut BufStream<TcpStream>, phase: Phase, usual: &str) -> Option<()> {
        if phase != self.at || self.acts.is_empty() {
            return self.say(wire, usual.as_bytes()).await;
        }
        for act in std::mem::take(&mut self.acts) {
            match act {
                Do::Say(bytes) => self.say(wire, &bytes).await?,
                Do::Wait(time) => tokio::time::sleep(time).await,
                Do::Drip(text, each) => {
                    for byte in text.bytes() {
                        tokio::time::sleep(each).await;
                        self.say(wire, &[byte]).await?;
                    }
                }
                Do::Reset => {
                    wire.get_ref().set_zero_linger().unwrap();
                    return None;
                }
                Do::Close => return None,
                Do::Deaf => std::future::pending().await,
            }
        }
        Some(())
    }

    async fn say(&self, wire: &mut BufStream<TcpStream>, bytes: &[u8]) -> Option<()> {
        wire.write_all(bytes).await.ok()?;
        wire.flush().await.ok()
    }
}
