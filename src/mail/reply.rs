//! What a relay said, and what that means for the mail.

use lettre::transport::smtp::response::Response;

/// A reply that was read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The three-digit code.
    pub code: u16,
    /// The enhanced status code at the start of the text (RFC 3463), such as `5.1.1`.
    pub enhanced: Option<String>,
    /// The text, its lines joined by spaces.
    pub text: String,
    /// A refusal of `MAIL`: whatever it says, it was said before the recipient was named.
    pub of_sender: bool,
}

impl Reply {
    /// A reply from its code and text; the enhanced code is read from the text's first word.
    #[must_use]
    pub fn new(code: u16, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { code, enhanced: enhanced(code, &text), text, of_sender: false }
    }

    pub(super) fn of(response: &Response) -> Self {
        Self::new(response.code().into(), response.message().collect::<Vec<_>>().join(" ").trim())
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.code, self.text)
    }
}

/// RFC 2034: the class digit must agree with the reply code, else the word is only text.
fn enhanced(code: u16, text: &str) -> Option<String> {
    let word = text.split_whitespace().next()?;
    let mut parts = word.split('.');
    let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
    let number = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    let fits = parts.next().is_none() && matches!(class, "2" | "4" | "5") && class.parse() == Ok(code / 100);
    (fits && number(subject) && number(detail)).then(|| word.to_owned())
}

/// What came of one mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The relay said 250 after the final dot: the mail is its to deliver.
    Accepted(Reply),
    /// The relay said "not now" (4xx); it did not keep the mail.
    Deferred(Reply),
    /// The relay said "never" (5xx), or we know it would have to.
    Refused(Reply),
    /// The session was lost, or something odd was said, before the relay asked for the mail: nothing left.
    NotHandedOver {
        /// What happened.
        why: String,
        /// With which the relay ended the session before it knew of a recipient: that says nothing of the mail.
        code: Option<u16>,
    },
    /// Bytes of the mail were written and no reply could be read: the relay may or may not have it.
    Unknown {
        /// What happened.
        why: String,
    },
}

impl Outcome {
    /// Nothing was handed over, and no reply says why.
    pub(crate) const fn lost(why: String) -> Self {
        Self::NotHandedOver { why, code: None }
    }
}

/// What one reply before the mail means for the dialogue.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// As wanted: go on.
    Go,
    /// Refused or deferred; the session stays in step.
    No(Outcome),
    /// The session is over.
    Over(Outcome),
}

/// Judges a reply to a command before the mail. Exact codes, because a reply out of step with its
/// command (a relay's fault, or a cut dialogue) would otherwise pass as success.
pub(super) fn judge(command: &str, mut reply: Reply, wanted: &[u16]) -> Step {
    reply.of_sender = command == "MAIL";
    match reply.code {
        code if wanted.contains(&code) => Step::Go,
        // At MAIL it is about the session: the mail goes over another one. Later it may be about the recipient, and
        // coming back at once would be asked for ever.
        421 if command == "MAIL" => {
            let why = format!("the relay ended the session at {command}: {reply}");
            Step::Over(Outcome::NotHandedOver { why, code: Some(421) })
        }
        421 => Step::Over(Outcome::Deferred(reply)),
        400..=499 => Step::No(Outcome::Deferred(reply)),
        500..=599 => Step::No(Outcome::Refused(reply)),
        _ => Step::Over(Outcome::lost(format!("unexpected reply to {command}: {reply}"))),
    }
}

/// Judges the reply after the final dot: the outcome, and whether the session is still good.
pub(super) fn judge_dot(reply: Reply) -> (Outcome, bool) {
    match reply.code {
        250 => (Outcome::Accepted(reply), true),
        code @ 400..=499 => (Outcome::Deferred(reply), code != 421),
        500..=599 => (Outcome::Refused(reply), true),
        _ => (Outcome::Unknown { why: format!("unexpected reply after the mail: {reply}") }, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enhanced_code_must_agree_with_the_code() {
        assert_eq!(Reply::new(550, "5.1.1 no such user").enhanced.as_deref(), Some("5.1.1"));
        for (code, text) in
            [(550, "4.1.1 x"), (550, "5.1 x"), (550, "5.1.1.1 x"), (550, "no"), (250, ""), (354, "3.0.0")]
        {
            assert_eq!(Reply::new(code, text).enhanced, None, "{code} {text}");
        }
    }

    #[test]
    fn only_the_exact_code_lets_the_dialogue_go_on() {
        let step = |code| judge("RCPT", Reply::new(code, "x"), &[250, 251]);
        assert_eq!(step(250), Step::Go);
        assert_eq!(step(251), Step::Go);
        assert!(matches!(step(421), Step::Over(Outcome::Deferred(_))));
        assert!(matches!(judge("MAIL", Reply::new(421, "x"), &[250]), Step::Over(Outcome::NotHandedOver { .. })));
        for code in [252, 354, 220] {
            assert!(matches!(step(code), Step::Over(Outcome::NotHandedOver { .. })), "{code}");
        }
        assert!(matches!(step(450), Step::No(Outcome::Deferred(_))));
        assert!(matches!(step(550), Step::No(Outcome::Refused(_))));
    }

    #[test]
    fn after_the_dot_only_250_is_acceptance_and_421_ends_the_session() {
        let dot = |code| judge_dot(Reply::new(code, "x"));
        assert!(matches!(dot(250), (Outcome::Accepted(_), true)));
        assert!(matches!(dot(421), (Outcome::Deferred(_), false)));
        assert!(matches!(dot(451), (Outcome::Deferred(_), true)));
        assert!(matches!(dot(554), (Outcome::Refused(_), true)));
        for code in [251, 354, 220] {
            assert!(matches!(dot(code), (Outcome::Unknown { .. }, false)), "{code}");
        }
    }
}
