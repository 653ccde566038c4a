//! What reads bytes from outside, fed with its seeds changed at random: the short form of `tests/run --deep fuzz`.

#[path = "../../fuzz/checks.rs"]
mod checks;

use crate::amount::{amount, random};
use rand::RngExt;
use rand::rngs::StdRng;

/// Pieces that parsers trip over.
const PIECES: [&[u8]; 16] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\"",
    b"\\u0000",
    b"{",
    b"}",
    b"[",
    b"null",
    b"-",
    b"9999999999999999999",
    b"\xff",
    "\u{202e}é".as_bytes(),
    b"=?utf-8?q?=0d=0a?=",
    b"\x1f",
];

/// A seed with some bytes changed, doubled, cut out or put in.
fn changed(seed: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=bytes.len());
        let until = (at + random.random_range(0..30)).min(bytes.len());
        let piece = PIECES[random.random_range(0..PIECES.len())];
        match random.random_range(0..5) {
            0 => drop(bytes.splice(at..at, piece.iter().copied())),
            1 => drop(bytes.drain(at..until)),
            2 => drop(bytes.splice(at..until, piece.iter().copied())),
            3 => drop(bytes.splice(at..at, bytes[at..until].to_vec())),
            _ => bytes[at.min(seed.len()).min(until)..until].iter_mut().for_each(|byte| *byte = random.random()),
        }
    }
    bytes
}

fn feed(what: &str, check: impl Fn(&[u8])) {
    let mut random = random();
    let seeds = std::fs::read_dir(format!("fuzz/seeds/{what}")).unwrap();
    let mut seeds: Vec<_> = seeds.map(|seed| std::fs::read(seed.unwrap().path()).unwrap()).collect();
    seeds.sort();
    let times = amount(20_000, 1_000_000);
    for seed in &seeds {
        check(seed);
    }
    for _ in 0..times {
        let given = changed(&seeds[random.random_range(0..seeds.len())], &mut random);
        // What it was, for whoever sees it fail.
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&given)));
        assert!(told.is_ok(), "{what} fails with {:?}", String::from_utf8_lossy(&given));
    }
    println!("{what}: {times} changed seeds");
}

#[test]
fn history_files() {
    feed("history", checks::history);
}

#[test]
fn replies_of_a_relay() {
    feed("replies", checks::replies);
}

#[test]
fn headers_of_a_mail() {
    feed("headers", |given| checks::headers(&String::from_utf8_lossy(given)));
}

#[test]
fn notices_and_signals() {
    feed("notices", checks::notices);
}
