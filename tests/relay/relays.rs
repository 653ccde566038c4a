//! The relays that `tests/run` has started (see `tests/lib/relays.sh`), and what a test sees of them.

use allclear::mail::{Login, Relay, Secret, Tls};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Long enough for a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(60);

/// A mail in a relay's Maildir.
#[derive(Clone, Debug)]
pub struct Delivered {
    pub to: String,
    /// What the relay wrote above it.
    pub above: String,
    /// What we handed over, as the relay kept it.
    pub mail: String,
}

impl Delivered {
    fn read(text: &str) -> Self {
        let begin = text.find("\nReceived:").unwrap() + 1;
        let end = text[begin..]
            .match_indices('\n')
            .map(|(at, _)| begin + at + 1)
            .find(|next| !text[*next..].starts_with([' ', '\t']))
            .unwrap();
        let (above, mail) = text.split_at(end);
        let to = above.lines().find_map(|l| l.strip_prefix("Delivered-To: ").or(l.strip_prefix("Envelope-to: ")));
        Self { to: to.unwrap().to_owned(), above: above.to_owned(), mail: mail.replace('\n', "\r\n") }
    }

    /// The value of one of our headers that is not folded.
    pub fn header(&self, name: &str) -> &str {
        let prefix = format!("{name}: ");
        self.mail.lines().find_map(|line| line.strip_prefix(prefix.as_str())).unwrap()
    }

    fn queue_id(&self) -> &str {
        self.above.split(" id ").nth(1).unwrap().split_whitespace().next().unwrap()
    }
}

/// The relays, seen by one test: addresses carry a mark of its own, and only their mail is shown.
pub struct Relays {
    folder: PathBuf,
    ports: BTreeMap<String, u16>,
    mark: String,
    seen: HashSet<OsString>,
    mails: Vec<Delivered>,
}

impl Relays {
    pub fn get() -> Self {
        let folder = std::env::var("ALLCLEAR_TEST_RELAYS")
            .expect("ALLCLEAR_TEST_RELAYS is not set: run ./tests/run, which starts the relays it names");
        let folder = PathBuf::from(folder);
        let ports = std::fs::read_to_string(folder.join("ports")).unwrap();
        let ports = ports.lines().filter_map(|line| line.split_once(' '));
        let ports = ports.map(|(service, port)| (service.to_owned(), port.parse().unwrap())).collect();
        let mark = uuid::Uuid::now_v7().simple().to_string();
        Self { folder, ports, mark, seen: HashSet::new(), mails: Vec::new() }
    }

    pub fn port(&self, service: &str) -> u16 {
        self.ports[service]
    }

    pub fn ca_file(&self) -> PathBuf {
        self.folder.join("tls/ca.pem")
    }

    /// A service that wants TLS and a login, used as it should be.
    pub fn relay(&self, service: &str) -> Relay {
        Relay {
            host: "localhost".to_owned(),
            tls: if service.ends_with("implicit") { Tls::Implicit } else { Tls::StartTls },
            login: Some(Login { user: "relay-user".to_owned(), password: Secret::new("relay password") }),
            ca_file: Some(self.ca_file()),
            ..Relay::local(self.port(service))
        }
    }

    /// The key of a subscriber who gets mail at `self.address(name)`.
    pub fn key(&self, name: &str) -> String {
        format!("{name}-{}", self.mark)
    }

    pub fn address(&self, name: &str) -> String {
        format!("{}@example.net", self.key(name))
    }

    /// What the relay answers from now on when it is asked to take mail for somebody.
    pub fn answer(&self, name: &str, words: &str) {
        std::fs::write(self.folder.join("answers").join(self.address(name)), words).unwrap();
    }

    /// What Postfix answers to the mail itself.
    pub fn answer_after_the_dot(&self, name: &str, words: &str) {
        std::fs::write(self.folder.join("answers/dot").join(self.address(name)), words).unwrap();
    }

    /// Mail for this person is taken again.
    pub fn take(&self, name: &str) {
        for folder in ["answers", "answers/dot"] {
            let _ = std::fs::remove_file(self.folder.join(folder).join(self.address(name)));
        }
    }

    /// What lies in the Maildirs, by recipient.
    pub fn arrived(&mut self) -> Vec<Delivered> {
        for folder in ["maildir/new", "exim/maildir/new"] {
            // A relay makes the folder for its first mail.
            for entry in std::fs::read_dir(self.folder.join(folder)).into_iter().flatten() {
                let entry = entry.unwrap();
                if self.seen.insert(entry.file_name()) {
                    self.mails.push(Delivered::read(&std::fs::read_to_string(entry.path()).unwrap()));
                }
            }
        }
        let ours = format!("-{}@", self.mark);
        self.mails.retain(|mail| mail.to.contains(&ours));
        self.mails.sort_by(|a, b| a.to.cmp(&b.to));
        self.mails.clone()
    }

    /// Waits until so many mails lie there: a relay delivers after its 250, in its own time.
    pub async fn arrive(&mut self, count: usize) -> Vec<Delivered> {
        let begin = Instant::now();
        loop {
            let mails = self.arrived();
            if mails.len() >= count {
                return mails;
            }
            assert!(begin.elapsed() < PATIENCE, "{} of {count} arrived: {mails:#?}\n{}", mails.len(), self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What Postfix wrote down.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("postfix/log")).unwrap()
    }

    /// The sessions with Postfix over which these mails came, or were refused: our ports.
    pub async fn sessions(&self, mails: &[Delivered]) -> BTreeSet<u16> {
        let begin = Instant::now();
        let port = |line: &str| line.split_once("[127.0.0.1]:").map(|(_, rest)| number(rest));
        loop {
            let log = self.log();
            let clients: BTreeMap<&str, u16> = log
                .lines()
                .filter_map(|line| Some((line.split_once(": client=")?.0.rsplit(' ').next()?, port(line)?)))
                .collect();
            let ours = format!("-{}@", self.mark);
            let refused = log.lines().filter(|l| l.contains("reject: ") && l.contains(&ours)).filter_map(port);
            let taken: Option<Vec<u16>> = mails.iter().map(|mail| clients.get(mail.queue_id()).copied()).collect();
            if let Some(taken) = taken {
                return taken.into_iter().chain(refused).collect();
            }
            assert!(begin.elapsed() < PATIENCE, "the log does not know our mails: {log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn number(text: &str) -> u16 {
    text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}
