//! The sink's side of the wire, and the little parsing it needs.

use std::io::{self, ErrorKind};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The longest command line taken; the longest mail is not bounded, the sink is not a server.
const LINE: usize = 4_096;

/// Buffered both ways: answers leave when the next command is not here yet.
pub(super) struct Wire {
    socket: TcpStream,
    input: Vec<u8>,
    at: usize,
    output: Vec<u8>,
    latency: Duration,
}

impl Wire {
    pub(super) fn new(socket: TcpStream, latency: Duration) -> Self {
        Self { socket, input: Vec::with_capacity(16 * 1024), at: 0, output: Vec::with_capacity(512), latency }
    }

    /// Whether something came before the answer to what was before it has left.
    pub(super) fn is_ahead(&self) -> bool {
        self.at < self.input.len() && !self.output.is_empty()
    }

    pub(super) fn read(&self, start: usize, end: usize) -> &[u8] {
        &self.input[start..end]
    }

    /// Puts an answer up, without its enhanced code where those are not offered.
    pub(super) fn write(&mut self, line: &str, enhanced: bool) {
        let parts = line.split_once(' ').and_then(|(code, rest)| Some((code, rest.split_once(' ')?)));
        let plain = match parts {
            Some((code, (word, rest))) if !enhanced && word.split('.').count() == 3 => Some((code, rest)),
            _ => None,
        };
        match plain {
            Some((code, rest)) => self.output.extend_from_slice(format!("{code} {rest}").as_bytes()),
            None => self.output.extend_from_slice(line.as_bytes()),
        }
        self.output.extend_from_slice(b"\r\n");
    }

    async fn more(&mut self) -> io::Result<()> {
        self.input.drain(..self.at);
        self.at = 0;
        match self.socket.read_buf(&mut self.input).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The next line, without its end; answers still waiting are sent before it is waited for.
    pub(super) async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.input[self.at..].iter().position(|b| *b == b'\n') {
                let line = &self.input[self.at..self.at + end];
                let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
                self.at += end + 1;
                return Ok(line);
            }
            if self.input.len() - self.at > LINE {
                return Err(ErrorKind::InvalidData.into());
            }
            self.flush().await?;
            self.more().await?;
        }
    }

    /// Where a mail lies that has come whole up to its final dot; valid until the next line is read.
    pub(super) async fn mail(&mut self) -> io::Result<(usize, usize)> {
        self.flush().await?;
        let mut from = 0;
        loop {
            let seen = &self.input[self.at..];
            if seen.starts_with(b".\r\n") {
                let start = self.at;
                self.at += 3;
                return Ok((start, start));
            }
            if let Some(end) = seen[from..].windows(5).position(|part| part == b"\r\n.\r\n") {
                let (start, end) = (self.at, self.at + from + end + 2);
                self.at = end + 3;
                return Ok((start, end));
            }
            from = seen.len().saturating_sub(4);
            self.more().await?;
        }
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        self.socket.write_all(&self.output).await?;
        self.output.clear();
        Ok(())
    }
}

/// What stands between the angle brackets; one inside a quoted string closes nothing.
pub(super) fn address(rest: &str) -> String {
    let Some((_, rest)) = rest.split_once('<') else { return String::new() };
    let (mut quoted, mut escaped) = (false, false);
    let end = rest.find(|c| {
        let plain = !escaped;
        escaped = quoted && plain && c == '\\';
        quoted ^= plain && c == '"';
        c == '>' && !quoted
    });
    end.map(|end| rest[..end].to_owned()).unwrap_or_default()
}

pub(super) fn without_stuffing(mail: &[u8]) -> Vec<u8> {
    let mut line_start = true;
    let mut out = Vec::with_capacity(mail.len());
    for line in mail.split_inclusive(|b| *b == b'\n') {
        out.extend_from_slice(if line_start { line.strip_prefix(b".").unwrap_or(line) } else { line });
        line_start = line.ends_with(b"\r\n");
    }
    out
}

/// A header's value, unfolded; empty when there is none.
pub(super) fn header(mail: &[u8], name: &str) -> String {
    let text = String::from_utf8_lossy(mail);
    let head =
        text.split_once("\r\n\r\n").map_or(&*text, |(head, _)| head).replace("\r\n ", " ").replace("\r\n\t", " ");
    let found =
        head.split("\r\n").filter_map(|line| line.split_once(':')).find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

/// Enough of RFC 4648 to know the right login when it comes.
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_usize, |word, b| word << 8 | usize::from(*b)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            out.push(if place <= chunk.len() { ALPHABET[word >> (18 - 6 * place) & 63] as char } else { '=' });
        }
    }
    out
}
