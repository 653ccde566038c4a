//! How much a test does, and with which random numbers.
#![allow(dead_code)]

use rand::SeedableRng;
use rand::rngs::StdRng;

/// The amount of a normal run, or that of `tests/run --deep`.
pub fn amount(normal: u64, deep: u64) -> u64 {
    if std::env::var_os("ALLCLEAR_TEST_DEEP").is_some() { deep } else { normal }
}

/// Random numbers of this test. The seed is printed, so that a failure shows it; `ALLCLEAR_TEST_SEED` sets it.
pub fn random() -> StdRng {
    let seed = seed();
    println!("replay with ALLCLEAR_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// The seed alone, for those that make their numbers otherwise: new ones in a deep run, the same ones in every normal
/// run, which must not fail for what nobody has changed.
pub fn seed() -> u64 {
    match std::env::var("ALLCLEAR_TEST_SEED") {
        Ok(text) => text.parse().expect("ALLCLEAR_TEST_SEED is a whole number"),
        Err(_) => amount(1, rand::random()),
    }
}
