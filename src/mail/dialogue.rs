//! One mail over an open connection: MAIL, RCPT, DATA and the mail itself, with every reply judged.

use super::connect::negative;
use super::relay::PhaseTimeouts;
use super::reply::{Outcome, Reply, Step, judge, judge_dot};
use crate::domain::address::parse_address;
use crate::failpoint;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::response::Response;
use std::fmt::{self, Display};
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, error::Elapsed, timeout};

/// The longest wait for RSET, NOOP and QUIT: the mail's fate is known, or not yet begun, so a relay
/// that dawdles here costs less as a lost session than as a kept worker.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much longer a reply is looked for when its time is over.
const LAST_LOOK: Duration = Duration::from_millis(200);

/// The longest wait for the relay to hang up after its 221.
const GOOD_BYE: Duration = Duration::from_secs(1);

/// Sender and recipient as they go on the wire.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    pub from: String,
    pub to: String,
}

impl Envelope {
    /// Takes what cannot change the command it becomes part of: a recipient by the rules of the door, since only
    /// they know where a quoted `>` is harmless, and a sender without spaces and brackets.
    pub(super) fn new(from: &str, to: &str) -> Result<Self, Outcome> {
        let unfit = |text: &str| text.chars().any(|c| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>'));
        if unfit(from) {
            // Ours, and alike for every recipient: nothing of it may count against this one.
            let text = "5.1.7 not sent by allclear: the sender's address cannot stand in an SMTP command";
            return Err(Outcome::Refused(Reply { of_sender: true, ..Reply::new(553, text) }));
        }
        if !parse_address(to).is_ok_and(|address| address.as_str().eq_ignore_ascii_case(to)) {
            let text = "5.1.3 not sent by allclear: the address cannot stand in an SMTP command";
            return Err(Outcome::Refused(Reply::new(553, text)));
        }
        Ok(Self { from: from.to_owned(), to: to.to_owned() })
    }

    pub(super) fn is_ascii(&self) -> bool {
        self.from.is_ascii() && self.to.is_ascii()
    }

    fn mail_line(&self) -> String {
        // RFC 6531 3.1: SMTPUTF8 comes with 8BITMIME; the To header carries the same address unencoded.
        let parameters = if self.is_ascii() { "" } else { " BODY=8BITMIME SMTPUTF8" };
        format!("MAIL FROM:<{}>{parameters}\r\n", self.from)
    }
}

/// How a dialogue ended: what came of the mail, and whether the next command will meet its own reply.
#[derive(Debug)]
pub(super) struct End {
    pub outcome: Outcome,
    pub in_step: bool,
}

impl End {
    fn over(outcome: Outcome) -> Self {
        Self { outcome, in_step: false }
    }
}

/// A connection on which mails can be handed over. After an [`End`] out of step, or a future dropped
/// half-way, it must not be used again; [`super::Session`] sees to that.
pub(super) struct Dialogue {
    pub wire: AsyncSmtpConnection,
    pub timeouts: PhaseTimeouts,
    pub pipelining: bool,
    pub utf8: bool,
    /// The lines of the reply to EHLO.
    pub said: Vec<String>,
    /// The relay's own certificate (DER), when there is TLS.
    pub certificate: Option<Vec<u8>>,
    /// When the whole dialogue is to be over: no mail is begun after it.
    pub ends: Option<Instant>,
}

impl Dialogue {
    /// MAIL and RCPT, one after the other.
    pub(super) async fn begin(&mut self, envelope: &Envelope) -> Result<(), End> {
        let limit = self.timeouts.command;
        if let Some(outcome) = self.ask("MAIL", &envelope.mail_line(), limit, &[250]).await? {
            return Err(End { outcome, in_step: true });
        }
        let rcpt = format!("RCPT TO:<{}>\r\n", envelope.to);
        if let Some(outcome) = self.ask("RCPT", &rcpt, limit, &[250, 251]).await? {
            return Err(self.clear(outcome).await);
        }
        Ok(())
    }

    /// DATA and the mail, after [`Dialogue::begin`].
    pub(super) async fn finish(&mut self, mail: &str) -> Result<End, End> {
        if let Some(outcome) = self.ask("DATA", "DATA\r\n", self.timeouts.data_start, &[354]).await? {
            return Err(self.clear(outcome).await);
        }
        Ok(self.body(mail).await)
    }

    /// MAIL, RCPT and DATA in one write (RFC 2920), then the mail.
    pub(super) async fn pipelined(&mut self, envelope: &Envelope, mail: &str) -> Result<End, End> {
        let batch = format!("{}RCPT TO:<{}>\r\nDATA\r\n", envelope.mail_line(), envelope.to);
        let sender = self.ask("MAIL", &batch, self.timeouts.command, &[250]).await?;
        // A refusal already read stands, whatever happens to the session afterwards.
        let standing = |end: End, refusal: &Option<Outcome>| refusal.clone().map_or(end, End::over);
        let limit = self.timeouts.command;
        let recipient = self.hear("RCPT", limit, &[250, 251]).await.map_err(|end| standing(end, &sender))?;
        let recipient_taken = recipient.is_none();
        let refusal = sender.or(recipient);
        let limit = self.timeouts.data_start;
        let data = self.hear("DATA", limit, &[354]).await.map_err(|end| standing(end, &refusal))?;
        match (refusal, data) {
            (None, None) => Ok(self.body(mail).await),
            (Some(outcome), None) => Err(self.withdraw(outcome, recipient_taken).await),
            (Some(outcome), Some(_)) | (None, Some(outcome)) => Err(self.clear(outcome).await),
        }
    }

    /// The relay refused the envelope and asked for the mail all the same: RFC 2920 3.1 wants a lone dot.
    async fn withdraw(&mut self, outcome: Outcome, recipient_taken: bool) -> End {
        if recipient_taken {
            // A dot would hand an empty mail to a recipient the relay took; ending the session does not.
            return End::over(outcome);
        }
        match self.exchange("the lone dot", ".\r\n", self.timeouts.data_done).await {
            Ok(reply) if reply.code != 421 => self.clear(outcome).await,
            _ => End::over(outcome),
        }
    }

    async fn body(&mut self, mail: &str) -> End {
        failpoint::pass("asked_for_data");
        // A reply to nothing we said: the next one read would not be the mail's own, and could say "taken".
        let early = timeout(Duration::ZERO, self.wire.read_response()).await;
        if early.is_ok() {
            let why = read("the mail", Duration::ZERO, early)
                .map_or_else(|lost| lost, |reply| format!("the relay answered before it had the mail: {reply}"));
            return End::over(Outcome::lost(why));
        }
        if self.ends.is_some_and(|end| Instant::now() >= end) {
            let why = "its time was over when the relay asked for the mail".to_owned();
            return End::over(Outcome::lost(why));
        }
        let limit = self.timeouts.data_block + self.timeouts.data_done;
        let heard = in_time(limit, self.wire.command(Stuffed(mail))).await;
        match read("the mail", limit, heard) {
            Ok(reply) => {
                failpoint::pass("answered");
                let (outcome, in_step) = judge_dot(reply);
                if in_step && !matches!(outcome, Outcome::Accepted(_)) {
                    // Postfix leaves the transaction open when its end-of-data restrictions refuse the mail; the
                    // next one would then be refused as nested.
                    return self.clear(outcome).await;
                }
                End { outcome, in_step }
            }
            Err(why) => End::over(Outcome::Unknown { why }),
        }
    }

    /// Ends a transaction that will not be used, so that the next MAIL is not a nested one.
    async fn clear(&mut self, outcome: Outcome) -> End {
        let in_step = self.quick("RSET").await;
        End { outcome, in_step }
    }

    /// A command outside a mail; true when the relay said 250.
    pub(super) async fn quick(&mut self, command: &str) -> bool {
        let limit = self.timeouts.command.min(PATIENCE);
        self.exchange(command, format!("{command}\r\n"), limit).await.is_ok_and(|reply| reply.code == 250)
    }

    /// Says good-bye; whether the relay hears it changes nothing. Waits until the relay has hung up too, or a relay
    /// that counts sessions would see the next one before the end of this one.
    pub(super) async fn quit(&mut self) {
        let limit = self.timeouts.command.min(PATIENCE);
        if self.exchange("QUIT", "QUIT\r\n", limit).await.is_ok() {
            let _ = timeout(GOOD_BYE, self.wire.read_response()).await;
        }
    }

    /// A command before the mail and its reply: nothing when it went well, the refusal when the relay said no.
    async fn ask(&mut self, name: &str, text: &str, limit: Duration, wanted: &[u16]) -> Result<Option<Outcome>, End> {
        Self::step(name, self.exchange(name, text, limit).await, wanted)
    }

    /// The reply to a command already written.
    async fn hear(&mut self, name: &str, limit: Duration, wanted: &[u16]) -> Result<Option<Outcome>, End> {
        let heard = timeout(limit, self.wire.read_response()).await;
        Self::step(name, read(name, limit, heard), wanted)
    }

    fn step(name: &str, reply: Result<Reply, String>, wanted: &[u16]) -> Result<Option<Outcome>, End> {
        match reply.map(|reply| judge(name, reply, wanted)) {
            Ok(Step::Go) => Ok(None),
            Ok(Step::No(outcome)) => Ok(Some(outcome)),
            Ok(Step::Over(outcome)) => Err(End::over(outcome)),
            Err(why) => Err(End::over(Outcome::lost(why))),
        }
    }

    async fn exchange(&mut self, name: &str, text: impl Display + Send, limit: Duration) -> Result<Reply, String> {
        let heard = timeout(limit, self.wire.command(text)).await;
        read(name, limit, heard)
    }
}

type Heard = Result<Result<Response, SmtpError>, Elapsed>;

/// Waits so long for the reply to a mail, and looks once more: a process that was stopped, or whose machine slept, finds the
/// time over before it finds what has come. Not for replies before it: what leaves after them was looked at too long ago.
///
/// # Errors
/// When there is none.
pub(crate) async fn in_time<T>(limit: Duration, reply: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut reply = pin!(reply);
    match timeout(limit, reply.as_mut()).await {
        Err(_) => timeout(LAST_LOOK, reply).await,
        heard => heard,
    }
}

/// Any reply read whole is a reply; lettre reports the negative ones as errors.
fn read(name: &str, limit: Duration, heard: Heard) -> Result<Reply, String> {
    match heard {
        Ok(Ok(response)) => Ok(Reply::of(&response)),
        Ok(Err(error)) => negative(&error).ok_or_else(|| format!("the session was lost at {name}: {error}")),
        Err(_) => Err(format!("no reply to {name} within {limit:?}")),
    }
}

/// A mail as it goes on the wire: dots doubled at line starts, final dot appended. As one command it
/// leaves in one write; lettre's own `message` writes the dot alone, which costs a packet and a wait.
struct Stuffed<'a>(&'a str);

impl Display for Stuffed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.starts_with('.') {
            f.write_str(".")?;
        }
        let mut lines = self.0.split("\r\n.");
        f.write_str(lines.next().unwrap_or_default())?;
        for rest in lines {
            f.write_str("\r\n..")?;
            f.write_str(rest)?;
        }
        f.write_str(if self.0.is_empty() || self.0.ends_with("\r\n") { ".\r\n" } else { "\r\n.\r\n" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::reply::ReplyKind;
    use crate::mail::classify;

    #[test]
    fn dots_at_line_starts_are_doubled_and_the_mail_ends_with_one() {
        for (mail, wire) in [
            ("a\r\n", "a\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            (".a\r\n", "..a\r\n.\r\n"),
            ("a\r\n.\r\n", "a\r\n..\r\n.\r\n"),
            ("a\r\n.\r\n.b\r\n", "a\r\n..\r\n..b\r\n.\r\n"),
            ("\r\n..\r\n", "\r\n...\r\n.\r\n"),
            ("a.b\r\n", "a.b\r\n.\r\n"),
        ] {
            assert_eq!(Stuffed(mail).to_string(), wire, "{mail:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn when_its_time_is_over_a_reply_is_looked_for_once_more() {
        for (comes, is_seen) in [(900, true), (1_100, true), (1_300, false)] {
            let reply = tokio::time::sleep(Duration::from_millis(comes));
            assert_eq!(in_time(Duration::from_secs(1), reply).await.is_ok(), is_seen, "{comes}");
        }
    }

    #[test]
    fn a_sender_that_cannot_stand_in_a_command_is_our_fault() {
        for from in ["a@b.c>\r\nDATA", "a@b.c> SIZE=1", "a b@c.d"] {
            for to in ["kim@customer.example", "no address"] {
                let Err(Outcome::Refused(reply)) = Envelope::new(from, to) else { panic!("{from:?} was taken") };
                assert!(reply.of_sender && reply.text.contains("sender"), "{reply}");
                assert_eq!(classify(&reply), ReplyKind::OurAuthentication, "{reply}");
            }
        }
    }

    #[test]
    fn an_address_cannot_change_its_command() {
        for to in
            ["", "a@b.c>\r\nDATA", "a@b.c> SIZE=1", "a\0@b.c", "\"a> SIZE=1", "\"a\"> <b@b.c", "\"a\r\nDATA\"@b.c"]
        {
            assert!(matches!(Envelope::new("", to), Err(Outcome::Refused(_))), "{to:?}");
        }
        for to in ["a@b.c", "\"a> SIZE=1\"@b.c", "用户@b.c"] {
            assert_eq!(Envelope::new("", to).unwrap().to, to);
        }
    }
}
