//! Links that mails may have: only `https`, `http` and `mailto`, and nothing that could end an attribute or mislead.

/// How links begin.
pub const SCHEMES: [&str; 3] = ["https://", "http://", "mailto:"];
/// The longest link, in octets.
pub const LONGEST: usize = 2_000;

/// Whether a character reorders the text after it, or marks the byte order: never printed.
#[must_use]
pub const fn misleads(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Whether a text is a link that may be followed.
#[must_use]
pub fn is_link(text: &str) -> bool {
    let begins = |scheme: &str| {
        text.len() > scheme.len() && text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme))
    };
    let plain =
        |c: char| !c.is_control() && !c.is_whitespace() && !misleads(c) && !matches!(c, '<' | '>' | '"' | '`' | '\\');
    SCHEMES.into_iter().any(begins) && text.len() <= LONGEST && text.chars().all(plain)
}
