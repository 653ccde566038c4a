//! Known-bad variants. Each breaks one rule of the machines' surroundings; the checker must find what follows from it.
//!
//! V1 to V12 are the rules that the first model of this protocol was forced to (one more transaction then lay between
//! claim and arm). Where arming is claiming, four of them have another form, said beside them.

/// The rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// None: the protocol as it is.
    Sound,
    /// V1: the fence is read in the claim's snapshot, before its commit, and never after.
    LookInsideClaim,
    /// V2: the sweep passes over what is on the wire.
    SweepSkipsSending,
    /// V3: whether a mail may have left is forgotten when it is queued again.
    MaybeMailedForgotten,
    /// V4: the token is not checked. Ours: not by the look, nor by the record.
    TokenUnchecked,
    /// V5: a try after "later" is made without a look of its own.
    RetryWithoutLook,
    /// V6: a correction does not wait until its original is decided.
    CorrectionAtOnce,
    /// V7: an ambiguous mail is settled while its dialogue may still run.
    NoQuarantine,
    /// V8: a thread's mails do not wait for each other.
    NoThreadOrder,
    /// V9: what is owed at the same time is not ordered. Ours: a correction leaves though its connection is open
    /// again, and so after the mail about the newer outage.
    CorrectionWhileOpen,
    /// V10: the reaper leaves the correction to the sweep, which has been by.
    ReapWithoutCorrection,
    /// V11: a correction that may be lost is not sent again.
    CorrectionNotRepeated,
    /// V12: a second sweep queues an existing correction again.
    SweepRepeatsCorrection,
    /// A failure is planned with the number of the connection's next outage.
    PinOfNextEpisode,
    /// The component's outage is read when the failure is planned, not when it was accepted.
    PinReadLate,
    /// A correction is withdrawn as stale, like what it takes back.
    CorrectionStale,
    /// A correction that may have left, and waits to be sent again, takes back one mail more.
    SaidCorrectionJoined,
    /// A newer update of an incident replaces its end, which was owed. In the model of an incident.
    EndReplaced,
}

impl Variant {
    /// All that the model of connections must catch.
    pub const OF_CONNECTIONS: &[Self] = &[
        Self::LookInsideClaim,
        Self::SweepSkipsSending,
        Self::MaybeMailedForgotten,
        Self::TokenUnchecked,
        Self::RetryWithoutLook,
        Self::CorrectionAtOnce,
        Self::NoQuarantine,
        Self::NoThreadOrder,
        Self::CorrectionWhileOpen,
        Self::ReapWithoutCorrection,
        Self::CorrectionNotRepeated,
        Self::SweepRepeatsCorrection,
        Self::PinOfNextEpisode,
        Self::PinReadLate,
        Self::CorrectionStale,
        Self::SaidCorrectionJoined,
    ];
}
