//! What mails say of connections: what is asked about them, in the words that were written for each, and what is taken back.

use super::super::intake::ActionIn;
use super::super::look::Seen;
use super::super::setting::Setting;
use super::super::words::Words;
use super::ComposeError;
use crate::domain::id::{ConnectionId, NoticeId};
use crate::store::view::ItemView;
use crate::template::context::{ActionRequiredMail, Ask, ConnectionLine, CorrectedLine, CorrectionMail};
use std::collections::{BTreeMap, HashMap};

fn kept<'a>(seen: &'a Seen, keep: &'a [usize]) -> impl Iterator<Item = &'a ItemView> {
    keep.iter().filter_map(|position| seen.items.get(*position))
}

/// The connections of each text stand together, with its words and its page, whichever notices said it.
pub(super) fn action_required(
    seen: &Seen,
    keep: &[usize],
    said: &Words,
    setting: &Setting,
) -> Result<ActionRequiredMail, ComposeError> {
    let items: Vec<_> = kept(seen, keep).collect();
    let names = distinct(items.iter().filter_map(|i| Some((i.connection_id?, i.name.as_deref(), i.key.as_deref()))));
    let mut texts: Vec<(Option<ActionIn>, Vec<&ItemView>)> = Vec::new();
    let mut place: HashMap<Option<NoticeId>, usize> = HashMap::new();
    for item in &items {
        let notice = said.about(item);
        let at = match place.get(&notice) {
            Some(at) => *at,
            None => {
                let words: Option<ActionIn> = said.by(notice)?;
                let same = texts.iter().position(|(known, _)| says_the_same(known.as_ref(), words.as_ref()));
                if same.is_none() {
                    texts.push((words, Vec::new()));
                }
                *place.entry(notice).or_insert(same.unwrap_or(texts.len() - 1))
            }
        };
        texts[at].1.push(*item);
    }
    let component = seen.items.first().map(|i| i.component_name.clone()).unwrap_or_default();
    let support = texts.iter().find_map(|(words, _)| words.as_ref()?.support_link.clone());
    let mut asks = texts.into_iter().map(|(words, about)| ask(&about, words, &names, &component, setting));
    Ok(ActionRequiredMail {
        again: !items.is_empty() && items.iter().all(|item| item.corrected_before),
        ask: asks.next().ok_or_else(|| ComposeError("it names no connection".to_owned()))?,
        others: asks.collect(),
        support_link: support.or_else(|| setting.support_url.clone()),
        component: component.clone(),
    })
}

fn says_the_same(one: Option<&ActionIn>, other: Option<&ActionIn>) -> bool {
    fn words(said: &ActionIn) -> [Option<&str>; 4] {
        [Some(&*said.what_happened), said.what_we_did.as_deref(), Some(&*said.what_to_do), said.link.as_deref()]
    }
    one.map(words) == other.map(words)
}

fn ask(
    about: &[&ItemView],
    said: Option<ActionIn>,
    names: &BTreeMap<ConnectionId, String>,
    component: &str,
    setting: &Setting,
) -> Ask {
    let first = about.first().and_then(|item| item.link.clone());
    // One page for all, or each its own.
    let each = said.as_ref().is_none_or(|said| said.link.is_none()) && about.iter().any(|item| item.link != first);
    let all_have_one = each && about.iter().all(|item| item.link.is_some());
    let own_fault = about.iter().all(|item| item.claim().is_some_and(|claim| claim.is_own_fault()));
    let line = |item: &&ItemView| ConnectionLine {
        name: item.connection_id.and_then(|id| names.get(&id).cloned()).unwrap_or_default(),
        failed_at: item.broken_since.or(item.failed_at).unwrap_or_default(),
        link: item.link.clone().filter(|_| each),
    };
    let connections = about.iter().map(line).collect();
    let page = || setting.public_url.clone().filter(|_| !all_have_one);
    match said {
        Some(said) => Ask {
            connections,
            what_happened: said.what_happened,
            what_we_did: said.what_we_did,
            what_to_do: said.what_to_do,
            link: said.link.or(first.filter(|_| !each)).or_else(page),
        },
        // Nobody said more than that it does not work.
        None => Ask {
            connections,
            what_happened: format!(
                "The connection to {component} has stopped working, so nothing is being synchronised."
            ),
            what_we_did: Some(match own_fault {
                true => "Reconnecting it automatically has failed.".to_owned(),
                false => "We waited for it to come back by itself; it has not.".to_owned(),
            }),
            what_to_do: "Reconnect by signing in again.".to_owned(),
            link: first.filter(|_| !each).or_else(page),
        },
    }
}

/// What connections are called in one mail: those of the same name by their keys, too.
fn distinct<'a>(
    of: impl Iterator<Item = (ConnectionId, Option<&'a str>, Option<&'a str>)>,
) -> BTreeMap<ConnectionId, String> {
    let all: BTreeMap<_, _> = of.map(|(id, name, key)| (id, (name.unwrap_or_default(), key))).collect();
    let mut called: HashMap<&str, usize> = HashMap::new();
    for (name, _) in all.values() {
        *called.entry(name).or_default() += 1;
    }
    let tell = |(name, key): &(&str, Option<&str>)| match key {
        Some(key) if called.get(name).is_some_and(|n| *n > 1) => format!("{name} ({key})"),
        _ => (*name).to_owned(),
    };
    all.iter().map(|(id, one)| (*id, tell(one))).collect()
}

pub(super) fn correction(seen: &Seen, keep: &[usize], said: &Words, setting: &Setting) -> CorrectionMail {
    // What broke again waits in a mail of its own, and must not be called well by this one's silence. Of what its mail
    // never said, it need say nothing; nobody would take that back.
    let waits = |item: &ItemView| {
        item.original().is_some_and(|original| original.maybe_mailed)
            && item.claim().is_some_and(|claim| claim.open_now())
    };
    let waiting = seen.items.iter().enumerate().filter(|(position, item)| !keep.contains(position) && waits(item));
    let waiting =
        waiting.filter_map(|(_, item)| Some((item.connection_id?, item.name.as_deref(), item.key.as_deref())));
    let silent = said.still_open(seen.row.id).map(|one| (one.connection_id, Some(&*one.name), Some(&*one.key)));
    let open: Vec<_> = silent.chain(waiting).collect();
    let well = kept(seen, keep).filter_map(|i| Some((i.connection_id?, i.name.as_deref(), i.key.as_deref())));
    let names = distinct(well.chain(open.iter().copied()));
    let mut connections: BTreeMap<ConnectionId, CorrectedLine> = BTreeMap::new();
    for item in kept(seen, keep) {
        // Two mails about one connection are taken back in one line.
        let Some((id, name)) = item.connection_id.and_then(|id| Some((id, names.get(&id)?))) else { continue };
        // What was known of it before it broke says nothing of when it came back.
        let known = [item.well_as_of, item.component_up_since()].into_iter().flatten();
        let recovered_at = known.into_iter().find(|at| item.failed_at.is_none_or(|failed| *at >= failed));
        let recovered_at = recovered_at.unwrap_or(seen.row.created_at);
        connections.entry(id).or_insert_with(|| CorrectedLine { name: name.clone(), recovered_at });
    }
    let mut still_open: Vec<String> = open.iter().filter_map(|one| names.get(&one.0).cloned()).collect();
    still_open.sort();
    still_open.dedup();
    let mails: BTreeMap<_, _> =
        kept(seen, keep).filter_map(|i| Some((i.corrects_id?, i.original_claimed_at?))).collect();
    CorrectionMail {
        component: seen.items.first().map(|i| i.component_name.clone()).unwrap_or_default(),
        connections: connections.into_values().collect(),
        asked_at: mails.values().max().copied().unwrap_or(seen.row.created_at),
        asked_since: mails.values().min().copied().filter(|_| mails.len() > 1),
        maybe: kept(seen, keep).any(|item| item.is_original_uncertain()),
        still_open,
        link: setting.public_url.clone(),
        support_link: setting.support_url.clone(),
    }
}

/// What the reader was asked about and what still does not work, though a mail says that all is over.
pub(super) fn still_open(seen: &Seen, said: &Words) -> Vec<String> {
    let open = said.still_open(seen.row.id).map(|one| (one.connection_id, Some(&*one.name), Some(&*one.key)));
    let mut names: Vec<_> = distinct(open).into_values().collect();
    names.sort();
    names
}
