//! What a negative reply is about, from its code, its enhanced codes and its words. The rules are in
//! [`rules`], in the order in which they are asked; here is only how a reply is read and a rule matched.
//!
//! A relay may pass on what another server said ("host mx.example said: 550 5.1.1 ..."), so every enhanced
//! code in the text counts, and words count before codes: people write words on purpose, software fills in codes.

mod rules;
#[cfg(test)]
mod sender_tests;
#[cfg(test)]
mod tests;

use super::reply::Reply;
use crate::domain::reply::ReplyKind;
use rules::RULES;

/// One line of the table.
#[derive(Debug)]
pub struct Rule {
    /// What the rule recognises, for whoever has to argue with it.
    pub name: &'static str,
    /// What the reply is about.
    pub kind: ReplyKind,
    /// Only a final "no" (5xx) is evidence enough.
    final_only: bool,
    /// Only the relay's own words count, not those of a server behind it.
    relay_only: bool,
    /// The reply codes that are evidence by themselves.
    codes: &'static [u16],
    /// The enhanced codes that are; `x` stands for 4 and 5, and a code may end after its subject.
    status: &'static str,
    /// The enhanced codes without one of which nothing else in the rule is evidence; none: they do not matter.
    only: &'static str,
    /// The enhanced codes that contradict everything else in the rule.
    never: &'static str,
    /// The phrases that are, separated by `|`; `*` stands for up to [`GAP`] bytes of anything.
    words: &'static str,
    /// The phrases, written alike, that contradict everything else in the rule.
    unless: &'static [&'static str],
}

/// How far apart the parts of a phrase may be.
const GAP: usize = 80;

/// Classifies a negative reply (4xx or 5xx). Pure; never says more than the reply does.
#[must_use]
pub fn classify(reply: &Reply) -> ReplyKind {
    let kind = ruling(reply).map_or(ReplyKind::Unknown, |rule| rule.kind);
    match kind {
        // Said before the recipient was named, so about us; and it would be said for everybody.
        ReplyKind::AddressDead
        | ReplyKind::MailboxFull
        | ReplyKind::SlowDown
        | ReplyKind::MessageAtFault
        | ReplyKind::Unknown
            if reply.of_sender && reply.code >= 500 && !is_of_this_mail(reply) =>
        {
            ReplyKind::Credentials
        }
        ReplyKind::AddressDead if reply.of_sender => ReplyKind::Unknown,
        kind => kind,
    }
}

/// Classifies a negative reply about a mail between two addresses: one that names the sender and not the recipient
/// says nothing lasting about the recipient.
#[must_use]
pub fn classify_between(reply: &Reply, from: &str, to: &str) -> ReplyKind {
    let names = |address: &str| {
        let parts = reply.text.split(|c: char| c.is_whitespace() || "<>()[]{},;:'\"".contains(c));
        !address.is_empty() && parts.into_iter().any(|part| part.trim_matches('.').eq_ignore_ascii_case(address))
    };
    match classify(reply) {
        ReplyKind::AddressDead if names(from) && !names(to) => ReplyKind::Unknown,
        kind => kind,
    }
}

/// Whether a refusal of `MAIL` can be about the one mail that it announces: its size, or how it is encoded.
fn is_of_this_mail(reply: &Reply) -> bool {
    reply.code == 552 || Said::of(reply).has_status(rules::OF_THIS_MAIL)
}

/// The rule that decides about a negative reply: the first of the table that holds.
#[must_use]
pub fn ruling(reply: &Reply) -> Option<&'static Rule> {
    let said = Said::of(reply);
    RULES.iter().find(|rule| said.holds(rule))
}

/// A reply as the rules look at it.
#[derive(Default)]
struct Said {
    code: u16,
    /// Every enhanced code in the text, without its class: the class of an inner code is often wrong, and
    /// whether the "no" is final is the reply code's to say.
    status: Vec<String>,
    /// Lower case, one space between words and at both ends; addresses are `@`, codes are left out.
    words: String,
    passed_on: bool,
    /// It speaks of a sender, beside whom a phrase that would silence the recipient may be meant for that one.
    of_a_sender: bool,
}

impl Said {
    fn of(reply: &Reply) -> Self {
        let mut said = Self { code: reply.code, status: Vec::new(), words: " ".to_owned(), ..Self::default() };
        let (code, text) = (reply.code.to_string(), reply.text.to_lowercase());
        for token in text.split_whitespace() {
            let bare = token.trim_matches(|c: char| !c.is_alphanumeric());
            if token.contains('@') && !token.contains("://") {
                said.word("@");
            } else if token == ":" && !said.words.ends_with("@ ") {
                // A name was left out: kept, because one operator says something by it.
                said.word(":");
            } else if let Some(status) = status(bare.strip_prefix(&format!("{code}-")).unwrap_or(bare)) {
                said.status.push(status.to_owned());
            } else if bare != code {
                // Of a URL its host: what its path says is only a name in somebody's documentation.
                let host =
                    token.split_once("://").map_or(token, |(_, rest)| rest.split('/').next().unwrap_or_default());
                let token = host.replace(['\'', '’'], "");
                token.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).for_each(|w| said.word(w));
            }
        }
        said.passed_on = says(&said.words, rules::PASSED_ON);
        // What is returned to its sender says nothing of the sender.
        said.of_a_sender =
            says(&said.words.replace(" to sender ", " ").replace(" to the sender ", " "), rules::OF_A_SENDER);
        said
    }

    fn word(&mut self, word: &str) {
        self.words.push_str(word);
        self.words.push(' ');
    }

    fn holds(&self, rule: &Rule) -> bool {
        let final_no = (500..=599).contains(&self.code);
        if !(400..=599).contains(&self.code)
            || (rule.final_only && !final_no)
            || (rule.relay_only && self.passed_on)
            || (rule.kind == ReplyKind::AddressDead && self.of_a_sender)
            || !(rule.only.is_empty() || self.has_status(rule.only))
            || self.has_status(rule.never)
            || rule.unless.iter().any(|phrases| says(&self.words, phrases))
        {
            return false;
        }
        rule.codes.contains(&self.code) || self.has_status(rule.status) || says(&self.words, rule.words)
    }

    fn has_status(&self, patterns: &str) -> bool {
        let fits = |status: &str, pattern: &str| {
            status.strip_prefix(pattern).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        patterns.split_whitespace().any(|pattern| self.status.iter().any(|status| fits(status, pattern)))
    }
}

/// Subject and detail of an enhanced code, such as `1.1` of `5.1.1`.
fn status(word: &str) -> Option<&str> {
    let (class, rest) = word.split_once('.')?;
    let (subject, detail) = rest.split_once('.')?;
    let number = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    (matches!(class, "4" | "5") && number(subject) && number(detail)).then_some(rest)
}

/// Whether a text has one of the phrases, each part beginning where a word begins.
fn says(text: &str, phrases: &str) -> bool {
    phrases.split('|').filter(|phrase| !phrase.is_empty()).any(|phrase| has_phrase(text, phrase))
}

fn has_phrase(text: &str, phrase: &str) -> bool {
    let (part, rest) = phrase.split_once('*').map_or((phrase, None), |(part, rest)| (part, Some(rest)));
    let part = part.trim();
    text.match_indices(part).any(|(at, _)| {
        // Languages without spaces have no word boundaries to look for.
        let starts = !part.is_ascii() || text[..at].ends_with(' ');
        let after = &text[at + part.len()..];
        let near = (0..=GAP.min(after.len())).rev().find_map(|end| after.get(..end)).unwrap_or_default();
        starts && rest.is_none_or(|rest| has_phrase(near, rest))
    })
}
