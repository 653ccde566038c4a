//! What was found, how bad it is, and what to do about it.

use crate::cli::output::printable;
use std::fmt;

crate::names!(
    /// How bad a finding is.
    Level {
        /// As it should be.
        Ok = "ok",
        /// Not looked at.
        Skip = "skip",
        /// It works, and may not do what is wanted.
        Warn = "warn",
        /// It does not work, or loses what it promises.
        Fail = "fail",
    }
);

/// One line of the report.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// What to do; under `warn` and `fail`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

pub(super) fn ok(what: impl Into<String>) -> Finding {
    Finding { level: Level::Ok, what: what.into(), hint: None }
}

pub(super) fn skip(what: impl Into<String>) -> Finding {
    Finding { level: Level::Skip, what: what.into(), hint: None }
}

pub(super) fn warn(what: impl Into<String>, hint: impl Into<String>) -> Finding {
    Finding { level: Level::Warn, what: what.into(), hint: Some(hint.into()) }
}

pub(super) fn fail(what: impl Into<String>, hint: impl Into<String>) -> Finding {
    Finding { level: Level::Fail, what: what.into(), hint: Some(hint.into()) }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {:4}  {}", self.level.as_str(), printable(&self.what))?;
        match &self.hint {
            Some(hint) => writeln!(f, "        hint: {}", printable(hint)),
            None => Ok(()),
        }
    }
}
