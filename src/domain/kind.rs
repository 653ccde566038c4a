//! What can be put, and so imported.

names!(
    /// What the lines of an import are.
    Kind {
        /// Parts of the platform.
        Components = "components",
        /// Customers' links through a component.
        Connections = "connections",
        /// People who get mail.
        Subscribers = "subscribers",
        /// Who wants to hear about what.
        Subscriptions = "subscriptions",
        /// Values by which subscribers are chosen.
        Attributes = "attributes",
    }
);
