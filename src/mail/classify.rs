//! What a negative reply is about, from its code, its enhanced code and its words.

use super::reply::Reply;
use crate::domain::reply::ReplyKind;

/// Classifies a negative reply (4xx or 5xx). Pure; never says more than the reply does.
#[must_use]
pub fn classify(reply: &Reply) -> ReplyKind {
    match reply.enhanced.as_deref() {
        Some("5.1.1" | "5.1.2" | "5.1.3" | "5.1.6" | "5.1.10") => ReplyKind::AddressDead,
        Some("4.2.2" | "5.2.2") => ReplyKind::MailboxFull,
        Some("5.7.25" | "5.7.26" | "5.7.27" | "5.7.29" | "5.7.515") => ReplyKind::OurAuthentication,
        Some("5.7.28") => ReplyKind::OurReputation,
        Some("5.7.8") => ReplyKind::Credentials,
        _ if matches!(reply.code, 530 | 534 | 535) => ReplyKind::Credentials,
        _ => ReplyKind::Unknown,
    }
}
