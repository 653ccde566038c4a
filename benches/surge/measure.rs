//! Times in order, and the memory of this process.

use super::Fallible;
use std::time::Duration;

/// Times that were measured.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn add(&mut self, one: Duration) {
        self.0.push(one);
    }

    /// How many there are, and their p50, p99 and greatest in milliseconds.
    pub fn told(&mut self, what: &str) -> String {
        self.0.sort();
        let at = |share: usize| self.0.get((self.0.len() * share / 100).min(self.0.len().saturating_sub(1)));
        let ms = |time: Option<&Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0);
        let (p50, p99, most) = (ms(at(50)), ms(at(99)), ms(self.0.last()));
        format!("{what}: {} of them, p50 {p50:.1} ms, p99 {p99:.1} ms, at most {most:.1} ms", self.0.len())
    }
}

/// The most memory this process ever had, in KiB.
pub fn peak() -> Fallible<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
