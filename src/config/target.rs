//! Where posts go.

use std::net::Ipv6Addr;

/// A URL, as far as a post needs it.
#[derive(Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// `https`.
    pub tls: bool,
    /// Host and port as they are written.
    pub authority: &'a str,
    /// The host: a name, or an address without brackets.
    pub host: &'a str,
    /// The port; by default the usual one.
    pub port: u16,
    /// The path with what follows it, but for a fragment.
    pub path: &'a str,
}

impl<'a> Target<'a> {
    /// Takes a URL apart; nothing when it cannot be posted to.
    #[must_use]
    pub fn of(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let rest = rest.split('#').next()?;
        let (authority, path) = rest.find(['/', '?']).map_or((rest, "/"), |at| rest.split_at(at));
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, port) = v6.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Some(if tls { 443 } else { 80 }), |port| port.parse().ok().filter(|port| *port > 0))?;
        let fits = !host.is_empty() && (authority.starts_with('[') || is_host_name(host)) && path.starts_with('/');
        (fits && path.bytes().all(|b| b.is_ascii_graphic())).then_some(Self { tls, authority, host, port, path })
    }
}

/// Whether a text may be the name of a host, or its address of version 4: it has no scheme, port, path or user.
pub(super) fn is_host_name(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let target = Target::of("https://ops.acme.example:8443/hook?x=1#y").unwrap();
        assert_eq!(
            (target.tls, target.authority, target.host, target.port, target.path),
            (true, "ops.acme.example:8443", "ops.acme.example", 8443, "/hook?x=1")
        );
        let v6 = Target::of("http://[::1]:80").unwrap();
        assert_eq!((v6.host, v6.port, v6.path), ("::1", 80, "/"));
        assert_eq!(Target::of("https://ops.acme.example").unwrap().port, 443);
        for wrong in [
            "ftp://x/",
            "https://",
            "https:///x",
            "https://a@b/",
            "https://u:pw@b/",
            "https://a/\r\nX: y",
            "https://a/ü",
            "https://ü/",
            "https://a:x/",
            "https://a:0/",
            "https://a:99999/",
            "https://::1/",
            "https://[::1/",
            "https://[::1]x/",
            "https://[a]/",
            "https://a?b",
        ] {
            assert_eq!(Target::of(wrong), None, "{wrong}");
        }
    }
}
