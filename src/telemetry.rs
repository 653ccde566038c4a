//! Log lines: text on a terminal, JSON elsewhere, always to standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The variable that sets what is logged, such as `debug` or `allclear=debug,sqlx=warn`.
pub const LEVEL_VARIABLE: &str = "ALLCLEAR_LOG";

/// Starts logging. A second call changes nothing; a level that cannot be read counts as `info`.
pub fn init() {
    let wanted = std::env::var(LEVEL_VARIABLE).unwrap_or_default();
    let (filter, unreadable) = filter(&wanted);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if std::io::stderr().is_terminal() {
        lines.with_target(false).try_init()
    } else {
        lines.json().flatten_event(true).try_init()
    };
    if started.is_ok() && unreadable {
        tracing::warn!(variable = LEVEL_VARIABLE, "the level cannot be read; logging at info");
    }
}

fn filter(wanted: &str) -> (EnvFilter, bool) {
    if wanted.trim().is_empty() {
        return (EnvFilter::new("info"), false);
    }
    match EnvFilter::try_new(wanted) {
        Ok(filter) => (filter, false),
        Err(_) => (EnvFilter::new("info"), true),
    }
}

/// An address as it may stand in a log: `jane@acme.example` becomes `j•••@acme.example`.
#[must_use]
pub fn masked(address: &str) -> String {
    let Some((local, domain)) = address.rsplit_once('@') else {
        return "•••".to_owned();
    };
    let mut letters = local.chars().filter(|c| !c.is_control());
    let first = letters.next().filter(|_| letters.next().is_some());
    let domain: String = domain.chars().filter(|c| !c.is_control()).collect();
    format!("{}•••@{domain}", first.map(String::from).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_its_first_letter_and_its_domain() {
        assert_eq!(masked("jane@acme.example"), "j•••@acme.example");
    }

    #[test]
    fn an_address_of_one_letter_hides_it() {
        assert_eq!(masked("j@acme.example"), "•••@acme.example");
    }

    #[test]
    fn what_is_no_address_shows_nothing() {
        assert_eq!(masked("jane"), "•••");
        assert_eq!(masked("\"a@b\"@x.example\n"), "\"•••@x.example");
    }

    #[test]
    fn a_second_start_does_not_panic() {
        init();
        init();
    }

    #[test]
    fn a_level_that_cannot_be_read_is_info() {
        let (read, unreadable) = filter("allclear=loud=er");
        assert_eq!((read.to_string().as_str(), unreadable), ("info", true));
        assert!(!filter("debug").1);
    }
}
