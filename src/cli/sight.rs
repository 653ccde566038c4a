//! What `show`, `search` and `status` say to people. (Writing to a `String` cannot fail.)

use super::output::{Table, or_dash, printable};
use crate::domain::hold::HoldCause;
use crate::flow::search::Page;
use crate::flow::show::{Customer, History, Said, Sight, Told};
use crate::flow::status::Status;
use crate::flow::story::Step;
use crate::store::search::Cursor;
use crate::store::subjects::Count;
use crate::store::subjects::Subscription;
use std::fmt::Write;

/// What was found, in words.
pub(super) fn text(sight: &Sight) -> String {
    let mut out = String::new();
    match sight {
        Sight::Customer { customers } => customers.iter().for_each(|one| customer(&mut out, one)),
        Sight::Connection { connection: c, timeline, deliveries, next } => {
            connection(&mut out, c);
            story(&mut out, timeline);
            mails(&mut out, deliveries, *next);
        }
        Sight::Incident { incident: i, components, updates, mails: counts, deliveries, next } => {
            let _ = writeln!(out, "{} \"{}\": {}, impact {} ({})", i.key, printable(&i.title), i.phase, i.impact, i.id);
            let _ = writeln!(
                out,
                "  began {}, updated {}, resolved {}",
                i.started_at,
                i.updated_at,
                or_dash(i.resolved_at)
            );
            for c in components {
                let _ = writeln!(out, "  {} \"{}\": {} since {}", c.key, printable(&c.name), c.status, c.changed_at);
            }
            let mut table = Table::new(&["update", "phase", "received", "outcome", "why"]);
            for Said { row: n, explained } in updates {
                let why = explained.unwrap_or_default().to_owned();
                table.row([n.id.to_string(), or_dash(n.phase), n.received_at.to_string(), n.outcome.clone(), why]);
            }
            let _ = write!(out, "\n{table}");
            tally(&mut out, counts);
            mails(&mut out, deliveries, *next);
        }
        Sight::Surge { surge } => out += &super::surge::text(std::slice::from_ref(surge)),
        Sight::Component { component: c, outages, surges, signals } => {
            let state = c.down_since.map_or_else(|| "not reported down".to_owned(), |at| format!("down since {at}"));
            let _ =
                writeln!(out, "{} \"{}\": {state}, outages so far {} ({})", c.key, printable(&c.name), c.episode, c.id);
            let mut table = Table::new(&["outage", "since", "until", "incident", "connections"]);
            for e in outages {
                let covers = if e.covers_connections { "well with it" } else { "-" }.to_owned();
                table.row([
                    e.n.to_string(),
                    e.since.to_string(),
                    or_dash(e.ended_at),
                    or_dash(e.incident.as_deref()),
                    covers,
                ]);
            }
            let _ = write!(out, "\n{table}");
            if !surges.is_empty() {
                let _ = write!(out, "\n{}", super::surge::text(surges));
            }
            let mut table = Table::new(&["signal", "observed", "received", "from", "what", "outcome"]);
            for s in signals {
                let (observed, received) = (s.observed_at.to_string(), s.received_at.to_string());
                table.row([
                    s.id.to_string(),
                    observed,
                    received,
                    s.source.clone(),
                    s.what.to_string(),
                    s.outcome.clone(),
                ]);
            }
            let _ = write!(out, "\n{table}");
        }
        Sight::Delivery { delivery } => {
            mails(&mut out, std::slice::from_ref(&**delivery), None);
            story(&mut out, &delivery.steps);
            if delivery.row.copied {
                let _ = writeln!(out, "\nThe exact mail: allclear show {} --mail", delivery.row.id);
            }
        }
        Sight::Notice { notice: Said { row: n, explained }, mails: counts, deliveries, next } => {
            let (source, at) = (printable(&n.source), n.received_at);
            let _ = writeln!(out, "{}: {} from {source}, received {at}: {}", n.id, n.kind, n.outcome);
            if let Some(why) = explained {
                let _ = writeln!(out, "  {}: {why}", or_dash(n.reason));
            }
            if let Some(first) = n.repeats_id {
                let _ = writeln!(out, "  the same as {first}");
            }
            let _ = writeln!(out, "  {}", printable(&n.payload));
            tally(&mut out, counts);
            mails(&mut out, deliveries, *next);
        }
        Sight::Signal { signal: s } => {
            let subject = s.connection.as_deref().unwrap_or(&s.component);
            let _ = writeln!(out, "{}: {subject} {} {}", s.id, s.what, or_dash(s.fault));
            let (source, observed, received) = (printable(&s.source), s.observed_at, s.received_at);
            let _ = writeln!(out, "  from {source}, observed {observed}, received {received}");
            let _ = writeln!(out, "  outcome {}", s.outcome);
        }
        Sight::Recovery { id, progress: p } => {
            let (withdrawn, corrected, wire) = (p.withdrawn, p.corrected, p.in_flight);
            let _ = writeln!(out, "{id}: withdrawn {withdrawn}, corrected {corrected}, on the wire {wire}");
            let _ = writeln!(out, "  swept {}, confirm by {}", or_dash(p.swept_at), or_dash(p.confirm_by));
        }
    }
    out
}

fn customer(out: &mut String, of: &Customer) {
    let s = &of.subscriber;
    let name = s.name.as_deref().map(|name| format!("{} ", printable(name))).unwrap_or_default();
    let _ = writeln!(out, "{} <{}> {name}({}, {}, {})", s.key, s.address, s.locale, s.zone, s.id);
    if let Some(x) = &of.suppressed {
        let said = x.evidence.as_deref().map(printable).unwrap_or_default();
        let _ = writeln!(out, "  gets no mail since {}: {} {said}", x.created_at, x.reason);
        let _ = writeln!(out, "  `allclear suppressions lift {} --reason ...` ends that", s.address);
    }
    of.subscriptions.iter().for_each(|one| follows(out, one));
    if of.more_subscriptions > 0 {
        let _ = writeln!(out, "  and {} more subscriptions: --limit shows up to 200", of.more_subscriptions);
    }
    of.connections.iter().for_each(|one| connection(out, one));
    if of.more_connections > 0 {
        let _ = writeln!(
            out,
            "  and {} more connections: --limit shows up to 200, each is shown by its key",
            of.more_connections
        );
    }
    story(out, &of.timeline);
    mails(out, &of.deliveries, of.next);
}

fn follows(out: &mut String, s: &Subscription) {
    let what = match (&s.component, &s.group_key) {
        (Some(key), _) => printable(key),
        (None, Some(group)) => format!("the group {}", printable(group)),
        (None, None) => "everything".to_owned(),
    };
    let until = s.ended_at.map(|at| format!(", ended {at}")).unwrap_or_default();
    let _ = writeln!(
        out,
        "  follows {what} since {}{until}: events {}, least impact {}",
        s.created_at, s.events, s.least_impact
    );
}

fn connection(out: &mut String, History { now: c, .. }: &History) {
    let since = |at: Option<crate::domain::time::Timestamp>| at.map(|at| format!(" since {at}")).unwrap_or_default();
    let state = if c.broken {
        format!("broken{} ({})", since(c.broken_since), c.fault)
    } else {
        format!("not broken{}", since(c.well_as_of))
    };
    let _ = writeln!(out, "\n{} \"{}\" of {}: {state}", c.key, printable(&c.name), c.component);
    if let Some(at) = c.component_down_since {
        let _ = writeln!(out, "  {} is down since {at}", c.component);
    }
}

/// What happened, oldest first, a line each, with the name of the rule or reason and the id of what shows it.
fn story(out: &mut String, steps: &[Step]) {
    if steps.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nWhat happened, oldest first:");
    for s in steps {
        let name = s.reason.map(|reason| reason.to_string()).or_else(|| s.rule.map(|rule| rule.to_string()));
        let name = name.map(|name| format!(" [{name}]")).unwrap_or_default();
        let shown = s.evidence.as_deref().map(|id| format!(" <- {id}")).unwrap_or_default();
        let _ = writeln!(out, "  {}  {:<10} {}{name}{shown}", s.at, s.step, printable(&s.text));
        let of_one = !matches!(&*s.step, "signal" | "noticed" | "recovered" | "held" | "paused" | "suppressed");
        if let Some(id) = s.delivery.filter(|_| of_one) {
            let _ = writeln!(out, "  {:>width$}  mail {id}", "", width = s.at.to_string().len() + 11);
        }
    }
}

fn mails(out: &mut String, deliveries: &[Told], next: Option<Cursor>) {
    if deliveries.is_empty() {
        let _ = writeln!(out, "\nno mail{}", if next.is_some() { " on this page" } else { "" });
    }
    for Told { row: d, explained, archived_at, .. } in deliveries {
        let why = d.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let _ = writeln!(out, "\n{} {}: {}{why}", d.id, d.class, d.state);
        let _ = writeln!(out, "  {explained}");
        let _ = writeln!(out, "  to {} ({}): {}", d.address, d.subscriber, printable(&d.subject));
        let _ = writeln!(out, "  planned {}, due {}, decided {}", d.created_at, d.due_at, or_dash(d.decided_at));
        if let Some(at) = archived_at {
            let _ = writeln!(out, "  archived {at}: as it was known then");
        }
        if let Some(id) = &d.message_id {
            let _ = writeln!(out, "  Message-ID {}", printable(id));
        }
        if let Some(incident) = &d.incident {
            let _ = writeln!(out, "  incident {}", printable(incident));
        }
        if d.repeats > 0 {
            let again = if d.repeats == 1 { "once more".to_owned() } else { format!("{} times more", d.repeats) };
            let _ = writeln!(out, "  sent {again}: nobody can know whether the mail server took it before");
        }
        for item in &d.names {
            let key = item.connection.as_deref().unwrap_or(&item.component);
            let name = item.connection_name.as_deref().unwrap_or(&item.component_name);
            let dropped = item.dropped.as_deref().map(|why| format!(", left out ({why})")).unwrap_or_default();
            let _ = writeln!(out, "  names {} \"{}\"{dropped}", printable(key), printable(name));
        }
        for a in &d.attempts {
            let code = a.code.map(|code| format!(" {code}")).unwrap_or_default();
            let reply = a.reply.as_deref().map(printable).unwrap_or_default();
            let _ = writeln!(out, "  tried {}: {}{code} {reply}", a.ended_at, a.outcome);
        }
    }
    if let Some(next) = next {
        let _ = writeln!(out, "\nolder mails: the same command with --cursor {next}");
    }
}

fn tally(out: &mut String, counts: &[Count]) {
    let mut table = Table::new(&["class", "state", "mails"]);
    for count in counts {
        table.row([count.class.to_string(), count.state.to_string(), count.mails.to_string()]);
    }
    let _ = write!(out, "\n{table}");
}

/// A page of a search.
pub(super) fn found(page: &Page) -> String {
    let mut out = String::new();
    mails(&mut out, &page.deliveries, page.next);
    out.trim_start().to_owned()
}

/// How our own queue does.
pub(super) fn status(s: &Status) -> String {
    let mut out = String::new();
    let wait = if s.waiting == 1 { "mail waits" } else { "mails wait" };
    let _ = writeln!(out, "{} {wait}; leaving now: {}, kept back: {}", s.waiting, s.due, s.held_back);
    if let (Some(at), Some(seconds)) = (s.oldest_due_at, s.oldest_due_seconds) {
        let _ = writeln!(out, "the oldest that could leave is due since {at} ({seconds} s)");
    }
    let (came, taken, refused) = (s.in_per_minute, s.out_per_minute, s.refused_per_minute);
    let _ = writeln!(out, "a minute: {came:.1} in, {taken:.1} out, {refused:.1} refused; on the wire: {}", s.sending);
    if taken + refused < 0.1 && s.oldest_due_seconds.is_some_and(|seconds| seconds > 60) {
        let _ = writeln!(
            out,
            "nothing leaves: `allclear doctor` says whether the relays can be reached, the log of `serve` the rest"
        );
    }
    if let Some(words) = s.refusal.as_deref().filter(|_| s.is_mostly_refused()) {
        let _ = writeln!(out, "the relays refuse most mails: {}", printable(words));
    }
    let _ = writeln!(
        out,
        "{}",
        match s.drained_in_seconds {
            Some(0) => "nothing is left to send now".to_owned(),
            Some(seconds) => format!("at this rate what could leave is gone in {seconds} s"),
            None => "when it is drained cannot be known: no more leaves than comes".to_owned(),
        }
    );
    if s.quarantined > 0 {
        let _ = writeln!(out, "{} mails are left alone for a while: nobody knows whether they left", s.quarantined);
    }
    // A surge is told below, with its hold.
    for hold in s.holds.iter().filter(|hold| hold.cause != HoldCause::Surge) {
        let on = hold.class.map(|class| class.to_string()).or_else(|| hold.component.clone());
        let (on, why) = (on.unwrap_or_else(|| hold.scope.clone()), printable(&hold.reason));
        let until = hold.until.map(|until| format!(" until {until}")).unwrap_or_default();
        let (cause, since, by) = (hold.cause, hold.since, &hold.created_by);
        let _ = writeln!(out, "{cause} on {on} since {since}{until} by {by}: {why} ({})", hold.id);
    }
    for surge in &s.surges {
        let on = surge.component.as_deref().unwrap_or("our own reports");
        let (stage, why) = (super::surge::stage(surge), surge.why.explained());
        let _ = writeln!(
            out,
            "surge on {on} since {}: {}; {stage}: {why} ({})",
            surge.since,
            printable(surge.because.trim_end_matches('.')),
            surge.id
        );
    }
    for pause in &s.pauses {
        let words = printable(&pause.words);
        let _ = writeln!(out, "stream {} is paused since {} ({}): {words}", pause.stream, pause.since, pause.kind);
    }
    for away in &s.unreached {
        let (relay, node, words) = (printable(&away.relay), printable(&away.node), printable(&away.words));
        let _ = writeln!(out, "relay {relay} cannot be reached since {} (from node {node}): {words}", away.since);
    }
    let mut table = Table::new(&["waiting", "due", "class", "component", "reason", "first due", "because"]);
    for l in &s.depth {
        let (component, reason) = (or_dash(l.component.as_deref()), or_dash(l.reason));
        let at = l.oldest_due_at.to_string();
        table.row([
            l.mails.to_string(),
            l.due.to_string(),
            l.class.to_string(),
            component,
            reason,
            at,
            l.explained.to_owned(),
        ]);
    }
    if !s.depth.is_empty() {
        let _ = write!(out, "\n{table}");
    }
    let mut table = Table::new(&["set aside", "state", "reason", "oldest", "because"]);
    for a in s.parked.iter().chain(&s.unknown) {
        let because = a.reason.explained().to_owned();
        table.row([a.mails.to_string(), a.state.to_string(), a.reason.to_string(), a.oldest.to_string(), because]);
    }
    if !s.parked.is_empty() || !s.unknown.is_empty() {
        let _ = write!(out, "\n{table}\n`allclear search --state` parked or unknown lists them\n");
    }
    out
}
