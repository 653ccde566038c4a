//! `[dispatch]`: the times of claiming, sending and trying again.

use std::path::PathBuf;

use super::check::Check;
use super::{ConfigError, Dispatch, raw};
use crate::domain::time::Span;

pub(super) fn check(check: &Check, raw: raw::Dispatch, host: Option<String>) -> Result<Dispatch, ConfigError> {
    let seconds = |key: &str, given, default| check.seconds(&format!("dispatch.{key}"), given, default, 1);
    let dispatch = Dispatch {
        lease: seconds("lease_seconds", raw.lease_seconds, 780)?,
        dialogue: seconds("dialogue_seconds", raw.dialogue_seconds, 720)?,
        quarantine: seconds("quarantine_seconds", raw.quarantine_seconds, 900)?,
        poll: check.number("dispatch.poll_milliseconds", raw.poll_milliseconds, 100, 1..=60_000).map(Span::millis)?,
        retry_first: seconds("retry_first_seconds", raw.retry_first_seconds, 30)?,
        retry_cap: seconds("retry_cap_seconds", raw.retry_cap_seconds, 3_600)?,
        spill_file: raw.spill_file.map_or_else(|| PathBuf::from("allclear.spill"), |file| file.relative()),
        node: check.text("dispatch.node", raw.node)?,
        host: host.or_else(host_name).unwrap_or_else(|| "local".to_owned()),
    };
    if dispatch.lease <= dispatch.dialogue {
        let hint = "Make lease_seconds a minute longer than dialogue_seconds, or a mail is taken from a slot \
                    that still sends it.";
        return Err(check.error("dispatch.lease_seconds", "is not longer than dialogue_seconds", hint));
    }
    if dispatch.retry_cap < dispatch.retry_first {
        let hint = "Raise retry_cap_seconds or lower retry_first_seconds.";
        return Err(check.error("dispatch.retry_cap_seconds", "is shorter than retry_first_seconds", hint));
    }
    Ok(dispatch)
}

/// What this host calls itself; a service manager tells its processes nothing of it.
#[cfg(unix)]
fn host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    (!name.is_empty()).then_some(name)
}

#[cfg(not(unix))]
fn host_name() -> Option<String> {
    std::env::var("COMPUTERNAME").ok()
}
