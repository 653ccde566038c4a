//! What arrived at the relay, counted there and from nothing else: for each inbox what its customer was told, in its
//! order. A few bytes an inbox, and no mail.

use super::course::{self, Fate, fate};
use crate::cli::demo::{Kind, kind};
use crate::mail::sink::Sink;
use serde::Serialize;
use std::time::Instant;

/// What one customer got.
#[derive(Clone, Copy, Default)]
struct Got {
    asked: u8,
    corrected: u8,
    last: Option<Kind>,
}

/// The relay's own book.
pub(super) struct Ledger {
    got: Vec<Got>,
    /// Mails that ask for action.
    pub asked: u64,
    /// Mails that take one back.
    pub corrected: u64,
    /// Mails that are neither, or go to nobody who is known.
    pub strays: u64,
    /// When the last request, the first correction and the last one began.
    pub last_request: Option<Instant>,
    pub first_correction: Option<Instant>,
    pub last_correction: Option<Instant>,
}

/// What the book says of the promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Promises {
    /// Customers who must act.
    pub truly_broken: u64,
    /// Of these, those whose last mail says so.
    pub truly_broken_told: u64,
    /// Customers who were asked, whose inbox came back by itself, and who were not told so last.
    pub missing_corrections: u64,
    /// Customers who were told "no action needed" without having been asked, or after reconnecting by hand.
    pub false_corrections: u64,
    /// Customers of inboxes that came back by themselves who were asked more than once.
    pub asked_twice: u64,
    /// Customers who got any mail.
    pub bothered: u64,
}

impl Ledger {
    pub fn new(inboxes: usize) -> Self {
        Self {
            got: vec![Got::default(); inboxes],
            asked: 0,
            corrected: 0,
            strays: 0,
            last_request: None,
            first_correction: None,
            last_correction: None,
        }
    }

    /// Enters what has arrived since.
    pub fn take(&mut self, sink: &Sink) {
        for mail in sink.take_mails() {
            let known = course::number(&mail.to).and_then(|number| self.got.get_mut(number));
            match (known, kind(&mail)) {
                (Some(got), kind @ Kind::Request) => {
                    (got.asked, got.last) = (got.asked.saturating_add(1), Some(kind));
                    self.asked += 1;
                    self.last_request = self.last_request.max(Some(mail.begun));
                }
                (Some(got), kind @ Kind::Correction) => {
                    (got.corrected, got.last) = (got.corrected.saturating_add(1), Some(kind));
                    self.corrected += 1;
                    self.first_correction.get_or_insert(mail.begun);
                    self.last_correction = self.last_correction.max(Some(mail.begun));
                }
                _ => self.strays += 1,
            }
        }
    }

    /// Counts the promises.
    pub fn promises(&self) -> Promises {
        let mut all = Promises::default();
        for (number, got) in self.got.iter().enumerate() {
            let fate = fate(number);
            let uncalled = got.corrected > got.asked || (fate == Fate::ByHand && got.corrected > 0);
            all.false_corrections += u64::from(uncalled);
            all.bothered += u64::from(got.last.is_some());
            match fate {
                Fate::Broken => {
                    all.truly_broken += 1;
                    all.truly_broken_told += u64::from(got.last == Some(Kind::Request));
                }
                Fate::Automatic => {
                    all.missing_corrections += u64::from(got.last == Some(Kind::Request));
                    all.asked_twice += u64::from(got.asked > 1);
                }
                Fate::ByHand => {}
            }
        }
        all
    }
}

impl Promises {
    /// Whether everybody knows what is true, and nobody was told otherwise without need.
    pub const fn hold(&self) -> bool {
        self.truly_broken == self.truly_broken_told
            && self.missing_corrections + self.false_corrections + self.asked_twice == 0
    }
}
