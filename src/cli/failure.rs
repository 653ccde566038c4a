//! How a command fails: an exit code, what happened, and what to do.

use super::output::printable;
use crate::config::ConfigError;
use crate::flow::ingest::IngestError;
use crate::flow::intake::FieldError;
use crate::flow::reading::Unreadable;
use crate::store::StoreError;

/// It failed.
pub const FAILURE: u8 = 1;
/// It was called wrongly, or its input is wrong.
pub const USAGE: u8 = 2;
/// What it names is not known.
pub const NOT_FOUND: u8 = 3;
/// Something else stands in the way.
pub const CONFLICT: u8 = 4;
/// A part was done.
pub const PARTIAL: u8 = 5;
/// It ran, and found problems.
pub const FOUND_PROBLEMS: u8 = 6;
/// The same may work a little later.
pub const TRY_AGAIN: u8 = 75;

/// A command that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// What happened, a line each.
    pub errors: Vec<String>,
    /// What to do.
    pub hint: String,
}

impl Failure {
    /// A failure with one line.
    pub fn new(code: u8, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, errors: vec![error.into()], hint: hint.into() }
    }

    /// Wrong fields of an input.
    #[must_use]
    pub fn fields(errors: &[FieldError]) -> Self {
        Self {
            code: USAGE,
            errors: errors.iter().map(|e| format!("{}: {}", e.field, e.what)).collect(),
            hint: "correct it and repeat the command; nothing was recorded".to_owned(),
        }
    }

    /// Tells standard error.
    pub fn tell(&self) {
        for error in &self.errors {
            eprintln!("error: {}", printable(error));
        }
        if !self.hint.is_empty() {
            eprintln!("hint: {}", self.hint);
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = if error.is_away() { TRY_AGAIN } else { FAILURE };
        Self::new(code, error.to_string(), error.hint())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(USAGE, error.to_string(), error.hint())
    }
}

impl From<Unreadable> for Failure {
    fn from(error: Unreadable) -> Self {
        Self::fields(&[error.into_field()])
    }
}

impl From<IngestError> for Failure {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Invalid(errors) => Self::fields(&errors),
            IngestError::Store(error) => error.into(),
            IngestError::Forbidden(_) => Self::new(CONFLICT, error.to_string(), "use another key"),
            IngestError::Conflict(_) => {
                Self::new(CONFLICT, error.to_string(), "use a new key for a new input; repeat an input byte for byte")
            }
        }
    }
}
