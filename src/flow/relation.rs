//! How a stream stands with its relay: what a refusal of us sets in motion, and what ends it.

use super::setting::Stream;
use crate::domain::id::DeliveryId;
use crate::domain::reply::ReplyKind;
use crate::domain::time::Span;
use crate::mail::{OpenError, OpenPhase, classify};
use crate::store::streams::{self, Refusal};
use crate::store::{Store, StoreError, Tx, relays};

/// Between two mails that find out whether a pause is over.
pub const PROBE_PAUSED: Span = Span::minutes(15);

/// After a try that found out nothing.
pub const PROBE_SOON: Span = Span::minutes(1);

/// What the operator does about mails that the relay refuses for good, one after the other.
pub const FAILED_FOR_GOOD: &str = "read the relay's words, and ask its people; then `allclear resend --state failed` sends \
                                   again what is still true";

/// What the operator does about a refusal of us.
#[must_use]
pub const fn hint(kind: ReplyKind) -> &'static str {
    match kind {
        ReplyKind::OurAuthentication => {
            "check SPF, DKIM, DMARC, reverse DNS and the EHLO name of the sending domain, and that the relay uses TLS"
        }
        ReplyKind::OurReputation => {
            "look the sending address and domain up on the block list named, and ask there or the relay's people for removal"
        }
        ReplyKind::Credentials => {
            "check user and password of the relay, and that this account may send with the stream's From; `allclear serve` \
             reads a new password when it is started again"
        }
        _ => "read the relay's words",
    }
}

/// Pauses a stream and tells the operator, once.
///
/// # Errors
/// When the database fails.
pub async fn pause(
    tx: &mut Tx,
    stream: &Stream,
    kind: ReplyKind,
    words: &str,
    delivery: Option<(DeliveryId, &str)>,
    who: &str,
) -> Result<(), StoreError> {
    let refusal = Refusal { stream: &stream.name, kind, words, delivery };
    let probe_at = tx.now() + PROBE_PAUSED;
    if streams::pause(tx, refusal, probe_at, who).await? {
        tracing::error!(
            stream = stream.name,
            kind = %kind,
            "stream {} is paused: the relay refuses us ({kind}), not a mail: {words}; {}; then `allclear streams \
             resume {} --reason ...`. Nobody is suppressed, nothing is lost; one mail tries every {} minutes.",
            stream.name,
            hint(kind),
            stream.name,
            PROBE_PAUSED.as_seconds() / 60
        );
    }
    Ok(())
}

/// A session could not be opened. Where the relay does not know us, asking again and again would lock the account. One that
/// has sessions open for `others` is not away.
///
/// # Errors
/// When the database fails.
pub async fn not_let_in(
    store: &Store,
    stream: &Stream,
    e: &OpenError,
    others: bool,
    who: &str,
) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    let refused = e.reply.as_ref().filter(|reply| reply.code >= 500).map(|reply| (reply, classify(reply)));
    match (refused, e.phase) {
        (Some((reply, _)), OpenPhase::Login) => {
            pause(&mut tx, stream, ReplyKind::Credentials, &reply.to_string(), None, who).await?;
        }
        (
            Some((reply, kind @ (ReplyKind::OurAuthentication | ReplyKind::OurReputation | ReplyKind::Credentials))),
            _,
        ) => pause(&mut tx, stream, kind, &reply.to_string(), None, who).await?,
        _ if others => {}
        _ => relays::not_reached(&mut tx, &stream.relay, who, &e.to_string()).await?,
    }
    tx.commit().await
}

/// A relay that could not be reached, or did not know us, has opened a session.
///
/// # Errors
/// When the database fails.
pub async fn let_in(store: &Store, stream: &Stream, who: &str) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    relays::reached(&mut tx, &stream.relay, who).await?;
    tx.commit().await
}
