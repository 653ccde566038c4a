//! What a node does with a mail, step by step by the test's hand: another node may come in between.

use crate::support::World;
use allclear::domain::class::Class;
use allclear::domain::delivery::{HandOver, Outcome, State};
use allclear::domain::id::DeliveryId;
use allclear::store::claims::{self, Armed};
use allclear::store::queue;
use allclear::store::record::{self, Settled};
use std::collections::HashMap;

/// Arms the one mail of a class that is due where no component is down, as if it were Ann's, for a node.
pub async fn arm(w: &World, class: Class, node: &str, message_id: &str) -> DeliveryId {
    let mut tx = w.store.begin().await.unwrap();
    let lanes = queue::lanes(&mut tx, &HashMap::new()).await.unwrap();
    let mut due = Vec::new();
    for lane in lanes.iter().filter(|lane| lane.class == class && lane.down_since.is_none()) {
        due.extend(queue::due(&mut tx, lane, 10).await.unwrap());
    }
    let [one] = due[..] else { panic!("{due:?}") };
    let armed = Armed {
        id: one.id,
        message_id: message_id.to_owned(),
        template_set: String::new(),
        address: "ann@example.net".to_owned(),
        context: "{}".to_owned(),
    };
    let lease = tx.now() + w.shared.setting.lease;
    claims::arm(&mut tx, node, lease, &[armed]).await.unwrap();
    tx.commit().await.unwrap();
    one.id
}

/// The relay's 250 for the first claim of a mail.
pub fn taken(id: DeliveryId) -> Settled {
    let words = "taken".to_owned();
    Settled {
        id,
        token: 1,
        outcome: Some(Outcome { hand_over: HandOver::Accepted, code: Some(250), enhanced: None, kind: None, words }),
        state: State::Accepted,
        reason: None,
        due_at: None,
        quarantine_until: None,
        counts: false,
        tells: false,
        copy: None,
        dead: None,
    }
}

/// Records what became of a mail.
pub async fn record(w: &World, node: &str, what: Settled) {
    let mut tx = w.store.begin().await.unwrap();
    record::outcomes(&mut tx, node, &[what]).await.unwrap();
    tx.commit().await.unwrap();
}
