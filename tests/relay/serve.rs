//! The program as its operator runs it, with a relay that wants TLS and a login.

use crate::relays::Relays;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_allclear"));
    command.current_dir(folder).env("ALLCLEAR_LOG", "info");
    command
}

struct Served {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Served {
    fn start(folder: &Path) -> Self {
        let mut child = command(folder).arg("serve").stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut served = Self { child, log };
        served.until("serving on");
        served
    }

    /// Reads the log up to the line with these words.
    fn until(&mut self, words: &str) -> String {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert_ne!(self.log.read_line(&mut line).unwrap(), 0, "serve ended before it said: {words}");
        }
        line
    }
}

fn run(folder: &Path, args: &[&str]) -> String {
    let done = command(folder).args(args).env_remove("ALLCLEAR_LOG").output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[tokio::test]
async fn a_mistyped_password_is_told_and_mail_leaves_once_it_is_mended() {
    let mut relays = Relays::get();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let config = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n\n[dispatch]\npoll_milliseconds = 20\n\n\
         [limits.action_required]\ndwell_seconds = 0\n\n\
         [relays.default]\ntransport = \"smtp\"\nhost = \"localhost\"\nport = {}\ntls = \"starttls\"\n\
         user = \"relay-user\"\npassword_file = \"password\"\nca_file = \"{}\"\n",
        relays.port("starttls"),
        relays.ca_file().display(),
    );
    std::fs::write(folder.join("allclear.toml"), config).unwrap();
    std::fs::write(folder.join("password"), "reley password\n").unwrap();
    let mut served = Served::start(folder);
    let address = relays.address("jo");
    run(folder, &["put", "component", "imap", "--name", "Mail sync"]);
    run(folder, &["put", "subscriber", "jo", "--address", &address, "--zone", "Europe/Vienna"]);
    run(folder, &["put", "connection", "inbox", "--component", "imap", "--name", "Jo's inbox", "--subscriber", "jo"]);
    run(folder, &["signal", "--connection", "inbox", "--what", "failed", "--fault", "permanent"]);
    let told = served.until("no session with");
    assert!(told.contains("login") && told.contains("535") && told.contains("check user and password"), "{told}");
    assert!(!told.contains("reley password"), "{told}");
    assert!(run(folder, &["show", "inbox"]).contains("queued"));
    assert!(relays.arrived().is_empty());
    drop(served);

    std::fs::write(folder.join("password"), "relay password\n").unwrap();
    let _served = Served::start(folder);
    let arrived = relays.arrive(1).await;
    assert_eq!(arrived[0].to, address);
    assert!(arrived[0].mail.contains("Jo's inbox") && arrived[0].above.contains("with ESMTPSA"), "{arrived:?}");
    run(folder, &["audit"]);
}
