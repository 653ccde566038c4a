//! The report of `doctor`: a healthy set-up is well, and each broken thing is found with what to do about it.

use crate::on_both;
use crate::shell::{Done, Shell};
use crate::support::{self, On, World};
use allclear::config::{Secret, Webhook};
use allclear::domain::reply::ReplyKind;
use allclear::flow::surge::{self, Asked};
use allclear::mail::sink::{Act, Answer, Phase, Script, Sink};
use allclear::store::Clock;
use allclear::store::open::system_time;
use allclear::store::streams::{self, Refusal};
use sqlx::{Connection, PgConnection, SqliteConnection};

on_both! {
    a_healthy_set_up_is_well;
    a_lost_index_comes_with_the_statement_that_makes_it_again;
    migrations_pending_changed_and_unknown_are_told_apart;
    what_is_held_on_purpose_is_named_and_is_not_late;
    operators_who_are_told_in_vain_are_named;
    a_relay_that_refuses_most_mails_is_named_with_its_words;
}

/// A production-like configuration on a database and a relay.
fn config(url: &str, sink: &Sink) -> String {
    format!(
        "[database]\nurl = \"{url}\"\nconnections = 2\n[page]\npublic_url = \"https://status.example\"\n\
         [relays.main]\ntransport = \"smtp\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\n\
         [streams.account]\nfrom = \"Acme <care@acme.example>\"\n[streams.incidents]\nfrom = \"status@acme.example\"\n\
         [operators]\naddress = \"oncall@acme.example\"\n",
        sink.port()
    )
}

async fn sink(script: Script) -> Sink {
    Sink::start(script).await.unwrap()
}

/// The sink answers on this runtime, so the program is waited for beside it.
async fn doctor(shell: &Shell, args: &[&str]) -> Done {
    let mut command = shell.command();
    command.arg("doctor").args(args);
    tokio::task::spawn_blocking(move || Done::of(&mut command)).await.unwrap()
}

async fn sql(on: On, url: &str, sql: &str) {
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    match on {
        On::Sqlite => {
            let mut conn = SqliteConnection::connect(url).await.unwrap();
            sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
            conn.close().await.unwrap();
        }
        On::Postgres => {
            let mut conn = PgConnection::connect(url).await.unwrap();
            sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
        }
    }
}

async fn a_healthy_set_up_is_well(on: On) {
    let (_store, _folder, url) = support::store(on, Clock::Database).await;
    let sink = sink(Script::default()).await;
    let shell = Shell::new(&config(&url, &sink));
    let done = doctor(&shell, &[]).await;
    done.well();
    done.found("ok", "stream account: action_required, correction from \"Acme\" <care@acme.example>", "");
    done.found("ok", "the schema is up to date", "");
    done.found("ok", "offers PIPELINING, 8BITMIME, SMTPUTF8", "");
    assert_eq!((sink.sessions(), sink.count()), (1, 0), "one look at the relay, no mail");
    let json: serde_json::Value = serde_json::from_str(&doctor(&shell, &["--json"]).await.out).unwrap();
    assert_eq!(json["worst"], "ok");
    let names: Vec<_> = json["sections"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["configuration", "database", "time", "templates", "relays", "disk"]);
    assert_eq!(json["sections"][1]["findings"][0]["level"], "ok");
}

async fn a_lost_index_comes_with_the_statement_that_makes_it_again(on: On) {
    let (_store, _folder, url) = support::store(on, Clock::Database).await;
    let shell = Shell::on_database(&url);
    sql(on, &url, "DROP INDEX delivery_busy").await;
    let done = doctor(&shell, &[]).await;
    done.found("fail", "the index delivery_busy is missing", "make it again: CREATE UNIQUE INDEX delivery_busy");
    let statement = done.out.split_once("make it again: ").unwrap().1.lines().next().unwrap();
    sql(on, &url, statement).await;
    doctor(&shell, &[]).await.well();
    if on == On::Postgres {
        sql(on, &url, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'delivery_due'::regclass").await;
        doctor(&shell, &[]).await.found("fail", "delivery_due is there and not valid", "REINDEX INDEX CONCURRENTLY");
    }
}

async fn migrations_pending_changed_and_unknown_are_told_apart(on: On) {
    let (_store, _folder, url) = support::store(on, Clock::Database).await;
    let shell = Shell::on_database(&url);
    let zero = if on == On::Sqlite { "x'00'" } else { "'\\x00'" };
    sql(on, &url, &format!("UPDATE _sqlx_migrations SET checksum = {zero} WHERE version = 1")).await;
    doctor(&shell, &[]).await.found("fail", "migration 1 is not the one", "restore a backup");
    sql(on, &url, "UPDATE _sqlx_migrations SET version = 9999 WHERE version = 1").await;
    let done = doctor(&shell, &[]).await;
    done.found("fail", "a newer allclear has changed the schema (migration 9999)", "use that version");
    done.found("warn", "not applied yet: migration 1", "allclear migrate");
}

async fn a_relay_that_refuses_most_mails_is_named_with_its_words(on: On) {
    let script = Script::default().always(Answer::reply(Phase::Rcpt, "550 Administrative prohibition"));
    // The program looks back from today.
    let mut w = World::with(on, &system_time().to_string(), script, |_| {}).await;
    let keys: Vec<_> = (0..12).map(|n| format!("p{n}")).collect();
    for key in &keys {
        w.subscriber(key).await;
    }
    w.notice(serde_json::json!({"kind": "free", "subject": "News", "body": "Something.", "recipients": keys})).await;
    w.settle().await;
    doctor(&Shell::on_database(&w.url), &[]).await.found(
        "fail",
        "the relays refuse 2.4 mails a minute, and take 0.0: 550 Administrative prohibition",
        "allclear resend --state failed",
    );
}

async fn what_is_held_on_purpose_is_named_and_is_not_late(on: On) {
    let mut w = World::new(on, "2025-06-02T08:00:00Z").await;
    w.component("imap", "IMAP").await;
    w.subscriber("ann").await;
    w.connection("inbox", "imap", "ann").await;
    w.broken("inbox").await;
    w.pass(1).await;
    assert_eq!(w.deliveries().await, ["action_required queued dwell"]);
    let shell = Shell::on_database(&w.url);
    // The program's clock is today's.
    let late = "the oldest mail that could leave has been due for";
    doctor(&shell, &[]).await.found("warn", late, "is `allclear serve` running");
    for (act, end, what, hint) in [
        ("hold --component=imap", "release --component=imap", "mail about imap is held since 2", "release hld_"),
        (
            "hold --class=action_required",
            "release --class=action_required",
            "mail of class action_required",
            "release hld_",
        ),
        ("hold --everything", "release --everything", "all mail but corrections is held since 2", "release hld_"),
        ("stop", "resume", "all mail is stopped since 2", "allclear resume"),
    ] {
        let run = |line: &str| {
            let args: Vec<_> = line.split(' ').chain(["--reason=outage"]).collect();
            assert_eq!(shell.run(&args).code, 0, "{line}");
        };
        run(act);
        let done = doctor(&shell, &[]).await;
        done.found("warn", what, hint);
        done.found("warn", ": outage", "");
        done.found("ok", "no mail that could leave is late", "");
        run(end);
        doctor(&shell, &[]).await.found("warn", late, "");
    }
    // A hold on other mail excuses nothing; nor, after the longest hold, that its component is down.
    assert_eq!(shell.run(&["hold", "--class=free", "--reason=outage"]).code, 0);
    w.down("imap").await;
    doctor(&shell, &[]).await.found("warn", late, "");
}

async fn operators_who_are_told_in_vain_are_named(on: On) {
    let url = "http://127.0.0.1:1/hook";
    let mut w = World::with(on, "2025-06-02T08:00:00Z", Script::default(), |s| {
        s.operators.webhook = Some(Webhook { url: url.to_owned(), secret: Secret::new("s3cret") });
    })
    .await;
    let database = format!("[database]\nurl = \"{}\"\nconnections = 2\n[http]\nlisten = \"127.0.0.1:0\"\n", w.url);
    let operators = format!(
        "[operators]\naddress = \"oncall@acme.example\"\nwebhook_url = \"{url}\"\nwebhook_secret_file = \"secret\"\n"
    );
    let shell = Shell::new(&(database + &operators));
    std::fs::write(shell.path("secret"), "s3cret").unwrap();
    doctor(&shell, &[]).await.found("ok", "operators are told of surges: oncall@acme.example, by the webhook", "");
    w.component("imap", "IMAP").await;
    let why = Asked { who: "jo", reason: "their page is red" };
    surge::hold(&w.store, &w.shared.setting, "imap", None, why).await.unwrap();
    w.settle().await;
    w.execute(
        "INSERT INTO suppression (address, class, reason, evidence, created_at, created_by)
         VALUES ('OnCall@acme.example', 'free', 'address_dead', '550 5.1.1 no such user', 1, 'x')",
    )
    .await;
    // Whatever else is wrong.
    let refusal = Refusal { stream: "gone", kind: ReplyKind::OurReputation, words: "550 no", delivery: None };
    let mut tx = w.store.begin().await.unwrap();
    assert!(streams::pause(&mut tx, refusal, w.now(), "x").await.unwrap());
    tx.commit().await.unwrap();
    let done = doctor(&shell, &[]).await;
    done.found("fail", "stream gone is paused", "streams resume gone");
    done.found("warn", "nobody is asked to reconnect through imap since 2", "surge release");
    done.found(
        "fail",
        "operators get no mail: oncall@acme.example is suppressed since 1970-01-01",
        "`allclear suppressions lift oncall@acme.example --reason ...`",
    );
    done.found("fail", "550 5.1.1 no such user", "");
    done.found("warn", "the operators' webhook has not taken a post of 2025-06-02T08:00:00Z (tries: 1): ", "no 2xx");
    let lift = ["suppressions", "lift", "oncall@acme.example", "--reason=it works again"];
    assert_eq!(shell.run(&lift).code, 0);
    // No mail of a stream that is configured no more finds out.
    let resumed = shell.run(&["streams", "resume", "gone", "--reason=renamed"]);
    assert!(resumed.code == 0 && resumed.out.contains("its pause is over"), "{}{}", resumed.out, resumed.err);
    assert_eq!(doctor(&shell, &[]).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_down_or_wants_another_login_is_named_without_its_password() {
    let login = Some(("acme".to_owned(), "right".to_owned()));
    let sink = sink(Script { login, ..Script::default() }).await;
    let shell = Shell::new(&config("sqlite:allclear.db", &sink));
    assert_eq!(shell.run(&["migrate"]).code, 0);
    doctor(&shell, &[]).await.found("warn", "offers a login (AUTH", "relays.main.user");
    std::fs::write(shell.path("secret"), "hunter2").unwrap();
    let text = config("sqlite:allclear.db", &sink)
        .replace("tls = \"none\"", "tls = \"none\"\nuser = \"acme\"\npassword_file = \"secret\"");
    std::fs::write(shell.path("allclear.toml"), text).unwrap();
    let done = doctor(&shell, &[]).await;
    done.found("fail", "relay main: no session with 127.0.0.1", "check user and password");
    assert!(!done.out.contains("hunter2") && !done.err.contains("hunter2"), "{}{}", done.out, done.err);
    std::fs::write(shell.path("secret"), "right").unwrap();
    doctor(&shell, &[]).await.found("ok", "logged in as acme", "");
    sink.set_down(true);
    doctor(&shell, &[]).await.found("fail", "relay main: no session with 127.0.0.1", "check");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_mail_goes_through_every_stream_and_the_relays_words_are_shown() {
    let refuse = |phase, envelope: &allclear::mail::sink::Envelope, _| {
        (phase == Phase::Rcpt && envelope.to.starts_with("nobody"))
            .then(|| Answer { at: phase, act: Act::Reply("550 5.1.1 no such user".to_owned()) })
    };
    let sink = sink(Script::default().answering(refuse)).await;
    let shell = Shell::new(&config("sqlite:allclear.db", &sink));
    assert_eq!(shell.run(&["migrate"]).code, 0);
    let done = doctor(&shell, &["--send-test", "me@example.net"]).await;
    done.well();
    done.found("ok", "stream account: the test mail to me@example.net: taken: 250", "");
    let mails = sink.mails();
    assert_eq!(mails.len(), 2);
    assert!(mails.iter().all(|mail| mail.to == "me@example.net" && mail.subject.starts_with("[Test] ")), "{mails:?}");
    let done = doctor(&shell, &["--send-test", "nobody@example.net"]).await;
    done.found(
        "fail",
        "stream incidents: the test mail to nobody@example.net: refused: 550 5.1.1 no such user",
        "says why",
    );
    assert_eq!(doctor(&shell, &["--send-test", "nobody"]).await.code, 2);
    let sessions = sink.sessions();
    doctor(&shell, &["--offline"]).await.found("skip", "relay main: not asked", "");
    assert_eq!(sink.sessions(), sessions);
}

#[test]
fn a_broken_configuration_is_the_first_finding_and_not_the_last() {
    let shell = Shell::new("[http]\nport = 80\n");
    let done = shell.run(&["doctor"]);
    done.found("fail", "`http.port` in allclear.toml: this key is not known", "Known here: listen");
    done.found("ok", "the built-in set", "");
    done.found("skip", "not looked at", "");
}

#[test]
fn what_cannot_be_reached_or_is_not_there_yet_is_named() {
    Shell::on_database("postgres://nobody:hunter2@127.0.0.1:1/none").run(&["doctor"]).found(
        "fail",
        "PostgreSQL at 127.0.0.1:1 cannot be reached",
        "check database.url",
    );
    let shell = Shell::on_database("sqlite:allclear.db");
    shell.run(&["doctor"]).found("warn", "not there yet", "allclear migrate");
    assert!(!shell.path("allclear.db").exists(), "looking makes nothing");
}

#[test]
fn settings_that_production_does_not_want_are_warnings() {
    let shell = Shell::new(
        "[http]\nlisten = \"0.0.0.0:8025\"\n[database]\nurl_file = \"url\"\n[dispatch]\nspill_file = \"spill\"\n\
         [relays.main]\ntransport = \"smtp\"\nhost = \"127.0.0.1\"\ntls = \"none\"\n",
    );
    std::fs::write(shell.path("url"), "sqlite:allclear.db").unwrap();
    std::fs::write(shell.path("spill"), "{}\n").unwrap();
    assert_eq!(shell.run(&["migrate"]).code, 0);
    let done = shell.run(&["doctor", "--offline"]);
    assert_eq!(done.code, 0, "{}", done.out);
    done.found("warn", "nobody is told of surges", "operators.webhook_url with operators.webhook_secret_file");
    done.found("warn", "HTTP on 0.0.0.0:8025, without TLS", "127.0.0.1");
    done.found("warn", "each reader's own machine", "page.public_url");
    done.found("warn", "<status@localhost>", "set streams.account.from");
    done.found("warn", "spill holds what became of mails", "do not delete it");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(shell.path("url"), std::fs::Permissions::from_mode(0o604)).unwrap();
        let done = shell.run(&["doctor", "--offline"]);
        done.found("warn", "every user of this machine can read the secret in", "chmod o-rwx");
        std::fs::set_permissions(shell.path("url"), std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(!shell.run(&["doctor", "--offline"]).out.contains("every user of this machine"));
    }
}

#[test]
fn a_spill_folder_that_is_not_there_is_a_failure() {
    let shell = Shell::new("[dispatch]\nspill_file = \"nowhere/spill\"\n");
    shell.run(&["doctor"]).found("fail", "nowhere (the spill file) cannot be written", "make it");
}
