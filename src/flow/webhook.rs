//! One signed post to an operator's system. Of HTTP it needs a request whose bytes are known and the first line of the
//! reply: less than wiring a client would be. No redirect is followed, nothing of the reply's body is read.

use crate::config::Target;
use crate::domain::hex::hex;
use hmac::{Hmac, KeyInit, Mac};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use sha2::Sha256;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The whole exchange.
const LONGEST: Duration = Duration::from_secs(15);
/// So much of a reply is read to find its first line.
const HEAD: u64 = 16 * 1024;

/// A post was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// It may be another time.
    #[error("{0}")]
    Yet(String),
    /// It was answered with this status.
    #[error("it answered {0}")]
    Answered(u16),
}

impl NotTaken {
    fn at(what: &str, e: impl std::fmt::Display) -> Self {
        Self::Yet(format!("{what}: {e}"))
    }

    /// What was said is refused, and not who said it or when: the same bytes will hardly be taken later (RFC 9110 15.5.1,
    /// 15.5.14, 15.5.16, 15.5.21).
    #[must_use]
    pub const fn for_content(&self) -> bool {
        matches!(self, Self::Answered(400 | 413 | 415 | 422))
    }
}

/// The value of the header `Allclear-Signature`: HMAC-SHA-256, in hexadecimal, of the time in seconds, a dot, and the body.
#[must_use]
pub fn signature(secret: &str, at: i64, body: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(format!("{at}.{body}").as_bytes());
    format!("t={at},v1={}", hex(&mac.finalize().into_bytes()))
}

/// Posts a JSON body; taken is what was answered with 2xx.
///
/// # Errors
/// When it was not taken, or nobody can know.
pub async fn post(url: &str, id: &str, signature: &str, body: &str) -> Result<(), NotTaken> {
    let exchange = exchange(url, id, signature, body);
    match tokio::time::timeout(LONGEST, exchange).await {
        Ok(done) => done,
        Err(_) => Err(NotTaken::Yet(format!("no reply within {} s", LONGEST.as_secs()))),
    }
}

async fn exchange(url: &str, id: &str, signature: &str, body: &str) -> Result<(), NotTaken> {
    let target = Target::of(url).ok_or_else(|| NotTaken::Yet("its URL cannot be used".to_owned()))?;
    let found = tokio::net::lookup_host((target.host, target.port)).await;
    let addresses: Vec<SocketAddr> = found.map_err(|e| NotTaken::at("its host is not found", e))?.collect();
    if !target.tls && addresses.iter().any(|at| !at.ip().to_canonical().is_loopback()) {
        return Err(NotTaken::Yet("without TLS it may only be on this machine".to_owned()));
    }
    let tcp = TcpStream::connect(&addresses[..]).await.map_err(|e| NotTaken::at("it cannot be reached", e))?;
    let Target { authority, path, .. } = target;
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: allclear/{}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nAllclear-Id: {id}\r\nAllclear-Signature: {signature}\r\nConnection: close\r\n\r\n{body}",
        env!("CARGO_PKG_VERSION"),
        body.len()
    );
    if target.tls {
        let name = ServerName::try_from(target.host.to_owned()).map_err(|e| NotTaken::at("its host", e))?;
        let tls = connector().map_err(|e| NotTaken::at("TLS", e))?.connect(name, tcp).await;
        return say(tls.map_err(|e| NotTaken::at("TLS", e))?, &request).await;
    }
    say(tcp, &request).await
}

/// Certificates are judged as the system judges them.
fn connector() -> Result<TlsConnector, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(TlsConnector::from(Arc::new(config.with_platform_verifier()?.with_no_client_auth())))
}

async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Result<(), NotTaken> {
    stream.write_all(request.as_bytes()).await.map_err(|e| NotTaken::at("it broke off", e))?;
    stream.flush().await.map_err(|e| NotTaken::at("it broke off", e))?;
    let mut head = Vec::new();
    let mut limited = stream.take(HEAD);
    loop {
        if let Some(code) = status(&head) {
            return if (200..300).contains(&code) { Ok(()) } else { Err(NotTaken::Answered(code)) };
        }
        let read = limited.read_buf(&mut head).await.map_err(|e| NotTaken::at("its reply broke off", e))?;
        if read == 0 {
            return Err(NotTaken::Yet("its reply is not HTTP".to_owned()));
        }
    }
}

/// The status of a reply, once its first line is there; interim replies (1xx) are passed over.
fn status(head: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(head);
    let mut rest: &str = &text;
    loop {
        let (line, _) = rest.split_once("\r\n")?;
        let code: u16 = line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
        if code >= 200 {
            return Some(code);
        }
        rest = rest.split_once("\r\n\r\n")?.1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interim_replies_are_passed_over() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(status(b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 302 Found\r\n"), Some(302));
        assert_eq!(status(b"HTTP/1.1 20"), None);
        assert_eq!(status(b"SSH-2.0-x\r\n"), None);
    }

    #[test]
    fn the_signature_can_be_computed_by_others() {
        // printf '1740861660.{"a":1}' | openssl dgst -sha256 -hmac s3cret
        assert_eq!(
            signature("s3cret", 1_740_861_660, "{\"a\":1}"),
            "t=1740861660,v1=82453d2705540540843998acfd4af4368b7362b256b68950d21ead28c6216bcb"
        );
    }
}
