//! An update of an open incident: who is owed a mail about it, by which rule, and what waits or is folded instead.

use super::super::audience::{self, Wants};
use super::super::intake::IncidentIn;
use super::told::{Memory, memories};
use super::{Page, component_item, components_of, read_back};
use crate::domain::class::Class;
use crate::domain::delivery::{Reason, Rule, State};
use crate::domain::id::{ComponentId, DeliveryId, IncidentId, SubscriberId};
use crate::domain::incident::{ComponentStatus, Impact, Phase};
use crate::domain::owed::{self, Elsewhere, Followed, News, Owed, Told};
use crate::store::deliveries::NewDelivery;
use crate::store::lanes::Fence;
use crate::store::plan::Notice;
use crate::store::threads::Thread;
use crate::store::{StoreError, deliveries, lanes, setup, threads, told};
use crate::template::Matter;
use std::collections::{HashMap, HashSet};

/// What an update says, the same for every subscriber.
struct Update {
    components: Vec<(ComponentId, ComponentStatus)>,
    named: HashSet<ComponentId>,
    phase: Phase,
    impact: Impact,
}

/// One subscriber's share of it.
struct Share {
    subscriber: SubscriberId,
    owed: Owed,
    names: Vec<ComponentId>,
    /// Something is better than they were told: what was folded under that may not be.
    better: bool,
}

impl Update {
    fn share(&self, subscriber: SubscriberId, wants: &Wants, told: Told, memory: &Memory) -> Share {
        let mut names = Vec::new();
        let mut followed = Vec::new();
        for (component, status) in self.components.iter().filter(|c| wants.follows.contains(&c.0)) {
            let told = memory.components.get(component).map(|told| told.0);
            let one = Followed { status: *status, told, named: self.named.contains(component) };
            if one.is_told() {
                names.push(*component);
            }
            followed.push(one);
        }
        let concerns_all = self.components.is_empty() && wants.everything;
        let news = News { phase: self.phase, impact: self.impact, followed: &followed, concerns_all };
        let better = followed.iter().any(Followed::is_better);
        Share { subscriber, owed: owed::update(&news, told, wants.events, wants.least_impact), names, better }
    }

    fn in_trouble(&self, component: ComponentId) -> Option<ComponentStatus> {
        let works = ComponentStatus::Operational;
        self.components.iter().find(|c| c.0 == component && c.1 != works).map(|c| c.1)
    }
}

impl Page<'_> {
    pub(super) async fn update(&mut self, notice: &Notice, incident: IncidentId) -> Result<(), StoreError> {
        let said: IncidentIn = read_back(notice)?;
        // What was named since is its own update's to tell.
        let components = components_of(self.tx, incident, notice.revision).await?;
        let ids: Vec<ComponentId> = components.iter().map(|c| c.0).collect();
        let reach = audience::of_incident(self.tx, incident, notice.id, &said, &ids).await?;
        let page = self.page_of(&reach, 0).await?;
        let fresh = self.fresh(notice.id.0, &page).await?;
        let wants = audience::wants(self.tx, &reach, &fresh, &ids).await?;
        let update = Update {
            named: self.named(&said, &ids).await?,
            components,
            phase: notice.phase.unwrap_or(said.phase),
            impact: notice.impact.unwrap_or(Impact::Minor),
        };
        let (shares, memory) = self.shares(incident, &update, &fresh, &wants).await?;
        self.make(notice, incident, &update, &shares, &memory).await?;
        self.advance(page.len(), page.last().map(|s| s.0), reach.lists.len()).await
    }

    /// The components an update names, or all the incident has named so far.
    async fn named(&mut self, said: &IncidentIn, all: &[ComponentId]) -> Result<HashSet<ComponentId>, StoreError> {
        if said.components.is_empty() {
            return Ok(all.iter().copied().collect());
        }
        let mut named = HashSet::new();
        for component in &said.components {
            named.extend(setup::component_id(self.tx, &component.key).await?);
        }
        Ok(named)
    }

    async fn shares(
        &mut self,
        incident: IncidentId,
        update: &Update,
        fresh: &[SubscriberId],
        wants: &HashMap<SubscriberId, Wants>,
    ) -> Result<(Vec<Share>, HashMap<SubscriberId, Memory>), StoreError> {
        let pairs: Vec<_> = fresh.iter().map(|s| (incident.0, *s)).collect();
        let threads: HashMap<_, Thread> =
            threads::find(self.tx, &pairs).await?.into_iter().map(|t| (t.subscriber_id, t)).collect();
        let mut memories = memories(self.tx, &threads.values().map(|t| t.id).collect::<Vec<_>>()).await?;
        let mut shares = Vec::new();
        let mut of = HashMap::new();
        for subscriber in fresh {
            let Some(wants) = wants.get(subscriber) else { continue };
            let thread = threads.get(subscriber);
            let memory = thread.and_then(|t| memories.remove(&t.id)).unwrap_or_default();
            let told = thread.map(|t| memory.told(t)).unwrap_or_default();
            let share = update.share(*subscriber, wants, told, &memory);
            if share.owed != Owed::Nothing {
                shares.push(share);
                of.insert(*subscriber, memory);
            }
        }
        Ok((shares, of))
    }

    async fn make(
        &mut self,
        notice: &Notice,
        incident: IncidentId,
        update: &Update,
        shares: &[Share],
        memory: &HashMap<SubscriberId, Memory>,
    ) -> Result<(), StoreError> {
        let class = Class::IncidentUpdate;
        let subject = Matter::Incident {
            title: notice.title.clone().unwrap_or_default(),
            reference: notice.incident_key.clone().unwrap_or_default(),
        };
        let owed: Vec<_> = shares.iter().map(|s| s.subscriber).collect();
        let threads = self.threads("incident", incident.0, &owed, class, &subject).await?;
        let lane = lanes::lane(self.tx, class, Fence::Incident(incident)).await?;
        let elsewhere = self.told_elsewhere(incident, update, shares).await?;
        let (mut deliveries, mut items, mut folds, mut renewed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut recovered, mut over) = (Vec::new(), Vec::new());
        for share in shares {
            let Some(thread) = threads.get(&share.subscriber) else { continue };
            let mut delivery = self.delivery(class, lane, notice, thread, Rule::NothingNew);
            self.settle(&mut delivery, share.owed, thread, elsewhere.get(&share.subscriber));
            items.extend(share.names.iter().map(|c| component_item(delivery.id, *c, &update.components)));
            let queued = || memory.get(&share.subscriber).into_iter().flat_map(Memory::queued);
            if delivery.state == State::Queued || delivery.folded_into.is_some() {
                folds.extend(queued().filter(|s| s.class == class).map(|s| (s.id, delivery.id)));
            }
            if delivery.reason == Some(Reason::Recovered) {
                let unsaid: Vec<_> = queued().filter(|s| s.class == class).map(|s| s.id).collect();
                // What was folded under it would be silenced with it.
                over.extend((!unsaid.is_empty()).then_some(thread.id));
                recovered.extend(unsaid);
            }
            // An all-clear that leaves after this update must not pass for older news.
            let all_clear = queued().find(|s| s.class == Class::AllClear);
            renewed.extend(all_clear.map(|s| (s.id, notice.id, notice.revision.unwrap_or_default())));
            deliveries.push(delivery);
        }
        deliveries::renew(self.tx, &renewed).await?;
        deliveries::withdraw(self.tx, &recovered, Reason::Recovered).await?;
        self.store(&deliveries, &items, &folds).await?;
        over.extend(shares.iter().filter(|s| s.better).filter_map(|s| threads.get(&s.subscriber)).map(|t| t.id));
        self.release(&over).await
    }

    /// What the rules make of a delivery: its rule, its due time, or why it is not mailed.
    fn settle(&self, d: &mut NewDelivery, owed: Owed, thread: &Thread, under: Option<&(DeliveryId, Reason)>) {
        match (owed, under) {
            (Owed::Mail(rule), Some((into, reason))) => {
                (d.rule, d.state, d.reason, d.folded_into) = (rule, State::Folded, Some(*reason), Some(*into));
            }
            (Owed::Mail(Rule::NothingNew), None) => {
                let limits = self.setting.limits(d.class);
                if let Some(silence) = limits.longest_silence {
                    // Not urgent: even after a longer silence something newer may take its place first.
                    let silent_until = thread.last_mailed_at.unwrap_or(d.created_at) + silence;
                    d.due_at = silent_until.max(d.created_at + limits.gap);
                    d.reason = Some(Reason::NothingNew);
                }
            }
            (Owed::Mail(rule), None) => d.rule = rule,
            (Owed::Withheld(rule, reason), _) => {
                d.rule = rule;
                let by_wish = matches!(reason, Reason::BeginAndEndOnly | Reason::BelowLeastImpact);
                d.state = if by_wish { State::Suppressed } else { State::Withdrawn };
                d.reason = Some(reason);
            }
            (Owed::Nothing, _) => {}
        }
    }

    /// First mails whose every trouble the subscriber already knows from another open incident: the same component in
    /// the same state, or what it cannot work without.
    async fn told_elsewhere(
        &mut self,
        incident: IncidentId,
        update: &Update,
        shares: &[Share],
    ) -> Result<HashMap<SubscriberId, (DeliveryId, Reason)>, StoreError> {
        let first: Vec<_> = shares.iter().filter(|s| s.owed == Owed::Mail(Rule::First)).collect();
        let trouble: Vec<_> = update.components.iter().filter_map(|c| update.in_trouble(c.0).map(|_| c.0)).collect();
        if first.is_empty() || trouble.is_empty() {
            return Ok(HashMap::new());
        }
        let mut causes: HashMap<ComponentId, Vec<ComponentId>> = HashMap::new();
        for (component, cause) in told::causes(self.tx, &trouble).await? {
            causes.entry(component).or_default().push(cause);
        }
        let all: HashSet<_> = trouble.iter().chain(causes.values().flatten()).copied().collect();
        let others = told::other_incidents(self.tx, &all.into_iter().collect::<Vec<_>>(), incident).await?;
        if others.is_empty() {
            return Ok(HashMap::new());
        }
        let of: Vec<_> = first.iter().map(|s| s.subscriber).collect();
        let rows = told::elsewhere(self.tx, &others, &of).await?;
        let known: HashMap<_, _> = rows
            .into_iter()
            .map(|r| {
                let elsewhere = Elsewhere { status: r.status, at: r.at, delivery: r.delivery_id };
                ((r.subscriber_id, r.component_id), elsewhere)
            })
            .collect();
        let (now, window) = (self.tx.now(), self.setting.limits(Class::IncidentUpdate).told_elsewhere);
        let under = |share: &Share| {
            let at = |c: &ComponentId| known.get(&(share.subscriber, *c));
            let mut folds = share.names.iter().filter_map(|c| Some((c, update.in_trouble(*c)?))).map(|(c, status)| {
                // A cause in trouble in this very incident is told in this very mail.
                let cause = causes.get(c).into_iter().flatten().find_map(at);
                owed::folded_under(status, at(c), cause, window, now)
            });
            let first = folds.next()??;
            folds.try_fold(first, |kept, next| next.map(|_| kept))
        };
        Ok(first.iter().filter_map(|share| Some((share.subscriber, under(share)?))).collect())
    }
}
