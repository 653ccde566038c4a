//! The program as its operator runs it: `serve` with a folder for mail, the CLI beside it on the same SQLite file,
//! and its way of stopping.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

struct Served {
    child: Child,
    folder: tempfile::TempDir,
    address: String,
    log: BufReader<std::process::ChildStderr>,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_allclear"));
    command.current_dir(folder).env("ALLCLEAR_LOG", "info");
    command
}

fn configured() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = "[http]\nlisten = \"127.0.0.1:0\"\n\n[dispatch]\npoll_milliseconds = 20\n\n\
                  [limits.action_required]\ndwell_seconds = 0\n";
    std::fs::write(folder.path().join("allclear.toml"), config).unwrap();
    folder
}

fn serve() -> Served {
    let folder = configured();
    let mut child = command(folder.path()).arg("serve").stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    let address = loop {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "serve ended before it listened");
        if let Some((_, rest)) = line.split_once("http://") {
            break rest.split(|c: char| c != '.' && c != ':' && !c.is_ascii_digit()).next().unwrap().to_owned();
        }
    };
    Served { child, folder, address, log }
}

fn run(folder: &Path, args: &[&str]) -> String {
    let done = command(folder).args(args).env_remove("ALLCLEAR_LOG").output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

impl Served {
    fn run(&self, args: &[&str]) -> String {
        run(self.folder.path(), args)
    }

    fn http(&self, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "{head}\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn set_up(&self) {
        self.run(&["put", "component", "imap", "--name", "Mail sync"]);
        self.run(&["put", "subscriber", "jo", "--address", "jo@example.net", "--zone", "Europe/Vienna"]);
        self.run(&["put", "connection", "inbox", "--component", "imap", "--name", "Jo's inbox", "--subscriber", "jo"]);
    }

    /// Waits until so many mails lie in the folder.
    fn mails(&self, count: usize) -> Vec<PathBuf> {
        loop {
            let folder = self.folder.path().join("maildir").join("new");
            let mut found: Vec<_> =
                std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
            if found.len() >= count {
                found.sort_by_key(|path| std::fs::metadata(path).unwrap().modified().unwrap());
                return found;
            }
            std::thread::yield_now();
        }
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap().replace("=\r\n", "")
}

#[test]
fn a_mail_is_shown_as_it_lies_in_the_folder() {
    let served = serve();
    served.set_up();
    let key = served.run(&["key", "create", "support", "--scope", "read"]);
    let key = key.split_whitespace().find(|word| word.starts_with("ack_")).unwrap();
    served.run(&["signal", "--connection", "inbox", "--what", "failed", "--fault", "permanent"]);
    let mail = std::fs::read_to_string(&served.mails(1)[0]).unwrap();
    let id = mail.lines().find_map(|line| line.strip_prefix("X-Allclear-Notice: ")).unwrap();
    // The file is there before its try is recorded.
    while !served.run(&["show", id]).contains("accepted") {}
    assert_eq!(served.run(&["show", "--mail", id]), mail);
    let json: serde_json::Value = serde_json::from_str(&served.run(&["show", id, "--mail", "--json"])).unwrap();
    assert_eq!((&json["mail"], &json["outcome"]), (&mail.as_str().into(), &"accepted".into()));
    let get =
        |id: &str| served.http(&format!("GET /v1/deliveries/{id}/mail HTTP/1.1\r\nAuthorization: Bearer {key}"), "");
    let (head, body) = get(id).split_once("\r\n\r\n").map(|(h, b)| (h.to_lowercase(), b.to_owned())).unwrap();
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: message/rfc822"), "{head}");
    assert_eq!(body, mail);
    for unknown in ["dlv_00000000000070008000000000000000", "x"] {
        let answer = get(unknown);
        assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("there is no such delivery"), "{answer}");
    }
    let without = served.http(&format!("GET /v1/deliveries/{id}/mail HTTP/1.1"), "");
    assert!(without.starts_with("HTTP/1.1 401"), "{without}");
    let again = served.run(&["templates", "preview", "--to", "again", "--delivery", id]);
    assert!(again.starts_with("1 written; open "), "{again}");
    let path = served.folder.path().join(format!("again/{id}.eml"));
    assert_eq!(std::fs::read_to_string(path).unwrap(), mail, "the same templates and program make the same mail");
    let set = serde_json::from_str::<serde_json::Value>(&served.run(&["show", id, "--json"])).unwrap();
    let hash = set["delivery"]["template_set"].as_str().unwrap();
    served.run(&["templates", "export", "set", "--set", hash]);
    assert!(served.folder.path().join("set/mail/free/body.txt.hbs").exists());
}

#[test]
fn a_signal_over_http_becomes_a_mail_and_its_recovery_a_correction() {
    let served = serve();
    served.set_up();
    let key = served.run(&["key", "create", "sync", "--scope", "signal"]);
    let key = key.split_whitespace().find(|word| word.starts_with("ack_")).unwrap();
    let post = format!("POST /v1/signals HTTP/1.1\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json");

    let answer = served.http(&post, r#"{"connection":"inbox","what":"failed","fault":"permanent"}"#);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let asked = served.mails(1);
    assert!(read(&asked[0]).contains("Jo's inbox"));

    let answer = served.http(&post, r#"{"connection":"inbox","what":"recovered","by":"automatic"}"#);
    assert!(answer.contains("recovery_id"), "{answer}");
    let mails = served.mails(2);
    assert!(mails.iter().any(|mail| read(mail).contains("No action needed")));
    let shown = served.run(&["show", "jo@example.net"]);
    assert!(shown.contains("action_required") && shown.contains("correction"), "{shown}");
    served.run(&["audit"]);
}

#[test]
fn a_stop_beside_a_running_serve_keeps_mail_until_resume() {
    let served = serve();
    served.set_up();
    served.run(&["stop", "--reason", "drill"]);
    served.run(&["signal", "--connection", "inbox", "--what", "failed", "--fault", "permanent"]);
    while !served.run(&["show", "inbox"]).contains("queued") {}
    let shown = served.run(&["show", "inbox"]);
    assert!(!shown.contains("accepted"), "{shown}");
    served.run(&["resume", "--reason", "drill is over"]);
    served.mails(1);
}

#[test]
fn a_second_dispatcher_on_the_same_file_is_refused_with_what_to_do() {
    let served = serve();
    let second = command(served.folder.path()).arg("serve").output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let told = String::from_utf8_lossy(&second.stderr);
    assert!(told.contains("another process dispatches") && told.contains("hint:"), "{told}");
}

#[cfg(unix)]
#[test]
fn nor_is_it_dispatched_from_under_another_path() {
    let (served, other) = (serve(), configured());
    std::os::unix::fs::symlink(served.folder.path().join("allclear.db"), other.path().join("allclear.db")).unwrap();
    let second = command(other.path()).arg("serve").output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let told = String::from_utf8_lossy(&second.stderr);
    assert!(told.contains("another process dispatches"), "{told}");
}

#[test]
fn an_unreachable_database_is_named_at_start() {
    let folder = configured();
    // What a command could not do the same command can do later.
    for of in ["serve", "status"] {
        let done = command(folder.path())
            .arg(of)
            .env("ALLCLEAR_DATABASE__URL", "postgres://nobody@127.0.0.1:1/none")
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(75), "{of}");
        let told = String::from_utf8_lossy(&done.stderr);
        assert!(told.contains("127.0.0.1:1") && told.contains("hint:"), "{told}");
    }
}

#[cfg(unix)]
#[test]
fn a_database_that_is_moved_away_ends_it() {
    let mut served = serve();
    let file = served.folder.path().join("allclear.db");
    std::fs::rename(&file, file.with_extension("moved")).unwrap();
    assert_eq!(served.child.wait().unwrap().code(), Some(1));
    let mut rest = String::new();
    served.log.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("allclear.db was moved") && rest.contains("hint:"), "{rest}");
}

#[test]
fn a_spill_file_that_cannot_be_made_is_refused_at_start() {
    let folder = configured();
    let done = command(folder.path())
        .arg("serve")
        .env("ALLCLEAR_DISPATCH__SPILL_FILE", folder.path().join("nowhere/x.spill"))
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(1));
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(told.contains("nowhere/x.spill cannot be written") && told.contains("hint:"), "{told}");
}

#[cfg(unix)]
#[test]
fn one_signal_ends_it_cleanly() {
    // Under `nohup` the second is nobody's.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
    let nohup = ignored.ends_with(['1', '3', '5', '7', '9', 'b', 'd', 'f']);
    for signal in if nohup { &["-TERM"][..] } else { &["-TERM", "-HUP"] } {
        let mut served = serve();
        // Somebody has begun a request, and will never end it.
        let mut half = TcpStream::connect(&served.address).unwrap();
        half.write_all(b"GET /livez HTTP/1.1\r\nHos").unwrap();
        let pid = served.child.id().to_string();
        assert!(Command::new("kill").args([*signal, &pid]).status().unwrap().success());
        assert!(served.child.wait().unwrap().success());
        let mut rest = String::new();
        served.log.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("nothing is on the wire"), "{rest}");
    }
}
