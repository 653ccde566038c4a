//! A session with a relay: opened once, used for many mails, never used again once anything is in doubt.

use super::connect::{self, OpenError};
use super::dialogue::{Dialogue, End, Envelope};
use super::maildir::Maildir;
use super::relay::Transport;
use super::reply::{Outcome, Reply};
use std::time::{Duration, Instant};

/// A relay may end a session that has been silent; asking first costs a round trip, so only after this.
const IDLE: Duration = Duration::from_secs(30);

/// A session that hands over one mail at a time.
///
/// Every future here may be dropped at any point: the session is then unusable, because the next reply
/// on it would belong to the cut dialogue.
pub struct Session {
    way: Way,
    envelope: Option<Envelope>,
    broken: bool,
    wrote: bool,
    sent: u32,
    messages: u32,
    age: Duration,
    opened: Instant,
    used: tokio::time::Instant,
}

enum Way {
    Smtp(Box<Dialogue>),
    Maildir(Maildir),
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("broken", &self.broken).field("sent", &self.sent).finish_non_exhaustive()
    }
}

impl Session {
    /// Opens a session.
    ///
    /// # Errors
    /// When the relay cannot be reached, does not protect the connection as configured or refuses the
    /// login, or the Maildir cannot be made. Nothing was sent.
    pub async fn open(transport: &Transport) -> Result<Self, OpenError> {
        let (way, messages, age) = match transport {
            Transport::Smtp(relay) => {
                let dialogue = Box::new(connect::open(relay).await?);
                (Way::Smtp(dialogue), relay.messages_per_session.max(1), relay.session_age.to_std())
            }
            Transport::Maildir(path) => (Way::Maildir(Maildir::open(path).await?), u32::MAX, Duration::MAX),
        };
        Ok(Self {
            way,
            envelope: None,
            broken: false,
            wrote: false,
            sent: 0,
            messages,
            age,
            opened: Instant::now(),
            used: tokio::time::Instant::now(),
        })
    }

    /// Whether MAIL, RCPT and DATA go in one write, so that [`Session::envelope`] costs nothing.
    #[must_use]
    pub fn pipelines(&self) -> bool {
        match &self.way {
            Way::Smtp(dialogue) => dialogue.pipelining,
            Way::Maildir(_) => true,
        }
    }

    /// Names sender and recipient of the next mail. Without pipelining this asks the relay now; with it
    /// nothing is written before [`Session::data`].
    ///
    /// # Errors
    /// What came of the mail, when it ends here.
    pub async fn envelope(&mut self, from: &str, to: &str) -> Result<(), Outcome> {
        self.reset().await;
        if self.broken {
            return Err(over());
        }
        let envelope = Envelope::new(from, to)?;
        if let Way::Smtp(dialogue) = &mut self.way {
            if !envelope.is_ascii() && !dialogue.utf8 {
                let text = "5.6.7 not sent by allclear: the address needs SMTPUTF8, and the relay does not offer it";
                return Err(Outcome::Refused(Reply::new(553, text)));
            }
            if !dialogue.pipelining {
                self.broken = true;
                let begun = dialogue.begin(&envelope).await;
                self.used = tokio::time::Instant::now();
                if let Err(end) = begun {
                    self.broken = !end.in_step;
                    return Err(end.outcome);
                }
                self.broken = false;
            }
        }
        self.envelope = Some(envelope);
        Ok(())
    }

    /// No mail is begun after this.
    pub const fn ends_at(&mut self, end: tokio::time::Instant) {
        if let Way::Smtp(dialogue) = &mut self.way {
            dialogue.ends = Some(end);
        }
    }

    /// Hands the mail over, after [`Session::envelope`].
    pub async fn data(&mut self, mail: &[u8]) -> Outcome {
        self.wrote = false;
        if self.broken {
            return over();
        }
        let Some(envelope) = &self.envelope else {
            return Outcome::lost("no envelope was given".to_owned());
        };
        // Checked before anything is written; the envelope stays open, and the next one resets it.
        let text = match fit(mail, envelope.is_ascii()) {
            Ok(text) => text,
            Err(why) => return Outcome::lost(why.to_owned()),
        };
        self.broken = true;
        self.wrote = true;
        let done = match &mut self.way {
            Way::Smtp(dialogue) if dialogue.pipelining => dialogue.pipelined(envelope, text).await,
            Way::Smtp(dialogue) => dialogue.finish(text).await,
            Way::Maildir(maildir) => Ok(End { outcome: maildir.write(mail).await, in_step: true }),
        };
        // Where the relay did not ask for the mail, it ends in an error; where it spoke again before it had any, or the
        // disk took none, nothing was handed over.
        let asked = done.is_ok();
        let (Ok(end) | Err(end)) = done;
        self.wrote = asked && !matches!(end.outcome, Outcome::NotHandedOver { .. });
        self.envelope = None;
        self.sent += 1;
        self.used = tokio::time::Instant::now();
        self.broken = !end.in_step;
        end.outcome
    }

    /// Whether any of the last mail may have been written; a dialogue that was cut counts as written.
    #[must_use]
    pub const fn wrote_mail(&self) -> bool {
        self.wrote
    }

    /// Gives up an envelope that will not be used.
    pub async fn reset(&mut self) {
        let begun = self.envelope.take().is_some();
        if let Way::Smtp(dialogue) = &mut self.way
            && begun
            && !dialogue.pipelining
            && !self.broken
        {
            self.broken = true;
            let done = dialogue.quick("RSET").await;
            self.used = tokio::time::Instant::now();
            self.broken = !done;
        }
    }

    /// Whether the session may take another mail: nothing in doubt, and within its limits.
    #[must_use]
    pub fn usable(&self, now: Instant) -> bool {
        !self.broken && self.sent < self.messages && now.saturating_duration_since(self.opened) < self.age
    }

    /// Whether it is in doubt, so that nothing may be said on it any more, not even good-bye.
    #[must_use]
    pub const fn is_broken(&self) -> bool {
        self.broken
    }

    /// How long it has not been used.
    #[must_use]
    pub fn idle_for(&self) -> Duration {
        self.used.elapsed()
    }

    /// Whether the relay is still there; asks it only after 30 s of silence. False ends the session.
    pub async fn alive(&mut self) -> bool {
        if let Way::Smtp(dialogue) = &mut self.way
            && !self.broken
            && self.used.elapsed() > IDLE
        {
            self.broken = true;
            let there = dialogue.quick("NOOP").await;
            self.used = tokio::time::Instant::now();
            self.broken = !there;
        }
        !self.broken
    }

    /// Ends the session politely where it can be.
    pub async fn close(self) {
        if let Way::Smtp(mut dialogue) = self.way
            && !self.broken
        {
            dialogue.quit().await;
        }
    }
}

fn over() -> Outcome {
    Outcome::lost("the session is over".to_owned())
}

/// Whether a mail can go on the wire between these addresses.
///
/// # Errors
/// What is wrong with its bytes.
pub fn check(mail: &[u8], from: &str, to: &str) -> Result<(), &'static str> {
    fit(mail, from.is_ascii() && to.is_ascii()).map(drop)
}

/// A mail that can go on the wire as it is. A bare CR or LF would let a relay see a final dot where we
/// wrote none (SMTP smuggling, VU#302671).
fn fit(mail: &[u8], ascii: bool) -> Result<&str, &'static str> {
    let text = std::str::from_utf8(mail).map_err(|_| "the mail is not UTF-8")?;
    if ascii && !text.is_ascii() {
        return Err("the mail has 8-bit text, and its envelope does not ask for it");
    }
    match super::message::line_fault(text) {
        Some(fault) => Err(fault),
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_with_a_bare_cr_or_lf_is_not_fit() {
        for mail in ["a\nb\r\n", "a\rb\r\n", "a\r\n.\n\r\n", "a\r\r\n", "a\n"] {
            assert!(fit(mail.as_bytes(), true).is_err(), "{mail:?}");
        }
        assert!(fit(b"a\r\n\r\nb\r\n", true).is_ok());
        assert!(fit("ä\r\n".as_bytes(), true).is_err());
        assert!(fit("ä\r\n".as_bytes(), false).is_ok());
        assert!(fit(b"\xff\r\n", false).is_err());
    }

    #[tokio::test]
    async fn a_maildir_keeps_each_mail_as_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mail");
        let mut session = Session::open(&Transport::Maildir(path.clone())).await.unwrap();
        session.envelope("a@example.com", "b@example.com").await.unwrap();
        let mail = b"Subject: x\r\n\r\ny\r\n";
        assert!(matches!(session.data(mail).await, Outcome::Accepted(Reply { code: 250, .. })));
        let files: Vec<_> = std::fs::read_dir(path.join("new")).unwrap().map(|f| f.unwrap().path()).collect();
        assert_eq!(files.len(), 1);
        assert_eq!(std::fs::read(&files[0]).unwrap(), mail);
        assert_eq!(std::fs::read_dir(path.join("tmp")).unwrap().count(), 0);
        assert!(session.usable(Instant::now()));
    }

    #[tokio::test]
    async fn a_maildir_that_cannot_be_made_says_where_and_what_to_check() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let error = Session::open(&Transport::Maildir(file.clone())).await.unwrap_err();
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
        assert!(error.hint().contains("written"));
    }
}
