//! The worlds that are searched: who says what, who is told, and what may go wrong.

use crate::world::Faults;

/// A word from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// A connection fails for good.
    Fails(u8),
    /// It recovers by itself.
    Recovers(u8),
    /// The customer reconnects it.
    ByHand(u8),
    /// Bringing it back failed: the fault is its own.
    FailsForGood(u8),
    /// The component is down.
    Down,
    /// It is back, and nobody knows about its connections.
    Up,
    /// It is back and its connections with it.
    UpForAll,
    /// An operator holds everything.
    Hold,
    /// The hold is over.
    Release,
    /// A person asks for a mail again.
    Resend,
}

/// A world to be searched. Each voice says its words in their order; voices interleave at will.
#[derive(Clone, Debug)]
pub struct Configuration {
    pub name: &'static str,
    pub voices: &'static [&'static [Word]],
    pub workers: usize,
    /// The connections that each subscriber is told of.
    pub subscribers: &'static [&'static [u8]],
    pub asks_unconfirmed: bool,
    pub faults: Faults,
}

impl Configuration {
    /// Each subscriber has one thread.
    pub fn threads_of(&self, connection: u8) -> impl Iterator<Item = u8> + '_ {
        (0..).zip(self.subscribers).filter(move |(_, of)| of.contains(&connection)).map(|(thread, _)| thread)
    }

    pub fn subscribers(&self) -> impl Iterator<Item = (u8, u8)> + '_ {
        (0..).zip(self.subscribers).flat_map(|(thread, of)| of.iter().map(move |c| (thread, *c)))
    }
}

const NONE: Faults = Faults { crashes: 0, zombies: 0, lost: 0, refused: 0, blind: 0 };

/// One inbox, two people who are told of it: several deliveries and workers, and every fault.
pub const TWO_MAILS: Configuration = Configuration {
    name: "two mails",
    voices: &[&[Word::Fails(0), Word::Recovers(0)]],
    workers: 2,
    subscribers: &[&[0], &[0]],
    asks_unconfirmed: false,
    faults: Faults { crashes: 1, zombies: 1, lost: 1, refused: 1, blind: 1 },
};

/// One inbox that breaks three times.
pub const FLAPPING: Configuration = Configuration {
    name: "flapping",
    voices: &[&[Word::Fails(0), Word::Recovers(0), Word::Fails(0), Word::Recovers(0), Word::Fails(0)]],
    workers: 2,
    subscribers: &[&[0]],
    asks_unconfirmed: false,
    faults: Faults { crashes: 1, zombies: 1, lost: 1, refused: 0, blind: 0 },
};

/// Two inboxes of one subscriber in one mail; one recovers and breaks again. A hold comes and goes.
pub const TWO_IN_ONE: Configuration = Configuration {
    name: "two in one mail",
    voices: &[&[Word::Fails(0), Word::Recovers(0), Word::Fails(0)], &[Word::Fails(1)], &[Word::Hold, Word::Release]],
    workers: 2,
    subscribers: &[&[0, 1]],
    asks_unconfirmed: false,
    faults: Faults { zombies: 1, lost: 1, ..NONE },
};

/// A component's outage, a recovery that covers its connections, another outage; one connection fails again, the
/// other turns out to be at fault itself.
pub const COMPONENT: Configuration = Configuration {
    name: "component",
    voices: &[
        &[Word::Down, Word::UpForAll, Word::Down, Word::Up],
        &[Word::Fails(0), Word::Fails(0)],
        &[Word::Fails(1), Word::FailsForGood(1)],
    ],
    workers: 2,
    subscribers: &[&[0, 1]],
    asks_unconfirmed: false,
    faults: Faults { crashes: 1, ..NONE },
};

/// A covering recovery that nobody confirms, a person who asks for mails again, a customer who reconnects.
pub const PEOPLE: Configuration = Configuration {
    name: "people",
    voices: &[
        &[Word::Fails(0), Word::ByHand(0), Word::Fails(0), Word::Recovers(0)],
        &[Word::Resend],
        &[Word::Hold, Word::Release],
    ],
    workers: 2,
    subscribers: &[&[0]],
    asks_unconfirmed: false,
    faults: Faults { zombies: 1, lost: 1, ..NONE },
};

/// For the variants: worlds so small that all of each is soon visited.
pub const SMALL: &[Configuration] = &[
    Configuration {
        name: "one mail",
        voices: &[&[Word::Fails(0), Word::Recovers(0)]],
        workers: 2,
        subscribers: &[&[0]],
        asks_unconfirmed: false,
        faults: Faults { crashes: 1, zombies: 1, lost: 2, refused: 1, blind: 0 },
    },
    Configuration {
        name: "two outages",
        voices: &[&[Word::Fails(0), Word::Recovers(0), Word::Fails(0)]],
        workers: 2,
        subscribers: &[&[0]],
        asks_unconfirmed: false,
        faults: Faults { zombies: 1, lost: 1, ..NONE },
    },
    Configuration {
        name: "two outages of a component",
        voices: &[&[Word::Down, Word::UpForAll, Word::Down, Word::Up], &[Word::Fails(0)]],
        workers: 1,
        subscribers: &[&[0]],
        asks_unconfirmed: false,
        faults: NONE,
    },
    Configuration {
        name: "a mail and its sweeps",
        voices: &[&[Word::Fails(0), Word::Recovers(0), Word::Fails(0), Word::Recovers(0)]],
        workers: 1,
        subscribers: &[&[0]],
        asks_unconfirmed: false,
        faults: NONE,
    },
    Configuration {
        name: "a mail, its sweeps and a lost reply",
        voices: &[&[Word::Fails(0), Word::Recovers(0), Word::Fails(0), Word::Recovers(0)]],
        workers: 1,
        subscribers: &[&[0]],
        asks_unconfirmed: false,
        faults: Faults { lost: 1, ..NONE },
    },
];
