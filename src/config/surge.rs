//! `[surge]`: from when on many failures are taken for an outage. `[operators]`: who is told.

use super::check::Check;
use super::raw::{self, Switch, Whole};
use super::target::Target;
use super::{ConfigError, Operators, Webhook};
use crate::domain::address::parse_address;
use crate::domain::class::Limits;
use crate::domain::surge::{Rule, Rules};
use crate::domain::time::Span;
use std::net::IpAddr;

pub(super) fn check(check: &Check, raw: raw::Surge, asking: Option<&Limits>) -> Result<Option<Rules>, ConfigError> {
    let base = Rules::default();
    let number = |key: &str, given: Option<Whole>, default: i64, least: u64, most: u64| -> Result<i64, ConfigError> {
        let default = u64::try_from(default).unwrap_or(0);
        check.number(&format!("surge.{key}"), given, default, least..=most)
    };
    #[expect(clippy::cast_possible_truncation, reason = "the defaults are small whole numbers")]
    let times = |key: &str, given, default: f64| -> Result<f64, ConfigError> {
        let n: u32 = check.number(&format!("surge.{key}"), given, default as u64, 1..=1_000)?;
        Ok(f64::from(n))
    };
    let rules = Rules {
        flood: Rule {
            minutes: number("window_minutes", raw.window_minutes, base.flood.minutes, 1, 60)?,
            least: number("least", raw.least, base.flood.least, 2, 1_000_000)?,
            times: times("times", raw.times, base.flood.times)?,
            deviations: times("deviations", raw.deviations, base.flood.deviations)?,
        },
        slow: Rule {
            minutes: number("slow_window_minutes", raw.slow_window_minutes, base.slow.minutes, 2, 1_440)?,
            least: number("slow_least", raw.slow_least, base.slow.least, 2, 1_000_000)?,
            times: times("slow_times", raw.slow_times, base.slow.times)?,
            deviations: times("slow_deviations", raw.slow_deviations, base.slow.deviations)?,
        },
        recoveries: Rule {
            least: number("recoveries_least", raw.recoveries_least, base.recoveries.least, 1, 1_000_000)?,
            ..base.recoveries
        },
        baseline: Span::hours(24 * number("baseline_days", raw.baseline_days, 7, 1, 90)?),
        calm_minutes: number("calm_minutes", raw.calm_minutes, base.calm_minutes, 1, 1_440)?,
        canary_least: number("canary_least", raw.canary_least, base.canary_least, 1, 100_000)?,
        canary_percent: number("canary_percent", raw.canary_percent, base.canary_percent, 0, 100)?,
        canary_wait: check.seconds("surge.canary_wait_seconds", raw.canary_wait_seconds, 300, 1)?,
        reporter_components: number(
            "reporter_components",
            raw.reporter_components,
            base.reporter_components,
            2,
            1_000,
        )?,
        reporter_percent: number("reporter_percent", raw.reporter_percent, base.reporter_percent, 1, 100)?,
        exhausted_percent: number("exhausted_percent", raw.exhausted_percent, base.exhausted_percent, 1, 100)?,
    };
    if rules.slow.minutes <= rules.flood.minutes {
        let hint = "The slow rule looks at hours, the other at minutes: 120 and 10 by default.";
        return Err(check.error("surge.slow_window_minutes", "is not longer than window_minutes", hint));
    }
    let on = raw.enabled.is_none_or(|Switch(on)| on);
    let longest = asking.and_then(|limits| limits.longest_hold);
    if on && longest.is_some_and(|longest| longest < Span::minutes(rules.calm_minutes)) {
        let what =
            format!("is shorter than surge.calm_minutes ({}), for which a surge holds at least", rules.calm_minutes);
        let hint = "Make the longest hold longer, or surge.calm_minutes fewer.";
        return Err(check.error("limits.action_required.longest_hold_seconds", what, hint));
    }
    Ok(on.then_some(rules))
}

pub(super) fn operators(check: &Check, raw: raw::Operators) -> Result<Operators, ConfigError> {
    let address = check.text("operators.address", raw.address)?;
    let stored = |text: String| {
        parse_address(&text).map(|address| address.as_str().to_owned()).map_err(|fault| {
            let hint = "Write one address, such as oncall@acme.example.";
            check.error("operators.address", format!("`{text}`: {fault}"), hint)
        })
    };
    let url = check.url("operators.webhook_url", raw.webhook_url, &["https://", "http://"])?;
    let webhook = match (url, raw.webhook_secret_file) {
        (None, None) => None,
        (Some(url), _) if Target::of(&url).is_none() => {
            let hint =
                "Write https://host/path: a host in ASCII, a port up to 65535 if any, and neither user nor password.";
            return Err(check.error("operators.webhook_url", "cannot be posted to", hint));
        }
        (Some(url), Some(_)) if Target::of(&url).is_some_and(|to| is_elsewhere(&to)) => {
            let hint = "Write https; http is for localhost and addresses like 127.0.0.1.";
            return Err(check.error("operators.webhook_url", "would be posted to without TLS", hint));
        }
        (Some(url), Some(file)) => Some(Webhook { url, secret: check.secret("operators.webhook_secret_file", &file)? }),
        (Some(_), None) => {
            let hint = "Write a long random text into a file, and name the file.";
            return Err(check.error("operators.webhook_secret_file", "is missing: posts are signed", hint));
        }
        (None, Some(_)) => {
            let hint = "Write the URL that takes the posts, or take the secret out.";
            return Err(check.error("operators.webhook_url", "is missing", hint));
        }
    };
    Ok(Operators { address: address.map(stored).transpose()?, webhook })
}

/// Whether a post would go unprotected to a host that is not surely this machine.
fn is_elsewhere(to: &Target<'_>) -> bool {
    let is_here = to.host.parse::<IpAddr>().map_or(to.host == "localhost", |ip| ip.to_canonical().is_loopback());
    !to.tls && !is_here
}
