//! What a replay came to, counted from the mails as they arrived and from the recorded history, and from nothing else:
//! the dispatcher is not asked whether it did well.

use super::history::{Follows, History, Incident, Mode, Subscriber, is_end};
use crate::domain::incident::{ComponentStatus, Phase};
use crate::domain::time::{Span, Timestamp};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};

/// Within so long a newer mail may take an older one's place.
const LEAST_DISTANCE: Span = Span::minutes(5);
/// What is posted so long after its time is backdated: recorded, not owed.
const BACKDATED: Span = Span::hours(4);
/// Within so long after another incident's mail nothing more need be said of the same component.
const REPEATED: Span = Span::minutes(30);

/// A mail that arrived.
#[derive(Clone, Debug)]
pub struct Sent<'a> {
    /// Its recipient.
    pub to: &'a str,
    /// When it was handed over.
    pub at: Timestamp,
    /// The mail.
    pub raw: &'a [u8],
    /// What to call it.
    pub name: &'a str,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// The incidents of the history.
    pub incidents: usize,
    /// Their updates.
    pub updates: usize,
    /// The mails that arrived.
    pub mails: usize,
    /// Problem mails after the end, and older states after newer ones.
    pub stale_mails: usize,
    /// Subscribers who were told, and were not told that it is over.
    pub missing_ends: usize,
    /// The same update twice, and ends without a relapse between.
    pub duplicates: usize,
    /// Changes of phase and turns for the worse that those told were not told of, and trouble of which nobody's mail told
    /// a follower anything.
    pub unreported: usize,
    /// Mails that nobody asked for.
    pub strays: usize,
    /// Mails to subscribers of one component.
    #[serde(skip)]
    pub pair_mails: usize,
    /// Pairs of an incident and such a subscriber, with any mail.
    #[serde(skip)]
    pub pairs: usize,
    /// What is wrong, a line each.
    #[serde(skip)]
    pub wrong: Vec<String>,
}

impl Counted {
    /// Adds what another history came to.
    pub fn add(&mut self, other: Self) {
        self.incidents += other.incidents;
        self.updates += other.updates;
        self.mails += other.mails;
        self.stale_mails += other.stale_mails;
        self.missing_ends += other.missing_ends;
        self.duplicates += other.duplicates;
        self.unreported += other.unreported;
        self.strays += other.strays;
        self.pair_mails += other.pair_mails;
        self.pairs += other.pairs;
        self.wrong.extend(other.wrong);
    }

    /// How many mails a subscriber of one component got about an incident, of those who got any.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn mails_per_told_pair(&self) -> f64 {
        if self.pairs == 0 { 0.0 } else { self.pair_mails as f64 / self.pairs as f64 }
    }
}

/// What a mail says of itself.
struct Mail<'a> {
    name: &'a str,
    at: Timestamp,
    phase: Phase,
    /// The position of the update it tells.
    update: Option<usize>,
}

/// Counts; the mails are in the order in which they were handed over. What went unreported is asked only where the
/// queue was free.
#[must_use]
pub fn count(history: &History, subscribers: &[Subscriber], sent: &[Sent<'_>], mode: Mode) -> Counted {
    let mut counted = Counted {
        incidents: history.incidents.len(),
        updates: history.incidents.iter().map(|i| i.updates.len()).sum(),
        mails: sent.len(),
        ..Counted::default()
    };
    let mut threads: BTreeMap<(usize, usize), Vec<Mail<'_>>> = BTreeMap::new();
    for one in sent {
        match read(one, history, subscribers) {
            Ok((incident, subscriber, mail)) => threads.entry((incident, subscriber)).or_default().push(mail),
            Err(what) => {
                counted.strays += 1;
                counted.wrong.push(format!("{}: {what}", one.name));
            }
        }
    }
    for ((incident, subscriber), mails) in &threads {
        let (incident, subscriber) = (&history.incidents[*incident], &subscribers[*subscriber]);
        if matches!(subscriber.follows, Follows::One(_)) {
            counted.pairs += 1;
            counted.pair_mails += mails.len();
        }
        let mut thread = Thread { incident, subscriber, counted: &mut counted };
        thread.walk(mails);
        if mode == Mode::Free {
            thread.look_for_silence(mails);
        }
    }
    if mode == Mode::Free {
        for (nth, subscriber) in subscribers.iter().enumerate() {
            let heard: Vec<_> = threads.iter().filter(|((_, s), _)| *s == nth).collect();
            let told = |component: &str, from: Timestamp, until: Timestamp| {
                let of = heard.iter().filter(|((i, _), _)| history.incidents[*i].names(component));
                of.flat_map(|(_, mails)| mails.iter()).any(|mail| from <= mail.at && mail.at <= until)
            };
            let unheard = (0..).zip(&history.incidents).filter(|(n, _)| !threads.contains_key(&(*n, nth)));
            for (_, incident) in unheard {
                Thread { incident, subscriber, counted: &mut counted }.look_for_total_silence(told);
            }
        }
    }
    counted
}

/// Where a mail belongs: incident and subscriber by position, and what it says.
fn read<'a>(
    sent: &Sent<'a>,
    history: &History,
    subscribers: &[Subscriber],
) -> Result<(usize, usize, Mail<'a>), String> {
    let headers = headers(sent.raw);
    let of = |name: &str| headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
    let needed = |name: &str| of(name).ok_or_else(|| format!("has no {name}"));
    let known = subscribers.iter().position(|s| s.address == sent.to);
    let subscriber = known.ok_or_else(|| format!("went to {}, whom nobody knows", sent.to))?;
    let key = decoded(needed("X-Allclear-Incident")?);
    let known = history.incidents.iter().position(|i| i.key == key);
    let incident = known.ok_or_else(|| format!("tells of incident {key}, which is not in the history"))?;
    let updates = &history.incidents[incident].updates;
    let update = match of("X-Allclear-Update").map(decoded) {
        None => None,
        Some(key) => {
            Some(updates.iter().position(|u| u.key == key).ok_or_else(|| format!("tells of no update {key}"))?)
        }
    };
    let phase: Phase = needed("X-Allclear-Phase")?.parse()?;
    if update.is_none() && !is_end(phase) {
        return Err("names no update".to_owned());
    }
    let follows = &subscribers[subscriber].follows;
    let concerns = match follows {
        Follows::Everything => true,
        follows => updates.iter().flat_map(|u| &u.components).any(|c| follows.includes(&c.key)),
    };
    if !concerns {
        return Err(format!("tells of incident {key}, which names nothing this subscriber follows"));
    }
    let listed = of("X-Allclear-Components").unwrap_or_default();
    if let Some(other) = listed.split(", ").filter(|c| !c.is_empty()).map(decoded).find(|c| !follows.includes(c)) {
        return Err(format!("names {other}, which this subscriber does not follow"));
    }
    Ok((incident, subscriber, Mail { name: sent.name, at: sent.at, phase, update }))
}

/// What one subscriber was told of one incident.
struct Thread<'a> {
    incident: &'a Incident,
    subscriber: &'a Subscriber,
    counted: &'a mut Counted,
}

impl Thread<'_> {
    fn wrong(&mut self, mail: &Mail<'_>, what: &str) {
        let update = mail.update.map_or("-", |n| self.incident.updates[n].key.as_str());
        self.counted.wrong.push(format!(
            "{}: incident {}, update {update} ({}), handed over {}: {what}",
            mail.name, self.incident.key, mail.phase, mail.at
        ));
    }

    /// Goes through the mails in their order.
    fn walk(&mut self, mails: &[Mail<'_>]) {
        let (mut newest, mut seen, mut told, mut ended) = (None, HashSet::new(), false, None::<Timestamp>);
        for mail in mails {
            let end = is_end(mail.phase);
            let problem = !end && mail.phase != Phase::Postmortem;
            let after_end = ended.is_some_and(|at| !self.relapsed(at, mail.at));
            if problem && self.incident.is_over(mail.at) {
                self.counted.stale_mails += 1;
                self.wrong(mail, "a problem mail after the end of the incident");
            } else if problem && after_end {
                self.counted.stale_mails += 1;
                self.wrong(mail, "a problem mail after this subscriber's end, without a relapse");
            } else if end && !self.incident.is_over(mail.at) && self.is_in_trouble(mail.at) {
                self.counted.stale_mails += 1;
                self.wrong(mail, "an all-clear while something followed is in trouble");
            } else if mail.update.is_some() && mail.update < newest {
                self.counted.stale_mails += 1;
                self.wrong(mail, "an older state after a newer one");
            }
            // An all-clear is the end that an update which was told leads to.
            let again = mail.update.is_some_and(|update| !seen.insert((update, end)));
            if again || (end && after_end) {
                self.counted.duplicates += 1;
                self.wrong(mail, if again { "the same update again" } else { "a second end without a relapse" });
            }
            newest = newest.max(mail.update);
            told |= problem;
            if problem {
                ended = None;
            } else if end {
                ended = Some(mail.at);
            }
        }
        if let Some(last) = mails.last().filter(|_| told && ended.is_none() && self.incident.is_over(Timestamp::END)) {
            self.counted.missing_ends += 1;
            self.wrong(last, "the last word to a subscriber who was never told the end");
        }
    }

    /// Whether something followed is in trouble at a time, by what has come in until then.
    fn is_in_trouble(&self, at: Timestamp) -> bool {
        let Some(until) = self.incident.updates.iter().rposition(|u| u.arrives <= at) else { return false };
        let named = self.incident.updates.iter().flat_map(|u| &u.components).map(|c| c.key.as_str());
        named.filter(|key| self.subscriber.follows.includes(key)).any(|key| self.state(until, key) > 0)
    }

    /// Whether trouble with something followed was reported after a time and until another.
    fn relapsed(&self, after: Timestamp, until: Timestamp) -> bool {
        let came = self.incident.updates.iter().filter(|u| after < u.arrives && u.arrives <= until);
        came.into_iter().any(|u| u.is_trouble(&self.subscriber.follows))
    }

    /// Changes that were never told: for each update, what this subscriber knew when the least distance had passed.
    fn look_for_silence(&mut self, mails: &[Mail<'_>]) {
        let Some(first) = mails.first() else { return };
        for (position, update) in self.incident.updates.iter().enumerate() {
            let owed = update.deliver
                && update.arrives > first.at
                && update.arrives - update.observed_at < BACKDATED
                && update.phase != Phase::Postmortem
                && !is_end(update.phase);
            let until = update.arrives + LEAST_DISTANCE;
            let ended = mails.iter().rfind(|m| m.at < update.arrives).is_some_and(|m| is_end(m.phase));
            let relapse = update.is_trouble(&self.subscriber.follows);
            let known = mails.iter().filter(|m| m.at <= until).filter_map(|m| m.update).max();
            let is_told = known.is_some_and(|known| known >= position);
            if !owed || is_told || (ended && !relapse) || self.incident.is_over(until) {
                continue;
            }
            // A newer update that takes the change back may take its place.
            let mut newer =
                (position..self.incident.updates.len()).filter(|n| self.incident.updates[*n].arrives <= until);
            if newer.all(|n| self.is_news(n, known)) {
                self.counted.unreported += 1;
                self.counted.wrong.push(format!(
                    "{}: incident {}, update {} ({}), of {}: was not told of this change",
                    self.subscriber.key, self.incident.key, update.key, update.phase, update.arrives
                ));
            }
        }
    }

    /// Trouble of which a subscriber without any mail should have had one: it was posted when it happened, lasted for
    /// longer than the least distance, and no other incident's mail `told` of the component meanwhile.
    fn look_for_total_silence(&mut self, told: impl Fn(&str, Timestamp, Timestamp) -> bool) {
        let owed = self.incident.updates.iter().find(|update| {
            let until = update.arrives + LEAST_DISTANCE;
            let last = self.incident.updates.iter().rposition(|u| u.arrives <= until).unwrap_or_default();
            let lasts = |component: &str| {
                self.subscriber.follows.includes(component)
                    && self.state(last, component) > 0
                    && !told(component, update.arrives - REPEATED, until)
            };
            update.deliver
                && update.arrives - update.observed_at < BACKDATED
                && update.phase != Phase::Postmortem
                && !is_end(update.phase)
                && !self.incident.is_over(until)
                && update.troubled().any(|c| lasts(&c.key))
        });
        if let Some(update) = owed {
            self.counted.unreported += 1;
            self.counted.wrong.push(format!(
                "{}: incident {}, update {} ({}), of {}: was never told of this trouble",
                self.subscriber.key, self.incident.key, update.key, update.phase, update.arrives
            ));
        }
    }

    /// Whether an update brings another phase than what was told, or something followed that is worse.
    fn is_news(&self, update: usize, told: Option<usize>) -> bool {
        let Some(told) = told else { return true };
        let followed = self.incident.updates.iter().flat_map(|u| &u.components).map(|c| c.key.as_str());
        let mut followed = followed.filter(|key| self.subscriber.follows.includes(key));
        self.phase(update) != self.phase(told) || followed.any(|key| self.state(update, key) > self.state(told, key))
    }

    fn phase(&self, until: usize) -> Option<Phase> {
        self.incident.updates[..=until].iter().map(|u| u.phase).rfind(|phase| *phase != Phase::Update)
    }

    /// How bad a component is; planned work is as bad as a slow one.
    fn state(&self, until: usize, component: &str) -> u8 {
        let named = self.incident.updates[..=until].iter().rev().flat_map(|u| &u.components);
        let status = named.filter(|c| c.key == component).find_map(|c| c.status);
        match status {
            None | Some(ComponentStatus::Operational) => 0,
            Some(ComponentStatus::DegradedPerformance | ComponentStatus::UnderMaintenance) => 1,
            Some(ComponentStatus::PartialOutage) => 2,
            Some(ComponentStatus::MajorOutage) => 3,
        }
    }
}

/// The headers of a mail, unfolded.
fn headers(raw: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(raw);
    let head = text.split("\r\n\r\n").next().unwrap_or_default().replace("\r\n ", " ").replace("\r\n\t", "\t");
    head.split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
