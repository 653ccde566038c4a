//! What a subscription asks for.

names!(
    /// Which news of an incident a subscriber wants.
    Events {
        /// Every change.
        All = "all",
        /// The first mail and the end, and a relapse after it.
        BeginAndEnd = "begin_and_end",
        /// Nothing; the subscription is kept for later.
        None = "none",
    }
);
