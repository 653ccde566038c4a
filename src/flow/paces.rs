//! Rate caps at the claim: draws from the buckets in the claim's own transaction, so that what is claimed on any
//! node has been drawn for.

use super::pace::{Caps, MAIL, Rate};
use super::setting::Stream;
use crate::domain::time::{Span, Timestamp};
use crate::store::streams::{self, Bucket};
use crate::store::{StoreError, Tx};
use std::collections::{BTreeMap, HashMap};

/// The buckets of a stream, locked until the claim's transaction ends.
pub struct Paces<'a> {
    stream: &'a Stream,
    now: Timestamp,
    whole: Vec<(Rate, Bucket)>,
    domains: HashMap<String, Domain>,
}

/// A capped recipient domain.
struct Domain {
    rate: Rate,
    /// One for each of [`QUEUES`], with the time until which its turns are given away. All draw from the first; the
    /// level of another is its claim to go first.
    buckets: [Bucket; 4],
}

/// Those who wait for a turn stand in one of these, as [`Behind`] says.
const QUEUES: [&str; 4] = ["domain", "late", "owed", "urgent"];

/// Behind whose turns a mail stands. Of those that are given to new mails many may be of some that will never leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// It is new.
    TheNew,
    /// It has lost a turn.
    TheLate,
    /// It tells an end, or what cannot wait for a backlog.
    TheOwed,
    /// It is a correction, or a fault of the customer's own.
    TheUrgent,
}

/// A turn is given within twice this time, beyond which all begin anew from here: of those before it some may never leave, and a
/// cap may be raised.
const FAR: Span = Span::minutes(30);

/// All nodes go by the database's clock: that was set back, and whoever waited for it would wait as long.
const SET_BACK: Span = Span::minutes(1);

impl<'a> Paces<'a> {
    /// Reads the buckets of all the stream's mails and of all its relay's. Where anything is capped, one of them is
    /// locked first: two nodes then wait for each other there, and never over the domains.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open(tx: &mut Tx, stream: &'a Stream) -> Result<Self, StoreError> {
        let now = tx.now();
        let caps = &stream.caps;
        let overall = caps.overall.or(caps.by_domain().then(Rate::unbounded));
        let relay = caps.relay.iter().map(|(name, rate)| (format!("relay {name}"), *rate));
        let names: Vec<_> = relay.chain(overall.map(|rate| (format!("stream {}", stream.name), rate))).collect();
        let whole = if names.is_empty() { Vec::new() } else { read(tx, &names).await? };
        Ok(Self { stream, now, whole, domains: HashMap::new() })
    }

    /// How many mails may leave now; at most `most`.
    #[must_use]
    pub fn allowed(&self, most: usize) -> usize {
        let drawn = |(_, bucket): &(Rate, Bucket)| usize::try_from(bucket.level / MAIL).unwrap_or(0);
        self.whole.iter().map(drawn).min().map_or(most, |allowed| allowed.min(most))
    }

    /// When the next mail may leave, where none may now.
    #[must_use]
    pub fn next_turn(&self) -> Timestamp {
        self.whole.iter().map(|(rate, bucket)| self.now + rate.wait(bucket.level)).max().unwrap_or(self.now)
    }

    /// Reads the buckets of recipient domains, where they are capped.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn learn(&mut self, tx: &mut Tx, addresses: impl Iterator<Item = &str>) -> Result<(), StoreError> {
        let caps: &Caps = &self.stream.caps;
        if !caps.by_domain() {
            return Ok(());
        }
        let new: BTreeMap<&str, Rate> = addresses
            .map(domain)
            .filter(|domain| !self.domains.contains_key(*domain))
            .filter_map(|domain| Some((domain, caps.of_domain(domain)?)))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let name = |what: &str, domain: &str| format!("{what} {} {domain}", self.stream.name);
        let names = QUEUES.into_iter().flat_map(|what| new.iter().map(move |(of, rate)| (what, *of, *rate)));
        let names: Vec<_> = names.map(|(what, of, rate)| (name(what, of), rate)).collect();
        let found = read(tx, &names).await?.into_iter();
        let mut found: HashMap<String, Bucket> = found.map(|(_, bucket)| (bucket.name.clone(), bucket)).collect();
        for (domain, rate) in new {
            if let [Some(new), Some(late), Some(owed), Some(urgent)] =
                QUEUES.map(|what| found.remove(&name(what, domain)))
            {
                self.domains.insert(domain.to_owned(), Domain { rate, buckets: [new, late, owed, urgent] });
            }
        }
        Ok(())
    }

    /// Draws for one mail, or says when it is to come back. Each that comes back later is given a time of its own, so
    /// that a long queue to one domain is put off seldom, not again and again.
    ///
    /// # Errors
    /// The time at which it is its turn.
    pub fn draw(&mut self, address: &str, behind: Behind) -> Result<(), Timestamp> {
        let now = self.now;
        if let Some(of) = self.domains.get_mut(domain(address)) {
            let (queue, spacing) = (behind as usize, Span(of.rate.spacing()));
            // Turns of two queues can lie so that one always finds what has flowed in, and the other never: it is left to
            // the higher while that has turns, or, when its claim is spent, to the lower. A second mail is anybody's, for
            // those given turns may never come.
            let has_turns = |other: &Bucket| other.booked_until + spacing > now;
            let is_spent = queue > 0 && of.buckets[queue].level < MAIL;
            let is_left = of.buckets[queue + 1..].iter().any(|higher| higher.level >= MAIL && has_turns(higher))
                || is_spent && of.buckets[..queue].iter().any(has_turns);
            if of.buckets[0].level < if is_left { of.rate.brim().min(2 * MAIL - 1) } else { MAIL } {
                let booked = &mut of.buckets[queue].booked_until;
                *booked = (*booked).max(now) + spacing;
                if (*booked - now).0 > 2 * FAR.0 {
                    *booked = now + FAR + spacing;
                }
                return Err(*booked);
            }
            of.buckets[0].level -= MAIL;
            // It goes first for four mails of five: the others have turns, too, each of what the higher leave.
            for (n, claim) in of.buckets.iter_mut().enumerate().take(queue + 1).skip(1) {
                let spent = if n == queue { MAIL * 5 / 4 } else { MAIL };
                claim.level = (claim.level - spent).max(0);
            }
        }
        for (_, bucket) in &mut self.whole {
            bucket.level -= MAIL;
        }
        Ok(())
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn store(self, tx: &mut Tx) -> Result<(), StoreError> {
        let domains = self.domains.into_values().flat_map(|of| of.buckets);
        let left: Vec<Bucket> = self.whole.into_iter().map(|(_, bucket)| bucket).chain(domains).collect();
        if left.is_empty() { Ok(()) } else { streams::set_buckets(tx, &left).await }
    }
}

fn domain(address: &str) -> &str {
    address.rsplit('@').next().unwrap_or_default()
}

/// Buckets with their level as of now; a new one is full.
async fn read(tx: &mut Tx, of: &[(String, Rate)]) -> Result<Vec<(Rate, Bucket)>, StoreError> {
    let now = tx.now();
    let full = |(name, rate): &(String, Rate)| Bucket {
        name: name.clone(),
        level: rate.size(),
        at: now,
        booked_until: Timestamp(0),
    };
    let found = streams::buckets(tx, &of.iter().map(full).collect::<Vec<_>>()).await?;
    let rates: HashMap<&str, Rate> = of.iter().map(|(name, rate)| (name.as_str(), *rate)).collect();
    let known = found.into_iter().filter_map(|bucket| Some((*rates.get(bucket.name.as_str())?, bucket)));
    Ok(known
        .map(|(rate, bucket)| {
            if bucket.at - now > SET_BACK {
                return (rate, Bucket { level: rate.size(), at: now, booked_until: Timestamp(0), ..bucket });
            }
            let level = rate.level(bucket.level, bucket.at, now);
            // Another node may have read a later time: what it took is not given back.
            let at = bucket.at.max(now);
            // Whoever was given a turn has had it, or need not any more: nobody has drawn for long, and it is full.
            let rested = level >= rate.size() && now - bucket.at > Span(5 * rate.spacing() + Span::seconds(1).0);
            let booked_until = if rested { Timestamp(0) } else { bucket.booked_until };
            (rate, Bucket { level, at, booked_until, ..bucket })
        })
        .collect())
}
