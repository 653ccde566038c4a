//! The relays: each is greeted as a mail would greet it.

use super::finding::{Finding, fail, ok, skip, warn};
use crate::config::Config;
use crate::domain::time::Timestamp;
use crate::flow::setting::transports;
use crate::mail::probe::{Report, probe};
use crate::mail::{Relay, Tls, Transport};
use crate::store::open::system_time;

/// A certificate that ends sooner than this should have been renewed by a machine already.
const DAYS: i64 = 14;
const DAY: i64 = 86_400;

pub(super) async fn look(config: &Config, offline: bool) -> Vec<Finding> {
    let transports = transports(config);
    let mut found = Vec::new();
    for name in config.relays.keys() {
        let stream = config.streams.iter().find(|(_, stream)| stream.relay == *name);
        let transport = stream.and_then(|(stream, _)| transports.get(stream));
        match transport {
            None => found.push(warn(
                format!("relay {name}: no stream uses it"),
                format!("name it in streams.<name>.relay, or take relays.{name} out"),
            )),
            Some(Transport::Maildir(path)) => {
                found.push(ok(format!("relay {name}: mails become files in {}; nothing is sent", path.display())));
            }
            Some(Transport::Smtp(_)) if offline => found.push(skip(format!("relay {name}: not asked (--offline)"))),
            Some(Transport::Smtp(relay)) => found.extend(ask(name, relay).await),
        }
    }
    found
}

async fn ask(name: &str, relay: &Relay) -> Vec<Finding> {
    match probe(relay).await {
        Err(e) => vec![fail(format!("relay {name}: {e}"), e.hint())],
        Ok(report) => judge(name, relay, &report, system_time()),
    }
}

fn judge(name: &str, relay: &Relay, report: &Report, now: Timestamp) -> Vec<Finding> {
    let protected = match relay.tls {
        Tls::None => "without TLS, on this machine",
        Tls::StartTls => "with STARTTLS",
        Tls::Implicit => "with TLS",
    };
    let login = relay.login.as_ref().map(|login| format!(", logged in as {}", login.user)).unwrap_or_default();
    let mut found = vec![ok(format!("relay {name}: {} answers as {} {protected}{login}", relay.name(), report.name))];
    found.extend(certificate(name, report, now));
    found.push(offers(name, report));
    if let (Some(mechanisms), None) = (report.offered("AUTH"), &relay.login) {
        found.push(warn(
            format!("relay {name}: offers a login (AUTH {mechanisms}), and none is configured"),
            format!("if it refuses mail without one, set relays.{name}.user and password_file; --send-test shows it"),
        ));
    }
    found
}

fn certificate(name: &str, report: &Report, now: Timestamp) -> Option<Finding> {
    let until = report.certificate_until?;
    let days = (until - now).as_seconds() / DAY;
    let what = format!("relay {name}: its certificate is valid until {until} ({days} days)");
    Some(if days < DAYS { warn(what, "let whoever runs the relay renew it: no mail goes without") } else { ok(what) })
}

/// What it offers of what makes a difference here.
fn offers(name: &str, report: &Report) -> Finding {
    let mut line = Vec::new();
    for keyword in ["PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES", "AUTH"] {
        if let Some(rest) = report.offered(keyword) {
            line.push(format!("{keyword} {rest}").trim_end().to_owned());
        }
    }
    let mut what =
        format!("relay {name}: offers {}", if line.is_empty() { "nothing".to_owned() } else { line.join(", ") });
    if report.offered("PIPELINING").is_none() {
        what += "; without PIPELINING each mail takes two round trips more";
    }
    if report.offered("SMTPUTF8").is_none() {
        what += "; without SMTPUTF8 it takes no addresses outside ASCII";
    }
    ok(what)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn report(offers: &[&str]) -> Report {
        Report {
            name: "mx".to_owned(),
            certificate_until: Some(Timestamp::parse("2026-06-30T00:00:00Z").unwrap()),
            offers: std::iter::once("mx").chain(offers.iter().copied()).map(str::to_owned).collect(),
        }
    }

    #[test]
    fn a_certificate_about_to_end_is_a_warning() {
        let level = |now| certificate("r", &report(&[]), Timestamp::parse(now).unwrap()).unwrap().level;
        assert_eq!(level("2026-06-01T00:00:00Z"), Level::Ok);
        assert_eq!(level("2026-06-20T00:00:00Z"), Level::Warn);
    }

    #[test]
    fn what_is_not_offered_says_what_that_means() {
        let full = offers("r", &report(&["pipelining", "SIZE 1000", "SMTPUTF8"])).what;
        assert_eq!(full, "relay r: offers PIPELINING, SIZE 1000, SMTPUTF8");
        let bare = offers("r", &report(&[])).what;
        assert!(bare.contains("offers nothing") && bare.contains("round trips") && bare.contains("ASCII"), "{bare}");
    }

    #[test]
    fn a_login_that_is_offered_and_not_used_is_a_warning() {
        let found = judge("r", &Relay::local(25), &report(&["AUTH PLAIN LOGIN"]), Timestamp::EARLIEST);
        assert!(found.iter().any(|f| f.level == Level::Warn && f.what.contains("AUTH PLAIN LOGIN")), "{found:?}");
    }
}
