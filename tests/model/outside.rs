//! What comes from outside, and what follows from it by itself: signals, sweeps, deadlines, corrections.

use crate::configurations::Word;
use crate::steps::{Driver, by_of, failed_at};
use crate::variants::Variant;
use crate::world::{Episode, Item, Mail, Plan, Recovery, at, clock_of};
use allclear::domain::class::Class;
use allclear::domain::component::{self, Effect as Turn};
use allclear::domain::connection::{Effect, Fault, Said, What};
use allclear::domain::delivery::State;
use allclear::flow::recovery::{Sweep, SweepCommand, SweepEvent, is_by_hand, owes_correction};

/// As small as the product allows, so that a sweep has several pages.
const PAGE: i64 = 2;

impl Driver<'_> {
    /// A word is accepted: one transaction that holds the component's row, as `signals.rs` has it.
    pub fn hear(&mut self, voice: u8) -> Option<()> {
        let said = &mut self.world.said[usize::from(voice)];
        let word = self.of.voices[usize::from(voice)][usize::from(*said)];
        *said += 1;
        self.world.clock += 1;
        match word {
            Word::Fails(c) => self.signal(c, What::Failed, word),
            Word::FailsForGood(c) => self.signal(c, What::RecoveryFailed, word),
            Word::Recovers(c) | Word::ByHand(c) => self.signal(c, What::Recovered, word),
            Word::Down => self.component(What::Failed, false),
            Word::Up => self.component(What::Recovered, false),
            Word::UpForAll => self.component(What::Recovered, true),
            Word::Hold => self.world.held = true,
            Word::Release => self.world.held = false,
            Word::Resend => return None,
        }
        Some(())
    }

    fn signal(&mut self, c: u8, what: What, word: Word) {
        let coverings = self.world.coverings();
        let before = self.world.connections[usize::from(c)];
        let said = Said {
            what,
            fault: Fault::Permanent,
            by: by_of(word),
            observed_at: at(self.world.clock),
            newest_in_sequence: false,
            out_of_sequence: false,
        };
        let connection = &mut self.world.connections[usize::from(c)];
        match connection.hear(said, &coverings) {
            Effect::Broke { ask: true } | Effect::OwnFault => self.plan(c),
            Effect::Cleared => {
                let episode = u8::try_from(connection.cleared).unwrap();
                if matches!(word, Word::ByHand(_)) && !before.is_well(&coverings) {
                    self.world.by_hand[usize::from(c)] |= 1 << episode;
                }
                self.world.recoveries.push(Recovery {
                    connection: Some(c),
                    episode,
                    by: said.by,
                    covering: None,
                    cursor: (0, 0),
                });
            }
            _ => {}
        }
    }

    /// The planning work of a failure, with its pins.
    fn plan(&mut self, c: u8) {
        let truly = self.world.newest(c);
        let plan = Plan {
            connection: c,
            episode: if self.variant == Variant::PinOfNextEpisode { truly + 1 } else { truly },
            component_episode: u8::try_from(self.world.component.episode).unwrap(),
            failed_at: failed_at(&self.world, c),
            truly,
        };
        self.world.plans.push(plan);
    }

    fn component(&mut self, what: What, covers: bool) {
        let said = component::Said {
            what,
            observed_at: at(self.world.clock),
            covers,
            since: None,
            newest_in_sequence: false,
            out_of_sequence: false,
        };
        let Turn::Ended { n, since, at, covering, .. } = self.world.component.hear(said) else { return };
        let n = u8::try_from(n).unwrap();
        self.world.episodes.retain(|e| e.n != n);
        let (since, ended) = (clock_of(Some(since)), clock_of(Some(at)));
        self.world.episodes.push(Episode { n, since, ended, covers: covering });
        if let Some(covering) = covering {
            let cursor = (clock_of(Some(covering.from)), 0);
            self.world.to_confirm = Some(covering);
            self.world.recoveries.push(Recovery {
                connection: None,
                episode: n,
                by: by_of(Word::UpForAll),
                covering: Some(covering),
                cursor,
            });
        }
    }

    /// As `sweep::confirm`: connections that a covering recovery spoke for and that stayed silent are asked anew.
    pub fn confirm(&mut self) -> Option<()> {
        let covering = self.world.to_confirm.take()?;
        self.world.clock += 1;
        for c in 0..2 {
            let connection = &mut self.world.connections[usize::from(c)];
            if connection.left_unconfirmed(covering, at(self.world.clock)) {
                self.plan(c);
            }
        }
        Some(())
    }

    /// As `sweep::sweep_one`: one transaction, a page of a component's recovery.
    pub fn sweep(&mut self, i: u8) -> Option<()> {
        let one = self.world.recoveries[usize::from(i)];
        let mut machine = Sweep::new(one.connection.is_some(), one.covering.is_some(), PAGE);
        let mut command = machine.start();
        loop {
            let (touched, event) = match command {
                SweepCommand::ReadConnection => (self.of_connection(&one), SweepEvent::Whole),
                SweepCommand::ReadPage { limit } => {
                    let page = self.of_component(&one, usize::try_from(limit).unwrap());
                    let moved = page.last().is_some_and(|last| self.key(*last) != one.cursor);
                    let full = page.len() == usize::try_from(limit).unwrap();
                    (page, SweepEvent::Page { full, moved })
                }
                SweepCommand::Remember => return Some(()),
                SweepCommand::Finish => {
                    self.world.recoveries.remove(usize::from(i));
                    return Some(());
                }
            };
            self.take_back(&one, &touched)?;
            command = machine.on(event);
            if command == SweepCommand::Remember {
                self.world.recoveries[usize::from(i)].cursor = self.key(*touched.last()?);
            }
        }
    }

    /// The statement OF_CONNECTION.
    fn of_connection(&self, one: &Recovery) -> Vec<(u8, usize)> {
        self.touched(|item| Some(item.connection) == one.connection && item.episode <= one.episode)
    }

    /// The statement OF_COMPONENT: a page, in the order of failure and mail.
    fn of_component(&self, one: &Recovery, limit: usize) -> Vec<(u8, usize)> {
        let until = clock_of(one.covering.map(|c| c.until));
        let mut page = self.touched(|item| {
            let c = &self.world.connections[usize::from(item.connection)];
            item.failed_at <= until && c.own_fault != i64::from(item.episode) && c.cleared < item.episode.into()
        });
        page.retain(|of| self.key(*of) >= one.cursor);
        page.sort_by_key(|of| self.key(*of));
        page.truncate(limit);
        page
    }

    fn touched(&self, which: impl Fn(&Item) -> bool) -> Vec<(u8, usize)> {
        let mails = (0..).zip(&self.world.mails).filter(|(_, m)| m.class == Class::ActionRequired);
        mails.flat_map(|(m, mail)| mail.items().filter(|(_, i)| which(i)).map(move |(i, _)| (m, i))).collect()
    }

    fn item(&self, (mail, item): (u8, usize)) -> Item {
        self.world.mail(mail).items[item].unwrap()
    }

    fn key(&self, of: (u8, usize)) -> (u8, u8) {
        (self.item(of).failed_at, of.0)
    }

    /// As `sweep::take_back`: the queued and untrue are withdrawn, the rest gets corrections.
    fn take_back(&mut self, one: &Recovery, touched: &[(u8, usize)]) -> Option<()> {
        let was: Vec<State> = touched.iter().map(|of| self.world.mail(of.0).state).collect();
        for (mail, _) in touched.iter().zip(&was).filter(|(_, s)| **s == State::Queued).map(|(of, _)| *of) {
            // The statement WITHDRAW_STALE; a row that a claim has locked is no longer queued when it gets it.
            let untrue = self.world.mail(mail).items().all(|(_, i)| self.world.claim(&i).stale().is_some());
            if untrue && !self.world.is_locked(mail) {
                self.world.mail_mut(mail).state = State::Withdrawn;
            }
        }
        if is_by_hand(one.connection.is_some(), Some(one.by)) {
            return Some(());
        }
        let owes = |(of, state): (&(u8, usize), &State)| {
            let skipped = self.variant == Variant::SweepSkipsSending && *state == State::Sending;
            (owes_correction(*state, self.world.mail(of.0).maybe_mailed) && !skipped).then_some(*of)
        };
        let left: Vec<_> = touched.iter().zip(&was).filter_map(owes).collect();
        self.correct(&left)
    }

    /// As `sweep::correct`: one correction a thread, joined while it waits, one item for each thing taken back.
    /// `None` while a claim holds a row of the thread.
    pub fn correct(&mut self, of: &[(u8, usize)]) -> Option<()> {
        for touched in of {
            let (item, thread) = (self.item(*touched), self.world.mail(touched.0).thread);
            if self.is_thread_locked(thread) {
                return None;
            }
            let corrects = |i: &Item| {
                i.corrects == Some(touched.0) && i.connection == item.connection && i.episode == item.episode
            };
            // The statement CORRECTED_ALREADY.
            if let Some(done) = self.world.mails.iter().position(|m| m.items.iter().flatten().any(corrects)) {
                if self.variant == Variant::SweepRepeatsCorrection && self.world.mails[done].state == State::Accepted {
                    self.world.mails[done].state = State::Queued;
                }
                continue;
            }
            let said_joined = self.variant == Variant::SaidCorrectionJoined;
            let joins = |m: &Mail| m.class == Class::Correction && (!m.maybe_mailed || said_joined);
            let waiting = self.waiting(thread, joins);
            let correction = waiting.unwrap_or_else(|| self.add_mail(Class::Correction, thread, false));
            self.add_item(correction, Item { corrects: Some(touched.0), said: false, ..item });
        }
        Some(())
    }
}
