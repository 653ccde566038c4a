//! How the domain's types are stored: identifiers as 16 bytes, times as microseconds, names as text.

use super::rows::Cell;
use crate::domain::{class, connection, delivery, hold, id, incident, key, reply, subscription, surge, time};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::{Database, Decode, Encode, Type};

macro_rules! stored_as {
    ($repr:ty, $($name:ty),+ ; |$value:ident| $to:expr, |$raw:ident| $from:expr) => {$(
        impl<DB: Database> Type<DB> for $name where $repr: Type<DB> {
            fn type_info() -> DB::TypeInfo { <$repr as Type<DB>>::type_info() }
            fn compatible(ty: &DB::TypeInfo) -> bool { <$repr as Type<DB>>::compatible(ty) }
        }
        impl<'q, DB: Database> Encode<'q, DB> for $name where $repr: Encode<'q, DB> {
            fn encode_by_ref(&self, buf: &mut <DB as Database>::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
                let $value = self;
                <$repr as Encode<'q, DB>>::encode($to, buf)
            }
        }
        impl<'r, DB: Database> Decode<'r, DB> for $name where $repr: Decode<'r, DB> {
            fn decode(value: <DB as Database>::ValueRef<'r>) -> Result<Self, BoxDynError> {
                let $raw = <$repr as Decode<'r, DB>>::decode(value)?;
                Ok($from)
            }
        }
    )+};
}

/// How they stand in rows.
macro_rules! cells {
    ($($name:ty),+ ; |$value:ident| $to:expr) => {$(
        impl From<$name> for Cell<'_> {
            fn from($value: $name) -> Self { Self::from($to) }
        }
        impl From<Option<$name>> for Cell<'_> {
            fn from(value: Option<$name>) -> Self { Self::from(value.map(|$value| $to)) }
        }
    )+};
}

macro_rules! ids {
    ($($name:ident),+ $(,)?) => {
        stored_as!(uuid::Uuid, $(id::$name),+ ; |value| value.0, |raw| Self(raw));
        cells!($(id::$name),+ ; |value| value.0);
    };
}

macro_rules! names {
    ($($name:ty),+ $(,)?) => {
        stored_as!(String, $($name),+ ; |value| value.as_str().to_owned(), |raw| raw.parse::<Self>()?);
        cells!($($name),+ ; |value| value.as_str());
    };
}

ids!(
    ComponentId,
    ConnectionId,
    SubscriberId,
    SubscriptionId,
    IncidentId,
    NoticeId,
    SignalId,
    RecoveryId,
    ThreadId,
    DeliveryId,
    AttemptId,
    LaneId,
    HoldId,
    SurgeId,
    AlertId,
    PauseId,
    PlanId,
    KeyId,
    EntryId,
);

stored_as!(i64, time::Timestamp ; |value| value.0, |raw| Self(raw));
cells!(time::Timestamp ; |value| value.0);

names!(
    class::Class,
    delivery::State,
    delivery::Reason,
    delivery::Rule,
    delivery::HandOver,
    connection::Fault,
    connection::By,
    connection::What,
    incident::Phase,
    incident::Impact,
    hold::HoldCause,
    incident::ComponentStatus,
    key::Scope,
    reply::ReplyKind,
    subscription::Events,
    surge::Kind,
    surge::Occasion,
    surge::Stage,
    surge::Why,
);
