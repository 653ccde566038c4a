//! From what is written to what is meant: defaults, ranges, secrets read.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::value::Value;
use figment::value::magic::RelativePathBuf;

use super::raw::{self, Raw, Whole};
use super::{
    Config, ConfigError, Database, Http, Mail, Mailbox, Page, Plan, Recovery, Retention, Secret, Templates,
    Unconfirmed, dispatch, limits, relays, source, streams, surge,
};
use crate::domain::address::parse_address;
use crate::domain::class::Class;
use crate::domain::link::{LONGEST, is_link};
use crate::domain::time::Span;

const YEAR_SECONDS: u64 = 366 * 24 * 3600;

/// Checks values; knows where each was set.
pub(super) struct Check {
    sources: Figment,
    secret_files: RefCell<Vec<PathBuf>>,
}

pub(super) fn load(file: Option<&Path>, env: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigError> {
    let env: BTreeMap<String, String> = env.collect();
    let host = env.get("HOSTNAME").filter(|name| !name.is_empty()).cloned();
    let sources = source::read(file, env.into_iter())?;
    let raw: Raw = sources.extract().map_err(|error| ConfigError::reader(&sources, error, file))?;
    let check = Check { sources, secret_files: RefCell::default() };

    let http = check.http(raw.http)?;
    let page = check.page(raw.page, &http)?;
    let mail = check.mail(raw.mail, &raw.streams)?;
    let relays = relays::check(&check, raw.relays, &mail)?;
    let streams = streams::check(&check, raw.streams, &relays, &page, &mail)?;
    let limits = limits::check(&check, raw.limits)?;
    let surge = surge::check(&check, raw.surge, limits.get(&Class::ActionRequired))?;
    Ok(Config {
        file: file.map(Path::to_path_buf),
        database: check.database(raw.database)?,
        http,
        page,
        mail,
        relays,
        streams,
        limits,
        dispatch: dispatch::check(&check, raw.dispatch, host)?,
        plan: Plan { page_size: check.number("plan.page_size", raw.plan.page_size, 500, 1..=10_000)? },
        recovery: Recovery {
            unconfirmed: raw.recovery.unconfirmed.unwrap_or(Unconfirmed::Ask),
            confirm_within: check.seconds(
                "recovery.confirm_within_seconds",
                raw.recovery.confirm_within_seconds,
                21_600,
                1,
            )?,
            patience: check
                .seconds("recovery.patience_seconds", raw.recovery.patience_seconds, 86_400, 0)
                .map(|patience| (patience > Span::ZERO).then_some(patience))?,
        },
        surge,
        operators: surge::operators(&check, raw.operators)?,
        secret_files: check.secret_files.take(),
        templates: Templates { folder: raw.templates.folder.map(|folder| folder.relative()) },
        retention: Retention {
            mail_copies: check
                .number("retention.mail_copies_days", raw.retention.mail_copies_days, 45, 0..=3_650)
                .map(|days: i64| Span::hours(days * 24))?,
            archive_after: check
                .number("retention.archive_after_days", raw.retention.archive_after_days, 90, 0..=3_650)
                .map(|days: i64| (days > 0).then_some(Span::hours(days * 24)))?,
        },
    })
}

impl Check {
    pub(super) fn error(&self, key: &str, what: impl Into<String>, hint: impl Into<String>) -> ConfigError {
        ConfigError::value(&self.sources, key, what, hint)
    }

    /// The keys that a section was given.
    pub(super) fn keys(&self, section: &str) -> Vec<String> {
        let found = self.sources.find_value(section).ok().and_then(Value::into_dict);
        found.into_iter().flatten().map(|(key, _)| key).collect()
    }

    /// A number within a range, or the default.
    pub(super) fn number<T: TryFrom<u64>>(
        &self,
        key: &str,
        given: Option<Whole>,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<T, ConfigError> {
        let n = given.map_or(default, |Whole(n)| n);
        self.within(key, n, range, &format!("the default is {default}"))
    }

    /// A cap of at least 1; without one there is none.
    pub(super) fn cap(&self, key: &str, given: Option<Whole>, most: u64) -> Result<Option<u32>, ConfigError> {
        given.map(|Whole(n)| self.within(key, n, 1..=most, "leave it out for no cap")).transpose()
    }

    fn within<T: TryFrom<u64>>(
        &self,
        key: &str,
        n: u64,
        range: RangeInclusive<u64>,
        without: &str,
    ) -> Result<T, ConfigError> {
        let fits = range.contains(&n).then(|| T::try_from(n).ok()).flatten();
        fits.ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            self.error(key, format!("{n} is out of range"), format!("Give {least} to {most}; {without}."))
        })
    }

    /// Seconds as a span: at least `least`, at most a year.
    pub(super) fn seconds(
        &self,
        key: &str,
        given: Option<Whole>,
        default: u64,
        least: u64,
    ) -> Result<Span, ConfigError> {
        self.number(key, given, default, least..=YEAR_SECONDS).map(Span::seconds)
    }

    /// A text that may be left out but not left empty.
    pub(super) fn text(&self, key: &str, given: Option<String>) -> Result<Option<String>, ConfigError> {
        match given {
            Some(text) if text.trim().is_empty() || text.chars().any(char::is_control) => {
                Err(self.error(key, "is empty or holds control characters", "Give one line of text."))
            }
            other => Ok(other.map(|text| text.trim().to_owned())),
        }
    }

    /// The name of a host, in A-labels when it was written outside ASCII.
    pub(super) fn host_name(&self, key: &str, given: Option<String>) -> Result<Option<String>, ConfigError> {
        match self.text(key, given)? {
            Some(name) if !name.is_ascii() => match parse_address(&format!("x@{name}")) {
                Ok(address) => Ok(Some(address.domain().to_owned())),
                Err(fault) => {
                    let hint = "Write the name of a host, such as relay.acme.example.";
                    Err(self.error(key, format!("`{name}`: {fault}"), hint))
                }
            },
            other => Ok(other),
        }
    }

    /// The content of a secret's file, without the line end.
    pub(super) fn secret(&self, key: &str, file: &RelativePathBuf) -> Result<Secret, ConfigError> {
        let path = file.relative();
        let text = fs::read_to_string(&path).map_err(|error| {
            let what = format!("{} cannot be read: {error}", path.display());
            self.error(key, what, "Create the file, and let only the user of this program read it.")
        })?;
        self.secret_files.borrow_mut().push(path.clone());
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(self.error(key, format!("{} is empty", path.display()), "Write the secret into the file.")),
            text => Ok(Secret::new(text)),
        }
    }

    fn database(&self, raw: raw::Database) -> Result<Database, ConfigError> {
        let (key, url) = match (raw.url, raw.url_file) {
            (Some(_), Some(_)) => {
                return Err(self.error("database.url", "`url` and `url_file` are both set", "Take one of them out."));
            }
            (Some(url), None) => ("database.url", Secret::new(url)),
            (None, Some(file)) => ("database.url_file", self.secret("database.url_file", &file)?),
            (None, None) => ("database.url", Secret::new("sqlite:allclear.db")),
        };
        if !["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| url.expose().starts_with(scheme)) {
            let hint = "Write sqlite:<file> or postgres://<user>@<host>/<database>.";
            return Err(self.error(key, "is no URL of SQLite or PostgreSQL", hint));
        }
        Ok(Database {
            url,
            readers: self.number("database.readers", raw.readers, 4, 1..=64)?,
            connections: self.number("database.connections", raw.connections, 12, 2..=1_000)?,
        })
    }

    fn http(&self, raw: raw::Http) -> Result<Http, ConfigError> {
        let listen = raw.listen.as_deref().unwrap_or("127.0.0.1:8025");
        let listen: SocketAddr = listen.parse().map_err(|_| {
            let what = format!("`{listen}` is no address with a port");
            self.error("http.listen", what, "Write 127.0.0.1:8025, or 0.0.0.0:8025 for every interface.")
        })?;
        let max_body_bytes =
            self.number("http.max_body_bytes", raw.max_body_bytes, 1024 * 1024, 1024..=64 * 1024 * 1024)?;
        Ok(Http { listen, max_body_bytes })
    }

    fn page(&self, raw: raw::Page, http: &Http) -> Result<Page, ConfigError> {
        let public_url = raw.public_url.map(|url| url.trim().trim_end_matches('/').to_owned());
        let public_url = self.url("page.public_url", public_url, &["https://", "http://"])?;
        Ok(Page {
            name: self.text("page.name", raw.name)?.unwrap_or_else(|| "Status".to_owned()),
            public_url: public_url.unwrap_or_else(|| format!("http://{}", http.listen)),
            support_url: self.url("page.support_url", raw.support_url, &["https://", "http://", "mailto:"])?,
        })
    }

    pub(super) fn url(
        &self,
        key: &str,
        given: Option<String>,
        schemes: &[&str],
    ) -> Result<Option<String>, ConfigError> {
        let Some(url) = self.text(key, given)? else {
            return Ok(None);
        };
        if !schemes.iter().any(|scheme| url.starts_with(scheme)) || !is_link(&url) {
            let hint = format!(
                "Write an address that begins with {}, of at most {LONGEST} octets, without spaces, quotes, angle \
                 brackets, backticks and backslashes.",
                schemes.join(" or ")
            );
            return Err(self.error(key, format!("`{url}` is no link"), hint));
        }
        Ok(Some(url))
    }

    /// Without a domain, that of the first sender is used.
    fn mail(&self, raw: raw::Mail, streams: &BTreeMap<String, raw::Stream>) -> Result<Mail, ConfigError> {
        let sender = || streams.values().find_map(|s| s.from.as_deref()?.parse::<Mailbox>().ok());
        let domain = self.host_name("mail.domain", raw.domain)?;
        let domain = domain.or_else(|| sender().map(|from| from.domain().to_owned()));
        let domain = domain.unwrap_or_else(|| "localhost".to_owned());
        if let Err(what) = Mailbox::new("", &format!("status@{domain}")) {
            return Err(self.error("mail.domain", what, "Write a domain of yours, such as status.acme.example."));
        }
        Ok(Mail { domain })
    }
}
