//! What the relay took, told apart mail by mail, and whether it agrees with what the API was told. Nothing here asks
//! the nodes or their database.

use crate::storm::{Connection, Said};
use allclear::mail::sink::Received;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// A mail as its reader understands it.
#[derive(Clone, Debug)]
pub struct Heard {
    pub to: String,
    pub message_id: String,
    pub kind: Kind,
    /// The connections it asks about, or takes back.
    pub names: Vec<String>,
    /// Those that it says are not back yet: the mail it takes back still applies to them.
    pub still: Vec<String>,
    /// When DATA was read.
    pub begun: Instant,
    /// When its final dot was read.
    pub at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Act, please.
    Asks,
    /// Disregard that mail.
    TakesBack,
    /// Disregard that mail, if you got it.
    MayTakeBack,
}

impl Heard {
    pub fn of(mail: &Received) -> Self {
        let body = String::from_utf8_lossy(&mail.body).replace("=\r\n", "");
        let text = body.split("Content-Type: text/html").next().unwrap_or_default();
        let kind = match (text.contains("asked you to act"), text.contains("You may have received")) {
            (_, true) => Kind::MayTakeBack,
            (true, false) => Kind::TakesBack,
            (false, false) => Kind::Asks,
        };
        let after_name = if kind == Kind::Asks { ", since " } else { ", working again since " };
        let name = |line: &str| Some(line.trim().strip_prefix("- Inbox ")?.split_once(after_name)?.0.to_owned());
        let names: Vec<String> = text.lines().filter_map(name).collect();
        assert!(!names.is_empty(), "a mail that names no connection: {body}");
        let not_back = text.split_once("Not back yet:").map_or("", |(_, not_back)| not_back);
        let still =
            not_back.lines().filter_map(|line| Some(line.trim().strip_prefix("- Inbox ")?.to_owned())).collect();
        let (to, message_id) = (mail.to.clone(), mail.message_id.clone());
        Self { to, message_id, kind, names, still, begun: mail.begun, at: mail.at }
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Found {
    pub asked: usize,
    pub corrected: usize,
    /// Message-IDs that came more than once, how often, and whether they ask.
    pub copies: Vec<(String, usize, Kind)>,
    /// Whoever was asked, and not told that it is over; or told so, and not asked.
    pub wrong: Vec<String>,
    /// Mails that began after it was said that none would.
    pub after_drained: Vec<String>,
    /// Of each mail that began after the recovery it should have known: how long after the recovery was asked for,
    /// and how long after it was answered. T lies between the two.
    pub stale: Vec<(Duration, Duration)>,
}

/// Compares at rest. What is set aside (subscriber's address, connection) need not have been told the last word: its
/// mail is listed as ambiguous, or waits for a person.
pub fn compare(heard: &[Heard], connections: &[Connection], set_aside: &HashSet<(String, String)>) -> Found {
    let mut found = Found::default();
    let mut times: HashMap<&str, (usize, Kind)> = HashMap::new();
    for mail in heard {
        times.entry(&mail.message_id).or_insert((0, mail.kind)).0 += 1;
        match mail.kind {
            Kind::Asks => found.asked += 1,
            Kind::TakesBack | Kind::MayTakeBack => found.corrected += 1,
        }
    }
    found.copies =
        times.iter().filter(|(_, (n, _))| *n > 1).map(|(id, (n, kind))| ((*id).to_owned(), *n, *kind)).collect();
    let mut told: HashMap<(&str, &str), Vec<&Heard>> = HashMap::new();
    for mail in heard {
        for name in mail.names.iter().chain(&mail.still) {
            told.entry((name, &mail.to)).or_default().push(mail);
        }
    }
    for connection in connections {
        let said = connection.said();
        for to in &connection.told {
            let mut mails = told.remove(&(connection.key.as_str(), to.as_str())).unwrap_or_default();
            mails.sort_by_key(|mail| mail.at);
            found.wire(&connection.key, &said, &mails);
            if let Some((wrong, until)) = last_word(&connection.key, &said, &mails)
                && !set_aside.contains(&(to.clone(), connection.key.clone()))
            {
                found.wrong.push(format!("{to} about {}: {wrong}: {}", connection.key, course(&said, &mails, until)));
            }
        }
    }
    found.wrong.extend(told.keys().map(|(name, to)| format!("{to} was told of {name}, which is not theirs")));
    found
}

/// Reads one subscriber's mails about one connection as that subscriber does; what is wrong, and since when.
fn last_word(key: &str, said: &[Said], mails: &[&Heard]) -> Option<(&'static str, Instant)> {
    let mut standing: Option<Instant> = None;
    let mut not_back = false;
    // Each mail is taken back by one of its own, so two about one after the other may be taken back one after the other.
    let mut open = 0_u32;
    // Of those taken back, as many may never have arrived: then it was another that was taken back.
    let mut doubtful = 0_u32;
    let mut seen = HashSet::new();
    for mail in mails {
        let copy = !seen.insert(&mail.message_id);
        not_back = mail.still.iter().any(|name| name == key);
        if not_back {
            // A repeat of what may not have arrived says so too, when it broke again meanwhile.
            open = open.max(1);
            continue;
        }
        match mail.kind {
            Kind::Asks => {
                standing = Some(mail.begun);
                open += u32::from(!copy);
            }
            Kind::TakesBack | Kind::MayTakeBack => {
                standing = None;
                match (copy, open, mail.kind) {
                    (true, ..) | (false, 0, Kind::MayTakeBack) => {}
                    (false, 0, _) if doubtful > 0 => doubtful -= 1,
                    (false, 0, _) => return Some(("corrected and never mailed", mail.at)),
                    (false, _, kind) => {
                        open -= 1;
                        doubtful += u32::from(kind == Kind::MayTakeBack);
                    }
                }
            }
        }
    }
    let last = said.last()?;
    let wrong = match (last.failed, standing) {
        (false, Some(_)) => "mailed and not corrected",
        (false, None) if not_back => "not back as far as anybody has said",
        (true, None) => "broken, and not asked",
        (true, Some(begun)) if begun < last.sent => "broken again, and not asked again",
        _ => return None,
    };
    Some((wrong, Instant::now()))
}

impl Found {
    /// What the relay's clock says of mails that began after a recovery.
    fn wire(&mut self, key: &str, said: &[Said], mails: &[&Heard]) {
        for mail in mails.iter().filter(|mail| mail.kind == Kind::Asks) {
            let newest = said.iter().rposition(|one| one.failed && one.sent <= mail.begun);
            let Some(newest) = newest else {
                self.wrong.push(format!("{} was asked about {key} before it failed", mail.to));
                continue;
            };
            let Some(over) = said[newest..].iter().find(|one| !one.failed && one.sent < mail.begun) else { continue };
            let since = |then| mail.begun.saturating_duration_since(then);
            self.stale.push((since(over.sent), since(over.answered)));
            if over.drained.is_some_and(|drained| drained < mail.begun) {
                self.after_drained.push(format!("{} about {key}: {}", mail.to, course(said, mails, mail.at)));
            }
        }
    }

    /// The 99th percentile and the maximum of how long after T a mail began: counted from the answer, and from the
    /// request, in milliseconds.
    pub fn after_recovery(&self) -> String {
        let line = |mut all: Vec<Duration>| {
            all.sort();
            let at = |percent: usize| all.get((all.len() * percent / 100).min(all.len().saturating_sub(1)));
            let ms = |d: Option<&Duration>| d.map_or(0, Duration::as_millis);
            format!("p50 {} p99 {} max {} ms", ms(at(50)), ms(at(99)), ms(all.last()))
        };
        let (asked, answered): (Vec<_>, Vec<_>) = self.stale.iter().copied().unzip();
        format!("{} began after T: since the answer {}, since the request {}", asked.len(), line(answered), line(asked))
    }

    /// The percentile of how long after a recovery's answer a mail began.
    pub fn since_answer(&self, percent: usize) -> Duration {
        let mut all: Vec<_> = self.stale.iter().map(|one| one.1).collect();
        all.sort();
        let at = (all.len() * percent / 100).min(all.len().saturating_sub(1));
        all.get(at).copied().unwrap_or_default()
    }
}

/// The course of events until something went wrong, for a failure's message.
fn course(said: &[Said], mails: &[&Heard], until: Instant) -> String {
    let mut events: Vec<(Instant, String)> = Vec::new();
    for one in said {
        let what = if one.failed { "failed" } else { "recovered" };
        events.push((one.sent, format!("{what} sent")));
        events.push((one.answered, format!("{what} answered")));
        events.extend(one.drained.map(|at| (at, "drained".to_owned())));
    }
    events.extend(mails.iter().map(|mail| (mail.begun, format!("{:?} {}", mail.kind, mail.message_id))));
    events.retain(|event| event.0 <= until);
    events.sort_by_key(|event| event.0);
    let first = events.first().map(|event| event.0);
    let at = |event: &(Instant, String)| {
        format!("{:.3} {}", first.map_or(0.0, |first| (event.0 - first).as_secs_f64()), event.1)
    };
    events.iter().rev().take(40).rev().map(at).collect::<Vec<_>>().join(", ")
}

/// The judgement itself must be able to say no.
#[test]
fn an_end_of_nothing_is_noticed_and_one_said_twice_in_doubt_is_not() {
    use Kind::{Asks, MayTakeBack, TakesBack};
    let begun = Instant::now();
    let wrong = |course: &[(Kind, u8, bool)]| {
        let heard = |(kind, id, not_back): &(Kind, u8, bool)| Heard {
            to: String::new(),
            message_id: id.to_string(),
            kind: *kind,
            names: Vec::new(),
            still: if *not_back { vec!["c".to_owned()] } else { Vec::new() },
            begun,
            at: begun,
        };
        let mails: Vec<Heard> = course.iter().map(heard).collect();
        let over = Said { failed: false, sent: begun, answered: begun, drained: None };
        last_word("c", &[over], &mails.iter().collect::<Vec<_>>()).map(|wrong| wrong.0)
    };
    assert_eq!(wrong(&[(Asks, 1, false), (TakesBack, 2, false), (TakesBack, 2, false)]), None);
    assert_eq!(wrong(&[(TakesBack, 2, false)]), Some("corrected and never mailed"));
    assert_eq!(wrong(&[(Asks, 1, false), (MayTakeBack, 2, true)]), Some("mailed and not corrected"));
    // The first copy of 2 arrived unheard; its repeat leaves to 3 what broke again.
    let split = [(Asks, 1, false), (TakesBack, 2, false), (TakesBack, 2, true), (TakesBack, 3, false)];
    assert_eq!(wrong(&split), None);
    assert_eq!(wrong(&split[..3]), Some("not back as far as anybody has said"));
    // What 4 takes back never arrived.
    let doubt = [(Asks, 1, false), (MayTakeBack, 4, false), (TakesBack, 2, false)];
    assert_eq!(wrong(&doubt), None);
    assert_eq!(wrong(&[&doubt[..], &[(TakesBack, 3, false)]].concat()), Some("corrected and never mailed"));
}
