//! The way of a claimed mail: rendered, looked at, handed over. What happens next, the sender machine says.

use super::super::caught;
use super::super::claim::{Claimed, decide, part};
use super::super::compose::{self, ComposeError};
use super::super::gate::{Split, as_it_was};
use super::super::look::{look, views};
use super::super::sender::{Command, Event, LOOK_AGE, LOOK_ONCE_MORE, Record, Step};
use super::super::words::Words;
use super::Shared;
use super::outcomes::of;
use super::pool::Pool;
use super::seats::Seated;
use crate::domain::delivery::State;
use crate::domain::id::DeliveryId;
use crate::failpoint;
use crate::mail;
use crate::store::copies::MailCopy;
use crate::store::{StoreError, claims};
use crate::template::Templates;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A claimed mail on its way.
pub(super) struct Job {
    pub claimed: Claimed,
    /// It finds out whether the stream's pause is over.
    pub probe: bool,
    /// A session was lost with it before, and nothing else was heard of it since.
    pub lost_before: bool,
    pub step: Step,
    pub bytes: Vec<u8>,
    pub copy: Option<MailCopy>,
    pub claimed_at: Instant,
    pub looked: Instant,
}

/// What became of a mail. There is no record where the claim is another's by now, or a fault of the program ended it: then its
/// lease will tell.
#[derive(Default)]
pub(super) struct Finished {
    pub job: Option<(Job, Record)>,
    /// There was no session for it.
    pub starved: bool,
}

impl Shared {
    /// Carries out commands until each job is to be handed over, recorded or dropped.
    pub(super) async fn advance(&self, mut jobs: Vec<(Job, Command)>) -> Vec<(Job, Command)> {
        loop {
            for (job, command) in &mut jobs {
                if matches!(command, Command::Render) {
                    let event = render(job, &self.templates);
                    *command = job.on(event);
                }
            }
            for (job, command) in &mut jobs {
                if let Command::Refreeze(split) = command {
                    let event = self.refreeze(job, split).await;
                    *command = job.on(event);
                }
            }
            self.look(&mut jobs).await;
            if jobs.iter().all(|(_, c)| matches!(c, Command::HandOver | Command::Record(_) | Command::Drop)) {
                return jobs;
            }
        }
    }

    /// The last look: new statements after the claim's commit.
    async fn look(&self, jobs: &mut [(Job, Command)]) {
        let ids: Vec<DeliveryId> =
            jobs.iter().filter(|(_, c)| *c == Command::Look).map(|(job, _)| job.claimed.id).collect();
        if ids.is_empty() {
            return;
        }
        let looked = Instant::now();
        let seen = async {
            let mut tx = self.store.read().await?;
            Ok::<_, StoreError>((look(&mut tx, &ids, &[]).await?, tx.now()))
        };
        let seen = StoreError::in_time("look", seen).await;
        for (job, command) in jobs.iter_mut().filter(|(_, c)| *c == Command::Look) {
            job.looked = looked;
            let event = match &seen {
                Err(_) => Event::Blind,
                Ok((seen, now)) => Event::Looked(
                    seen.get(&job.claimed.id)
                        .filter(|s| s.token == job.claimed.token && s.state == State::Sending)
                        .map(|s| as_it_was(decide(&s.gate, &self.setting, *now), s.gate.class, s.maybe_mailed, *now)),
                ),
            };
            *command = job.on(event);
        }
        if let Err(e) = seen {
            tracing::warn!(error = %e, "the last look failed; nothing is sent: {e}");
        }
        failpoint::pass("looked");
    }

    async fn refreeze(&self, job: &mut Job, split: &Split) -> Event {
        match StoreError::in_time("freeze a smaller mail", self.try_refreeze(job, split)).await {
            Ok(event) => event,
            Err(e) => {
                tracing::warn!(error = %e, "a smaller mail cannot be stored; nothing is sent: {e}");
                Event::Blind
            }
        }
    }

    async fn try_refreeze(&self, job: &mut Job, split: &Split) -> Result<Event, StoreError> {
        let mut tx = self.store.begin().await?;
        let now = tx.now();
        let seen = views(&mut tx, &[job.claimed.id]).await?;
        let Some(seen) = seen.get(&job.claimed.id) else { return Ok(Event::Refrozen(false)) };
        let said = Words::learn(&mut tx, std::iter::once(seen)).await?;
        let freeze = || compose::freeze(seen, &split.keep, &said, &self.setting, now);
        let frozen = match caught::about_a_mail(freeze) {
            Ok(frozen) => frozen,
            Err(ComposeError(why)) => return Ok(Event::RenderFailed(why)),
        };
        part(&mut tx, seen, split, now).await?;
        let context = serde_json::to_string(&frozen).unwrap_or_default();
        let ours = claims::refreeze(&mut tx, job.claimed.id, job.claimed.token, &context).await?;
        if ours {
            tx.commit().await?;
            job.claimed.frozen = frozen;
        }
        Ok(Event::Refrozen(ours))
    }
}

impl Job {
    fn on(&mut self, event: Event) -> Command {
        let (step, command) = self.step.on(event);
        self.step = step;
        command
    }
}

fn render(job: &mut Job, templates: &Templates) -> Event {
    let frozen = &job.claimed.frozen;
    let fit = caught::about_a_mail(|| {
        failpoint::pass_with("rendering", &frozen.to);
        let bytes = compose::bytes(frozen, templates)?;
        // No relay could take it, now or later.
        mail::check(&bytes, sender(&frozen.from), &frozen.to).map_err(|why| ComposeError(why.to_owned()))?;
        Ok(bytes)
    });
    match fit {
        Ok(bytes) => {
            job.bytes = bytes;
            Event::Rendered
        }
        Err(ComposeError(why)) => Event::RenderFailed(why),
    }
}

/// The address of a From header.
fn sender(from: &str) -> &str {
    from.rsplit_once('<').map_or(from, |(_, address)| address.trim_end_matches('>'))
}

/// The way of a mail from when it is prepared, and how long the dialogue took if there was one. It is `ahead` until it has
/// a session; without one it is put back when its look is no longer trusted.
pub(super) async fn go(
    shared: Shared,
    pool: &Pool,
    ahead: Arc<()>,
    prepared: oneshot::Receiver<(Job, Command)>,
) -> (Finished, Option<Duration>) {
    let mut job = match prepared.await {
        Ok((job, Command::HandOver)) => job,
        Ok((job, Command::Record(record))) => {
            return (Finished { job: Some((job, record)), starved: false }, None);
        }
        Ok(_) | Err(_) => return (Finished::default(), None),
    };
    let Some(seated) = pool.take(LOOK_AGE).await else {
        let job = match job.on(Event::NoSession) {
            Command::Record(record) => Some((job, record)),
            _ => None,
        };
        return (Finished { job, starved: true }, None);
    };
    drop(ahead);
    let begun = Instant::now();
    let (session, job) = hand_over(shared, seated, job).await;
    if let Some(seated) = session {
        pool.give(seated);
    }
    (Finished { job, starved: false }, Some(begun.elapsed()))
}

/// The dialogue with the relay, as a whole no longer than allowed. The look must be fresh when DATA is written.
async fn hand_over(shared: Shared, mut seated: Seated, mut job: Job) -> (Option<Seated>, Option<(Job, Record)>) {
    let end = tokio::time::Instant::now() + shared.dialogue;
    let (from, to) = (sender(&job.claimed.frozen.from).to_owned(), job.claimed.frozen.to.clone());
    let session = &mut seated.session;
    session.ends_at(end);
    let begun = tokio::time::timeout_at(end, session.envelope(&from, &to)).await;
    let begun = begun.unwrap_or_else(|_| Err(mail::Outcome::lost("no answer in time".to_owned())));
    if let Err(outcome) = begun {
        let outcome = of(outcome, &from, &to);
        let _ = job.on(Event::HandedOver(outcome.clone()));
        return (Some(seated), Some((job, Record::Attempt(outcome))));
    }
    let mut trusted = LOOK_ONCE_MORE;
    while job.looked.elapsed() > trusted {
        trusted = LOOK_AGE;
        let command = job.on(Event::Late);
        let (again, command) = match shared.advance(vec![(job, command)]).await.pop() {
            Some(advanced) => advanced,
            None => return (None, None),
        };
        job = again;
        match command {
            Command::HandOver => {}
            Command::Record(record) => {
                session.reset().await;
                return (Some(seated), Some((job, record)));
            }
            _ => {
                session.reset().await;
                return (Some(seated), None);
            }
        }
    }
    let left = end.saturating_duration_since(tokio::time::Instant::now());
    let outcome = match mail::in_time(left, session.data(&job.bytes)).await {
        Ok(outcome) => outcome,
        Err(_) => mail::Outcome::Unknown { why: "the dialogue took longer than allowed".to_owned() },
    };
    let outcome = of(outcome, &from, &to);
    if session.wrote_mail() {
        job.copy = shared.copies.of(job.claimed.frozen.mail.kind(), &job.bytes);
    }
    // One that has had its share of mails is still owed a good-bye.
    let session = (!session.is_broken()).then_some(seated);
    match job.on(Event::HandedOver(outcome)) {
        Command::Record(record) => (session, Some((job, record))),
        _ => (session, None),
    }
}
