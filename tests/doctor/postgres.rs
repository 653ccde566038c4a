//! PostgreSQL as no server should be set, and behind PgBouncer in each of its modes.

use crate::cluster::{Cluster, Pooler};
use crate::shell::Shell;

#[tokio::test]
async fn a_server_that_forgets_or_takes_no_writes_is_refused() {
    let cluster = Cluster::start();
    let shell = Shell::on_database(&cluster.url());
    assert_eq!(shell.run(&["migrate"]).code, 0);
    shell.run(&["doctor"]).well();
    let read_only = "PostgreSQL takes no writes here: default_transaction_read_only = on";
    for (name, value, code, sentence) in [
        ("fsync", "off", 1, "PostgreSQL runs with fsync = off"),
        ("full_page_writes", "off", 1, "PostgreSQL runs with full_page_writes = off"),
        ("default_transaction_read_only", "on", 75, read_only),
    ] {
        cluster.set(name, Some(value)).await;
        shell.run(&["serve"]).refused(code, sentence, "set ");
        shell.run(&["doctor"]).found("fail", sentence, "set ");
        cluster.set(name, None).await;
    }
    // This one is each session's own to set, and ours does.
    cluster.set("synchronous_commit", Some("off")).await;
    shell.run(&["doctor"]).found("ok", "synchronous_commit on", "");
    cluster.set("synchronous_commit", Some("remote_apply")).await;
    shell.run(&["doctor"]).found("ok", "synchronous_commit remote_apply", "");
    cluster.set("autovacuum", Some("off")).await;
    shell.run(&["doctor"]).found("warn", "autovacuum is off", "autovacuum = on");

    cluster.set("autovacuum", None).await;

    cluster.run("CREATE ROLE weak LOGIN; CREATE DATABASE other").await;
    let weak = Shell::on_database(&cluster.url().replace("allclear@", "weak@").replace("/postgres", "/other"));
    weak.run(&["serve"]).refused(1, "permission denied for schema public", "GRANT CREATE");
    weak.run(&["doctor"]).found("fail", "may not create tables", "GRANT CREATE");
    cluster.run("CREATE DATABASE theirs").await;
    let theirs = cluster.url().replace("/postgres", "/theirs");
    let mut conn = <sqlx::PgConnection as sqlx::Connection>::connect(&theirs).await.unwrap();
    sqlx::raw_sql("CREATE TABLE orders (id int)").execute(&mut conn).await.unwrap();
    let theirs = Shell::on_database(&theirs);
    for command in ["serve", "migrate"] {
        theirs.run(&[command]).refused(1, "the database of another program: it has a table `orders`", "database.url");
    }
    theirs.run(&["doctor"]).found("fail", "the database of another program: it has a table `orders`", "database.url");
    let none = Shell::on_database(&cluster.url().replace("/postgres", "/none"));
    none.run(&["serve"]).refused(1, "database \"none\" does not exist", "createdb");
    none.run(&["doctor"]).found("fail", "database \"none\" does not exist", "createdb");

    cluster.become_standby();
    shell.run(&["serve"]).refused(75, "PostgreSQL is a standby here", "primary");
    shell.run(&["doctor"]).found("fail", "PostgreSQL is a standby here", "primary");
}

#[test]
fn a_name_dispatches_once_and_doctor_works_beside_it() {
    let url = tokio::runtime::Runtime::new().unwrap().block_on(crate::support::postgres_schema());
    let config = |node: &str| {
        format!("[database]\nurl = \"{url}\"\n[http]\nlisten = \"127.0.0.1:0\"\n[dispatch]\nnode = \"{node}\"\n")
    };
    let (one, two) = (Shell::new(&config("a")), Shell::new(&config("b")));
    let _first = one.serving();
    one.run(&["serve"]).refused(1, "another process dispatches as node `a`", "a `dispatch.node` of its own");
    let _second = two.serving();
    one.run(&["doctor"]).well();
}

#[test]
fn a_pooler_may_hand_out_sessions_and_nothing_smaller() {
    let cluster = Cluster::start();
    for lines in [
        "pool_mode = transaction",
        "pool_mode = transaction\nserver_round_robin = 1\nmin_pool_size = 3",
        "pool_mode = transaction\ndefault_pool_size = 1",
        "pool_mode = statement",
    ] {
        let pooler = Pooler::start(&cluster, lines);
        let shell = Shell::on_database(&pooler.url());
        let sentence = "behind a pooler in transaction or statement mode";
        // More than once: a pool that has been used holds more servers than a fresh one.
        for _ in 0..3 {
            shell.run(&["serve"]).refused(1, sentence, "pool_mode = session");
        }
        shell.run(&["doctor"]).found("fail", sentence, "pool_mode = session");
    }
    let pooler = Pooler::start(&cluster, "pool_mode = session");
    let shell = Shell::on_database(&pooler.url());
    let migrated = shell.run(&["migrate"]);
    assert_eq!(migrated.code, 0, "{}", migrated.err);
    shell.run(&["doctor"]).well();
}
