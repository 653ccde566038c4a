//! What `serve` refuses at start on SQLite and with relays: a sentence, what to change, and the exit code.

use crate::shell::Shell;

const LISTEN: &str = "[http]\nlisten = \"127.0.0.1:0\"\n";

#[test]
fn a_file_that_is_no_database_and_one_that_is_no_file_are_refused() {
    let shell = Shell::on_database("sqlite:allclear.db");
    std::fs::write(shell.path("allclear.db"), "Dear diary, ".repeat(1_000)).unwrap();
    shell.run(&["serve"]).refused(1, "the SQLite file allclear.db cannot be opened", "no SQLite database");
    shell.run(&["doctor"]).found("fail", "file is not a database", "no SQLite database");
    let shell = Shell::on_database("sqlite::memory:");
    shell.run(&["serve"]).refused(1, "journal_mode is memory", "a file on a local disk");
    for url in ["sqlite::memory:", "sqlite://", "sqlite://none.db?mode=memory"] {
        let done = Shell::on_database(url).run(&["doctor"]);
        done.found("fail", "SQLite cannot keep a write-ahead log here", "a file on a local disk");
    }
    let shell = Shell::on_database("sqlite://allclear.db?mode=rwc");
    shell.run(&["doctor"]).found("warn", "not there yet", "allclear migrate");
    assert!(!shell.path("allclear.db").exists(), "looking makes nothing");
}

#[test]
fn the_database_of_another_program_is_refused_and_left_as_it_is() {
    let shell = Shell::on_database("sqlite:allclear.db");
    std::fs::write(shell.path("allclear.db"), "").unwrap();
    shell.run(&["doctor"]).found("warn", "not applied yet", "allclear migrate");
    sql(&shell, "CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT)");
    let before = std::fs::read(shell.path("allclear.db")).unwrap();
    shell.run(&["doctor"]).found("fail", "the database of another program: it has a table `orders`", "database.url");
    for command in ["migrate", "serve"] {
        shell.run(&[command]).refused(1, "the database of another program: it has a table `orders`", "database.url");
    }
    assert_eq!(std::fs::read(shell.path("allclear.db")).unwrap(), before);
}

#[test]
fn an_address_of_another_host_cannot_be_listened_on() {
    // 192.0.2.1 is reserved for documentation.
    let shell = Shell::new("[http]\nlisten = \"192.0.2.1:8025\"\n");
    shell.run(&["serve"]).refused(1, "cannot listen on 192.0.2.1:8025", "http.listen");
    shell.run(&["doctor"]).found("fail", "cannot listen on 192.0.2.1:8025", "http.listen");
}

#[test]
fn a_file_has_one_dispatching_process_and_doctor_works_beside_it() {
    let shell = Shell::on_database("sqlite:allclear.db");
    let _serving = shell.serving();
    shell.run(&["serve"]).refused(1, "another process dispatches from allclear.db", "one dispatching process");
    shell.run(&["doctor"]).well();
}

#[test]
fn a_database_of_a_newer_program_is_refused() {
    let shell = Shell::on_database("sqlite:allclear.db");
    assert_eq!(shell.run(&["migrate"]).code, 0);
    sql(
        &shell,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'x', TRUE, x'00', 1)",
    );
    shell.run(&["serve"]).refused(1, "migration 9999", "a newer allclear");
    shell.run(&["doctor"]).found("fail", "(migration 9999)", "use that version");
}

/// Runs a statement on the shell's SQLite file.
pub fn sql(shell: &Shell, sql: &'static str) {
    use sqlx::Connection;
    let url = format!("sqlite://{}", shell.path("allclear.db").display());
    let run = async {
        let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run);
}

#[cfg(unix)]
#[test]
fn a_folder_that_may_not_be_written_is_refused() {
    use crate::cluster::{unprivileged, unprivileged_folder};
    use crate::shell::Done;
    use std::os::unix::fs::PermissionsExt;
    let folder = unprivileged_folder();
    // The program lies where an unprivileged user may not reach it, so it is copied.
    let program = folder.path().join("allclear");
    std::fs::copy(crate::shell::BINARY, &program).unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
    let run = |command: &str| Done::of(unprivileged(&program, folder.path()).arg(command).env_remove("ALLCLEAR_LOG"));
    run("serve").refused(1, "the SQLite file allclear.db cannot be opened", "may write");
    run("doctor").found("fail", "the folder . (the database, the spill file, mails) cannot be written", "write it");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs a script where it may mount; nothing where this machine does not allow that, and then the test says so.
#[cfg(target_os = "linux")]
fn with_mounts(folder: &std::path::Path, script: &str) -> Option<crate::shell::Done> {
    use crate::shell::{Done, program};
    let unshared =
        |script: &str| Done::of(program(folder, "unshare").args(["--map-root-user", "--mount", "sh", "-c", script]));
    if unshared("true").code != 0 {
        println!("not checked: this machine allows no mount namespaces");
        return None;
    }
    Some(unshared(script))
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let program = crate::shell::BINARY;
    let on_small = |script: &str| {
        let mount = "mkdir -p small && mount -t tmpfs -o size=128k none small && cd small";
        with_mounts(folder.path(), &format!("{mount} && {script}"))
    };
    let Some(served) = on_small(&format!("exec {program} serve")) else { return };
    served.refused(75, "database or disk is full", "free some space");
    let full = format!("dd if=/dev/zero of=fill bs=1k count=128 2>/dev/null; exec {program} doctor");
    on_small(&full).unwrap().found("fail", "cannot be written: No space left", "give it space");
}

#[cfg(target_os = "linux")]
#[test]
fn a_database_on_a_network_file_system_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    // No server to mount from is needed: the program reads of its mounts in a file, and here it is another one.
    std::fs::write(folder.path().join("mounts"), "1 0 0:1 / / rw - nfs4 server:/export rw\n").unwrap();
    let run = |command: &str| {
        let mounted = "mount --bind mounts /proc/$$/mountinfo";
        with_mounts(folder.path(), &format!("{mounted} && exec {} {command}", crate::shell::BINARY))
    };
    let Some(served) = run("serve") else { return };
    served.refused(1, "allclear.db lies on a network file system (nfs4 at /)", "local disk");
    std::fs::write(folder.path().join("allclear.db"), "").unwrap();
    run("doctor").unwrap().found("fail", "allclear.db lies on a network file system (nfs4 at /)", "local disk");
}

#[test]
fn plaintext_beyond_this_machine_is_refused_before_anything_is_served() {
    let relay = |host: &str| {
        Shell::new(&format!("{LISTEN}[relays.main]\ntransport = \"smtp\"\nhost = \"{host}\"\ntls = \"none\"\n"))
    };
    // 192.0.2.1 is reserved for documentation; as one number it is a host to be resolved, without any name service.
    let rule = "mail goes without TLS only to this machine";
    relay("192.0.2.1").run(&["serve"]).refused(2, rule, "starttls");
    relay("3221225985").run(&["serve"]).refused(1, rule, "starttls");
    relay("3221225985").run(&["doctor"]).found("fail", rule, "starttls");
}

#[test]
fn a_relay_that_cannot_be_found_yet_does_not_keep_the_api_down() {
    let shell = Shell::new(&format!(
        "{LISTEN}[relays.main]\ntransport = \"smtp\"\nhost = \"relay.invalid\"\ntls = \"none\"\nconnect_seconds = 1\n"
    ));
    drop(shell.serving());
    shell.run(&["doctor"]).found("fail", "relay main: no session with relay.invalid:25: resolve", "DNS");
}
