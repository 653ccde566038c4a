//! The CLI, run as a stranger runs it: exit codes, words on standard error, data on standard output.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

struct Shell(tempfile::TempDir);

struct Done {
    code: i32,
    out: String,
    err: String,
}

impl Done {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {} {}", self.out, self.err))
    }
}

impl Shell {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn furnished() -> Self {
        let shell = Self::new();
        for line in [
            "put component imap --name Mail",
            "put subscriber jo --address jo@example.com --zone Europe/Vienna --locale de-AT --attribute plan=pro",
            "put connection inbox-1 --component imap --name jo@example.com --subscriber jo",
            "put subscription --subscriber jo --component imap",
        ] {
            let done = shell.run(line);
            assert_eq!((done.code, done.err.as_str()), (0, ""), "{line}");
        }
        shell
    }

    fn run(&self, line: &str) -> Done {
        self.feed(line, "")
    }

    fn feed(&self, line: &str, input: &str) -> Done {
        let database = format!("sqlite://{}", self.0.path().join("cli.db").display());
        self.with_database(Some(&database), line, input)
    }

    /// In the line `_` stands for a space inside a word, and `~` for `_`.
    fn with_database(&self, database: Option<&str>, line: &str, input: &str) -> Done {
        let mut command = Command::new(env!("CARGO_BIN_EXE_allclear"));
        command.env_clear().env("USER", "tester").current_dir(self.0.path());
        command.envs(database.map(|url| ("ALLCLEAR_DATABASE__URL", url)));
        command.args(line.split_whitespace().map(|word| word.replace('_', " ").replace("~", "_")));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that refuses its flags does not read its input.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let done = child.wait_with_output().unwrap();
        Done {
            code: done.status.code().unwrap(),
            out: String::from_utf8(done.stdout).unwrap(),
            err: String::from_utf8(done.stderr).unwrap(),
        }
    }
}

#[test]
fn without_a_command_the_help_leads_with_examples() {
    let done = Shell::new().run("");
    assert_eq!(done.code, 0, "{}", done.err);
    let (examples, usage) = (done.out.find("Examples:").unwrap(), done.out.find("Usage:").unwrap());
    assert!(examples < usage, "{}", done.out);
    assert!(done.out.contains("Exit codes:"));
}

#[test]
fn templates_are_checked_exported_and_previewed() {
    let shell = Shell::new();
    let fine = shell.run("templates check");
    assert_eq!((fine.code, fine.out.as_str(), fine.err.as_str()), (0, "all 29 templates are fine\n", ""));
    assert_eq!(shell.run("templates export mine").code, 0);
    let again = shell.run("templates export mine");
    assert!(again.code == 4 && again.err.contains("nothing was written"), "{}", again.err);
    assert_eq!(shell.run("templates check --folder mine").code, 0);

    let subject = shell.0.path().join("mine/mail/free/subject.txt.hbs");
    std::fs::write(&subject, "About {{subject}}\n").unwrap();
    let listed = shell.run("templates list --folder mine --json").json();
    let of = |name: &str| listed.as_array().unwrap().iter().find(|t| t["name"] == name).unwrap()["from"].clone();
    assert_eq!((of("mail/free/subject.txt"), of("mail/free/body.txt")), (json!("overridden"), json!("built-in")));
    let shown = shell.run("templates preview --to out --folder mine --kind free");
    assert_eq!(shown.code, 0, "{}", shown.err);
    let read = |file: &str| std::fs::read_to_string(shell.0.path().join("out").join(file)).unwrap();
    assert!(read("free-1.eml").contains("\r\nSubject: About About the mails you got on Saturday\r\n"));
    assert!(read("index.html").contains("src=\"free-2.html\"") && read("free-2.html").starts_with("<!DOCTYPE html>"));
    std::fs::write(shell.0.path().join("out/index.html"), "mine").unwrap();
    let kept = shell.run("templates preview --to out");
    assert_eq!((kept.code, read("index.html").as_str()), (4, "mine"));

    std::fs::write(&subject, "{{subjekt}}").unwrap();
    for (command, code) in [
        ("templates check --folder mine", 6),
        ("templates preview --to out2 --folder mine", 6),
        ("serve --config c.toml", 1),
    ] {
        std::fs::write(shell.0.path().join("c.toml"), "[templates]\nfolder = \"mine\"\n").unwrap();
        let done = shell.run(command);
        assert_eq!(done.code, code, "{command}: {}", done.err);
        let said = done.out + &done.err;
        assert!(
            said.contains("mail/free/subject.txt.hbs:1:1: `subjekt`") && said.contains("hint: the names here are"),
            "{said}"
        );
    }
    assert!(!shell.0.path().join("out2").exists());
    assert_eq!(shell.run("migrate").code, 0);
    assert_eq!(shell.run("templates export x --set 00").code, 3);
}

#[test]
fn a_first_mail_can_be_set_up_and_looked_at() {
    let shell = Shell::furnished();
    let failed = shell.run("signal --connection inbox-1 --what failed --fault permanent --json");
    assert_eq!((failed.code, failed.json()["outcome"].clone()), (0, json!("waiting")), "{}", failed.err);
    let notice = json!({"kind": "free", "subject": "Hello", "body": "News.", "recipients": ["jo"]}).to_string();
    let enqueued = shell.feed("enqueue --idempotency-key k1 --json", &notice);
    assert_eq!((enqueued.code, enqueued.json()["outcome"].clone()), (0, json!("planned")), "{}", enqueued.err);
    let again = shell.feed("enqueue --idempotency-key k1 --json", &notice);
    assert_eq!((again.code, again.json()["replayed"].clone()), (0, json!(true)));
    assert_eq!(again.json()["id"], enqueued.json()["id"]);
    let other = shell.feed("enqueue --idempotency-key k1", &notice.replace("News", "Other"));
    assert_eq!(other.code, 4);
    assert!(
        other.err.starts_with("error: the idempotency key `k1`") && other.err.contains("\nhint: "),
        "{}",
        other.err
    );

    for what in ["jo@example.com", "jo"] {
        let shown = shell.run(&format!("show {what} --json")).json();
        let connection = &shown["customers"][0]["connections"][0];
        assert_eq!((&shown["kind"], &connection["broken"]), (&json!("customer"), &json!(true)), "{shown}");
        assert_eq!(connection["signals"][0]["outcome"], "waiting");
    }
    assert_eq!(shell.run("show inbox-1 --json").json()["kind"], "connection");
    assert_eq!(shell.run("show imap --json").json()["kind"], "component");
    for id in [failed.json()["id"].clone(), enqueued.json()["id"].clone()] {
        let shown = shell.run(&format!("show {} --json", id.as_str().unwrap().replace('_', "~")));
        assert_eq!(shown.code, 0, "{}", shown.err);
    }
    let text = shell.run("show jo");
    assert!(text.out.contains("jo <jo@example.com>") && text.out.contains("failed permanent"), "{}", text.out);
    let audit = shell.run("audit");
    assert_eq!((audit.code, audit.out.as_str()), (0, "every promise holds\n"), "{}", audit.err);
}

#[test]
fn what_a_person_follows_is_shown() {
    let shell = Shell::furnished();
    for (line, code) in [
        ("put component smtp --name Submission --group eu", 0),
        ("put subscription --subscriber jo --group eu --events begin~and~end --least-impact major", 0),
        ("put subscription --subscriber jo --group us", 2),
        ("put subscription --subscriber jo --group eu --component imap", 2),
        ("put subscription --subscriber jo --events some", 2),
        ("put subscription --subscriber jo --end", 3),
        ("put subscription --subscriber jo --component smtp --end", 3),
        ("put subscription --subscriber jo --group us --end", 3),
        ("put subscription --subscriber jo", 0),
        ("put subscription --subscriber jo --end", 0),
        ("put subscription --subscriber jo --end", 0),
    ] {
        let done = shell.run(line);
        assert_eq!(done.code, code, "{line}: {}", done.err);
    }
    let shown = shell.run("show jo --json").json();
    let follows: Vec<_> = shown["customers"][0]["subscriptions"].as_array().unwrap().iter().collect();
    let of = |n: usize| ["component", "group", "events", "least_impact"].map(|f| follows[n][f].as_str().unwrap_or("-"));
    let mut all: Vec<_> = (0..follows.len()).map(of).collect();
    all.sort_unstable();
    let expected = [["-", "-", "all", "none"], ["-", "eu", "begin_and_end", "major"], ["imap", "-", "all", "none"]];
    assert_eq!(all, expected);
    let text = shell.run("show jo").out;
    assert!(
        text.contains("follows the group eu since") && text.contains("events begin_and_end, least impact major"),
        "{text}"
    );
    assert!(text.contains("follows everything since") && text.contains(", ended "), "{text}");
}

#[test]
fn what_is_wrong_is_named_with_what_to_do() {
    let shell = Shell::furnished();
    for (line, input, code, error) in [
        ("put subscriber al --address al@example.com --zone Mars/Base", "", 2, "zone: is not an IANA time zone"),
        ("put subscriber al --address al", "", 2, "address: the address needs exactly one @"),
        ("put connection x --component nowhere --name x", "", 2, "component: no component has the key `nowhere`"),
        ("enqueue", "{\"kind\": ", 2, "body: is not JSON"),
        ("enqueue", "{\"kind\": \"free\", \"colour\": 1}", 2, "colour: unknown field"),
        ("enqueue", "\u{feff}{\"kind\": \"free\", \"colour\": 1}", 2, "colour: unknown field"),
        ("enqueue --file nowhere.json", "", 2, "nowhere.json cannot be read"),
        ("enqueue --file .", "", 2, ". cannot be read"),
        ("signal --file .", "", 2, ". cannot be read"),
        ("signal --connection inbox-1 --what failed", "", 2, "fault: a failed connection needs"),
        ("signal --connection nowhere --what recovered", "", 2, "connection: no connection has the key `nowhere`"),
        ("show nowhere", "", 3, "nothing is known by `nowhere`"),
        ("hold --component nowhere --reason x", "", 3, "no component has the key `nowhere`"),
        ("hold --everything", "", 2, "--reason is missing"),
        ("hold --class correction --reason x", "", 2, "--class correction: corrections are never held"),
        ("release --everything --reason x", "", 3, "no such hold is in force"),
        ("resume --reason x", "", 4, "nothing is stopped"),
        ("key revoke nobody", "", 3, "no key `nobody` is in use"),
        ("--config nowhere.toml audit", "", 2, "nowhere.toml"),
        ("demo --inboxes 0", "", 2, "--inboxes: 0 cannot be shown"),
        ("demo --inboxes 99", "", 2, "--inboxes: 99 cannot be shown"),
    ] {
        let done = shell.feed(line, input);
        assert_eq!(done.code, code, "{line}: {}", done.err);
        assert!(done.err.starts_with("error: ") && done.err.contains(error), "{line}: {}", done.err);
        assert!(done.err.contains("\nhint: "), "{line}: {}", done.err);
        assert_eq!(done.out, "", "{line}");
    }
    for line in ["enque", "signal", "stop", "signal --connection a --component b --what failed"] {
        let done = shell.run(line);
        assert_eq!(done.code, 2, "{line}");
        assert!(done.err.starts_with("error: "), "{line}: {}", done.err);
    }
}

#[test]
fn a_database_that_cannot_be_opened_is_named() {
    let shell = Shell::new();
    std::fs::write(shell.0.path().join("allclear.toml"), "[database]\nurl = \"sqlite:nowhere/at/all.db\"\n").unwrap();
    let done = shell.with_database(None, "migrate", "");
    assert_eq!(done.code, 1, "{}", done.err);
    assert!(
        done.err.starts_with("error: the SQLite file ") && done.err.contains("\nhint: check that its folder"),
        "{}",
        done.err
    );
}

#[test]
fn what_looks_or_operates_makes_no_database() {
    let shell = Shell::new();
    let file = shell.0.path().join("cli.db");
    for line in [
        "stop --reason alarm",
        "resume --reason over",
        "hold",
        "hold --everything --reason x",
        "release --everything --reason x",
        "surge",
        "status",
        "show jo",
        "search --state failed",
        "audit",
        "journal",
        "streams",
        "suppressions",
        "resend --state failed",
        "key list",
        "key revoke statuspage",
        "templates export x --set 00",
    ] {
        let done = shell.run(line);
        assert_eq!((done.code, done.out.as_str()), (1, ""), "{line}: {}", done.err);
        let named = format!("error: there is no database at {}\nhint: run this in the folder", file.display());
        assert!(done.err.starts_with(&named), "{line}: {}", done.err);
        assert!(!file.exists(), "{line}");
    }
    // A path from here is named in whole.
    let done = shell.with_database(Some("sqlite:other.db"), "stop --reason alarm", "");
    let whole = shell.0.path().canonicalize().unwrap().join("other.db");
    assert!(done.err.contains(&format!("there is no database at {}\n", whole.display())), "{}", done.err);
    let done = shell.with_database(Some("sqlite::memory:"), "audit", "");
    assert!(done.code == 1 && done.err.contains("cannot keep a write-ahead log"), "{}", done.err);
    assert_eq!(shell.run("migrate").code, 0);
    assert_eq!(shell.run("stop --reason alarm").code, 0);
}

#[test]
fn many_signals_are_taken_in_and_the_wrong_lines_named() {
    let shell = Shell::furnished();
    let lines = "{\"connection\":\"inbox-1\",\"what\":\"recovering\"}\n\nnonsense\n{\"connection\":\"x\",\"what\":\"recovering\"}\n";
    let done = shell.feed("signal --file - --json", lines);
    assert_eq!(done.code, 5, "{}", done.err);
    assert!(done.err.contains("error: line 3: body") && done.err.contains("error: line 4: connection"), "{}", done.err);
    let answers = done.json();
    let numbers: Vec<_> = answers.as_array().unwrap().iter().map(|a| a["line"].as_u64().unwrap()).collect();
    assert_eq!((numbers, &answers[0]["outcome"]), (vec![1, 3, 4], &json!("recorded")));
    assert_eq!(shell.feed("signal --file -", "nonsense").code, 2);
}

#[test]
fn a_file_is_imported_and_the_refused_lines_are_told() {
    let shell = Shell::furnished();
    let file = |name: &str, text: &str| std::fs::write(shell.0.path().join(name), text).unwrap();
    file("people.csv", "key,address\nal,al@example.com\nbo,bo\njo,jo@example.com\n");
    let dry = shell.run("import subscribers people.csv --dry-run");
    assert_eq!(dry.code, 5, "{}", dry.err);
    assert!(
        dry.out.starts_with(
            "dry run, nothing was written: 3 subscribers: 1 inserted, 0 updated, 1 unchanged, 1 refused ("
        ),
        "{}",
        dry.out
    );
    assert_eq!(shell.run("show al").code, 3);
    let done = shell.run("import subscribers people.csv --json");
    assert_eq!(done.code, 5, "{}", done.err);
    assert_eq!(
        done.err,
        "error: people.csv line 3: address: the address needs exactly one @\n\
         hint: correct the refused lines and import them again; the others are kept\n"
    );
    let said = done.json();
    assert_eq!((&said["lines"], &said["inserted"], &said["refused"]), (&json!(3), &json!(1), &json!(1)), "{said}");
    let lines = "{\"subscriber\":\"al\",\"component\":\"imap\"}\n{\"subscriber\":\"no\"}\n";
    let done = shell.feed("import subscriptions - --format jsonl --errors refused.csv", lines);
    assert_eq!(done.code, 5, "{}", done.err);
    let written = std::fs::read_to_string(shell.0.path().join("refused.csv")).unwrap();
    let expected = "\"standard input\",\"2\",\"subscriber\",\"no subscriber has the key `no`\"\n";
    assert_eq!(written, format!("file,line,field,reason\n{expected}"));
    file("more.jsonl", "{\"subscriber\":\"al\",\"component\":\"imap\"}\n");
    let again = shell.run("import subscriptions more.jsonl more.jsonl");
    assert_eq!((again.code, again.err.as_str()), (0, ""));
    assert!(again.out.starts_with("2 subscriptions: 0 inserted, 0 updated, 2 unchanged, 0 refused ("), "{}", again.out);
    assert_eq!(shell.feed("import subscribers - --format csv", "key,address\na,a\n").code, 2);
    for (line, input, error) in [
        ("import people people.csv", "", "`people` is none of components, connections, subscribers"),
        ("import subscribers nowhere.csv", "", "nowhere.csv cannot be read"),
        ("import subscribers nowhere", "", "nowhere cannot be read"),
        ("import subscribers -", "", "the name - does not say what it holds"),
        ("import subscribers - --format csv", "a,b\n", "standard input: the first line names the unknown column `a`"),
        ("import subscribers people.csv --errors no/where", "", "no/where cannot be written"),
    ] {
        let done = shell.feed(line, input);
        assert_eq!(done.code, 2, "{line}: {}", done.err);
        assert!(done.err.starts_with("error: ") && done.err.contains(error), "{line}: {}", done.err);
        assert_eq!(done.out, "", "{line}");
    }
}

#[test]
fn no_input_is_taken_when_another_cannot_be_read_nor_lost_to_the_refused_lines() {
    let shell = Shell::furnished();
    let path = |name: &str| shell.0.path().join(name);
    let people = "key,address\nal,al@example.com\nbo,bo\n";
    std::fs::write(path("people.csv"), people).unwrap();
    std::fs::write(path("wrong.csv"), "key,mail\n").unwrap();
    std::fs::write(path("old.csv"), "kept").unwrap();
    std::fs::create_dir(path("folder.csv")).unwrap();
    std::os::unix::fs::symlink(path("people.csv"), path("link.csv")).unwrap();
    for (line, error) in [
        ("people.csv nope.csv --errors old.csv", "nope.csv cannot be read"),
        ("people.csv folder.csv --errors old.csv", "folder.csv cannot be read"),
        ("people.csv --errors people.csv", "people.csv cannot be written: it is read by this import"),
        ("people.csv --errors ./link.csv --dry-run", "link.csv cannot be written: it is read by this import"),
    ] {
        let done = shell.run(&format!("import subscribers {line}"));
        assert_eq!(done.code, 2, "{line}: {}", done.err);
        assert!(done.err.contains(error) && done.err.contains("\nhint: "), "{line}: {}", done.err);
        assert_eq!(shell.run("show al").code, 3, "{line}");
    }
    assert_eq!(std::fs::read_to_string(path("people.csv")).unwrap(), people);
    assert_eq!(std::fs::read_to_string(path("old.csv")).unwrap(), "kept");
    // Columns are looked at when it is a file's turn: what was taken before stays.
    let done = shell.run("import subscribers people.csv wrong.csv --errors old.csv");
    assert_eq!(done.code, 5, "{}", done.err);
    assert!(done.err.contains("wrong.csv: the first line names the unknown column `mail`"), "{}", done.err);
    assert_eq!(shell.run("show al").code, 0);
}

#[test]
fn what_a_put_does_not_give_stays_and_an_empty_text_empties() {
    let shell = Shell::furnished();
    let put = |line: &str| {
        let done = shell.run(&format!("put {line}"));
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{line}");
        assert!(done.out.starts_with("put "), "{}", done.out);
    };
    let person = |address: &str| {
        let shown = shell.run(&format!("show {address} --json")).json();
        let customer = shown["customers"][0].clone();
        (customer["subscriber"].clone(), customer["connections"].as_array().unwrap().len())
    };
    put("connection inbox-1 --component imap --name renamed");
    put("subscriber jo --address new@example.com");
    let (jo, connections) = person("new@example.com");
    assert_eq!((&jo["locale"], &jo["zone"], connections), (&json!("de-AT"), &json!("Europe/Vienna"), 1), "{jo}");
    put("connection inbox-1 --component imap --name renamed --subscriber=");
    put("subscriber jo --address new@example.com --zone UTC --name= --attribute=");
    let (jo, connections) = person("new@example.com");
    assert_eq!((&jo["locale"], &jo["zone"], connections), (&json!("de-AT"), &json!("UTC"), 0), "{jo}");
    for (line, error) in [
        ("put subscriber jo --address new@example.com --locale=", "locale: is not a language tag"),
        ("put connection inbox-1 --component imap --name x --subscriber nobody", "no subscriber has the key `nobody`"),
        ("put subscriber jo --address new@example.com --attribute plan", "is not NAME=VALUE"),
        ("put subscriber jo --address new@example.com --attribute plan=pro --attribute==", "is not NAME=VALUE"),
        ("put subscriber jo --address new@example.com --attribute plan=pro --attribute=", "attributes: is empty"),
    ] {
        let done = shell.run(line);
        assert!(done.code == 2 && done.err.contains(error), "{line}: {}", done.err);
    }
}

#[test]
fn holds_and_the_stop_come_and_go() {
    let shell = Shell::furnished();
    let held = shell.run("hold --component imap --reason provider_outage --json");
    assert_eq!(held.code, 0, "{}", held.err);
    assert_eq!(shell.run("stop --reason wrong_wave").code, 0);
    assert_eq!(shell.run("stop --reason again").code, 4);
    let list = shell.run("hold --json").json();
    let shown: Vec<_> = list.as_array().unwrap().iter().map(|h| (h["cause"].as_str(), h["reason"].as_str())).collect();
    assert_eq!(shown, [(Some("operator"), Some("provider outage")), (Some("stop"), Some("wrong wave"))]);
    assert_eq!(list[0]["created_by"], "cli:tester");
    let table = shell.run("hold").out;
    assert!(table.starts_with("ID ") && table.contains("provider outage"), "{table}");
    let id = held.json()["id"].as_str().unwrap().replace('_', "~");
    let over = shell.run(&format!("release {id} --reason over"));
    assert!(over.code == 0 && over.out.starts_with("released hld_"), "{}{}", over.out, over.err);
    assert!(over.out.contains("keeps these mails all the same: wrong wave"), "the stop does: {}", over.out);
    assert_eq!(shell.run(&format!("release {id} --reason over")).code, 3);
    let over = shell.run("resume --reason over");
    assert!(over.code == 0 && over.out.starts_with("released hld_") && !over.out.contains("keeps"), "{}", over.out);
    assert_eq!(shell.run("hold --json").json(), json!([]));
}

#[test]
fn a_key_is_shown_once_and_listed_without_its_token() {
    let shell = Shell::new();
    let made = shell.run("key create statuspage --scope enqueue --scope recover~covering --json");
    assert_eq!(made.code, 0, "{}", made.err);
    let token = made.json()["token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("ack_") && token.len() == 51, "{token}");
    assert_eq!(shell.run("key create statuspage --scope read").code, 4);
    let list = shell.run("key list --json");
    assert!(!list.out.contains(&token[4..]));
    assert_eq!(list.json()[0]["scopes"], json!(["enqueue", "recover_covering"]));
    assert_eq!(shell.run("key revoke statuspage").code, 0);
    assert_eq!(shell.run("migrate").code, 0);
}

#[test]
fn streams_are_listed_and_one_that_is_not_paused_is_not_resumed() {
    let shell = Shell::furnished();
    let done = shell.run("streams");
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.contains("account") && done.out.contains("incidents") && done.out.contains("sending"));
    let done = shell.run("streams resume incidents --reason mended");
    assert_eq!(done.code, 4, "{}", done.err);
    assert!(done.err.contains("stream incidents is not paused"), "{}", done.err);
    let done = shell.run("streams resume nothing --reason mended");
    assert_eq!(done.code, 3, "{}", done.err);
    assert!(done.err.contains("known streams: account, incidents"), "{}", done.err);
}

#[test]
fn nobody_is_suppressed_and_lifting_says_so() {
    let shell = Shell::furnished();
    assert_eq!(shell.run("suppressions --json").json(), json!([]));
    let done = shell.run("suppressions lift jo@example.com --reason called");
    assert_eq!(done.code, 3, "{}", done.err);
    assert!(done.err.contains("jo@example.com is not suppressed"), "{}", done.err);
}

#[test]
fn resends_are_refused_with_a_hint_and_the_journal_is_verified() {
    let shell = Shell::furnished();
    let unknown = "dlv~0198c0de00000000000000000000000a";
    let done = shell.run(&format!("resend {unknown}"));
    assert_eq!(done.code, 3, "{}", done.err);
    assert!(done.out.contains("unknown") && done.err.contains("allclear show"), "{} {}", done.out, done.err);
    for (line, code) in [
        ("resend", 2),
        (&*format!("resend {unknown} --force"), 2),
        (&*format!("resend {unknown} --state failed"), 2),
        ("resend --state failed", 3),
        ("resend --state accepted", 2),
        ("resend --incident nope", 2),
        ("resend --stream account", 3),
    ] {
        assert_eq!(shell.run(line).code, code, "{line}");
    }
    let done = shell.run("resend --stream nope");
    assert_eq!((done.code, done.out.as_str()), (2, ""), "{}", done.err);
    assert!(done.err.contains("filter.stream: is not known; known streams: account, incidents"), "{}", done.err);
    assert_eq!(
        shell.run(&format!("resend {unknown} --force --reason by_phone --json")).json()["refused"]["unknown"],
        1
    );
    assert_eq!(shell.run("stop --reason alarm").code, 0);
    let lines = shell.run("journal --limit 2 --json").json();
    assert_eq!((&lines[0]["action"], &lines[1]["action"]), (&json!("stop"), &json!("refuse_resend")));
    let found = shell.run("journal verify --json").json();
    let noted = format!("{}:{}", found["lines"], found["hash"].as_str().unwrap());
    assert_eq!(shell.run("resume --reason over").code, 0);
    assert_eq!(shell.run(&format!("journal verify --expect {noted}")).code, 0);
    let zeros = "0".repeat(64);
    assert_eq!(shell.run(&format!("journal verify --expect 2:{zeros}")).code, 6);
    assert_eq!(shell.run("journal verify --expect nonsense").code, 2);
}

#[test]
fn a_surge_is_held_and_released_and_shown() {
    let shell = Shell::furnished();
    assert_eq!(shell.run("surge --json").json(), json!([]));
    let held = shell.run("surge hold --component imap --reason their_page_is_red --json").json();
    let id = held["id"].as_str().unwrap().to_owned();
    let word = id.replace('_', "~");
    assert_eq!(held["stage"], "holding");
    let again = shell.run("surge hold --component imap --reason x");
    assert!(again.code == 4 && again.err.contains("those of what depends on it are"), "{}", again.err);
    assert_eq!(shell.run("surge hold --component nowhere --reason x").code, 3);
    let neither = shell.run("surge hold --reason x");
    assert!(neither.code == 2 && neither.err.contains("--component"), "{}", neither.err);
    let since = shell.run(&format!("surge hold {word} --since 2020-01-01T00:00:00Z --reason x"));
    assert!(since.code == 2 && since.err.contains("--since"), "{}", since.err);
    assert_eq!(shell.run(&format!("surge hold {word} --component imap --reason x")).code, 2);
    let past = shell.run(&format!("surge hold {word} --until 2020-01-01T00:00:00Z --reason x"));
    assert!(past.code == 2 && past.err.contains("in the past"), "{}", past.err);
    // Its hold is not let go by the way.
    assert_eq!(shell.run("release --component imap --reason x").code, 3);
    for (class, is_kept) in [("free", false), ("action~required", true)] {
        assert_eq!(shell.run(&format!("hold --class {class} --reason x")).code, 0);
        let over = shell.run(&format!("release --class {class} --reason x"));
        assert_eq!((over.code, over.out.contains("keeps these mails all the same")), (0, is_kept), "{}", over.out);
    }
    let status = shell.run("status").out;
    assert!(status.contains("surge on imap since") && status.contains("their page is red"), "{status}");
    assert!(shell.run("show imap").out.contains(&id));
    let released = shell.run(&format!("surge release {word} --reason it_works"));
    assert!(released.code == 0 && released.out.contains("canary"), "{}{}", released.out, released.err);
    let rest = shell.run(&format!("surge release {word} --rest --reason it_works --json")).json();
    assert_eq!(rest["stage"], "releasing");
    let twice = shell.run(&format!("surge release {word} --reason x"));
    assert!(twice.code == 4 && twice.err.contains("being released already"), "{}", twice.err);
    assert!(shell.run(&format!("show {word}")).out.contains("releasing"));
    assert!(shell.run("journal").out.contains("surge canary"));
}

#[test]
fn drills_write_one_json_document_and_none_over_another() {
    let shell = Shell::new();
    assert!(shell.run("demo --inboxes 100 --keep kept --json").json().is_object());
    let again = shell.run("demo --inboxes 100 --keep kept");
    assert!(again.code == 4 && again.err.contains("already has a demo in it"), "{}", again.err);
    let told = json!({"page": "acme", "id": "i1", "name": "Odd errors", "impact": "minor",
        "updates": [{"at": "2025-04-02T10:00:00Z", "status": "Update", "body": "Errors seen."}]});
    std::fs::write(shell.0.path().join("one.jsonl"), told.to_string()).unwrap();
    assert!(shell.run("replay one.jsonl --json").json().is_object());
    for drill in ["replay one.jsonl", "simulate"] {
        let plain = shell.run(&format!("{drill} --database drill.db"));
        assert!(plain.code == 2 && plain.err.contains("--database"), "{}", plain.err);
        let taken = shell.run(&format!("{drill} --database sqlite:one.jsonl"));
        assert!(taken.code == 4 && taken.err.contains("a drill needs a database of its own"), "{}", taken.err);
    }
    let both = shell.run("replay one.jsonl --report json").out;
    assert!(both.lines().count() > 1 && both.lines().last().unwrap().starts_with('{'), "{both}");
}
