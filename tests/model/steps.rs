//! What can happen next, and the drivers: each does to the rows what the product's driver and its statements do, in
//! one transaction or one statement, and asks the product's own machines what that is.

use crate::configurations::{Configuration, Word};
use crate::variants::Variant;
use crate::world::{At, Kept, Mail, Plan, Worker, World, at, clock_of};
use allclear::domain::class::Class;
use allclear::domain::connection::By;
use allclear::domain::delivery::{HandOver, Outcome, State};
use allclear::domain::time::Span;
use allclear::flow::failures::{Place, place};
use allclear::flow::gate::{Item as GateItem, Split, Verdict, View, as_it_was, stays_whole};
use allclear::flow::recovery::{after_quarantine, is_by_hand};
use allclear::flow::resend::decide::{Asked, Decision, decide};
use allclear::flow::sender::{After, Before, Command, Event, Record, after};
use allclear::store::resend::Copies;

/// One step of somebody. Numbers are places in the lists of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Do {
    /// A voice says its next word, and it is accepted.
    Hear(u8),
    /// A person asks for a mail again.
    Resend(u8, u8),
    /// The planner reads a failure.
    ReadPlan(u8),
    /// The planner commits its mails.
    CommitPlan,
    /// A claim reads and locks a mail and asks the gate.
    Claim(u8),
    /// A claim commits.
    Arm(u8),
    /// The last look, a statement of its own.
    Look(u8),
    /// The look fails, or a smaller mail cannot be stored.
    LookBlind(u8),
    /// The look is too old when DATA would be written.
    Late(u8),
    /// A smaller mail is stored.
    Refreeze(u8),
    /// The dialogue with the relay: what it answers, and whether it took the mail.
    Data(u8, HandOver, bool),
    /// The outcome is recorded.
    Record(u8),
    /// A worker dies.
    Crash(u8),
    /// A lease is over.
    Reap(u8),
    /// A quarantine is over.
    Settle(u8),
    /// A page of a sweep.
    Sweep(u8),
    /// The deadline of a covering recovery passes.
    Confirm,
}

/// What the drivers work on: the world, what was configured, and which rule is broken.
pub struct Driver<'a> {
    pub world: World,
    pub of: &'a Configuration,
    pub variant: Variant,
}

/// Everything that anybody may try now. Some tries come to nothing.
pub fn tries(of: &Configuration, world: &World, tries: &mut Vec<Do>) {
    for (voice, words) in (0..).zip(of.voices) {
        match words.get(usize::from(world.said[usize::from(voice)])) {
            Some(Word::Resend) => tries.extend((0..world.mails.len()).map(|m| Do::Resend(voice, m as u8))),
            Some(_) => tries.push(Do::Hear(voice)),
            None => {}
        }
    }
    for (w, worker) in (0..).zip(&world.workers) {
        match worker.at {
            At::Claiming => tries.push(Do::Arm(w)),
            At::Rendered => tries.extend([Do::Look(w), Do::LookBlind(w)]),
            At::Refreezing => tries.extend([Do::Refreeze(w), Do::LookBlind(w)]),
            At::Looked => {
                tries.push(Do::Late(w));
                tries.push(Do::Data(w, HandOver::Accepted, true));
                tries.push(Do::Data(w, HandOver::Deferred, false));
                if world.faults.refused > 0 {
                    tries.push(Do::Data(w, HandOver::Refused, false));
                }
                if world.faults.lost > 0 {
                    tries.extend([true, false].map(|took| Do::Data(w, HandOver::Unknown, took)));
                }
            }
            At::Recording(_) => tries.push(Do::Record(w)),
        }
        if world.faults.crashes > 0 && worker.at != At::Claiming {
            tries.push(Do::Crash(w));
        }
    }
    inner_tries(of, world, tries);
}

/// What happens by itself when nobody has a mail in mind.
pub fn inner_tries(of: &Configuration, world: &World, tries: &mut Vec<Do>) {
    match world.planning {
        Some(_) => tries.push(Do::CommitPlan),
        None => tries.extend((0..world.plans.len()).map(|i| Do::ReadPlan(i as u8))),
    }
    tries.extend((0..world.recoveries.len()).map(|i| Do::Sweep(i as u8)));
    if of.asks_unconfirmed && world.to_confirm.is_some() {
        tries.push(Do::Confirm);
    }
    for (m, mail) in (0..).zip(&world.mails) {
        match mail.state {
            State::Queued => tries.push(Do::Claim(m)),
            State::Sending => tries.push(Do::Reap(m)),
            _ if mail.quarantined => tries.push(Do::Settle(m)),
            _ => {}
        }
    }
}

impl Driver<'_> {
    /// The world after a step; `None` where the step cannot be made now.
    pub fn act(&mut self, step: Do) -> Option<()> {
        match step {
            Do::Hear(voice) => self.hear(voice),
            Do::Resend(voice, mail) => self.resend(voice, mail),
            Do::ReadPlan(i) => self.read_plan(i),
            Do::CommitPlan => self.commit_plan(),
            Do::Claim(mail) => self.claim(mail),
            Do::Arm(w) => self.arm(w),
            Do::Look(w) => self.look(w),
            Do::LookBlind(w) => {
                self.world.faults.blind = self.world.faults.blind.checked_sub(1)?;
                self.follow(w, Event::Blind)
            }
            Do::Late(w) => self.follow(w, Event::Late),
            Do::Refreeze(w) => self.refreeze(w),
            Do::Data(w, reply, took) => self.data(w, reply, took),
            Do::Record(w) => self.record(w),
            Do::Crash(w) => {
                self.world.faults.crashes -= 1;
                self.world.workers.remove(usize::from(w));
                Some(())
            }
            Do::Reap(mail) => self.reap(mail),
            Do::Settle(mail) => self.settle(mail),
            Do::Sweep(i) => self.sweep(i),
            Do::Confirm => self.confirm(),
        }?;
        self.world.workers.sort_unstable();
        self.world.plans.sort_unstable();
        Some(())
    }

    /// What the gate may know of a mail in a snapshot taken now.
    pub fn view(&self, mail: u8) -> View {
        let mut view = self.world.view(mail);
        for item in &mut view.items {
            let GateItem::Correction(claim, original) = item else { continue };
            match self.variant {
                Variant::CorrectionAtOnce => (original.decided, original.maybe_mailed) = (true, true),
                Variant::CorrectionWhileOpen => claim.newest = claim.cleared,
                Variant::CorrectionStale => {
                    view.class = Class::ActionRequired;
                    *item = GateItem::Connection(*claim);
                }
                _ => {}
            }
        }
        view
    }

    fn verdict(&self, mail: u8) -> Verdict {
        self.world.verdict(&self.view(mail))
    }

    // ---- plan

    /// The statement FAILURES: staleness is what its snapshot says.
    fn read_plan(&mut self, i: u8) -> Option<()> {
        let plan = self.world.plans.remove(usize::from(i));
        if !self.world.is_over(&plan) {
            let own_fault = self.world.connections[usize::from(plan.connection)].own_fault == i64::from(plan.episode);
            self.world.planning = Some((plan, own_fault));
        }
        Some(())
    }

    /// As `failures::plan` and the statements after it: whoever is concerned gets a mail, or the one that waits names
    /// one more connection.
    fn commit_plan(&mut self) -> Option<()> {
        let (mut plan, own_fault) = self.world.planning.take()?;
        if self.variant == Variant::PinReadLate {
            plan.component_episode = u8::try_from(self.world.component.episode).unwrap();
        }
        let threads: Vec<u8> = self.of.threads_of(plan.connection).collect();
        // LOCK_QUEUED waits for a claim that has locked one of them.
        if threads.iter().any(|t| self.is_thread_locked(*t)) {
            return None;
        }
        let places: Vec<_> = threads.iter().map(|t| (*t, self.place(*t, &plan, own_fault))).collect();
        if places.iter().any(|(_, (place, _))| *place == Place::OnTheWire) {
            self.world.plans.push(plan);
            return Some(());
        }
        for (thread, (place, named)) in places {
            if place == Place::Told {
                continue;
            }
            let joins = |m: &Mail| m.class == Class::ActionRequired && m.own_fault_lane == own_fault && !m.maybe_mailed;
            // A mail names a connection once: what broke again gets a mail of its own.
            let names = |m: &Mail| m.items.iter().flatten().any(|i| i.connection == plan.connection);
            let into = self.waiting(thread, joins).filter(|mail| !names(self.world.mail(*mail)));
            let into = into.unwrap_or_else(|| self.add_mail(Class::ActionRequired, thread, own_fault));
            if let Some(old) = named.filter(|_| place == Place::Waits) {
                self.drop_items(old, &plan);
            }
            self.add_item(into, plan.item());
        }
        Some(())
    }

    /// The statement NAMED, and what `place` makes of it.
    fn place(&self, thread: u8, plan: &Plan, own_fault: bool) -> (Place, Option<u8>) {
        let names = |m: &Mail| m.items().any(|(_, i)| i.connection == plan.connection && i.episode == plan.episode);
        let named = (0..).zip(&self.world.mails).find(|(_, m)| {
            let counts = matches!(m.state, State::Queued | State::Sending | State::Accepted | State::Unknown);
            m.thread == thread && m.class == Class::ActionRequired && counts && names(m)
        });
        (place(named.map(|(_, m)| (m.state, !m.own_fault_lane && !m.maybe_mailed)), own_fault), named.map(|(i, _)| i))
    }

    // ---- claim, look, hand over, record

    fn claim(&mut self, mail: u8) -> Option<()> {
        let m = *self.world.mail(mail);
        // The statement DUE, FOR UPDATE SKIP LOCKED.
        let waits = self.variant != Variant::NoThreadOrder && self.world.is_thread_busy(m.thread);
        if waits || self.world.is_locked(mail) || self.world.workers.len() >= self.of.workers {
            return None;
        }
        match self.verdict(mail) {
            Verdict::Send(split) if stays_whole(m.class, m.maybe_mailed) && !split.is_whole() => {
                self.repeat_what_is_true(mail, &split);
                Some(())
            }
            Verdict::Send(split) => {
                let (later, dropped) = self.masks(mail, &split);
                let (ours, at) = (true, At::Claiming);
                self.world.workers.push(Worker { mail, ours, at, later, dropped, untrue: false, spent: false });
                Some(())
            }
            Verdict::Wait(..) => None,
            other => {
                self.world.mail_mut(mail).state = decided(&other);
                Some(())
            }
        }
    }

    /// The claim's commit: the statement ARM, guarded by the index `delivery_busy`. Rendering reads nothing that
    /// others write, so it is no step of its own.
    fn arm(&mut self, w: u8) -> Option<()> {
        let worker = self.world.workers[usize::from(w)];
        let thread = self.world.mail(worker.mail).thread;
        if self.world.is_thread_busy(thread) && self.variant != Variant::NoThreadOrder {
            self.world.workers.remove(usize::from(w));
            return Some(());
        }
        self.part(worker);
        let row = self.world.mail_mut(worker.mail);
        row.state = State::Sending;
        self.new_token(worker.mail);
        let worker = &mut self.world.workers[usize::from(w)];
        (worker.ours, worker.later, worker.dropped) = (true, 0, 0);
        self.follow(w, Event::Rendered)?;
        if self.variant == Variant::LookInsideClaim {
            self.world.workers[usize::from(w)].at = At::Looked;
        }
        Some(())
    }

    fn is_ours(&self, worker: &Worker) -> bool {
        let ours = worker.ours || self.variant == Variant::TokenUnchecked;
        ours && self.world.mail(worker.mail).state == State::Sending
    }

    fn look(&mut self, w: u8) -> Option<()> {
        let worker = self.world.workers[usize::from(w)];
        let row = *self.world.mail(worker.mail);
        let now = at(self.world.clock);
        let verdict = || as_it_was(self.verdict(worker.mail), row.class, row.maybe_mailed, now);
        let seen = self.is_ours(&worker).then(verdict);
        let untrue = self.says_untrue(worker.mail);
        let worker = &mut self.world.workers[usize::from(w)];
        (worker.untrue, worker.spent) = (untrue, false);
        self.follow(w, Event::Looked(seen))
    }

    fn refreeze(&mut self, w: u8) -> Option<()> {
        let worker = self.world.workers[usize::from(w)];
        let ours = self.is_ours(&worker);
        if ours {
            self.part(worker);
        }
        let rendered = &mut self.world.workers[usize::from(w)];
        (rendered.later, rendered.dropped) = (0, 0);
        self.follow(w, Event::Refrozen(ours))
    }

    fn data(&mut self, w: u8, reply: HandOver, took: bool) -> Option<()> {
        let worker = self.world.workers[usize::from(w)];
        match reply {
            HandOver::Unknown => self.world.faults.lost -= 1,
            HandOver::Refused => self.world.faults.refused -= 1,
            _ => {}
        }
        self.world.begin_data(&worker, worker.spent && self.says_untrue(worker.mail));
        if reply == HandOver::Unknown {
            self.world.doubt(worker.mail);
        }
        if took {
            self.world.take(worker.mail);
        }
        if self.variant == Variant::RetryWithoutLook && reply == HandOver::Deferred {
            self.world.workers[usize::from(w)].spent = true;
            return Some(());
        }
        self.follow(w, Event::HandedOver(outcome(reply)))
    }

    /// The machine says what comes next.
    fn follow(&mut self, w: u8, event: Event) -> Option<()> {
        let worker = self.world.workers[usize::from(w)];
        let (mut step, mut command) = worker.at.step().on(event);
        if command == Command::Render {
            (step, command) = step.on(Event::Rendered);
        }
        let (mut later, mut dropped) = (0, 0);
        let next = match command {
            Command::Look => At::Rendered,
            Command::HandOver => At::Looked,
            Command::Refreeze(split) => {
                (later, dropped) = self.masks(worker.mail, &split);
                At::Refreezing
            }
            Command::Record(record) => At::Recording(kept(&record)),
            Command::Render | Command::Drop => {
                self.world.workers.remove(usize::from(w));
                return Some(());
            }
        };
        assert_eq!(next.step(), step, "the drivers and the machine disagree");
        let worker = &mut self.world.workers[usize::from(w)];
        (worker.at, worker.later, worker.dropped) = (next, later, dropped);
        if next != At::Looked {
            (worker.untrue, worker.spent) = (false, false);
        }
        Some(())
    }

    /// The statements OUTCOMES, guarded by token and state, and REPLACE_CORRECTED, which is not.
    fn record(&mut self, w: u8) -> Option<()> {
        let worker = self.world.workers.remove(usize::from(w));
        let At::Recording(kept) = worker.at else { return None };
        let guarded = self.is_ours(&worker);
        let now = at(self.world.clock);
        let row = self.world.mail_mut(worker.mail);
        let (state, quarantined, mailed) = match kept {
            Kept::Back => (State::Queued, false, false),
            Kept::Decided(state) => (state, false, false),
            Kept::Attempt(reply) => match after(&outcome(reply), Before::default(), now, Span(1), Span(1)) {
                After::Accepted => (State::Accepted, false, true),
                After::Queued { .. } | After::Paused(_) => (State::Queued, false, false),
                After::Failed(_) => (State::Failed, false, false),
                After::Unknown { .. } => (State::Unknown, true, true),
            },
        };
        if guarded {
            (row.state, row.quarantined) = (state, quarantined);
            row.maybe_mailed |= mailed;
        }
        if kept == Kept::Attempt(HandOver::Accepted) {
            self.replace_corrected(worker.mail);
        }
        Some(())
    }

    /// What took back an older outage is untrue once a mail about a newer one was taken: REPLACE_CORRECTED, FOLD_EMPTY.
    fn replace_corrected(&mut self, mail: u8) {
        let new = *self.world.mail(mail);
        if new.class != Class::ActionRequired {
            return;
        }
        let newer = |old: &crate::world::Item| {
            new.items().any(|(_, n)| n.connection == old.connection && n.episode > old.episode)
        };
        for m in 0..self.world.mails.len() {
            let locked = self.world.is_locked(m as u8);
            let c = &mut self.world.mails[m];
            if c.thread != new.thread || c.class != Class::Correction || c.state != State::Queued {
                continue;
            }
            let mut replaced = false;
            for item in c.items.iter_mut().flatten().filter(|i| !i.dropped) {
                item.dropped = newer(item);
                replaced |= item.dropped;
            }
            if replaced && !locked && c.items().next().is_none() {
                c.state = State::Folded;
            }
        }
    }

    // ---- reap, settle

    fn reap(&mut self, mail: u8) -> Option<()> {
        if self.world.workers.iter().any(|w| w.mail == mail && w.ours) {
            self.world.faults.zombies = self.world.faults.zombies.checked_sub(1)?;
        }
        let row = self.world.mail_mut(mail);
        (row.state, row.quarantined, row.maybe_mailed) = (State::Unknown, true, true);
        row.reaps += 1;
        self.world.doubt(mail);
        self.new_token(mail);
        if self.variant == Variant::ReapWithoutCorrection || self.world.mail(mail).class != Class::ActionRequired {
            return Some(());
        }
        let stale = self.world.mail(mail).items().filter(|(_, item)| {
            let stale = self.world.claim(item).stale();
            let by = self.world.connections[usize::from(item.connection)].cleared_by;
            stale.is_some() && !is_by_hand(stale == Some(allclear::domain::delivery::Reason::Recovered), by)
        });
        let stale: Vec<_> = stale.map(|(i, _)| (mail, i)).collect();
        self.correct(&stale)
    }

    /// The quarantine outlasts every dialogue: whoever looked before the reap has lost its session by then.
    fn settle(&mut self, mail: u8) -> Option<()> {
        let in_dialogue = self.world.workers.iter().any(|w| w.mail == mail && w.at == At::Looked);
        if in_dialogue && self.variant != Variant::NoQuarantine {
            return None;
        }
        let (m, view) = (*self.world.mail(mail), self.view(mail));
        let limits = crate::limits(m.class);
        let (mut state, _) =
            after_quarantine(m.class, m.repeats.into(), m.reaps.into(), Some(&view), &limits, at(self.world.clock));
        if self.variant == Variant::CorrectionNotRepeated && m.class == Class::Correction {
            state = State::Unknown;
        }
        let row = self.world.mail_mut(mail);
        (row.state, row.quarantined) = (state, false);
        row.repeats += u8::from(state == State::Queued);
        if self.variant == Variant::MaybeMailedForgotten && state == State::Queued {
            row.maybe_mailed = false;
        }
        Some(())
    }

    // ---- a person

    /// A resend is a new mail that enters after plan: KNOWN, COPIES_SENT, ADD_RESENDS, COPY_ITEMS.
    fn resend(&mut self, voice: u8, mail: u8) -> Option<()> {
        let m = *self.world.mail(mail);
        let copies: Vec<Mail> = self.world.mails.iter().filter(|c| c.copy_of == m.copy_of).copied().collect();
        let on_its_way = |c: &Mail| matches!(c.state, State::Queued | State::Sending) || c.quarantined;
        let resends = copies.iter().map(|c| c.resend_no).max().unwrap_or_default();
        let asked = Asked {
            view: View { resend: true, ..self.view(mail) },
            state: m.state,
            said_at: at(0),
            reason: None,
            newer: false,
            copies: Copies { resends: resends.into(), left_at: None, on_its_way: copies.iter().any(on_its_way) },
            instead: None,
            corrected: false,
        };
        let now = at(self.world.clock);
        let Decision::Send(..) = decide(&asked, &crate::limits(m.class), false, now) else { return None };
        let copy = self.add_mail(m.class, m.thread, m.own_fault_lane);
        (self.world.mail_mut(copy).copy_of, self.world.mail_mut(copy).resend_no) = (m.copy_of, resends + 1);
        for (_, item) in m.items() {
            let resend_no = if item.corrects.is_some() { resends + 1 } else { 0 };
            self.add_item(copy, crate::world::Item { resend_no, said: false, ..item });
        }
        self.world.said[usize::from(voice)] += 1;
        Some(())
    }

    // ---- rows

    /// Another claim, or the reaper: whoever held the old token holds nothing.
    fn new_token(&mut self, mail: u8) {
        for w in self.world.workers.iter_mut().filter(|w| w.mail == mail && w.at != At::Claiming) {
            w.ours = false;
        }
    }

    pub fn is_thread_locked(&self, thread: u8) -> bool {
        self.world.workers.iter().any(|w| w.at == At::Claiming && self.world.mail(w.mail).thread == thread)
    }

    /// The mail that waits in a thread and takes what comes meanwhile.
    pub fn waiting(&self, thread: u8, which: impl Fn(&Mail) -> bool) -> Option<u8> {
        let waits = |m: &Mail| m.thread == thread && m.state == State::Queued && which(m);
        (0..).zip(&self.world.mails).filter(|(_, m)| waits(m)).map(|(i, _)| i).last()
    }

    pub fn add_mail(&mut self, class: Class, thread: u8, own_fault_lane: bool) -> u8 {
        let id = u8::try_from(self.world.mails.len()).unwrap();
        self.world.mails.push(Mail {
            class,
            thread,
            state: State::Queued,
            quarantined: false,
            maybe_mailed: false,
            own_fault_lane,
            copy_of: id,
            resend_no: 0,
            repeats: 0,
            reaps: 0,
            items: [None; 4],
            taken: 0,
            ambiguous: 0,
        });
        id
    }

    /// The statement ADD_ITEMS: ON CONFLICT DO NOTHING, and the index `delivery_item_once`.
    pub fn add_item(&mut self, mail: u8, item: crate::world::Item) {
        let row = self.world.mail_mut(mail);
        if row.items.iter().flatten().any(|i| i.connection == item.connection && i.corrects == item.corrects) {
            return;
        }
        let free = row.items.iter_mut().find(|i| i.is_none());
        *free.expect("a mail of the model names more than it can") = Some(item);
    }

    /// The statement DROP_ITEMS.
    fn drop_items(&mut self, mail: u8, plan: &Plan) {
        for item in self.world.mail_mut(mail).items.iter_mut().flatten() {
            item.dropped |= item.connection == plan.connection && item.episode == plan.episode;
        }
    }

    /// A mail that may have left keeps what it said; the rest is said by another: COPY_SPLIT.
    fn repeat_what_is_true(&mut self, mail: u8, split: &Split) {
        let m = *self.world.mail(mail);
        let (_, dropped) = self.masks(mail, split);
        let into = self.add_mail(m.class, m.thread, m.own_fault_lane);
        for (_, item) in m.items().filter(|(i, _)| dropped & (1 << i) == 0) {
            self.add_item(into, crate::world::Item { said: false, ..item });
        }
        self.world.mail_mut(mail).state = State::Withdrawn;
    }

    /// What is untrue leaves the mail, what must wait gets one of its own: DROP_ITEMS, SPLIT_DELIVERY, MOVE_SPLIT.
    fn part(&mut self, worker: Worker) {
        let is_in = |mask: u8, i: usize| mask & (1 << i) != 0;
        let m = *self.world.mail(worker.mail);
        let into = (worker.later != 0).then(|| self.add_mail(m.class, m.thread, m.own_fault_lane));
        for (i, item) in m.items() {
            if is_in(worker.dropped, i) {
                self.world.mail_mut(worker.mail).items[i] = Some(crate::world::Item { dropped: true, ..item });
            } else if let Some(into) = into.filter(|_| is_in(worker.later, i)) {
                self.world.mail_mut(worker.mail).items[i] = None;
                self.add_item(into, item);
            }
        }
    }

    /// The gate counts the items it was shown; a bit for each place in the row instead.
    fn masks(&self, mail: u8, split: &Split) -> (u8, u8) {
        let places: Vec<usize> = self.world.mail(mail).items().map(|(i, _)| i).collect();
        let mask = |of: &mut dyn Iterator<Item = usize>| of.fold(0, |mask, position| mask | 1 << places[position]);
        (mask(&mut split.later.iter().copied()), mask(&mut split.dropped.iter().map(|d| d.0)))
    }

    /// Whether a mail asks for what is truly over, or leaves under a hold.
    fn says_untrue(&self, mail: u8) -> bool {
        let m = self.world.mail(mail);
        m.class == Class::ActionRequired
            && (self.world.held || m.items().any(|(_, i)| self.world.is_truly_over(i.connection, i.truly, i.failed_at)))
    }
}

impl Plan {
    const fn item(&self) -> crate::world::Item {
        crate::world::Item {
            connection: self.connection,
            episode: self.episode,
            component_episode: self.component_episode,
            failed_at: self.failed_at,
            corrects: None,
            resend_no: 0,
            dropped: false,
            truly: self.truly,
            said: false,
        }
    }
}

fn outcome(hand_over: HandOver) -> Outcome {
    Outcome { hand_over, code: None, enhanced: None, kind: None, words: String::new() }
}

/// As `claim::sort_and_arm` and `outcomes::settle` store a verdict.
fn decided(verdict: &Verdict) -> State {
    match verdict {
        Verdict::Send(_) | Verdict::Wait(..) => State::Queued,
        Verdict::Withdraw(_) => State::Withdrawn,
        Verdict::Fold(_) => State::Folded,
        Verdict::Suppress => State::Suppressed,
        Verdict::Cancel(_) => State::Cancelled,
        Verdict::Park(_) => State::Parked,
    }
}

fn kept(record: &Record) -> Kept {
    match record {
        Record::Attempt(outcome) => Kept::Attempt(outcome.hand_over),
        Record::Gated(verdict) if decided(verdict) == State::Queued => Kept::Back,
        Record::Gated(verdict) => Kept::Decided(decided(verdict)),
        Record::Broken(_) => Kept::Decided(State::Parked),
        Record::PutBack => Kept::Back,
    }
}

pub const fn by_of(word: Word) -> By {
    if matches!(word, Word::ByHand(_)) { By::Customer } else { By::Automatic }
}

pub fn failed_at(world: &World, connection: u8) -> u8 {
    clock_of(world.connections[usize::from(connection)].failed_at)
}
