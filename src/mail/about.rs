//! What an incident's mail is about, as headers that a machine can read: incident, update, phase and components.

use crate::domain::incident::Phase;
use serde::{Deserialize, Serialize};

/// The most of one key that stands in a header: no line may be longer than 998 octets.
const MOST: usize = 600;

/// What an incident's mail is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The source's key of the incident.
    pub incident: String,
    /// The source's id of the update it tells.
    pub update: Option<String>,
    /// The phase it tells; `resolved` for a subscriber whose components all work again.
    pub phase: Phase,
    /// The keys of the components it names.
    pub components: Vec<String>,
}

/// Several keys as one header value, parted by commas.
pub(super) fn listed(keys: &[String]) -> String {
    keys.iter().map(|key| encoded(key)).collect::<Vec<_>>().join(", ")
}

/// A key as it may stand in a header: what could end the line, part a list, be decoded by a reader or be lost in
/// folding is percent-encoded.
pub(super) fn encoded(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    let mut before = ' ';
    for (at, c) in key.char_indices() {
        let rest = &key[at + c.len_utf8()..];
        let plain = match c {
            ',' | '%' => false,
            ' ' => before != ' ' && !rest.is_empty(),
            '=' => !rest.starts_with('?'),
            c => c.is_ascii_graphic(),
        };
        let mut buffer = [0; 4];
        let piece = match plain {
            true => c.to_string(),
            false => c.encode_utf8(&mut buffer).bytes().map(|byte| format!("%{byte:02X}")).collect(),
        };
        if out.len() + piece.len() > MOST {
            break;
        }
        out.push_str(&piece);
        before = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_in_a_header_as_one_word_of_its_list() {
        for (key, header) in [
            ("8l4ygp009s5s", "8l4ygp009s5s"),
            ("Issues, PRs", "Issues%2C PRs"),
            ("100%", "100%25"),
            ("a\r\nBcc: x", "a%0D%0ABcc: x"),
            (" a  b ", "%20a %20b%20"),
            ("=?utf-8?q?x?=", "%3D?utf-8?q?x?="),
            ("a=b", "a=b"),
            ("Störung", "St%C3%B6rung"),
        ] {
            assert_eq!(encoded(key), header, "{key:?}");
        }
        assert_eq!(encoded(&"é".repeat(200)).len(), 600);
        assert_eq!(listed(&["a,b".into(), "c".into()]), "a%2Cb, c");
    }
}
