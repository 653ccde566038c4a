//! The configuration: what is legal and still not what production wants.

use super::finding::{Finding, fail, ok, warn};
use crate::config::{Config, Relay};
use std::path::Path;

pub(super) fn look(config: &Config) -> Vec<Finding> {
    let mut found = vec![source(config)];
    found.push(listen(config));
    found.push(public_url(config));
    found.extend(streams(config));
    found.push(operators(config));
    found.extend(secrets(config));
    found
}

fn source(config: &Config) -> Finding {
    let from = match &config.file {
        Some(path) => format!("read from {}", path.display()),
        None => "no file; defaults and the environment".to_owned(),
    };
    let dispatch = &config.dispatch;
    let called = match &dispatch.node {
        Some(name) => format!("called `{name}`"),
        None => format!("called after its host, `{}`", dispatch.host),
    };
    ok(format!("{from}; this node is {called}"))
}

fn listen(config: &Config) -> Finding {
    let address = config.http.listen;
    // The port itself may be that of a `serve` that runs.
    let mut any_port = address;
    any_port.set_port(0);
    if let Err(e) = std::net::TcpListener::bind(any_port) {
        let hint = "let http.listen name an address of this host, or 0.0.0.0 for every interface";
        return fail(format!("cannot listen on {address}: {e}"), hint);
    }
    if address.ip().to_canonical().is_loopback() {
        return ok(format!("HTTP on {address}, for this machine"));
    }
    warn(
        format!("HTTP on {address}, without TLS: keys can be read on the way"),
        "listen on 127.0.0.1 behind a proxy with TLS, unless the network between is your own",
    )
}

/// Whether mail really leaves: then what recipients see matters.
fn mails(config: &Config) -> bool {
    config.streams.values().any(|stream| matches!(config.relays.get(&stream.relay), Some(Relay::Smtp(_))))
}

fn public_url(config: &Config) -> Finding {
    let url = &config.page.public_url;
    let hint = "set page.public_url to the https:// address your customers reach";
    match () {
        () if !mails(config) || url.starts_with("https://") => ok(format!("links in mails lead to {url}")),
        () if is_here(url) => warn(format!("links in mails lead to {url}: each reader's own machine"), hint),
        () => warn(format!("links in mails lead to {url}, without TLS"), hint),
    }
}

fn is_here(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', '?']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let ip = host.parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.to_canonical().is_loopback() || ip.is_unspecified())
}

fn streams(config: &Config) -> Vec<Finding> {
    let of = |(name, stream): (&String, &crate::config::Stream)| {
        let classes: Vec<_> = stream.classes.iter().map(|class| class.as_str()).collect();
        let what = format!(
            "stream {name}: {} from {} through relay {} ({} sessions)",
            classes.join(", "),
            stream.from,
            stream.relay,
            stream.slots
        );
        match stream.from.domain() {
            "localhost" if matches!(config.relays.get(&stream.relay), Some(Relay::Smtp(_))) => {
                warn(what, format!("set streams.{name}.from: nobody can answer, or trust, an address at localhost"))
            }
            _ => ok(what),
        }
    };
    config.streams.iter().map(of).collect()
}

/// Who is told when customers are not asked, which may be in vain.
fn operators(config: &Config) -> Finding {
    let (address, webhook) = (&config.operators.address, &config.operators.webhook);
    let told: Vec<_> =
        address.clone().into_iter().chain(webhook.as_ref().map(|_| "by the webhook".to_owned())).collect();
    match told.is_empty() {
        false => ok(format!("operators are told of surges: {}", told.join(", "))),
        true if mails(config) => {
            let hint = "set operators.address, or operators.webhook_url with operators.webhook_secret_file";
            warn("nobody is told of surges".to_owned(), hint)
        }
        true => ok("nobody is told of surges, and no mail leaves".to_owned()),
    }
}

/// Files that hold a secret and that every user of this machine may read.
fn secrets(config: &Config) -> Vec<Finding> {
    let url = config.database.url.expose();
    let in_file = |path: &&std::path::PathBuf| {
        has_password(url) && std::fs::read_to_string(path).is_ok_and(|text| text.contains(url))
    };
    let files = config.secret_files.iter().chain(config.file.iter().filter(in_file));
    files
        .map(|path| match open_to_all(path) {
            false => ok(format!("the secret in {} is not open to every user", path.display())),
            true => warn(
                format!("every user of this machine can read the secret in {}", path.display()),
                format!("chmod o-rwx {}", path.display()),
            ),
        })
        .collect()
}

fn has_password(url: &str) -> bool {
    let authority = url.split_once("://").map_or("", |(_, rest)| rest).split('/').next().unwrap_or_default();
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) || url.contains("password=")
}

#[cfg(unix)]
fn open_to_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o007 != 0)
}

#[cfg(not(unix))]
fn open_to_all(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_machine_is_told_from_others() {
        for url in ["http://127.0.0.1:8025", "http://localhost/x", "http://[::1]:80", "http://0.0.0.0:1"] {
            assert!(is_here(url), "{url}");
        }
        for url in ["http://status.example", "http://localhost.example", "http://192.0.2.1:8025"] {
            assert!(!is_here(url), "{url}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_seen() {
        assert!(has_password("postgres://me:secret@host/db") && has_password("postgres://host/db?password=x"));
        assert!(!has_password("postgres://me@host:5432/db") && !has_password("sqlite:a.db"));
    }
}
