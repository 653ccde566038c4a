//! The classes of mail and the limits of each (design section 6).

use super::time::Span;

/// Makes a closed set of names that reads and writes the same text in JSON, in the database and on screen.
#[macro_export]
macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant),+
        }

        impl $name {
            /// Every member, in the order of the definition.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name used in JSON, in the database and on screen.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|v| v.as_str() == text).ok_or_else(|| {
                    let known: Vec<_> = Self::ALL.iter().map(|v| v.as_str()).collect();
                    format!("`{text}` is none of {}", known.join(", "))
                })
            }
        }
    };
}

names!(
    /// What a mail is for; decides its limits, its stream and whether a preference can silence it.
    Class {
        /// "Please reconnect": the customer must do something.
        ActionRequired = "action_required",
        /// "No action needed": takes back an action-required mail.
        Correction = "correction",
        /// An incident's problem mail or update.
        IncidentUpdate = "incident_update",
        /// An incident's "resolved", or a maintenance's "completed".
        IncidentEnd = "incident_end",
        /// "Component X works again", before the incident is resolved.
        AllClear = "all_clear",
        /// What happened and why, days later.
        PostMortem = "post_mortem",
        /// A notice in the status team's own words.
        Free = "free",
    }
);

/// The limits of one class; the defaults are design section 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a mail waits before it may leave, so that what heals at once mails nobody.
    pub dwell: Span,
    /// How long good news must have been true before it leaves.
    pub stable_for: Span,
    /// The least distance from the thread's last mail; what waits is replaced by what is newer.
    pub gap: Span,
    /// The longest a hold keeps a mail that is still true; `None`: for ever.
    pub longest_hold: Option<Span>,
    /// The age after which a mail no longer leaves as it is; `None`: never too old.
    pub greatest_age: Option<Span>,
    /// How long a thread stays silent while its news changes nothing; `None`: such news is mailed at once.
    pub longest_silence: Option<Span>,
    /// How long what another source told a subscriber of the same component in the same state counts as told.
    pub told_elsewhere: Span,
    /// The most mails of the class to one subscriber in 24 hours; what is more waits, and what is newer takes its place.
    /// `None`: no cap.
    pub daily_mails: Option<u32>,
}

impl Limits {
    /// The defaults of a class.
    #[must_use]
    pub const fn of(class: Class) -> Self {
        let none = Self {
            dwell: Span::ZERO,
            stable_for: Span::ZERO,
            gap: Span::ZERO,
            longest_hold: None,
            greatest_age: None,
            longest_silence: None,
            told_elsewhere: Span::ZERO,
            daily_mails: None,
        };
        match class {
            Class::ActionRequired => Self {
                daily_mails: Some(4),
                dwell: Span::minutes(5),
                longest_hold: Some(Span::hours(12)),
                greatest_age: Some(Span::hours(72)),
                ..none
            },
            Class::IncidentUpdate => Self {
                gap: Span::minutes(5),
                // It always shows the present state; after a day nobody can know whether the incident is still there.
                greatest_age: Some(Span::hours(24)),
                longest_silence: Some(Span::minutes(120)),
                told_elsewhere: Span::minutes(30),
                // An incident in which nothing changes makes as many: one after each two hours of silence.
                daily_mails: Some(12),
                ..none
            },
            Class::IncidentEnd => Self { greatest_age: Some(Span::hours(24)), ..none },
            Class::AllClear => Self { stable_for: Span::minutes(10), greatest_age: Some(Span::hours(24)), ..none },
            Class::Correction => none,
            Class::PostMortem | Class::Free => {
                Self { greatest_age: Some(Span::hours(7 * 24)), daily_mails: Some(4), ..none }
            }
        }
    }
}
