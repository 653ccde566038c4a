//! The processes that are measured apart: children of this program, and among them the relay.

use crate::common::Fallible;
use crate::process::cpu;
use allclear::mail::sink::{Script, Sink};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

fn myself() -> Fallible<Command> {
    Ok(Command::new(std::env::current_exe()?))
}

pub fn child(args: &[&str]) -> Fallible<String> {
    let done = myself()?.args(args).stderr(Stdio::inherit()).output()?;
    if !done.status.success() {
        return Err(format!("{} failed: {}", args.join(" "), done.status).into());
    }
    Ok(String::from_utf8(done.stdout)?)
}

/// The relay's process.
pub struct Relaying {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub port: u16,
}

impl Relaying {
    /// A relay that is so many milliseconds away.
    pub fn start(rtt: u64) -> Fallible<Self> {
        let mut child =
            myself()?.args(["sink", &rtt.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(ask), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the relay cannot be talked to".into());
        };
        let mut relay = Self { child, ask, answers: BufReader::new(answers), port: 0 };
        relay.port = relay.line()?.trim().parse()?;
        Ok(relay)
    }

    fn line(&mut self) -> Fallible<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line)
    }

    /// Mails, bytes, seconds of CPU.
    pub fn counts(&mut self) -> Fallible<(u64, u64, f64)> {
        self.ask.write_all(b"counts\n")?;
        Ok(serde_json::from_str(&self.line()?)?)
    }
}

impl Drop for Relaying {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub async fn sink(rtt: Duration) -> Fallible<()> {
    let sink = Sink::start(Script { latency: rtt, ..Script::counting() }).await?;
    println!("{}", sink.port());
    let asked = tokio::task::spawn_blocking(move || {
        for line in std::io::stdin().lock().lines() {
            if line.is_err() {
                break;
            }
            println!("[{},{},{}]", sink.count(), sink.bytes(), cpu("self").unwrap_or_default());
        }
    });
    Ok(asked.await?)
}
