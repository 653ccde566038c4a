//! Numbers for people.

use std::fmt::Display;

/// A whole number with its thousands parted.
#[must_use]
pub fn thousands(n: impl Display) -> String {
    let digits = n.to_string();
    let parts: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    parts.join(",")
}
