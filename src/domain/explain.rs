//! What the names of states, reasons and rules mean, in a sentence that support can read out to a customer.

use super::delivery::{Reason, Rule, State};

impl State {
    /// The state in words.
    #[must_use]
    pub const fn explained(self) -> &'static str {
        match self {
            Self::Queued => "It has not been sent yet and waits.",
            Self::Sending => "It is being handed to the mail server at this moment.",
            Self::Accepted => {
                "The mail server took it. Whether the recipient's mailbox shows it is beyond what we see."
            }
            Self::Failed => "It could not be delivered and is not tried again.",
            Self::Unknown => "It may have been sent: the connection broke before the mail server answered.",
            Self::Withdrawn => "It was not sent, because what it says stopped being true first.",
            Self::Folded => "It was not sent by itself: another mail says the same or newer.",
            Self::Suppressed => "It was not sent: this address got no mail of this kind then.",
            Self::Cancelled => "It was not sent: what it would take back or end was never told to this recipient.",
            Self::Parked => "It was not sent and waits until one of us decides.",
        }
    }
}

impl Reason {
    /// The reason in words.
    #[must_use]
    pub const fn explained(self) -> &'static str {
        match self {
            Self::Dwell => "we wait a few minutes in case the fault heals by itself",
            Self::ComponentDown => "the component is down, so the customer could not act yet",
            Self::AwaitingReconnection => {
                "the component is back and reconnects by itself; this connection has not reported yet"
            }
            Self::Held => "mail of this kind, or about its component, is being held back",
            Self::Stopped => "all mail is stopped",
            Self::ThreadGap => "the recipient got a mail about this a moment ago",
            Self::StableFor => "good news waits until it has been true for a while",
            Self::ComponentOpenAgain => "a component it names is down again",
            Self::IncidentOpenAgain => "the incident was opened again",
            Self::ConnectionOpenAgain => "the connection is broken again",
            Self::OriginalUndecided => "the mail it takes back is still on its way",
            Self::Retry => "the mail server asked to try later, or the connection to it broke; we try again",
            Self::MailboxFull => "the recipient's mailbox is full; we try again",
            Self::SlowDown => "the receiving side wants mail more slowly; we try again",
            Self::Greylisted => "the receiving side puts off first tries on principle; we try again",
            Self::Paced => "the limit of mails per minute is reached; its turn comes",
            Self::DailyCap => {
                "the recipient had as many mails of this kind in the last 24 hours as anybody gets; it leaves when \
                 there is room, or something newer takes its place"
            }
            Self::StreamPaused => "the mail server refuses all our mail of this kind at present",
            Self::RelayAway => "the mail server cannot be reached at present; we try again",
            Self::Recovered => "the connection works again",
            Self::CoveredByRecovery => "the component's recovery brought the connection back",
            Self::IncidentResolved => "the incident was resolved first",
            Self::ReplacedByNewer => "a newer mail says what is true now",
            Self::EndedAlready => "the recipient has been told already that it is over",
            Self::NeverTold => "the recipient was never told of the problem",
            Self::Unsubscribed => "the recipient no longer follows anything it names",
            Self::NeverMailed => "the mail it would take back never left",
            Self::Suppressed => "the address is on the list of those that get no such mail",
            Self::TooOld => "it became too old to be sent by itself",
            Self::Refused => "the mail server refused it",
            Self::AddressDead => "the address does not exist, or takes no mail any more",
            Self::MessageAtFault => "the mail server refused its size, form or content",
            Self::GaveUp => "the mail server asked to try later until we gave up",
            Self::Ambiguous => "nobody can know whether the mail server took it",
            Self::ReapedOften => "the sending process died again and again while it had this mail",
            Self::SessionsLost => {
                "the connection to the mail server broke each time it was this mail's turn, and others got through"
            }
            Self::TemplateFault => "the mail could not be put together: its template has a fault",
            Self::ItemsMoved => "what it names moved to another mail",
            Self::NotTheirs => "the connection no longer belongs to this recipient",
            Self::NothingNew => "it changes nothing for this recipient; it goes into the next mail that does",
            Self::ToldElsewhere => "another source told the recipient the same a moment ago",
            Self::UnderCause => "what it names depends on a component the recipient was told of already",
            Self::Outlived => "what it was folded under is over, and this is not",
            Self::BeginAndEndOnly => "the recipient asked for begin and end only",
            Self::BelowLeastImpact => "the recipient asked to hear only of worse incidents",
            Self::NotificationsOff => "the update was posted with notifications off",
            Self::Backdated => "the update tells of a time long past",
            Self::FirstHeardOver => "the incident was over when we first heard of it",
            Self::SaidBefore => "the same update was here before",
            Self::Late => "it came after a newer update",
        }
    }
}

impl Rule {
    /// The rule in words: why the mail was made.
    #[must_use]
    pub const fn explained(self) -> &'static str {
        match self {
            Self::First => "the recipient had not been told of this yet",
            Self::PhaseChange => "the incident moved to another phase",
            Self::StateChange => "a component the recipient follows changed its state",
            Self::Worse => "a component the recipient follows got worse",
            Self::Relapse => "a component is down again after its end was told",
            Self::NothingNew => {
                "nothing changed for the recipient: kept for the next mail, or a sign of life after a long silence"
            }
            Self::End => "the incident is over",
            Self::AllBack => "all the recipient was told of works again",
            Self::PostMortem => "what happened and why",
            Self::Notice => "the team wrote to its recipients",
            Self::Surge => "connections fail in floods, and operators are told",
            Self::Failure => "a connection needs the customer",
            Self::Correction => "an earlier mail is taken back",
            Self::Resend => "a person asked for it again",
        }
    }
}

/// The words of a text that are looked for: lower case, without punctuation at their ends.
pub fn words(text: &str) -> impl Iterator<Item = String> {
    let inside = |c: char| c.is_alphanumeric() || ".-_@+".contains(c);
    text.split(move |c| !inside(c))
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase())
        .filter(|word| (2..=100).contains(&word.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_found_by_its_words_codes_and_queue_id() {
        let said: Vec<_> = words("5.2.2 <jo@Example.net>: Mailbox full (queued as 4XyZ-1).").collect();
        assert_eq!(said, ["5.2.2", "jo@example.net", "mailbox", "full", "queued", "as", "4xyz-1"]);
    }
}
