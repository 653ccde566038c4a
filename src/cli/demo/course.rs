//! The course of the incident that is replayed (1 to 3 March 2025, UTC): who breaks when, and how it ends.
//! The same number of inboxes gives the same course, every time.

use crate::domain::connection::{By, Fault, What};
use crate::domain::time::{Span, Timestamp};
use crate::flow::intake::{self, FieldError, NoticeIn, SignalIn};

/// The component whose provider fails.
pub const COMPONENT: &str = "outlook";

/// Saturday, 1 March 2025, 20:40 UTC.
pub const START: Timestamp = Timestamp(1_740_861_600_000_000);

/// The provider's status page says that it is down; it says so since the start.
const FEED: Timestamp = Timestamp(START.0 + Span::minutes(6).0 + Span::seconds(20).0);
/// The provider works again: 21:45.
const PROVIDER_BACK: i64 = 65;
/// The incident is posted: Sunday, 01:12.
const POSTED: i64 = 272;
/// The first inbox is reconnected: Sunday, 01:40.
const RECONNECTING: i64 = 300;
/// The last inbox is reconnected: Sunday, 06:22.
const LAST: i64 = 582;
/// People read their mail: Monday, 09:00.
const MONDAY: i64 = 2_180;

/// How an inbox ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is reconnected without its customer.
    Automatic,
    /// Its customer reconnects it by hand during the night.
    ByHand,
    /// Its password has really changed: reconnecting fails, and the customer must act.
    Broken,
}

/// An inbox.
#[derive(Clone, Copy, Debug)]
pub struct Inbox {
    /// How it ends.
    pub fate: Fate,
    broke: Timestamp,
    ended: Timestamp,
}

/// What is said at a time.
#[derive(Clone, Debug)]
pub enum Said {
    /// A signal.
    Signal(Box<SignalIn>),
    /// A notice.
    Notice(NoticeIn),
}

/// The whole course.
#[derive(Debug)]
pub struct Course {
    /// The inboxes; the position is the number.
    pub inboxes: Vec<Inbox>,
    /// What is said, in the order of time.
    pub said: Vec<(Timestamp, Said)>,
}

/// The key of an inbox.
#[must_use]
pub fn key(number: usize) -> String {
    format!("inbox-{number:05}")
}

/// The address of an inbox, which is also where its customer is written to.
#[must_use]
pub fn address(number: usize) -> String {
    format!("person-{number:05}@customer.example")
}

/// The number of the inbox of an address.
#[must_use]
pub fn number(address: &str) -> Option<usize> {
    address.strip_prefix("person-")?.split_once('@')?.0.parse().ok()
}

const fn minute(n: i64) -> Timestamp {
    Timestamp(START.0 + Span::minutes(n).0)
}

/// A fixed sequence of numbers that look drawn (SplitMix64).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap_or_default()
    }

    /// A point of time between two minutes.
    fn between(&mut self, from: i64, until: i64) -> Timestamp {
        let seconds = usize::try_from((until - from) * 60).unwrap_or_default();
        minute(from) + Span::seconds(i64::try_from(self.below(seconds)).unwrap_or_default())
    }

    fn shuffled(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

impl Course {
    /// The course of so many inboxes.
    ///
    /// # Errors
    /// When the incident's text is refused at the door.
    pub fn of(inboxes: usize) -> Result<Self, FieldError> {
        let mut draw = Draw(20_250_301);
        let inboxes = fates(inboxes, &mut draw);
        let mut said = vec![
            (FEED, component(What::Failed, START)),
            (minute(PROVIDER_BACK), component(What::Recovered, minute(PROVIDER_BACK))),
            (minute(POSTED), Said::Notice(incident()?)),
            (minute(RECONNECTING), component(What::Recovering, minute(RECONNECTING))),
        ];
        for (number, inbox) in inboxes.iter().enumerate() {
            let (what, by) = match inbox.fate {
                Fate::Automatic => (What::Recovered, Some(By::Automatic)),
                Fate::ByHand => (What::Recovered, Some(By::Customer)),
                Fate::Broken => (What::RecoveryFailed, None),
            };
            let failed = SignalIn { fault: Some(Fault::Permanent), ..connection(number, What::Failed, inbox.broke) };
            let ended = SignalIn { by, ..connection(number, what, inbox.ended) };
            said.push((inbox.broke, Said::Signal(Box::new(failed))));
            said.push((inbox.ended, Said::Signal(Box::new(ended))));
        }
        said.sort_by_key(|(at, _)| *at);
        Ok(Self { inboxes, said })
    }
}

fn fates(inboxes: usize, draw: &mut Draw) -> Vec<Inbox> {
    let broken = (inboxes * 4 / 1000).max(1);
    let by_hand = (inboxes * 2 / 1000).max(1);
    let order = draw.shuffled(inboxes);
    let mut all = vec![Inbox { fate: Fate::Automatic, broke: START, ended: START }; inboxes];
    // One after the other; the last at 06:22.
    let span = minute(LAST) - minute(RECONNECTING);
    let steps = i64::try_from(inboxes).unwrap_or(i64::MAX).max(2) - 1;
    for (turn, number) in (0..).zip(draw.shuffled(inboxes)) {
        // Most break in the first 40 minutes, the rest within the hour.
        let broke = if draw.below(5) < 4 { draw.between(0, 40) } else { draw.between(40, 60) };
        all[number].broke = broke;
        all[number].ended = minute(RECONNECTING) + Span(span.0 / steps * turn);
    }
    for (place, number) in order.into_iter().take(broken + by_hand).enumerate() {
        all[number].fate = if place < broken { Fate::Broken } else { Fate::ByHand };
        if place >= broken {
            all[number].ended = draw.between(PROVIDER_BACK + 5, RECONNECTING);
        }
    }
    all
}

/// The points of time at which the dispatcher is let run: every minute while inboxes break, every second one while
/// they come back, seldom when nothing happens.
#[must_use]
pub fn ticks() -> Vec<Timestamp> {
    let busy = |n: &i64| *n <= 80 || (n % 2 == 0 && (RECONNECTING..=LAST + 2).contains(n));
    let often = |n: &i64| *n < 760 && n % 5 == 0;
    (0..=MONDAY).filter(|n| busy(n) || often(n) || n % 60 == 20).map(minute).collect()
}

/// The points of time a log without a terminal tells of.
#[must_use]
pub fn is_landmark(at: Timestamp) -> bool {
    [7, PROVIDER_BACK, POSTED + 3, LAST + 2, MONDAY].iter().any(|n| minute(*n) == at)
}

/// The points of time at which the most mails can be waiting: when the last inbox has broken.
#[must_use]
pub fn is_crest(at: Timestamp) -> bool {
    [60, 61, PROVIDER_BACK - 1, PROVIDER_BACK].iter().any(|n| minute(*n) == at)
}

fn blank(what: What, at: Timestamp) -> SignalIn {
    SignalIn {
        connection: None,
        component: None,
        what,
        fault: None,
        by: None,
        connections: None,
        since: None,
        confirm_within: None,
        observed_at: Some(at),
        sequence: None,
    }
}

fn connection(number: usize, what: What, at: Timestamp) -> SignalIn {
    SignalIn { connection: Some(key(number)), ..blank(what, at) }
}

fn component(what: What, at: Timestamp) -> Said {
    let by = (what == What::Recovered).then_some(By::Automatic);
    Said::Signal(Box::new(SignalIn { component: Some(COMPONENT.to_owned()), by, ..blank(what, at) }))
}

fn incident() -> Result<NoticeIn, FieldError> {
    intake::read(
        br#"{"kind": "incident", "incident": "2025-03-01-outlook", "title": "Outlook inboxes are disconnected",
            "phase": "monitoring", "impact": "major", "started_at": "2025-03-01T20:40:00Z", "deliver": false,
            "components": [{"key": "outlook"}],
            "body": "The provider's outage is over. We are reconnecting all inboxes; you need not do anything."}"#,
    )
}
