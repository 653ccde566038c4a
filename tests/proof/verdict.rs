//! What is compared at the end: the callers' ledger, the mails that the relay took, and what the program says of both.

use crate::load::Ledger;
use crate::site::{Node, Site};
use allclear::mail::sink::{Received, Sink};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What was counted.
#[derive(Default, Debug)]
pub struct Counts {
    accepted: u64,
    replayed: u64,
    mails: usize,
    /// Copies beyond the first of a mail.
    pub copies: u64,
    /// Mails owed of which nobody can know whether they left: killed with it more often than it is repeated.
    pub given_up: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, replayed, mails, copies, given_up } = self;
        write!(f, "{accepted} accepted ({replayed} asked for twice), {mails} mails, 0 lost, 0 undecided, ")?;
        write!(f, "{copies} second copies, all listed and alike, {given_up} given up as ambiguous")
    }
}

/// Compares all there is once nothing is left to be decided. Panics with what is wrong.
pub async fn judge(site: &Site, node: &Node, sink: &Sink, ledger: &Ledger) -> Counts {
    site.settled().await;
    site.audit().await;
    let mails = sink.mails();
    let mut counts =
        Counts { accepted: ledger.accepted, replayed: ledger.replayed, mails: mails.len(), ..Counts::default() };
    counts.copies = copies(site, node, &mails).await;
    let named = Named::read(site).await;
    let mut wrong = Vec::new();
    counts.given_up += letters(ledger, &mails, &named, &mut wrong);
    counts.given_up += incidents(ledger, &mails, &named, &mut wrong);
    let by_hand = by_hand(site).await;
    counts.given_up += connections(ledger, &mails, &named, &by_hand, &mut wrong);
    assert!(wrong.is_empty(), "{counts}\n{wrong:#?}");
    integrity(site).await;
    counts
}

/// Copies beyond the first: of one mail all are the same bytes, and the program says that there may be several.
async fn copies(site: &Site, node: &Node, mails: &[Received]) -> u64 {
    let mut by_id: BTreeMap<&str, Vec<&Received>> = BTreeMap::new();
    for mail in mails {
        by_id.entry(&mail.message_id).or_default().push(mail);
    }
    let known = site.texts("SELECT message_id FROM delivery WHERE maybe_mailed").await;
    let known: BTreeSet<_> = known.iter().map(String::as_str).collect();
    let mut copies = 0;
    for (id, of_one) in by_id {
        let bare = id.trim_start_matches('<').trim_end_matches('>');
        assert!(known.contains(bare), "{id} left, and the database does not know that it may have");
        if of_one.len() == 1 {
            continue;
        }
        copies += of_one.len() as u64 - 1;
        for copy in &of_one[1..] {
            let (first, this) = (text(of_one[0]), text(copy));
            assert!(copy.body == of_one[0].body, "the copies of {id} differ:\n{first}\n\n{this}");
        }
        let delivery = header(of_one[0], "X-Allclear-Notice");
        let (_, seen) = node.get(site, &format!("/v1/deliveries/{delivery}")).await.unwrap();
        let repeats = seen["delivery"]["repeats"].as_u64().unwrap_or_default();
        assert!(repeats >= of_one.len() as u64 - 1, "{} copies, and it shows {seen:#}", of_one.len());
        let shown = site.command("one").args(["show", &delivery]).output().unwrap().stdout;
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.contains("nobody can know whether"), "allclear show {delivery} says nothing of it:\n{shown}");
    }
    copies
}

/// What the database names as a reason that something owed may not have been mailed.
struct Named(BTreeSet<String>);

impl Named {
    async fn read(site: &Site) -> Self {
        let connections = "SELECT c.key || '@' || d.class || ' ' || d.reason FROM delivery d
            JOIN delivery_item i ON i.delivery_id = d.id JOIN connection c ON c.id = i.connection_id
            WHERE i.episode = c.episode AND d.state IN ('unknown', 'parked')";
        let subjects = "SELECT t.subject || '@' || d.class || ' ' || d.reason FROM delivery d
            JOIN thread t ON t.id = d.thread_id WHERE d.reason IS NOT NULL";
        let plans = "SELECT i.key || '@plan ' || p.outcome FROM plan p JOIN notice n ON n.id = p.notice_id
            JOIN incident i ON i.id = n.incident_id";
        let mut named: BTreeSet<_> = site.texts(connections).await.into_iter().collect();
        named.extend(site.texts(subjects).await);
        named.extend(site.texts(plans).await);
        Self(named)
    }

    fn has(&self, what: &str, reasons: &[&str]) -> bool {
        reasons.iter().any(|reason| self.0.contains(&format!("{what} {reason}")))
    }
}

/// Nobody can know whether it left, and it is not repeated for ever.
const GIVEN_UP: &[&str] = &["ambiguous", "reaped_often"];

fn letters(ledger: &Ledger, mails: &[Received], named: &Named, wrong: &mut Vec<String>) -> usize {
    let mut ids: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for mail in mails {
        ids.entry((&mail.subject, &mail.to)).or_default().insert(&mail.message_id);
    }
    let mut given_up = 0;
    for (subject, to) in &ledger.free {
        match ids.get(&(subject.as_str(), to.as_str())).map_or(0, BTreeSet::len) {
            1 => {}
            0 if named.has(&format!("{subject}@free"), GIVEN_UP) => given_up += 1,
            n => wrong.push(format!("{subject} to {to}: {n} mails")),
        }
    }
    given_up
}

/// Title and subject of an incident's thread that is named.
fn thread(named: &str) -> Option<(&str, &str)> {
    let (subject, _) = named.split_once('@')?;
    Some((subject.split_once("] ")?.1, subject))
}

/// Whoever was told that something is wrong was told last that it is over.
fn incidents(ledger: &Ledger, mails: &[Received], named: &Named, wrong: &mut Vec<String>) -> usize {
    let mut last: BTreeMap<&str, &Received> = BTreeMap::new();
    for mail in mails {
        if let Some((_, title)) = mail.subject.split_once("] ") {
            last.insert(title, mail);
        }
    }
    let threads: BTreeMap<_, _> = named.0.iter().filter_map(|named| thread(named)).collect();
    let mut given_up = 0;
    for (title, to) in &ledger.incidents {
        let thread = threads.get(title.as_str()).copied().unwrap_or_default();
        match last.get(title.as_str()) {
            Some(mail) if mail.to == *to && header(mail, "X-Allclear-Phase") == "resolved" => {}
            Some(_) if named.has(&format!("{thread}@incident_end"), GIVEN_UP) => given_up += 1,
            None if named.has(&format!("{thread}@incident_update"), &["incident_resolved", "recovered"]) => {}
            // Over before it was planned for anybody.
            None if named.has(&format!("{title}@plan"), &["incident_resolved"]) => {}
            None if named.has(&format!("{thread}@incident_update"), GIVEN_UP) => given_up += 1,
            other => wrong.push(format!("{title} to {to}: the last mail is {:?}", other.map(|mail| text(mail)))),
        }
    }
    given_up
}

/// Whoever is broken was asked last, whoever is well was not, unless repaired by hand; and nobody was asked more
/// often than something broke.
/// The Message-IDs of what asked about an outage that the customer ended by hand. Nothing takes it back, whatever ends the
/// outages after it.
async fn by_hand(site: &Site) -> BTreeSet<String> {
    let ended = "SELECT '<' || d.message_id || '>' FROM delivery d JOIN delivery_item i ON i.delivery_id = d.id
        WHERE d.class = 'action_required' AND d.maybe_mailed AND (SELECT r.recovered_by FROM recovery r
            WHERE r.connection_id = i.connection_id AND r.episode >= i.episode ORDER BY r.episode LIMIT 1) = 'customer'";
    site.texts(ended).await.into_iter().collect()
}

fn connections(
    ledger: &Ledger,
    mails: &[Received],
    named: &Named,
    by_hand: &BTreeSet<String>,
    wrong: &mut Vec<String>,
) -> usize {
    let mut asked: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut last: BTreeMap<&str, (bool, &str)> = BTreeMap::new();
    for mail in mails.iter().filter(|mail| mail.subject.ends_with("Your connection to Mail sync")) {
        let asks = !text(mail).contains("disregard th");
        if asks {
            asked.entry(&mail.to).or_default().insert(&mail.message_id);
        }
        last.insert(&mail.to, (asks, &mail.message_id));
    }
    let mut given_up = 0;
    for (n, known) in &ledger.connections {
        let to = format!("p{n}@example.net");
        let mails = asked.get(to.as_str()).map_or(0, BTreeSet::len) as u64;
        if mails > known.failures {
            wrong.push(format!("c{n}: asked {mails} times, broken {} times", known.failures));
        }
        let (last, id) = last.get(to.as_str()).copied().unzip();
        match (known.broken, last) {
            (true, Some(true)) | (false, None | Some(false)) => {}
            (false, Some(true)) if known.by_hand > 0 && id.is_some_and(|id| by_hand.contains(id)) => {}
            (true, _) if named.has(&format!("c{n}@action_required"), GIVEN_UP) => given_up += 1,
            (false, Some(true)) if named.has(&format!("c{n}@correction"), GIVEN_UP) => given_up += 1,
            (broken, last) => wrong.push(format!("c{n}: broken {broken}, the last mail asks {last:?}")),
        }
    }
    given_up
}

fn header(mail: &Received, name: &str) -> String {
    let text = String::from_utf8_lossy(&mail.body).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_default().to_owned()
}

fn text(mail: &Received) -> String {
    String::from_utf8_lossy(&mail.body).replace("=\r\n", "").replace("\r\n", " ")
}

async fn integrity(site: &Site) {
    if site.url.starts_with("sqlite") {
        assert_eq!(site.texts("PRAGMA integrity_check").await, ["ok"]);
        assert!(site.texts("SELECT \"table\" FROM pragma_foreign_key_check").await.is_empty());
    }
}
