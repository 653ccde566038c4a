//! `[limits.<class>]`: what differs from the limits a class has by default.

use std::collections::BTreeMap;

use super::ConfigError;
use super::check::Check;
use super::raw::{self, Whole};
use crate::domain::class::{Class, Limits};
use crate::domain::time::Span;

pub(super) fn check(check: &Check, raw: BTreeMap<String, raw::Limits>) -> Result<BTreeMap<Class, Limits>, ConfigError> {
    let mut all: BTreeMap<_, _> = Class::ALL.iter().map(|&class| (class, Limits::of(class))).collect();
    for (name, given) in raw {
        let section = format!("limits.{name}");
        let class: Class = name
            .parse()
            .map_err(|what: String| check.error(&section, what, "Name the section after one of the classes."))?;
        if class == Class::Correction {
            let hint = "Take the section out: a correction is never held and never too old.";
            return Err(check.error(&section, "corrections have no limits", hint));
        }
        let span = |key: &str, given, default: Span| -> Result<Span, ConfigError> {
            let default = u64::try_from(default.as_seconds()).unwrap_or(0);
            check.seconds(&format!("{section}.{key}"), given, default, 0)
        };
        let optional = |key: &str, given: Option<Whole>, default| match given {
            None => Ok(default),
            given => span(key, given, Span::ZERO).map(Some),
        };
        let base = Limits::of(class);
        // What a class has none of by default it has not at all.
        let has_none = [
            ("dwell_seconds", given.dwell_seconds, class == Class::AllClear),
            ("longest_hold_seconds", given.longest_hold_seconds, base.daily_mails.is_none()),
            ("stable_for_seconds", given.stable_for_seconds, base.stable_for == Span::ZERO),
            ("gap_seconds", given.gap_seconds, base.gap == Span::ZERO),
            ("longest_silence_seconds", given.longest_silence_seconds, base.longest_silence.is_none()),
            ("told_elsewhere_seconds", given.told_elsewhere_seconds, base.told_elsewhere == Span::ZERO),
            ("daily_mails", given.daily_mails, base.daily_mails.is_none()),
        ];
        if let Some((key, ..)) = has_none.iter().find(|(_, given, none)| given.is_some() && *none) {
            let what = format!("mail of class {class} has no such limit");
            return Err(check.error(&format!("{section}.{key}"), what, "Take the line out."));
        }
        let limits = Limits {
            dwell: span("dwell_seconds", given.dwell_seconds, base.dwell)?,
            stable_for: span("stable_for_seconds", given.stable_for_seconds, base.stable_for)?,
            gap: span("gap_seconds", given.gap_seconds, base.gap)?,
            longest_hold: optional("longest_hold_seconds", given.longest_hold_seconds, base.longest_hold)?,
            greatest_age: optional("greatest_age_seconds", given.greatest_age_seconds, base.greatest_age)?,
            longest_silence: optional("longest_silence_seconds", given.longest_silence_seconds, base.longest_silence)?,
            told_elsewhere: span("told_elsewhere_seconds", given.told_elsewhere_seconds, base.told_elsewhere)?,
            daily_mails: daily_mails(check, &section, given.daily_mails, base.daily_mails)?,
        };
        if limits.longest_hold.is_some_and(|longest| limits.dwell > longest) {
            let hint = "Make the dwell shorter, or the longest hold longer.";
            return Err(check.error(&format!("{section}.dwell_seconds"), "is longer than the longest hold", hint));
        }
        let by_itself = limits.dwell.max(limits.stable_for).max(limits.gap);
        let waits = Span(by_itself.0 + limits.longest_hold.map_or(0, |longest| longest.0));
        if limits.greatest_age.is_some_and(|age| age <= waits) {
            let key = format!("{section}.greatest_age_seconds");
            let what = format!("a mail may have to wait for {} s and would be too old then", waits.as_seconds());
            let hint = "Make the greatest age longer, or what a mail waits for shorter: dwell, stable_for, gap and \
                        longest hold.";
            return Err(check.error(&key, what, hint));
        }
        all.insert(class, limits);
    }
    Ok(all)
}

/// 0 takes the cap away.
fn daily_mails(
    check: &Check,
    section: &str,
    given: Option<Whole>,
    base: Option<u32>,
) -> Result<Option<u32>, ConfigError> {
    let default = u64::from(base.unwrap_or(0));
    let most: u32 = check.number(&format!("{section}.daily_mails"), given, default, 0..=10_000)?;
    Ok((most > 0).then_some(most))
}
