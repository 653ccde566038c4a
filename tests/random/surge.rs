//! A simulated year for each size of provider: failures scatter more than chance alone would have them, and follow the
//! day. The detector may hold in vain at most once a year, and must see one percent a minute within two minutes.

use crate::amount::{amount, random};
use allclear::domain::surge::{Finding, Rules, normal};
use rand::RngExt;
use rand::rngs::StdRng;

const DAY: i64 = 1_440;
/// Each connection breaks so often in a year by itself.
const RATES: [f64; 3] = [0.3, 1.0, 3.0];
const SIZES: [i64; 4] = [2_000, 20_000, 200_000, 2_000_000];
/// The variance of a count is so many times its mean.
const SCATTER: f64 = 1.5;

/// How many fail in each minute; `now` and later may be added to.
struct Year<'a> {
    random: &'a mut StdRng,
    /// Mean failures in a minute.
    mean: f64,
    counts: Vec<i64>,
    /// Running sums, so that a window costs nothing.
    sums: Vec<i64>,
}

impl<'a> Year<'a> {
    fn new(random: &'a mut StdRng, connections: i64, rate: f64) -> Self {
        let mean = connections as f64 * rate / (365.0 * DAY as f64);
        Self { random, mean, counts: Vec::new(), sums: vec![0] }
    }

    fn pass(&mut self, extra: i64) {
        let at = self.counts.len() as i64;
        let of_day = (at % DAY) as f64 / DAY as f64 * std::f64::consts::TAU;
        let n = scattered(self.random, self.mean * 0.6f64.mul_add(of_day.sin(), 1.0)) + extra;
        self.counts.push(n);
        self.sums.push(self.sums[self.sums.len() - 1] + n);
    }

    fn sum(&self, from: i64, until: i64) -> i64 {
        let at = |minute: i64| self.sums[usize::try_from(minute.max(0)).unwrap()];
        at(until) - at(from)
    }

    /// What the rule makes of the window that ends now.
    fn judged(&self, rules: &Rules) -> Finding {
        let (now, window) = (self.counts.len() as i64, rules.flood.minutes);
        let counted = self.sum(now - window, now);
        if counted < rules.flood.least {
            return Finding::TooFew;
        }
        let from = (now - 7 * DAY).max(0);
        let seen = now - window - from;
        rules.flood.judge(counted, normal(self.sum(from, now - window), seen, window))
    }
}

/// A count of this mean whose variance is 1.5 times as large: clusters of one or two (in half of them) that come by chance.
fn scattered(random: &mut StdRng, mean: f64) -> i64 {
    // Clusters of one with probability p, else of two: mean 2 - p, scatter (4 - 3p) / (2 - p) = 1.5 at p = 2/3.
    let clusters = poisson(random, mean / (4.0 / 3.0));
    (0..clusters).map(|_| if random.random_bool(2.0 / 3.0) { 1 } else { 2 }).sum()
}

fn poisson(random: &mut StdRng, mean: f64) -> i64 {
    let (mut n, mut p, least) = (0, 1.0, (-mean).exp());
    loop {
        p *= random.random::<f64>();
        if p <= least {
            return n;
        }
        n += 1;
    }
}

/// The scatter is the one that was meant: else the year would be too easy.
#[test]
fn the_simulated_failures_scatter_as_they_should() {
    let mut random = random();
    let counts: Vec<f64> = (0..40_000).map(|_| scattered(&mut random, 3.0) as f64).collect();
    let mean = counts.iter().sum::<f64>() / counts.len() as f64;
    let variance = counts.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / counts.len() as f64;
    assert!((mean - 3.0).abs() < 0.06, "{mean}");
    assert!((variance / mean - SCATTER).abs() < 0.06, "{}", variance / mean);
}

#[test]
fn a_year_holds_in_vain_at_most_once_for_each_provider() {
    let (mut random, rules) = (random(), Rules::default());
    let years = amount(1, 20);
    for (connections, rate) in SIZES.iter().flat_map(|size| RATES.map(|rate| (*size, rate))) {
        let mut held = 0;
        for _ in 0..years {
            let mut year = Year::new(&mut random, connections, rate);
            let mut quiet = 0;
            for _ in 0..365 * DAY {
                year.pass(0);
                // One hold lasts until a quarter of an hour after its last window.
                match year.judged(&rules) {
                    Finding::Flood => {
                        held += u64::from(quiet == 0);
                        quiet = rules.calm_minutes;
                    }
                    _ => quiet = (quiet - 1).max(0),
                }
            }
        }
        println!("{connections} connections, {rate} failures a year each: {held} held in vain in {years} years");
        assert!(held <= years, "{connections} connections, {rate}: {held} in {years} years");
    }
}

/// Minutes from the first failure of an outage, which takes so many percent of the connections a minute, until it is seen; `None` within two hours.
fn delay(random: &mut StdRng, connections: i64, rate: f64, a_minute: f64) -> Option<i64> {
    let rules = Rules::default();
    let mut year = Year::new(random, connections, rate);
    // A week and some hours to know what is normal, at every time of the day.
    let lead = 7 * DAY + year.random.random_range(0..DAY);
    for _ in 0..lead {
        year.pass(0);
    }
    for minute in 1..=120 {
        year.pass((connections as f64 * a_minute / 100.0).round() as i64);
        if year.judged(&rules) == Finding::Flood {
            return Some(minute);
        }
    }
    None
}

#[test]
fn one_percent_a_minute_is_seen_within_two_minutes() {
    let mut random = random();
    for (connections, rate) in SIZES.iter().flat_map(|size| RATES.map(|rate| (*size, rate))) {
        for _ in 0..amount(10, 200) {
            let seen = delay(&mut random, connections, rate, 1.0);
            assert!(seen.is_some_and(|minutes| minutes <= 2), "{connections}, {rate}: {seen:?}");
        }
    }
}

/// Slower ones are seen before the first mail has waited for its dwell, wherever so many fail that they can be told
/// from chance.
#[test]
fn slower_outages_are_seen_before_the_dwell_ends_where_there_are_enough_connections() {
    let mut random = random();
    for (connections, a_minute) in [(20_000, 0.2), (200_000, 0.05), (2_000_000, 0.02)] {
        for _ in 0..amount(10, 200) {
            let seen = delay(&mut random, connections, 1.0, a_minute);
            assert!(seen.is_some_and(|minutes| minutes <= 5), "{connections}, {a_minute} %: {seen:?}");
        }
    }
}
