//! What the threads of an incident were told, the mail on the wire included.

use crate::domain::delivery::State;
use crate::domain::id::{ComponentId, ThreadId};
use crate::domain::incident::{ComponentStatus, Phase};
use crate::domain::owed::Told;
use crate::store::threads::{Sibling, Thread};
use crate::store::{StoreError, Tx, threads, told};
use std::collections::HashMap;

/// What one thread was told.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// Of each component: its state, and whether it was ever in trouble.
    pub components: HashMap<ComponentId, (ComponentStatus, bool)>,
    /// Deliveries that are undecided, left, or were folded under other threads'.
    pub siblings: Vec<Sibling>,
    on_the_wire: Option<Option<Phase>>,
}

impl Memory {
    /// What the rules ask of it.
    pub fn told(&self, thread: &Thread) -> Told {
        let phase = self.on_the_wire.flatten().or(thread.last_phase);
        let unsaid = self.siblings.iter().any(|s| s.unsaid);
        Told { at_all: self.is_told(thread), phase, ended: thread.ended_at.is_some(), unsaid }
    }

    /// Told, perhaps told, or being told.
    pub fn is_told(&self, thread: &Thread) -> bool {
        thread.told_at.is_some() || self.siblings.iter().any(|s| s.state == State::Sending || s.maybe_mailed)
    }

    /// Told of trouble, and not of its end.
    pub fn is_owed_an_end(&self, thread: &Thread) -> bool {
        thread.ended_at.is_none() && self.is_told(thread)
    }

    /// The queued siblings.
    pub fn queued(&self) -> impl Iterator<Item = &Sibling> {
        self.siblings.iter().filter(|s| s.state == State::Queued)
    }
}

/// What these threads were told; their queued deliveries are locked.
///
/// # Errors
/// When the database fails.
pub(super) async fn memories(tx: &mut Tx, of: &[ThreadId]) -> Result<HashMap<ThreadId, Memory>, StoreError> {
    let mut memories: HashMap<ThreadId, Memory> = of.iter().map(|id| (*id, Memory::default())).collect();
    let siblings = threads::siblings(tx, of).await?;
    let on_the_wire = siblings.iter().any(|s| s.state == State::Sending);
    for sibling in siblings {
        memories.entry(sibling.thread_id).or_default().siblings.push(sibling);
    }
    for told in told::components(tx, of).await? {
        let memory = memories.entry(told.thread_id).or_default();
        memory.components.insert(told.component_id, (told.status, told.was_down));
    }
    if !on_the_wire {
        return Ok(memories);
    }
    for sending in told::on_the_wire(tx, of).await? {
        let memory = memories.entry(sending.thread_id).or_default();
        memory.on_the_wire = Some(sending.phase);
        if let (Some(component), Some(status)) = (sending.component_id, sending.status) {
            let was_down = memory.components.get(&component).is_some_and(|told| told.1);
            memory.components.insert(component, (status, was_down || status != ComponentStatus::Operational));
        }
    }
    Ok(memories)
}
