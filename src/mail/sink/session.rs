//! One connection of the sink: reads commands, answers them, takes mails.

use super::wire::{Wire, address, base64, header, without_stuffing};
use super::{Act, Envelope, Phase, Received, Shared, lock};
use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::net::TcpStream;

pub(super) async fn run(socket: TcpStream, shared: &Shared, number: u64) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let wire = Wire::new(socket, shared.script.latency);
    let nth = u32::try_from(number).unwrap_or(u32::MAX);
    let mut peer = Peer {
        _counted: Counted::new(shared),
        wire,
        shared,
        nth,
        envelope: Envelope::default(),
        sender: false,
        recipients: Vec::new(),
        known: shared.script.login.is_none(),
    };
    peer.dialogue().await
}

/// Counts a connection as open until it is dropped.
struct Counted<'a>(&'a Shared);

impl<'a> Counted<'a> {
    fn new(shared: &'a Shared) -> Self {
        let open = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most_open.fetch_max(open, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Peer<'a> {
    /// The first field, so that it is dropped before the other side can see the connection end.
    _counted: Counted<'a>,
    wire: Wire,
    shared: &'a Shared,
    nth: u32,
    envelope: Envelope,
    sender: bool,
    recipients: Vec<String>,
    known: bool,
}

impl Peer<'_> {
    async fn dialogue(&mut self) -> io::Result<()> {
        self.answer(Phase::Connect, "220 sink.test ESMTP allclear").await?;
        loop {
            if self.wire.is_ahead() {
                self.shared.early.fetch_add(1, Ordering::Relaxed);
            }
            let line = self.patiently(Wire::line).await?;
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match verb.to_ascii_uppercase().as_str() {
                "EHLO" => self.ehlo().await?,
                "HELO" => self.answer(Phase::Ehlo, "250 sink.test").await.map(drop)?,
                "AUTH" => self.auth(rest).await?,
                "MAIL" => self.mail(rest).await?,
                "RCPT" => self.rcpt(rest).await?,
                "DATA" => self.data().await?,
                "RSET" => {
                    self.clear();
                    self.say("250 2.0.0 ok");
                }
                "NOOP" => self.say("250 2.0.0 ok"),
                "QUIT" => {
                    self.say("221 2.0.0 bye");
                    return self.wire.flush().await;
                }
                _ => self.say("502 5.5.1 unknown command"),
            }
        }
    }

    /// Reads; within a mail's dialogue no longer than the script is patient.
    async fn patiently<T>(&mut self, read: impl AsyncFnOnce(&mut Wire) -> io::Result<T>) -> io::Result<T> {
        match self.shared.script.patience {
            Some(patience) if self.sender => tokio::time::timeout(patience, read(&mut self.wire)).await?,
            _ => read(&mut self.wire).await,
        }
    }

    async fn ehlo(&mut self) -> io::Result<()> {
        let script = &self.shared.script;
        let offers = [
            (script.pipelining, "PIPELINING"),
            (script.eight_bit, "8BITMIME"),
            (script.utf8, "SMTPUTF8"),
            (script.enhanced, "ENHANCEDSTATUSCODES"),
            (script.login.is_some(), "AUTH PLAIN LOGIN"),
        ];
        let mut text = String::from("250-sink.test\r\n");
        for (_, keyword) in offers.iter().filter(|(offered, _)| *offered) {
            text.push_str(&format!("250-{keyword}\r\n"));
        }
        text.push_str("250 HELP");
        self.clear();
        self.answer(Phase::Ehlo, &text).await.map(drop)
    }

    async fn auth(&mut self, rest: &str) -> io::Result<()> {
        let Some((user, password)) = self.shared.script.login.clone() else {
            self.say("503 5.5.1 no AUTH here");
            return Ok(());
        };
        let (mechanism, initial) = rest.split_once(' ').unwrap_or((rest, ""));
        let right = match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => {
                let mut given = initial.to_owned();
                if given.is_empty() {
                    self.say("334 ");
                    given = self.wire.line().await?;
                }
                given == base64(format!("\0{user}\0{password}").as_bytes())
            }
            "LOGIN" => {
                self.say("334 VXNlcm5hbWU6");
                let given_user = self.wire.line().await?;
                self.say("334 UGFzc3dvcmQ6");
                let given_password = self.wire.line().await?;
                given_user == base64(user.as_bytes()) && given_password == base64(password.as_bytes())
            }
            _ => {
                self.say("504 5.5.4 unknown mechanism");
                return Ok(());
            }
        };
        self.known = right;
        self.say(if right { "235 2.7.0 welcome" } else { "535 5.7.8 wrong user or password" });
        Ok(())
    }

    async fn mail(&mut self, rest: &str) -> io::Result<()> {
        if !self.known {
            self.say("530 5.7.0 log in first");
        } else if self.sender {
            self.say("503 5.5.1 nested MAIL");
        } else {
            self.envelope = Envelope { from: address(rest), to: String::new() };
            self.sender = self.answer(Phase::Mail, "250 2.1.0 ok").await?;
        }
        Ok(())
    }

    async fn rcpt(&mut self, rest: &str) -> io::Result<()> {
        if !self.sender {
            self.say("503 5.5.1 MAIL first");
            return Ok(());
        }
        self.envelope.to = address(rest);
        if self.shared.script.answers.is_some() {
            let mut attempts = lock(&self.shared.attempts);
            let tries = attempts.entry(self.envelope.to.clone()).or_default();
            *tries += 1;
            self.nth = *tries;
        }
        if self.answer(Phase::Rcpt, "250 2.1.5 ok").await? {
            self.recipients.push(self.envelope.to.clone());
        }
        Ok(())
    }

    async fn data(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        let usual = if self.recipients.is_empty() { "554 5.5.1 no valid recipients" } else { "354 go ahead" };
        if !self.answer(Phase::Data, usual).await? {
            return Ok(());
        }
        let (start, end) = self.patiently(Wire::mail).await?;
        let usual = if self.recipients.is_empty() { "554 5.5.1 no valid recipients" } else { "250 2.0.0 taken" };
        match self.scripted(Phase::Dot) {
            Some(Act::TakeAndClose) => {
                self.take(start, end, begun);
                Err(ErrorKind::ConnectionAborted.into())
            }
            act => {
                if self.act(act, usual).await? {
                    self.take(start, end, begun);
                }
                self.clear();
                Ok(())
            }
        }
    }

    fn take(&mut self, start: usize, end: usize, begun: Instant) {
        let mail = self.wire.read(start, end);
        let count = self.recipients.len() as u64;
        if self.shared.script.keep {
            let body = without_stuffing(mail);
            let (message_id, subject) = (header(&body, "message-id"), header(&body, "subject"));
            let at = Instant::now();
            let received = |to: &String| Received {
                to: to.clone(),
                from: self.envelope.from.clone(),
                message_id: message_id.clone(),
                subject: subject.clone(),
                body: body.clone(),
                begun,
                at,
            };
            lock(&self.shared.mails).extend(self.recipients.iter().map(received));
        }
        self.shared.bytes.fetch_add(mail.len() as u64 * count, Ordering::Relaxed);
        self.shared.count.fetch_add(count, Ordering::Relaxed);
        self.shared.taken.notify_waiters();
    }

    fn clear(&mut self) {
        self.sender = false;
        self.recipients.clear();
    }

    fn scripted(&self, at: Phase) -> Option<Act> {
        let answers = self.shared.script.answers.as_ref()?;
        answers(at, &self.envelope, self.nth).filter(|answer| answer.at == at).map(|answer| answer.act)
    }

    /// The scripted answer or the usual one; true when it was positive.
    async fn answer(&mut self, at: Phase, usual: &str) -> io::Result<bool> {
        let act = self.scripted(at);
        self.act(act, usual).await
    }

    async fn act(&mut self, act: Option<Act>, usual: &str) -> io::Result<bool> {
        let positive = |line: &str| line.starts_with(['2', '3']);
        match act {
            None => {
                self.say(usual);
                Ok(positive(usual))
            }
            Some(Act::Reply(line)) => {
                self.say(&line);
                Ok(positive(&line))
            }
            Some(Act::CloseAfterReply(line)) => {
                self.say(&line);
                self.wire.flush().await?;
                Err(ErrorKind::ConnectionAborted.into())
            }
            Some(Act::Close | Act::TakeAndClose) => Err(ErrorKind::ConnectionAborted.into()),
            Some(Act::Stall) => {
                self.wire.flush().await?;
                std::future::pending().await
            }
        }
    }

    fn say(&mut self, line: &str) {
        self.wire.write(line, self.shared.script.enhanced);
    }
}
