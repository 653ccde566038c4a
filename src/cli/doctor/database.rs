//! The database: what `serve` would refuse, its schema, its clock, and what waits in it.

use super::finding::{Finding, fail, ok, skip, warn};
use crate::config::Config;
use crate::domain::hold::HoldCause;
use crate::domain::time::Span;
use crate::flow::relation::{FAILED_FOR_GOOD, hint};
use crate::flow::setting::Setting;
use crate::flow::status::{Status, status};
use crate::store::doctor::{self, Indexes, Migrations};
use crate::store::fitness::Server;
use crate::store::holds::HoldRow;
use crate::store::relays::Unreached;
use crate::store::streams::Pause;
use crate::store::{Store, StoreError};

/// The oldest version the tests run on.
const TESTED: i32 = 150_000;

pub(super) struct Looked {
    pub found: Vec<Finding>,
    pub time: Vec<Finding>,
}

pub(super) async fn look(config: &Config) -> Looked {
    let mut found = Vec::new();
    let store = match Store::look(config.database.url.expose()).await {
        Ok(Some(store)) => store,
        Ok(None) => {
            let made = "`allclear migrate` and `allclear serve` make it";
            found.push(warn("the file of the SQLite database is not there yet", made));
            return Looked { found, time: vec![skip("there is no database to compare with")] };
        }
        Err(e) => {
            found.push(broken(&e));
            return Looked { found, time: vec![skip("the database cannot be asked")] };
        }
    };
    match examine(&store, config, &mut found).await {
        Ok(time) => Looked { found, time },
        Err(e) => {
            found.push(broken(&e));
            Looked { found, time: vec![skip("the database cannot be asked")] }
        }
    }
}

fn broken(error: &StoreError) -> Finding {
    fail(error.to_string(), error.hint())
}

/// Goes on as long as the answers can be relied on; gives the findings about time.
async fn examine(store: &Store, config: &Config, found: &mut Vec<Finding>) -> Result<Vec<Finding>, StoreError> {
    doctor::check_access(store).await?;
    let place = store.file().map(|file| format!(" at {}", file.display())).unwrap_or_default();
    found.push(ok(format!("{} {}{place}", store.kind(), doctor::version(store).await?)));
    let server = doctor::server(store).await?;
    match &server {
        Some(server) => found.extend(durable(server)),
        None => found.push(journal(&store.durability().await?)),
    }
    let applied = doctor::migrations(store).await?;
    found.extend(migrations(&applied));
    if server.is_some_and(|server| !server.may_create) && !applied.pending.is_empty() {
        let hint = "GRANT CREATE, USAGE ON SCHEMA public TO it, or make it the owner of the database";
        found.push(fail("the user of database.url may not create tables", hint));
    }
    if applied.pending.is_empty() && applied.unknown.is_empty() {
        found.extend(indexes(&doctor::indexes(store).await?));
        let status = status(&mut store.read().await?, &Setting::of(config)).await?;
        found.extend(queue(status.oldest_due_seconds, status.parked.iter().map(|aside| aside.mails).sum()));
        found.extend(refused(&status));
        found.extend(status.holds.iter().map(held));
        found.extend(status.pauses.iter().map(paused));
        found.extend(status.unreached.iter().map(unreached));
    }
    if let Some((most, free)) = doctor::seats(store).await? {
        found.push(seats(most, free, i64::from(config.database.connections)));
    }
    Ok(vec![match store.file() {
        Some(_) => ok("SQLite uses this machine's clock"),
        None => clock(doctor::clock_ahead(store).await?),
    }])
}

fn refused(status: &Status) -> Option<Finding> {
    let (refused, taken) = (status.refused_per_minute, status.out_per_minute);
    let words = status.refusal.as_deref().filter(|_| status.is_mostly_refused())?;
    let what = format!("the relays refuse {refused:.1} mails a minute, and take {taken:.1}: {words}");
    Some(fail(what, FAILED_FOR_GOOD))
}

fn held(hold: &HoldRow) -> Finding {
    let of = match (hold.class, &hold.component) {
        _ if hold.cause == HoldCause::Stop => "all mail is stopped".to_owned(),
        (_, Some(component)) if hold.cause == HoldCause::Surge => {
            format!("nobody is asked to reconnect through {component}")
        }
        _ if hold.cause == HoldCause::Surge => "nobody is asked to reconnect".to_owned(),
        (Some(class), _) => format!("mail of class {class} is held"),
        (None, Some(component)) => format!("mail about {component} is held"),
        (None, None) => "all mail but corrections is held".to_owned(),
    };
    let until = hold.until.map(|until| format!(" until {until}")).unwrap_or_default();
    let what = format!("{of} since {}{until} by {}: {}", hold.since, hold.created_by, hold.reason);
    match hold.cause {
        HoldCause::Stop => warn(what, "`allclear resume --reason ...` ends it"),
        HoldCause::Operator => warn(what, format!("`allclear release {} --reason ...` ends it", hold.id)),
        HoldCause::Surge => warn(what, "see `allclear surge`; `allclear surge release` ends it"),
    }
}

fn paused(pause: &Pause) -> Finding {
    let what = format!(
        "stream {} is paused since {}: the relay refuses us ({}): {}",
        pause.stream, pause.since, pause.kind, pause.words
    );
    let then = format!("{}; then `allclear streams resume {} --reason ...`", hint(pause.kind), pause.stream);
    fail(what, then)
}

fn unreached(away: &Unreached) -> Finding {
    let what = format!("node {} cannot reach relay {} since {}: {}", away.node, away.relay, away.since, away.words);
    fail(what, "look at the relay, and at the network between it and that node; mails wait, and nothing is lost")
}

fn durable(server: &Server) -> Vec<Finding> {
    let refusals = server.refusals();
    let mut found: Vec<Finding> = refusals.iter().map(broken).collect();
    if refusals.is_empty() {
        found.push(ok(format!(
            "keeps what it commits: fsync on, full_page_writes on, synchronous_commit {}; takes writes",
            server.synchronous_commit
        )));
    }
    if (1..TESTED).contains(&server.version_number) && refusals.is_empty() {
        found.push(warn(format!("PostgreSQL {} is not tested", server.version), "use version 15 or newer"));
    }
    if server.autovacuum != "on" {
        let what = "autovacuum is off: the queue grows slower with every mail";
        found.push(warn(what, "set autovacuum = on in postgresql.conf and reload the server"));
    }
    found
}

fn journal(settings: &[(&'static str, String)]) -> Finding {
    let of = |name| settings.iter().find(|(n, _)| *n == name).map_or("", |(_, value)| value.as_str());
    match of("journal_mode") {
        // The second is set by each connection, as here: 2 is FULL.
        "wal" if of("synchronous") == "2" => ok("keeps what it commits: journal_mode wal, synchronous full"),
        mode => warn(
            format!("journal_mode is {mode}, synchronous is {}", of("synchronous")),
            "`allclear serve` sets what it needs (wal, full) when it starts; stop what sets it otherwise",
        ),
    }
}

fn migrations(found: &Migrations) -> Vec<Finding> {
    let list = |versions: &[i64]| versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut findings = Vec::new();
    if !found.unknown.is_empty() {
        findings.push(fail(
            format!("a newer allclear has changed the schema (migration {})", list(&found.unknown)),
            "use that version, or a database of its own",
        ));
    }
    if !found.changed.is_empty() {
        findings.push(fail(
            format!("migration {} is not the one this program would apply", list(&found.changed)),
            "another build of allclear made it, or somebody changed it by hand: use that build, or restore a backup",
        ));
    }
    if !found.pending.is_empty() {
        findings.push(warn(
            format!("not applied yet: migration {}", list(&found.pending)),
            "`allclear migrate`, or the next start of `allclear serve`, applies it",
        ));
    }
    if findings.is_empty() {
        findings.push(ok(format!("the schema is up to date (migrations: {})", found.applied)));
    }
    findings
}

fn indexes(found: &Indexes) -> Vec<Finding> {
    let missing = found.missing.iter().map(|(name, sql)| {
        fail(
            format!("the index {name} is missing: mail becomes slow, or is sent twice"),
            format!("make it again: {sql}"),
        )
    });
    let invalid = found.invalid.iter().map(|name| {
        fail(
            format!("the index {name} is there and not valid"),
            format!("rebuild it: REINDEX INDEX CONCURRENTLY {name}"),
        )
    });
    let mut findings: Vec<Finding> = missing.chain(invalid).collect();
    if findings.is_empty() {
        findings.push(ok(format!("all {} indexes are there", found.present)));
    }
    findings
}

fn seats(most: i64, free: i64, wanted: i64) -> Finding {
    // Superusers have seats of their own, and count as any other.
    let free = free.max(0);
    let hint = "lower database.connections, or raise max_connections of the server";
    match () {
        () if most < wanted => {
            fail(format!("the server gives {most} connections, and database.connections is {wanted}"), hint)
        }
        () if free < wanted => {
            let what =
                format!("{free} of the server's {most} connections are free, and database.connections is {wanted}");
            warn(what, format!("if `allclear serve` is not running now: {hint}"))
        }
        () => ok(format!("{free} of {most} connections are free; at most {wanted} will be used")),
    }
}

fn queue(oldest_due_seconds: Option<i64>, parked: i64) -> Vec<Finding> {
    let mut found = vec![match oldest_due_seconds.unwrap_or(0) {
        0..=900 => ok("no mail that could leave is late"),
        late => warn(
            format!("the oldest mail that could leave has been due for {} min", late / 60),
            "is `allclear serve` running, and does the relay take mail? its log names what stands in the way",
        ),
    }];
    if parked > 0 {
        found.push(warn(
            format!("mails that wait for a person (parked): {parked}"),
            "they are too old or could not be sent; `allclear show` of the customer or incident says why",
        ));
    }
    found
}

fn clock(ahead: Span) -> Finding {
    let by = format!("{:.3} s", std::time::Duration::from_micros(ahead.0.unsigned_abs()).as_secs_f64());
    let side = if ahead.0 < 0 { "behind" } else { "ahead of" };
    let what = format!("the database's clock is {by} {side} this machine's");
    let hint = "let NTP set the clocks of both: times in mails and in the queue are the database's";
    match ahead.0.abs() {
        0..=1_000_000 => ok(what),
        1_000_001..=60_000_000 => warn(what, hint),
        _ => fail(what, hint),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn clocks_apart_are_a_warning_and_then_a_failure() {
        for (micros, level) in [(400_000, Level::Ok), (-2_000_000, Level::Warn), (61_000_000, Level::Fail)] {
            assert_eq!(clock(Span(micros)).level, level);
        }
        assert!(clock(Span(-2_000_000)).what.contains("2.000 s behind"));
    }

    #[test]
    fn too_few_connections_are_told_from_few_free_ones() {
        assert_eq!(seats(97, 80, 12).level, Level::Ok);
        assert_eq!(seats(97, 3, 12).level, Level::Warn);
        assert_eq!(seats(10, 10, 12).level, Level::Fail);
        assert!(seats(27, -2, 12).what.starts_with("0 of the server's 27 connections are free"));
    }

    #[test]
    fn a_mail_that_is_late_and_one_that_waits_for_a_person_are_shown() {
        let late = |seconds| queue(Some(seconds), 0)[0].level;
        assert_eq!((late(60), late(1_000)), (Level::Ok, Level::Warn));
        let parked = queue(None, 2);
        assert_eq!((parked.len(), parked[1].level), (2, Level::Warn));
    }
}
