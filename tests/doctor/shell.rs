//! A folder with a configuration, and the program run in it.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

pub const BINARY: &str = env!("CARGO_BIN_EXE_allclear");

pub struct Shell(pub tempfile::TempDir);

pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Done {
    pub fn of(command: &mut Command) -> Self {
        let done = command.output().unwrap();
        Self {
            code: done.status.code().unwrap_or(-1),
            out: String::from_utf8(done.stdout).unwrap(),
            err: String::from_utf8(done.stderr).unwrap(),
        }
    }

    /// Failed with one error that says this, and a hint that says that.
    pub fn refused(&self, code: i32, what: &str, hint: &str) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        let error = self.err.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        let advice = self.err.lines().find(|line| line.starts_with("hint: ")).unwrap_or_default();
        assert!(error.contains(what), "no `{what}` in: {}", self.err);
        assert!(advice.contains(hint), "no `{hint}` in: {}", self.err);
    }

    /// A line of the report begins with the level and says this; the hint under it says that.
    pub fn found(&self, level: &str, what: &str, hint: &str) {
        let mut lines = self.out.lines();
        let line = lines.find(|line| line.trim_start().starts_with(level) && line.contains(what));
        assert!(line.is_some(), "no {level} `{what}` in: {}{}", self.out, self.err);
        let advice = lines.next().unwrap_or_default();
        assert!(
            hint.is_empty() || (advice.contains("hint: ") && advice.contains(hint)),
            "no `{hint}` in: {}",
            self.out
        );
        assert_eq!(self.code, if self.out.contains("\n  fail ") { 6 } else { 0 }, "{}", self.out);
    }

    pub fn well(&self) {
        assert_eq!((self.code, self.out.ends_with("\nall is well\n")), (0, true), "{}{}", self.out, self.err);
    }
}

impl Shell {
    pub fn new(config: &str) -> Self {
        let shell = Self(tempfile::tempdir().unwrap());
        std::fs::write(shell.path("allclear.toml"), config).unwrap();
        // The URL of the server may hold a password.
        std::fs::set_permissions(shell.path("allclear.toml"), std::fs::Permissions::from_mode(0o600)).unwrap();
        shell
    }

    pub fn on_database(url: &str) -> Self {
        Self::new(&format!("[database]\nurl = \"{url}\"\nconnections = 2\n[http]\nlisten = \"127.0.0.1:0\"\n"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn command(&self) -> Command {
        program(self.0.path(), BINARY)
    }

    pub fn run(&self, args: &[&str]) -> Done {
        Done::of(self.command().args(args))
    }

    /// A `serve` that is up, until this is dropped.
    pub fn serving(&self) -> Serving {
        let mut command = self.command();
        let mut child = command.arg("serve").env("ALLCLEAR_LOG", "info").stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut serving = Serving { child, log };
        let mut line = String::new();
        while !line.contains("serving on http://") {
            line.clear();
            assert_ne!(serving.log.read_line(&mut line).unwrap(), 0, "serve ended before it listened");
        }
        serving
    }
}

pub struct Serving {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program in a folder, with an environment that says nothing about allclear.
pub fn program(folder: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).current_dir(folder);
    command
}
