//! Identifiers: UUIDv7 (RFC 9562) made here, never by the database, shown with a type prefix.

use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// A text was not an identifier of the expected type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an identifier of the form {prefix}_<32 hex digits>")]
pub struct BadId {
    /// What was given.
    pub text: String,
    /// The prefix that was expected.
    pub prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new identifier; later ones sort after earlier ones.
            #[must_use]
            #[allow(clippy::new_without_default)]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|hex| hex.len() == 32)
                    .and_then(|hex| Uuid::try_parse(hex).ok())
                    .map(Self)
                    .ok_or_else(|| BadId { text: text.to_owned(), prefix: $prefix })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(/** A part of the platform. */ ComponentId, "cmp");
id!(/** A customer's link through a component. */ ConnectionId, "con");
id!(/** A person who gets mail. */ SubscriberId, "sub");
id!(/** A subscriber's wish to hear about a component, or about everything. */ SubscriptionId, "scr");
id!(/** An incident as on a status page. */ IncidentId, "inc");
id!(/** A notice: what a status system said about an incident, or in its own words. */ NoticeId, "ntc");
id!(/** A signal: what a status system said moves a component or a connection. */ SignalId, "sig");
id!(/** A recorded recovery and its sweep. */ RecoveryId, "rec");
id!(/** What one subscriber was told about one matter. */ ThreadId, "thr");
id!(/** One mail to one subscriber. */ DeliveryId, "dlv");
id!(/** One try to hand a delivery to a relay. */ AttemptId, "att");
id!(/** A queue key: one class of one fence. */ LaneId, "lan");
id!(/** A hold on everything, a class or a component. */ HoldId, "hld");
id!(/** A surge of failures. */ SurgeId, "srg");
id!(/** What operators' systems are told. */ AlertId, "alr");
id!(/** A pause of a stream. */ PauseId, "pau");
id!(/** A piece of planning work. */ PlanId, "pln");
id!(/** An API key. */ KeyId, "key");
id!(/** A line of the journal. */ EntryId, "jnl");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_reads_back_as_itself() {
        let id = DeliveryId::new();
        assert_eq!(id.to_string().parse::<DeliveryId>().unwrap(), id);
    }

    #[test]
    fn an_identifier_of_another_type_is_refused() {
        let thread = ThreadId::new().to_string();
        assert_eq!(thread.parse::<DeliveryId>().unwrap_err().prefix, "dlv");
    }
}
