//! Signals: what they do to connections and components. One batch is loaded, decided and stored as a whole.

mod evidence;

use super::ingest::{Answer, Became, Caller, IngestError, Settings, observed};
use super::intake::{ActionIn, Covers, FieldError, SignalIn};
use crate::domain::class::Class;
use crate::domain::component::{self, Component};
use crate::domain::connection::{By, Connection, Covering, Effect, Fault, Said, What};
use crate::domain::delivery::Reason;
use crate::domain::id::{ComponentId, ConnectionId, NoticeId, RecoveryId, SignalId};
use crate::domain::time::Timestamp;
use crate::store::ingest::{ComponentNow, ConnectionNow, PlanRow, RecoveryRow, SignalRow};
use crate::store::notices::NoticeRow;
use crate::store::{Tx, deadlines, incidents, ingest as db, notices, surge, tallies};
use evidence::Evidence;
use std::collections::HashMap;

const UNUSED: &str = "the text is not used: its customers were asked already, or wait to be asked about more than this";

const COVERED: &str =
    "its connections were declared well before: `since` says from when on those are too that failed after it";

/// Takes a batch of signals into an open transaction.
pub(super) async fn take(
    tx: &mut Tx,
    settings: &Settings,
    caller: &Caller,
    said: &[SignalIn],
) -> Result<Vec<Result<Answer, FieldError>>, IngestError> {
    let mut batch = Batch::load(tx, settings, caller, said).await?;
    let mut answers = Vec::with_capacity(said.len());
    for one in said {
        answers.push(match (&one.connection, &one.component) {
            (Some(key), _) => batch.connection(settings, caller, key, one, None),
            (None, Some(key)) => batch.component(tx, settings, caller, key, one).await?,
            (None, None) => Err(FieldError::new("connection", "name a connection or a component")),
        });
    }
    batch.save(tx, caller).await?;
    Ok(answers)
}

/// An action-required notice: each connection it names is taken as failed for good, and gets its text.
pub(super) async fn action_required(
    tx: &mut Tx,
    settings: &Settings,
    caller: &Caller,
    said: &ActionIn,
) -> Result<Answer, IngestError> {
    let signals: Vec<SignalIn> = said
        .connections
        .iter()
        .map(|key| SignalIn {
            connection: Some(key.clone()),
            component: None,
            what: What::Failed,
            fault: Some(Fault::Permanent),
            by: None,
            connections: None,
            since: None,
            confirm_within: None,
            observed_at: said.observed_at,
            sequence: None,
        })
        .collect();
    let (id, observed_at) = (NoticeId::new(), observed(said.observed_at, tx.now())?);
    let mut batch = Batch::load(tx, settings, caller, &signals).await?;
    let mut answers = Vec::with_capacity(signals.len());
    let mut errors = Vec::new();
    for (position, one) in signals.iter().enumerate() {
        let key = one.connection.as_deref().unwrap_or_default();
        match batch.connection(settings, caller, key, one, Some(id)) {
            Ok(answer) => answers.push(answer),
            Err(e) => errors.push(FieldError::new(format!("connections[{position}]"), e.what)),
        }
    }
    if !errors.is_empty() {
        return Err(errors.into());
    }
    let new = answers.iter().find(|answer| matches!(answer.outcome, Became::Planned | Became::Waiting));
    let known = || answers.iter().find(|answer| answer.outcome == Became::Repeated);
    let outcome = new.or_else(known).or(answers.first()).map_or(Became::Recorded, |answer| answer.outcome);
    let payload = serde_json::to_string(said).unwrap_or_default();
    let row = NoticeRow {
        id,
        kind: "action_required",
        class: Class::ActionRequired,
        source: &caller.source,
        observed_at,
        incident: None,
        deliver: true,
        payload: &payload,
        outcome: outcome.as_str(),
        reason: None,
        same: notices::Same::default(),
    };
    notices::add(tx, &row).await?;
    let known = answers.iter().zip(&said.connections).filter(|(answer, _)| answer.outcome == Became::Repeated);
    let known = known.filter_map(|(_, key)| batch.connections.get(key));
    let outages: Vec<_> = known.map(|(now, state)| (now.id, state.episode)).collect();
    batch.save(tx, caller).await?;
    let given = notices::give_text(tx, id, &outages).await?;
    let note = (given == 0 && !outages.is_empty() && new.is_none()).then(|| UNUSED.to_owned());
    Ok(Answer { note, connections: answers, ..Answer::new(id.to_string(), outcome) })
}

struct Batch {
    now: Timestamp,
    components: HashMap<String, (ComponentNow, Component)>,
    connections: HashMap<String, (ConnectionNow, Connection)>,
    coverings: HashMap<ComponentId, Vec<Covering>>,
    touched: Vec<String>,
    signals: Vec<SignalRow>,
    plans: Vec<PlanRow>,
    recoveries: Vec<RecoveryRow>,
    /// Failures that a covering recovery spoke for before anybody had heard of them.
    unheard: Vec<(ComponentId, Timestamp)>,
    evidence: Evidence,
}

impl Batch {
    async fn load(tx: &mut Tx, settings: &Settings, caller: &Caller, said: &[SignalIn]) -> Result<Self, IngestError> {
        let of_connections: Vec<&str> = said.iter().filter_map(|s| s.connection.as_deref()).collect();
        let mut of_components: Vec<String> = said.iter().filter_map(|s| s.component.clone()).collect();
        let exclusive = !of_components.is_empty();
        // Components first, then connections, each by id: two batches never wait for each other in a ring.
        of_components.extend(db::components_of(tx, &of_connections).await?);
        let keys: Vec<&str> = of_components.iter().map(String::as_str).collect();
        let mut batch = Self {
            now: tx.now(),
            components: HashMap::new(),
            connections: HashMap::new(),
            coverings: HashMap::new(),
            touched: Vec::new(),
            signals: Vec::new(),
            plans: Vec::new(),
            recoveries: Vec::new(),
            unheard: Vec::new(),
            evidence: Evidence::new(tx.now(), settings.windows),
        };
        for now in db::components(tx, &keys, exclusive).await? {
            batch.coverings.insert(now.id, db::coverings(tx, now.id).await?);
            let domain = now.domain();
            batch.components.insert(now.key.clone(), (now, domain));
        }
        if !of_connections.is_empty() {
            for now in db::connections(tx, &of_connections, &caller.source).await? {
                let domain = now.domain();
                batch.connections.insert(now.key.clone(), (now, domain));
            }
        }
        Ok(batch)
    }

    fn connection(
        &mut self,
        settings: &Settings,
        caller: &Caller,
        key: &str,
        one: &SignalIn,
        notice: Option<NoticeId>,
    ) -> Result<Answer, FieldError> {
        let (now, state) = self
            .connections
            .get_mut(key)
            .ok_or_else(|| FieldError::new("connection", format!("no connection has the key `{key}`")))?;
        let coverings = self.coverings.get(&now.component_id).map_or(&[][..], Vec::as_slice);
        let observed_at = match one.observed_at {
            Some(at) => observed(Some(at), self.now)?,
            None => state.said_now(self.now, coverings),
        };
        let (_, component) = self
            .components
            .get(&now.component_key)
            .ok_or_else(|| FieldError::new("connection", "its component is unknown"))?;
        let said = Said {
            what: one.what,
            fault: one.fault.unwrap_or(Fault::Permanent),
            by: one.by.unwrap_or(By::Unknown),
            observed_at,
            newest_in_sequence: one.sequence.is_some_and(|n| now.latest.is_none_or(|latest| n > latest)),
            out_of_sequence: one.sequence.is_some_and(|n| now.latest.is_some_and(|latest| n <= latest)),
        };
        let before = *state;
        let effect = state.hear(said, coverings);
        self.evidence.hear(key, now.component_id, said, effect, (before, coverings), state);
        if one.sequence > now.latest {
            now.latest = one.sequence;
        }
        let id = SignalId::new();
        let mut answer = Answer::new(id.to_string(), Became::Recorded);
        match effect {
            Effect::Broke { ask: true } => {
                answer.outcome = Became::Waiting;
                (answer.reason, answer.until) = if component.down_since.is_some() {
                    (Some(Reason::ComponentDown), None)
                } else {
                    (Some(Reason::Dwell), Some(self.now + settings.dwell))
                };
            }
            Effect::OwnFault => answer.outcome = Became::Planned,
            Effect::Repeated => answer.outcome = Became::Repeated,
            Effect::StaleAtBirth(reason) => {
                answer.outcome = Became::StaleAtBirth;
                answer.reason = Some(reason);
            }
            Effect::Unheard => {
                answer.outcome = Became::StaleAtBirth;
                answer.reason = Some(Reason::CoveredByRecovery);
                self.unheard.extend(state.failed_at.map(|at| (now.component_id, at)));
            }
            Effect::Cleared => {
                let recovery = RecoveryId::new();
                answer.outcome = Became::Recovering;
                answer.recovery_id = Some(recovery.to_string());
                self.recoveries.push(RecoveryRow {
                    id: recovery,
                    component: now.component_id,
                    connection: Some(now.id),
                    episode: state.cleared,
                    by: said.by,
                    covering: None,
                    confirm_by: None,
                });
            }
            Effect::Broke { ask: false } | Effect::Recovering => {}
        }
        if matches!(effect, Effect::Broke { ask: true } | Effect::OwnFault) {
            let plan = PlanRow::failure(now, state, Some(component.episode));
            self.plans.push(PlanRow { notice, signal: Some(id), ..plan });
        }
        self.signals.push(SignalRow {
            id,
            source: caller.source.clone(),
            sequence: one.sequence,
            observed_at: observed_at.min(self.now),
            component: now.component_id,
            connection: Some(now.id),
            what: one.what,
            fault: one.fault,
            by: (one.what == What::Recovered).then_some(said.by),
            notice,
            outcome: answer.outcome.to_string(),
        });
        self.touched.push(key.to_owned());
        Ok(answer)
    }

    async fn component(
        &mut self,
        tx: &mut Tx,
        settings: &Settings,
        caller: &Caller,
        key: &str,
        one: &SignalIn,
    ) -> Result<Result<Answer, FieldError>, IngestError> {
        let Some((now, state)) = self.components.get_mut(key) else {
            return Ok(Err(FieldError::new("component", format!("no component has the key `{key}`"))));
        };
        let observed_at = match one.observed_at {
            Some(at) => match observed(Some(at), self.now) {
                Ok(at) => at,
                Err(e) => return Ok(Err(e)),
            },
            None => state.said_now(self.now),
        };
        if one.since.is_some_and(|since| since > observed_at) {
            return Ok(Err(FieldError::new("since", "is after the recovery")));
        }
        let latest = db::sequence(tx, &caller.source, now.id.0).await?;
        let said = component::Said {
            what: one.what,
            observed_at,
            covers: one.connections == Some(Covers::All),
            since: one.since,
            newest_in_sequence: one.sequence.is_some_and(|n| latest.is_none_or(|latest| n > latest)),
            out_of_sequence: one.sequence.is_some_and(|n| latest.is_some_and(|latest| n <= latest)),
        };
        let overruled = state.overruled;
        let effect = state.hear(said);
        if overruled && !state.overruled {
            surge::unreported(tx, now.id).await?;
        }
        let id = SignalId::new();
        let mut answer = Answer::new(id.to_string(), Became::Recorded);
        match effect {
            component::Effect::NothingToCover => {
                let what = "it was never reported down: say since when its connections failed";
                return Ok(Err(FieldError::new("since", what)));
            }
            component::Effect::Opened { since } => {
                db::save_episode(tx, now.id, state.episode, since, None, None, None).await?;
                surge::reported(tx, now.id, state).await?;
            }
            component::Effect::Ended { n, since, at, covering, was_open } => {
                tallies::begin_anew(tx, now.id).await?;
                let (of, connections) = (now.id, &self.connections);
                self.evidence.forget(|key| connections.get(key).is_some_and(|(c, _)| c.component_id == of));
                db::save_episode(tx, now.id, n, since, Some(at), covering, None).await?;
                let recovery = RecoveryId::new();
                let within = one.confirm_span()?.unwrap_or(settings.confirm_within);
                answer.outcome = Became::Recovering;
                answer.recovery_id = Some(recovery.to_string());
                self.recoveries.push(RecoveryRow {
                    id: recovery,
                    component: now.id,
                    connection: None,
                    episode: n,
                    by: one.by.unwrap_or(By::Unknown),
                    covering,
                    confirm_by: covering.map(|_| self.now + within),
                });
                if let Some(covering) = covering {
                    self.coverings.entry(now.id).or_default().push(covering);
                }
                if was_open {
                    incidents::component_works(tx, now.id).await?;
                    self.plans.push(component_up(now.id));
                }
            }
            component::Effect::Repeated => {
                if matches!(one.what, What::Failed | What::RecoveryFailed) {
                    surge::reported(tx, now.id, state).await?;
                }
                answer.note = (one.connections == Some(Covers::All)).then(|| COVERED.to_owned());
                answer.outcome = Became::Repeated;
            }
            component::Effect::StaleAtBirth(reason) => {
                answer.outcome = Became::StaleAtBirth;
                answer.reason = Some(reason);
            }
            component::Effect::Recovering => {}
        }
        if let Some(n) = one.sequence.filter(|_| !said.out_of_sequence) {
            db::save_sequences(tx, &caller.source, &[(now.id.0, n)]).await?;
        }
        db::save_component(tx, now.id, state).await?;
        self.signals.push(SignalRow {
            id,
            source: caller.source.clone(),
            sequence: one.sequence,
            observed_at: observed_at.min(self.now),
            component: now.id,
            connection: None,
            what: one.what,
            fault: one.fault,
            by: (one.what == What::Recovered).then_some(one.by.unwrap_or(By::Unknown)),
            notice: None,
            outcome: answer.outcome.to_string(),
        });
        Ok(Ok(answer))
    }

    async fn save(mut self, tx: &mut Tx, caller: &Caller) -> Result<(), IngestError> {
        self.touched.sort();
        self.touched.dedup();
        let mut connections: Vec<(ConnectionId, Connection)> = Vec::new();
        let mut sequences = Vec::new();
        for key in &self.touched {
            if let Some((now, state)) = self.connections.get(key) {
                connections.push((now.id, *state));
                sequences.extend(now.latest.map(|latest| (now.id.0, latest)));
            }
        }
        if !connections.is_empty() {
            db::save_connections(tx, &connections).await?;
        }
        if !sequences.is_empty() {
            db::save_sequences(tx, &caller.source, &sequences).await?;
        }
        db::add_signals(tx, &self.signals).await?;
        if !self.plans.is_empty() {
            db::add_plans(tx, &self.plans).await?;
        }
        if !self.recoveries.is_empty() {
            db::add_recoveries(tx, &self.recoveries).await?;
        }
        deadlines::look_again(tx, &self.unheard).await?;
        let (connections, components, coverings) = (&self.connections, &self.components, &self.coverings);
        let tallies = self.evidence.count(|key| {
            let (now, state) = connections.get(key)?;
            let (_, component) = components.get(&now.component_key)?;
            let at = state.failed_at.filter(|at| !component.was_down_at(*at))?;
            let coverings = coverings.get(&now.component_id).map_or(&[][..], Vec::as_slice);
            Some((now.component_id, at, state.is_well(coverings)))
        });
        tallies::count(tx, &tallies).await?;
        Ok(())
    }
}

/// The work of telling those who were told of a component's outage that it is back.
pub(super) fn component_up(component: ComponentId) -> PlanRow {
    PlanRow {
        kind: "component_up",
        matter: component.0,
        notice: None,
        signal: None,
        component: Some(component),
        connection: None,
        episode: None,
        component_episode: None,
        failed_at: None,
    }
}
