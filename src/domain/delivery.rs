//! A delivery: one mail to one subscriber, its states, and the reasons anybody can be given.

use super::reply::ReplyKind;

names!(
    /// Where a delivery stands. "Held" is a view (a hold is a row of its own), never a state.
    State {
        /// Waits for its time; `reason` says why if it has been looked at.
        Queued = "queued",
        /// Claimed, with a lease: it may be on the wire.
        Sending = "sending",
        /// The relay answered 250 to the final dot.
        Accepted = "accepted",
        /// The relay refused it for good.
        Failed = "failed",
        /// Body bytes were written and no reply was read, or its worker vanished.
        Unknown = "unknown",
        /// Stopped being true before it left.
        Withdrawn = "withdrawn",
        /// Replaced by a newer mail of its thread.
        Folded = "folded",
        /// The address takes no mail of this class.
        Suppressed = "suppressed",
        /// What it would have taken back or ended was never told.
        Cancelled = "cancelled",
        /// Waits for a person.
        Parked = "parked",
    }
);

names!(
    /// Why a delivery waits, or why it ended without being mailed. Log, journal, API and screen use these names.
    Reason {
        /// Waits in case the fault heals at once.
        Dwell = "dwell",
        /// The component is down: the customer could not act.
        ComponentDown = "component_down",
        /// The component is back and is reconnecting; this connection has not been heard of yet.
        AwaitingReconnection = "awaiting_reconnection",
        /// An operator or a surge holds it.
        Held = "held",
        /// Everything is stopped.
        Stopped = "stopped",
        /// The thread got a mail a moment ago.
        ThreadGap = "thread_gap",
        /// Good news waits until it has been true for a while.
        StableFor = "stable_for",
        /// A component it names is down again.
        ComponentOpenAgain = "component_open_again",
        /// The incident was opened again.
        IncidentOpenAgain = "incident_open_again",
        /// The connection it names is broken again.
        ConnectionOpenAgain = "connection_open_again",
        /// The mail it takes back or ends is still on its way.
        OriginalUndecided = "original_undecided",
        /// The relay said "later", or the session broke before anything was handed over.
        Retry = "retry",
        /// The mailbox is full; tried again later.
        MailboxFull = "mailbox_full",
        /// The relay wants less, or slower.
        SlowDown = "slow_down",
        /// The other side puts a first try off on principle.
        Greylisted = "greylisted",
        /// A rate cap: its turn has not come.
        Paced = "paced",
        /// Its subscriber had as many mails of its class in a day as they get.
        DailyCap = "daily_cap",
        /// Its stream is paused: the relay refuses us, not this mail.
        StreamPaused = "stream_paused",
        /// Its relay cannot be reached.
        RelayAway = "relay_away",
        /// The connection recovered.
        Recovered = "recovered",
        /// A recovery of the component covers this connection.
        CoveredByRecovery = "covered_by_recovery",
        /// The incident is resolved.
        IncidentResolved = "incident_resolved",
        /// A newer mail of the thread says what is owed now.
        ReplacedByNewer = "replaced_by_newer",
        /// The thread has had its end.
        EndedAlready = "ended_already",
        /// This subscriber was never told of the problem.
        NeverTold = "never_told",
        /// Its recipient no longer follows anything it names.
        Unsubscribed = "unsubscribed",
        /// The mail it would take back never left.
        NeverMailed = "never_mailed",
        /// The address is suppressed for this class.
        Suppressed = "suppressed",
        /// Older than its class allows.
        TooOld = "too_old",
        /// The relay refused it.
        Refused = "refused",
        /// The address does not exist, or takes no mail any more.
        AddressDead = "address_dead",
        /// The relay refused this mail for its size, form or content.
        MessageAtFault = "message_at_fault",
        /// The relay said "later" for days.
        GaveUp = "gave_up",
        /// Nobody can know whether the relay took it.
        Ambiguous = "ambiguous",
        /// Its worker vanished again and again while holding it.
        ReapedOften = "reaped_often",
        /// Session after session was lost when it was this mail's turn, and others got through.
        SessionsLost = "sessions_lost",
        /// It could not be rendered or built.
        TemplateFault = "template_fault",
        /// Its items moved to another delivery.
        ItemsMoved = "items_moved",
        /// The connection it asks about was given to others.
        NotTheirs = "not_theirs",
        /// It changes nothing for this subscriber: it waits for news, or for the longest silence to end.
        NothingNew = "nothing_new",
        /// Another source told this subscriber the same of the same components a moment ago.
        ToldElsewhere = "told_elsewhere",
        /// What it names depends on a component this subscriber was told of already.
        UnderCause = "under_cause",
        /// What it was folded under has ended, and it has not.
        Outlived = "outlived",
        /// The subscription asks for begin and end only.
        BeginAndEndOnly = "begin_and_end_only",
        /// The incident's impact is below the least the subscription asks for.
        BelowLeastImpact = "below_least_impact",
        /// The update says that nobody is to be notified.
        NotificationsOff = "notifications_off",
        /// It tells of a time long past.
        Backdated = "backdated",
        /// The incident was first heard of when it was over.
        FirstHeardOver = "first_heard_over",
        /// An update of the same id, or with the same words, was here before.
        SaidBefore = "said_before",
        /// An older update that came after a newer one.
        Late = "late",
    }
);

names!(
    /// Why a mail is made: what is news to this subscriber, compared with what the thread was last told.
    Rule {
        /// The subscriber has not been told of the matter yet.
        First = "first",
        /// The incident's phase is another than the one last told.
        PhaseChange = "phase_change",
        /// A component the subscriber follows is in another state than the one last told.
        StateChange = "state_change",
        /// One of them is worse than last told: does not wait for the least distance.
        Worse = "worse",
        /// One of them is down again after the end that was told.
        Relapse = "relapse",
        /// Nothing the subscriber follows has changed: folded into the next mail, or sent after a long silence.
        NothingNew = "nothing_new",
        /// The incident is over.
        End = "end",
        /// All that the subscriber was told of works again.
        AllBack = "all_back",
        /// What happened and why, to those told and those who subscribed since.
        PostMortem = "post_mortem",
        /// A notice of the team's own.
        Notice = "notice",
        /// Connections fail in floods, and operators are told.
        Surge = "surge",
        /// Connections need the customer.
        Failure = "failure",
        /// An earlier mail is taken back.
        Correction = "correction",
        /// A person asked for it again.
        Resend = "resend",
    }
);

names!(
    /// How one try to hand a delivery to the relay ended.
    HandOver {
        /// 250 after the final dot.
        Accepted = "accepted",
        /// 4xx.
        Deferred = "deferred",
        /// 5xx.
        Refused = "refused",
        /// Nothing left: the session was lost before the relay said 354.
        NotHandedOver = "not_handed_over",
        /// Body bytes were written and no reply was read.
        Unknown = "unknown",
    }
);

/// A try's outcome with the relay's words.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Outcome {
    /// How it ended.
    pub hand_over: HandOver,
    /// The reply code (RFC 5321), when there was a reply.
    pub code: Option<u16>,
    /// The enhanced status code (RFC 3463), when the reply had one.
    pub enhanced: Option<String>,
    /// What a negative reply is about.
    #[serde(default)]
    pub kind: Option<ReplyKind>,
    /// The relay's words, or what happened to the session.
    pub words: String,
}
