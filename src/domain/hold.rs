//! Holds: what keeps true mail back, and why.

use super::class::Class;
use super::id::ComponentId;

names!(
    /// What a hold came from.
    HoldCause {
        /// A flood of permanent failures of one component.
        Surge = "surge",
        /// A person.
        Operator = "operator",
        /// The global stop.
        Stop = "stop",
    }
);

/// What a hold keeps back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldScope {
    /// All mail.
    Everything,
    /// The mail of one class.
    Class(Class),
    /// The mail that names one component.
    Component(ComponentId),
}

impl HoldScope {
    /// The name used in the database and on screen.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Class(_) => "class",
            Self::Component(_) => "component",
        }
    }

    pub(crate) const fn class(self) -> Option<Class> {
        if let Self::Class(class) = self { Some(class) } else { None }
    }

    pub(crate) const fn component(self) -> Option<ComponentId> {
        if let Self::Component(id) = self { Some(id) } else { None }
    }
}
