//! What the steps of deliveries rest on: the signal or notice each was made of, the recovery that made it untrue, what
//! was folded, corrected and sent again, holds, pauses and suppressions.

use super::browse::row;
use super::parameter::ids;
use super::{StoreError, Tx};
use crate::domain::class::Class;
use crate::domain::connection::{By, Fault, What};
use crate::domain::delivery::State;
use crate::domain::hold::HoldCause;
use crate::domain::id::{ComponentId, DeliveryId, HoldId, NoticeId, PauseId, RecoveryId, SignalId, SurgeId};
use crate::domain::incident::Phase;
use crate::domain::reply::ReplyKind;
use crate::domain::time::Timestamp;
use serde::Serialize;
use std::collections::HashMap;

macro_rules! first_recovery {
    () => {
        "(SELECT q.id FROM recovery q WHERE q.connection_id = i.connection_id AND q.episode >= i.episode
            AND q.committed_at >= i.failed_at ORDER BY q.episode, q.id LIMIT 1)"
    };
}

statements! {
    NOTICES_OF = over_rows!(
        "SELECT d.id AS delivery_id, n.id, n.source, n.received_at, n.observed_at, n.phase FROM", [id uuid],
        "JOIN delivery d ON d.id = j.id JOIN notice n ON n.id = d.notice_id"
    );
    SIGNALS_OF = over_rows!(
        "SELECT DISTINCT i.delivery_id, s.id, s.source, s.what, s.fault, s.observed_at, s.received_at, c.key AS connection FROM", [id uuid],
        "JOIN delivery_item i ON i.delivery_id = j.id AND i.corrects_id IS NULL
         JOIN plan p ON p.connection_id = i.connection_id AND p.episode = i.episode
         JOIN signal s ON s.id = p.signal_id JOIN connection c ON c.id = i.connection_id"
    );
    // Of each item only the first that ended its outage: a connection that blinks has hundreds later. They commit in the order
    // of its outages.
    RECOVERIES_OF = super::Sql::differs(
        over_rows!(
            "SELECT DISTINCT i.delivery_id, r.id, r.recovered_by, r.committed_at, k.key AS component, c.key AS connection FROM", [id uuid],
            concat!("CROSS JOIN delivery_item i ON i.delivery_id = j.id AND i.connection_id IS NOT NULL
             CROSS JOIN recovery r ON r.id = ", first_recovery!(), " JOIN component k ON k.id = r.component_id
             JOIN connection c ON c.id = r.connection_id")
        ).sqlite,
        row_by_row!(
            over_rows,
            "SELECT DISTINCT i.delivery_id, r.id, r.recovered_by, r.committed_at, k.key AS component, c.key AS connection FROM", [id uuid],
            ["delivery_item" "i" on "i.delivery_id = j.id AND i.connection_id IS NOT NULL";
             "recovery" "r" on concat!("r.id = ", first_recovery!())],
            "JOIN component k ON k.id = r.component_id JOIN connection c ON c.id = r.connection_id"
        ).postgres,
    );
    COVERINGS_OF = over_rows!(
        "SELECT DISTINCT i.delivery_id, r.id, r.recovered_by, r.committed_at, k.key AS component, CAST(NULL AS TEXT) AS connection FROM", [id uuid],
        "JOIN delivery_item i ON i.delivery_id = j.id JOIN recovery r ON r.component_id = i.component_id AND r.connection_id IS NULL
            AND i.failed_at >= r.covers_from AND i.failed_at <= r.covers_until
         JOIN component k ON k.id = r.component_id"
    );
    CORRECTIONS_OF = over_rows!(
        "SELECT DISTINCT i.corrects_id AS delivery_id, d.id, d.state, d.created_at, d.decided_at FROM", [id uuid],
        "JOIN delivery_item i ON i.corrects_id = j.id JOIN delivery d ON d.id = i.delivery_id"
    );
    RESENDS_OF = over_rows!(
        "SELECT d.resend_of AS delivery_id, d.id, d.state, d.created_at, d.decided_at FROM", [id uuid],
        "JOIN delivery d ON d.resend_of = j.id"
    );
    // Time and again a surge asks a few before the others: which, its mails remember, and when, by what they became due. What
    // else stands behind no component is no surge's to hold.
    ASKED_AHEAD_OF = over_rows!(
        "SELECT d.id AS delivery_id, d.canary_id AS id FROM", [id uuid],
        "JOIN delivery d ON d.id = j.id AND (d.canary_id IS NOT NULL
            OR EXISTS (SELECT 1 FROM lane l WHERE l.id = d.lane_id AND l.fence_kind = 'none'))"
    );
    SUPPRESSED_OF = over_rows!(
        "SELECT d.id AS delivery_id, x.reason, x.evidence, x.created_at, x.created_by FROM", [id uuid],
        "JOIN delivery d ON d.id = j.id AND d.state = 'suppressed' JOIN subscriber s ON s.id = d.subscriber_id
         JOIN suppression x ON lower(x.address) = lower(COALESCE(d.address, s.address)) AND x.class = d.class"
    );
    HOLDS_BETWEEN = super::Sql::same(
        "SELECT id, scope, class, component_id, cause, reason, since, until, created_by, released_at, released_by FROM hold
         WHERE since <= $2 AND COALESCE(released_at, until, $1) >= $1 ORDER BY since",
    );
    PAUSES_BETWEEN = super::Sql::same(
        "SELECT id, stream, kind, words, since, ended_at FROM stream_pause WHERE since <= $2 AND COALESCE(ended_at, $1) >= $1 ORDER BY since",
    );
}

row!(/** The notice of a delivery. */ OfNotice {
    /** The delivery. */ delivery_id: DeliveryId,
    /** The notice. */ id: NoticeId,
    /** Who said it. */ source: String,
    /** When it came in. */ received_at: Timestamp,
    /** When it was observed. */ observed_at: Timestamp,
    /** The incident's phase. */ phase: Option<Phase>,
});

row!(/** A signal that a delivery was made of. */ OfSignal {
    /** The delivery. */ delivery_id: DeliveryId,
    /** The signal. */ id: SignalId,
    /** Who said it. */ source: String,
    /** What happened. */ what: What,
    /** The kind of fault. */ fault: Option<Fault>,
    /** When it was observed. */ observed_at: Timestamp,
    /** When it came in. */ received_at: Timestamp,
    /** The connection's key. */ connection: String,
});

row!(/** A recovery of what a delivery names. */ OfRecovery {
    /** The delivery. */ delivery_id: DeliveryId,
    /** The recovery. */ id: RecoveryId,
    /** Who did it. */ recovered_by: By,
    /** When it took effect. */ committed_at: Timestamp,
    /** The component's key. */ component: String,
    /** The connection's key; none where the component's recovery covers it. */ connection: Option<String>,
});

row!(/** Another delivery: a correction or a resend of this one. */ OfOther {
    /** The delivery. */ delivery_id: DeliveryId,
    /** The other. */ id: DeliveryId,
    /** Where it stands. */ state: State,
    /** When it was planned. */ created_at: Timestamp,
    /** When its end was known. */ decided_at: Option<Timestamp>,
});

row!(/** The surge that sent a delivery ahead of the others, or that none held it. */ OfSurge {
    /** The delivery. */ delivery_id: DeliveryId,
    /** The surge. */ id: Option<SurgeId>,
});

row!(/** Why the address of a suppressed delivery gets no such mail. */ OfSuppression {
    /** The delivery. */ delivery_id: DeliveryId,
    /** Why. */ reason: String,
    /** The relay's words. */ evidence: Option<String>,
    /** Since when. */ created_at: Timestamp,
    /** By whom. */ created_by: String,
});

row!(/** A hold, in force or not any more. */ OfHold {
    /** Its id. */ id: HoldId,
    /** `everything`, `class` or `component`. */ scope: String,
    /** The class, if it is on one. */ class: Option<Class>,
    /** The component, if it is on one. */ component_id: Option<ComponentId>,
    /** What it came from. */ cause: HoldCause,
    /** Why. */ reason: String,
    /** Since when. */ since: Timestamp,
    /** Until when at most. */ until: Option<Timestamp>,
    /** Who put it. */ created_by: String,
    /** When it was released. */ released_at: Option<Timestamp>,
    /** By whom. */ released_by: Option<String>,
});

row!(/** A pause of a stream, in force or not any more. */ OfPause {
    /** Its id. */ id: PauseId,
    /** The stream. */ stream: String,
    /** What the relay's no was about. */ kind: ReplyKind,
    /** The relay's words. */ words: String,
    /** Since when. */ since: Timestamp,
    /** When it ended. */ ended_at: Option<Timestamp>,
});

/// What the steps of one delivery rest on.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Its notice.
    pub notices: Vec<OfNotice>,
    /// The failures it names.
    pub signals: Vec<OfSignal>,
    /// The first recovery of each connection that it names, and those that cover what it names.
    pub recoveries: Vec<OfRecovery>,
    /// The surge that sent it ahead of the others.
    pub surge: Option<SurgeId>,
    /// It stands behind no component, as what is its connections' own fault does: no surge held it.
    pub unfenced: bool,
    /// What took it back.
    pub corrections: Vec<OfOther>,
    /// What sent it again.
    pub resends: Vec<OfOther>,
    /// Why its address gets no such mail.
    pub suppressions: Vec<OfSuppression>,
}

/// What the steps of some deliveries rest on.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Of each delivery of which there is anything.
    pub about: HashMap<DeliveryId, About>,
    /// The holds of their time.
    pub holds: Vec<OfHold>,
    /// The pauses of their time.
    pub pauses: Vec<OfPause>,
}

/// What the steps of some deliveries rest on; holds and pauses are those that overlap a time.
///
/// # Errors
/// When the database fails.
pub async fn of(tx: &mut Tx, deliveries: &[DeliveryId], time: (Timestamp, Timestamp)) -> Result<Evidence, StoreError> {
    let list = ids(deliveries);
    let mut about: HashMap<DeliveryId, About> = HashMap::new();
    for notice in rows!(tx, OfNotice, NOTICES_OF, &list)? {
        about.entry(notice.delivery_id).or_default().notices.push(notice);
    }
    for signal in rows!(tx, OfSignal, SIGNALS_OF, &list)? {
        about.entry(signal.delivery_id).or_default().signals.push(signal);
    }
    for sql in [RECOVERIES_OF, COVERINGS_OF] {
        for recovery in rows!(tx, OfRecovery, sql, &list)? {
            about.entry(recovery.delivery_id).or_default().recoveries.push(recovery);
        }
    }
    for surge in rows!(tx, OfSurge, ASKED_AHEAD_OF, &list)? {
        let about = about.entry(surge.delivery_id).or_default();
        (about.surge, about.unfenced) = (surge.id, surge.id.is_none());
    }
    for correction in rows!(tx, OfOther, CORRECTIONS_OF, &list)? {
        about.entry(correction.delivery_id).or_default().corrections.push(correction);
    }
    for resend in rows!(tx, OfOther, RESENDS_OF, &list)? {
        about.entry(resend.delivery_id).or_default().resends.push(resend);
    }
    for suppression in rows!(tx, OfSuppression, SUPPRESSED_OF, &list)? {
        about.entry(suppression.delivery_id).or_default().suppressions.push(suppression);
    }
    Ok(Evidence {
        about,
        holds: rows!(tx, OfHold, HOLDS_BETWEEN, time.0, time.1)?,
        pauses: rows!(tx, OfPause, PAUSES_BETWEEN, time.0, time.1)?,
    })
}
