//! The promises (design section 5). Some are broken by a step and noted there, the others are asked of every state in
//! which nothing is left to do.

use crate::steps::{Do, Driver, inner_tries};
use crate::variants::Variant;
use crate::world::{Heard, Item, Mail, Worker, World};
use crate::{Dispatcher, world};
use allclear::domain::class::Class;
use allclear::domain::delivery::State;
use allclear::flow::gate::Verdict;
use stateright::Property;

/// How often a correction is repeated at the most, and any other mail: `recovery.rs`.
const CORRECTION_REPEATS: u8 = 5;
const REPEATS: u8 = 1;

const ORDER: u8 = 1;
const NEVER_ATTEMPTED: u8 = 2;
const AFTER_CORRECTION: u8 = 4;
const COPIES: u8 = 8;

pub fn properties() -> Vec<Property<Dispatcher>> {
    vec![
        Property::always("I1: no DATA on a look that saw the recovery, or the hold", |_, w: &World| w.kept(ORDER)),
        Property::always("I2: at rest who may have been mailed of what is over was corrected, once", |m, w| {
            !at_rest(m, w) || w.all_taken_back()
        }),
        Property::always("I3: no correction of what was never attempted", |_, w: &World| w.kept(NEVER_ATTEMPTED)),
        Property::always("I4: no stale mail follows its own correction", |_, w: &World| w.kept(AFTER_CORRECTION)),
        Property::always("I5: no more copies than ambiguous attempts and one", |_, w: &World| w.kept(COPIES)),
        Property::always("I6: at rest all that was accepted is decided, or waits for what is in force", |m, w| {
            !at_rest(m, w) || w.all_waits_in_force()
        }),
        Property::always("I7: at rest the last mail agrees with the state", |m, w| !at_rest(m, w) || w.last_is_true(m)),
        Property::always("I8: at rest who must act has been asked, or is held", |m, w| {
            !at_rest(m, w) || w.all_broken_are_asked(m)
        }),
    ]
}

/// Nothing happens any more before somebody says something.
fn at_rest(model: &Dispatcher, world: &World) -> bool {
    if !world.workers.is_empty() || !world.recoveries.is_empty() || world.planning.is_some() {
        return false;
    }
    let mut tries = Vec::new();
    inner_tries(&model.configuration, world, &mut tries);
    tries.retain(|step| *step != Do::Confirm);
    tries.iter().all(|step| {
        let mut driver = Driver { world: world.clone(), of: &model.configuration, variant: Variant::Sound };
        driver.variant = model.variant;
        driver.act(*step).is_none() || driver.world == *world
    })
}

impl World {
    const fn kept(&self, promise: u8) -> bool {
        self.broken & promise == 0
    }

    /// DATA is written.
    pub fn begin_data(&mut self, worker: &Worker, without_look: bool) {
        if worker.untrue || without_look {
            self.broken |= ORDER;
        }
    }

    /// Nobody can know whether it left.
    pub fn doubt(&mut self, mail: u8) {
        self.mail_mut(mail).ambiguous += 1;
        self.say(mail);
    }

    fn say(&mut self, mail: u8) {
        for item in self.mail_mut(mail).items.iter_mut().flatten() {
            item.said |= !item.dropped;
        }
    }

    /// The relay takes a mail.
    pub fn take(&mut self, mail: u8) {
        self.mail_mut(mail).taken += 1;
        self.say(mail);
        let m = *self.mail(mail);
        if m.taken > 1 + m.ambiguous {
            self.broken |= COPIES;
        }
        for (_, item) in m.items() {
            let heard = match item.corrects {
                None => {
                    let taken_back = |c: &Mail| c.taken > 0 && c.items().any(|(_, i)| takes_back(&i, mail, &item));
                    if self.mails.iter().any(taken_back) {
                        self.broken |= AFTER_CORRECTION;
                    }
                    Heard::Asked(item.truly)
                }
                Some(of) => {
                    let said = |i: &Item| i.said && i.connection == item.connection && i.episode == item.episode;
                    if !self.mail(of).items.iter().flatten().any(said) {
                        self.broken |= NEVER_ATTEMPTED;
                    }
                    Heard::Calmed
                }
            };
            self.heard[usize::from(m.thread)][usize::from(item.connection)] = heard;
        }
    }

    fn all_taken_back(&self) -> bool {
        (0..).zip(&self.mails).filter(|(_, m)| m.class == Class::ActionRequired).all(|(id, m)| {
            (!m.maybe_mailed && m.taken == 0) || {
                m.items.iter().flatten().all(|i| !i.said || !self.owes(i) || self.is_taken_back(id, m, i))
            }
        })
    }

    /// What a mail said is over, and not by the customer's own hand.
    fn owes(&self, item: &Item) -> bool {
        let by_hand = self.by_hand[usize::from(item.connection)] & (1 << item.truly) != 0;
        self.is_truly_over(item.connection, item.truly, item.failed_at) && !by_hand
    }

    fn is_taken_back(&self, id: u8, original: &Mail, item: &Item) -> bool {
        let of = |c: &&Mail| c.items.iter().flatten().any(|i| i.resend_no == 0 && takes_back(i, id, item));
        let mut corrections = self.mails.iter().filter(of);
        let (Some(correction), None) = (corrections.next(), corrections.next()) else { return false };
        let replaced = correction.items.iter().flatten().any(|i| i.dropped && takes_back(i, id, item));
        match correction.state {
            _ if replaced => true,
            State::Accepted => correction.taken > 0,
            // It waits while the connection is open again; that the original waits for a second try keeps it no longer.
            State::Queued => self.is_broken(item.connection),
            State::Folded => true,
            State::Cancelled => original.taken == 0 && !original.maybe_mailed,
            // The operator has been told.
            State::Failed | State::Parked => true,
            State::Unknown => correction.repeats >= CORRECTION_REPEATS,
            _ => false,
        }
    }

    fn all_waits_in_force(&self) -> bool {
        (0..).zip(&self.mails).filter(|(_, m)| m.state == State::Queued).all(|(id, m)| {
            let down = self.component.down_since.is_some();
            match self.verdict(&self.view(id)) {
                Verdict::Wait(_, why) => match why.as_str() {
                    "held" => self.held,
                    "component_down" => down,
                    "awaiting_reconnection" => m.items().any(|(_, i)| self.is_broken(i.connection)),
                    "original_undecided" => {
                        m.items().any(|(_, i)| i.corrects.is_some_and(|of| self.mail(of).state == State::Queued))
                    }
                    "connection_open_again" => m.items().any(|(_, i)| self.is_broken(i.connection)),
                    _ => false,
                },
                _ => false,
            }
        })
    }

    fn last_is_true(&self, model: &Dispatcher) -> bool {
        model.configuration.subscribers().all(|(thread, c)| {
            let broken = self.is_broken(c);
            match self.heard[usize::from(thread)][usize::from(c)] {
                Heard::Nothing => true,
                Heard::Calmed => !broken || self.stands(thread, c),
                Heard::Asked(outage) => {
                    let by_hand = self.by_hand[usize::from(c)] & (1 << outage) != 0;
                    let waits = |i: &Item| i.corrects.is_some_and(|of| self.mail(of).state == State::Queued);
                    let gone_wrong = |m: &Mail, i: &Item| match m.state {
                        State::Failed | State::Parked => true,
                        State::Unknown => m.repeats >= CORRECTION_REPEATS,
                        State::Queued => waits(i),
                        _ => false,
                    };
                    let excused = |m: &Mail| {
                        let mut of = m.items.iter().flatten().filter(|i| i.corrects.is_some() && i.connection == c);
                        m.thread == thread && of.any(|i| gone_wrong(m, i))
                    };
                    broken || by_hand || self.mails.iter().any(excused)
                }
            }
        })
    }

    fn all_broken_are_asked(&self, model: &Dispatcher) -> bool {
        let asked = |thread: u8, c: u8| {
            let newest = |i: &Item| i.said && i.corrects.is_none() && i.connection == c && i.truly == self.newest(c);
            let left = |m: &Mail| m.thread == thread && m.taken > 0 && m.items.iter().flatten().any(newest);
            matches!(self.heard[usize::from(thread)][usize::from(c)], Heard::Asked(_)) && self.mails.iter().any(left)
        };
        let mut all = model.configuration.subscribers();
        all.all(|(thread, c)| !self.is_broken(c) || asked(thread, c) || self.stands(thread, c))
    }

    /// A mail about the newest outage waits for what is in force, or could not be delivered and says so.
    fn stands(&self, thread: u8, c: u8) -> bool {
        let newest = self.newest(c);
        self.mails.iter().any(|m| {
            let says_so = match m.state {
                State::Queued | State::Failed | State::Parked => true,
                State::Unknown => m.repeats >= REPEATS,
                _ => false,
            };
            let names = |i: &Item| i.connection == c && i.truly == newest;
            m.thread == thread && m.class == Class::ActionRequired && says_so && m.items().any(|(_, i)| names(&i))
        })
    }
}

fn takes_back(correction: &Item, original: u8, item: &world::Item) -> bool {
    correction.corrects == Some(original)
        && correction.connection == item.connection
        && correction.episode == item.episode
}
