//! `[relays.<name>]`: where mail is handed over.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use super::check::Check;
use super::raw::{self, Transport};
use super::streams::MOST_PER_MINUTE;
use super::target::is_host_name;
use super::{ConfigError, Login, Mail, Phases, Relay, Smtp, Tls};

/// The relay of a configuration that names none: a folder beside it.
pub(super) const DEFAULT: &str = "default";

pub(super) fn check(
    check: &Check,
    raw: BTreeMap<String, raw::Relay>,
    mail: &Mail,
) -> Result<BTreeMap<String, Relay>, ConfigError> {
    if raw.is_empty() {
        return Ok(BTreeMap::from([(DEFAULT.to_owned(), Relay::Maildir(PathBuf::from("./maildir")))]));
    }
    raw.into_iter().map(|(name, raw)| Ok((name.clone(), relay(check, &name, raw, mail)?))).collect()
}

fn relay(check: &Check, name: &str, raw: raw::Relay, mail: &Mail) -> Result<Relay, ConfigError> {
    let key = |key: &str| format!("relays.{name}.{key}");
    match raw.transport {
        None => Err(check.error(&key("transport"), "is missing", "Write transport = \"smtp\" or \"maildir\".")),
        Some(Transport::Smtp) => {
            if raw.path.is_some() {
                return Err(check.error(&key("path"), "belongs to the maildir transport", "Take it out."));
            }
            smtp(check, name, raw, mail).map(Relay::Smtp)
        }
        Some(Transport::Maildir) => {
            let given = check.keys(&format!("relays.{name}"));
            if let Some(other) = given.iter().find(|key| !["transport", "path"].contains(&key.as_str())) {
                return Err(check.error(&key(other), "belongs to the smtp transport", "Take it out."));
            }
            Ok(Relay::Maildir(raw.path.map_or_else(|| PathBuf::from("./maildir"), |path| path.relative())))
        }
    }
}

fn smtp(check: &Check, name: &str, raw: raw::Relay, mail: &Mail) -> Result<Smtp, ConfigError> {
    let key = |key: &str| format!("relays.{name}.{key}");
    let phase = |k: &str, given, default| check.seconds(&key(k), given, default, 1);
    let host = check
        .host_name(&key("host"), raw.host)?
        .ok_or_else(|| check.error(&key("host"), "is missing", "Write the relay's host name or address."))?;
    if !is_host_name(&host) && literal(&host).is_none() {
        let hint = "Write the name or address alone; `port` and `tls` say the rest.";
        return Err(check.error(&key("host"), format!("`{host}` is no host"), hint));
    }
    let tls = raw.tls.unwrap_or(Tls::Starttls);
    let usual_port = match tls {
        Tls::Starttls => 587,
        Tls::Implicit => 465,
        Tls::None => 25,
    };
    let login = match (check.text(&key("user"), raw.user)?, raw.password_file) {
        (None, None) => None,
        (Some(user), Some(file)) => Some(Login { user, password: check.secret(&key("password_file"), &file)? }),
        (Some(_), None) => {
            let hint = "Put the password into a file and name it in password_file.";
            return Err(check.error(&key("user"), "has no password_file", hint));
        }
        (None, Some(_)) => {
            let hint = "Write the user the password belongs to.";
            return Err(check.error(&key("password_file"), "has no user", hint));
        }
    };
    if login.is_some() && tls == Tls::None && !is_here(&host) {
        let hint = "Use tls = \"starttls\" or \"implicit\"; only a relay on this machine gets a password without.";
        return Err(check.error(&key("tls"), "the password would cross the network in the clear", hint));
    }
    if tls == Tls::None && literal(&host).is_some_and(|ip| !ip.to_canonical().is_loopback()) {
        let hint = "Use tls = \"starttls\" (port 587) or \"implicit\" (port 465), or a relay on this machine.";
        return Err(check.error(&key("tls"), "mail goes without TLS only to this machine", hint));
    }
    Ok(Smtp {
        // A resolver wants no brackets.
        host: literal(&host).map_or(host, |ip| ip.to_string()),
        port: check.number(&key("port"), raw.port, usual_port, 1..=65_535)?,
        tls,
        login,
        ca_file: raw.ca_file.map(|file| file.relative()),
        hello_name: check.host_name(&key("hello_name"), raw.hello_name)?.unwrap_or_else(|| mail.domain.clone()),
        sessions: check.cap(&key("sessions"), raw.sessions, 1_000)?,
        mails_per_minute: check.cap(&key("mails_per_minute"), raw.mails_per_minute, MOST_PER_MINUTE)?,
        messages_per_session: check.number(
            &key("messages_per_session"),
            raw.messages_per_session,
            100,
            1..=1_000_000,
        )?,
        session_age: phase("session_age_seconds", raw.session_age_seconds, 300)?,
        phases: Phases {
            connect: phase("connect_seconds", raw.connect_seconds, 30)?,
            greeting: phase("greeting_seconds", raw.greeting_seconds, 300)?,
            command: phase("command_seconds", raw.command_seconds, 300)?,
            data: phase("data_seconds", raw.data_seconds, 120)?,
            block: phase("block_seconds", raw.block_seconds, 180)?,
            end: phase("end_seconds", raw.end_seconds, 600)?,
        },
    })
}

fn is_here(host: &str) -> bool {
    host == "localhost" || literal(host).is_some_and(|ip| ip.is_loopback())
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}
