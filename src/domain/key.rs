//! What an API key allows.

names!(
    /// A right of an API key; each is given by name, none follows from another.
    Scope {
        /// Enqueue notices.
        Enqueue = "enqueue",
        /// Send signals.
        Signal = "signal",
        /// Declare the connections of a component well, all at once.
        RecoverCovering = "recover_covering",
        /// Put components, connections, subscribers and subscriptions.
        Manage = "manage",
        /// Read what became of what was said.
        Read = "read",
        /// Hold, release, stop and resume.
        Operate = "operate",
    }
);
