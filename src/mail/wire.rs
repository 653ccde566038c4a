//! The streams under lettre's connection, where its own would not do.

use crate::failpoint;
use futures_util::io::{AsyncRead as FuturesRead, AsyncWrite as FuturesWrite};
use lettre::transport::smtp::client::{AsyncTokioStream, TlsParameters};
use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

// lettre marks its stream as "not meant to be public", but has no other way to TLS over a socket of ours.
#[allow(deprecated)]
type LettreStream = lettre::transport::smtp::client::AsyncNetworkStream;

/// The longest line of a reply that is kept; RFC 5321 allows 512 bytes, lettre gives up at 1,000.
const LONGEST: usize = 900;

/// The most lines of a reply that are kept, besides its last: lettre reads all of them again for each one more.
const MOST: usize = 100;

/// Whatever is longer and written at once is a mail.
const LONGEST_COMMAND: usize = 1_500;

/// A plain stream before STARTTLS that hands out at most one line a read, and gives the socket back.
///
/// lettre keeps what it has read ahead when the stream changes. Whoever sits on the wire could append
/// replies to the plaintext `220` and have them read as if they had come through TLS, each later reply
/// then answering the command before it (the CVE-2021-38370 class). With nothing read ahead, such bytes
/// reach the TLS handshake instead, which fails.
#[derive(Debug)]
pub(super) struct Lines(pub Arc<TcpStream>);

impl AsyncRead for Lines {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut ahead = [0; 512];
        let mut ahead = ReadBuf::new(&mut ahead);
        let seen = ready!(self.0.poll_peek(cx, &mut ahead))?;
        let line = ahead.filled().iter().position(|b| *b == b'\n').map_or(seen, |end| end + 1);
        let mut part = vec![0; line.min(buf.remaining())];
        // What was just seen is there to be read.
        let read = self.0.try_read(&mut part)?;
        buf.put_slice(&part[..read]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Lines {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncTokioStream for Lines {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.peer_addr()
    }
}

/// A stream whose replies lettre can read, whatever the relay sends: lines are cut at [`LONGEST`] bytes and
/// replies at [`MOST`] lines, so that endless ones cost neither memory nor time; bytes that are not UTF-8 are replaced, so that a reply in Latin-1
/// is still a reply; a lone LF and a code without text are completed; lines with other codes than the refusal they belong to get
/// its code. One reply a read, so that lettre never holds one that was not asked for.
#[derive(Debug)]
pub(super) struct Replies<S> {
    inner: S,
    raw: Vec<u8>,
    /// The lines of a reply before its last.
    held: Vec<String>,
    reply: Vec<u8>,
    wrote_mail: bool,
}

impl<S> Replies<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, raw: Vec::new(), held: Vec::new(), reply: Vec::new(), wrote_mail: false }
    }

    /// For a relay that has greeted already, before STARTTLS: lettre waits for a greeting on every stream.
    pub(super) fn greeted(inner: S) -> Self {
        Self { reply: b"220 \r\n".to_vec(), ..Self::new(inner) }
    }

    /// Takes the next whole line from the raw bytes, and puts up what is handed out of it, if anything.
    fn take_line(&mut self) -> bool {
        let Some(end) = self.raw.iter().position(|b| *b == b'\n') else {
            self.raw.truncate(LONGEST);
            return false;
        };
        let text = String::from_utf8_lossy(&self.raw[..end]).replace(char::is_control, " ");
        self.raw.drain(..=end);
        let text = text.trim_end();
        let short = (0..=LONGEST.min(text.len())).rev().find_map(|end| text.get(..end)).unwrap_or_default();
        let short = known(short);
        if short.as_bytes().get(3) == Some(&b'-') {
            self.held.extend((self.held.len() < MOST).then(|| short.into_owned()));
            return true;
        }
        // RFC 5321 4.2.1: whoever says several codes in one reply means the last. A "taken" has to be said in each line.
        let refusal = short.get(..3).filter(|code| code.starts_with(['4', '5']));
        for line in self.held.drain(..) {
            let (own, text) = line.split_at(3);
            self.reply.extend_from_slice(format!("{}{text}\r\n", refusal.unwrap_or(own)).as_bytes());
        }
        let space = if short.len() == 3 { " " } else { "" };
        self.reply.extend_from_slice(format!("{short}{space}\r\n").as_bytes());
        true
    }
}

/// What lettre is given to read of what a relay sent; for the fuzzer.
#[doc(hidden)]
pub async fn reply_lines(sent: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    // Reading from memory does not fail.
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut Replies::new(sent), &mut lines).await;
    lines
}

/// RFC 5321 4.2: a code nobody knows means what its first digit says. lettre knows none beyond x5y, and 571 is said.
fn known(line: &str) -> Cow<'_, str> {
    match line.as_bytes() {
        [class @ (b'4' | b'5'), b'6'..=b'9', b'0'..=b'9', ..] => {
            format!("{}50{}", char::from(*class), &line[3..]).into()
        }
        _ => line.into(),
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Replies<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.reply.is_empty() {
            if self.take_line() {
                continue;
            }
            let mut more = [0; 2_048];
            let mut more = ReadBuf::new(&mut more);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut more))?;
            if more.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.raw.extend_from_slice(more.filled());
        }
        let part = self.reply.len().min(buf.remaining());
        buf.put_slice(&self.reply[..part]);
        self.reply.drain(..part);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Replies<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let is_mail = bytes.len() > LONGEST_COMMAND;
        let stops_half_way = is_mail && failpoint::is_next("mid_body");
        let part = if stops_half_way { &bytes[..bytes.len() / 2] } else { bytes };
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, part))?;
        if is_mail {
            self.wrote_mail = true;
            failpoint::pass("mid_body");
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        if std::mem::take(&mut self.wrote_mail) {
            failpoint::pass("body_written");
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: AsyncTokioStream> AsyncTokioStream for Replies<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.inner.peer_addr()
    }
}

/// TLS from the first byte, over a socket of ours: `connect_with_transport` takes any stream, so this
/// one is encrypted before lettre reads the greeting.
#[derive(Debug)]
pub(super) struct Secured(LettreStream);

impl Secured {
    pub(super) async fn handshake(tcp: TcpStream, tls: TlsParameters) -> Result<Self, lettre::transport::smtp::Error> {
        let mut stream = LettreStream::use_existing_tokio1(Box::new(tcp));
        stream.upgrade_tls(tls).await?;
        Ok(Self(stream))
    }

    pub(super) fn certificate(&self) -> Option<Vec<u8>> {
        self.0.peer_certificate().ok()
    }
}

impl AsyncRead for Secured {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(FuturesRead::poll_read(Pin::new(&mut self.0), cx, buf.initialize_unfilled()))?;
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        FuturesWrite::poll_write(Pin::new(&mut self.0), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        FuturesWrite::poll_flush(Pin::new(&mut self.0), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        FuturesWrite::poll_close(Pin::new(&mut self.0), cx)
    }
}

impl AsyncTokioStream for Secured {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.peer_addr()
    }
}
