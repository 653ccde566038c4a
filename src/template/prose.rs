//! Texts and links from outside made fit to print: control characters out, paragraphs and lists
//! found, links recognised. Only `https`, `http` and `mailto` ever become links.

use crate::domain::link::{LONGEST, SCHEMES, is_link, misleads};
use serde_json::{Value, json};

/// The longest single-line value: a name, a title, a reference.
pub(super) const NAME: usize = 200;
/// The longest single-line text.
pub(super) const SENTENCE: usize = 2_000;

/// A value on one line: control characters and line breaks become single spaces, too long is cut.
pub(super) fn one_line(text: &str, longest: usize) -> String {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let spaced: String = text.chars().filter(|c| !misleads(*c)).map(|c| if breaks(c) { ' ' } else { c }).collect();
    let line = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= longest {
        return line;
    }
    let cut: String = line.chars().take(longest.saturating_sub(1)).collect();
    format!("{}…", cut.trim_end())
}

/// A single-line text that may be absent or empty.
pub(super) fn sentence(text: Option<&String>) -> Option<String> {
    text.map(|text| one_line(text, SENTENCE)).filter(|text| !text.is_empty())
}

/// The link itself when it is one that may be followed.
pub(super) fn link(text: Option<&String>) -> Option<String> {
    text.map(|text| text.trim()).filter(|text| is_link(text)).map(str::to_owned)
}

/// A text as blocks `{list, lines: [{text, parts: [{text, href}]}]}`: paragraphs are parted by
/// blank lines, lists are runs of lines that begin with a bullet.
pub(super) fn blocks(text: &str) -> Value {
    let mut blocks: Vec<(bool, Vec<Value>)> = Vec::new();
    let mut fresh = true;
    for line in text.replace("\r\n", "\n").split(['\n', '\r', '\u{2028}', '\u{2029}']) {
        let line = one_line(line, usize::MAX);
        if line.is_empty() {
            fresh = true;
            continue;
        }
        let bullet = ["- ", "• ", "* "].iter().find_map(|bullet| line.strip_prefix(bullet));
        let list = bullet.is_some();
        let content = bullet.unwrap_or(&line);
        let shown = if list { format!("- {content}") } else { content.to_owned() };
        let value = json!({ "text": shown, "parts": parts(content) });
        match blocks.last_mut().filter(|(kind, _)| *kind == list && (!fresh || list)) {
            Some((_, lines)) => lines.push(value),
            None => blocks.push((list, vec![value])),
        }
        fresh = false;
    }
    blocks.into_iter().map(|(list, lines)| json!({ "list": list, "lines": lines })).collect()
}

/// A line cut into plain and linked parts.
fn parts(line: &str) -> Vec<Value> {
    let mut parts = Vec::new();
    let mut plain_from = 0;
    let mut at = 0;
    while let Some(start) = next_scheme(line, at) {
        let length = link_length(&line[start..]);
        at = start + length.max(1);
        let Some(href) = link(Some(&line[start..start + length].to_owned())) else { continue };
        if plain_from < start {
            parts.push(json!({ "text": &line[plain_from..start], "href": null }));
        }
        parts.push(json!({ "text": href, "href": href }));
        plain_from = start + length;
    }
    if plain_from < line.len() {
        parts.push(json!({ "text": &line[plain_from..], "href": null }));
    }
    parts
}

/// Where the next link begins: a scheme at the beginning of a word.
fn next_scheme(line: &str, from: usize) -> Option<usize> {
    line[from..].char_indices().map(|(at, _)| from + at).find(|at| {
        SCHEMES.iter().any(|scheme| line[*at..].starts_with(scheme)) && !line[..*at].ends_with(char::is_alphanumeric)
    })
}

/// How long the link at the beginning is: up to a blank or quote, without the sentence's punctuation.
fn link_length(rest: &str) -> usize {
    let end = rest
        .find(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"' | '`' | '\\' | '”' | '»'))
        .unwrap_or(rest.len());
    if end > LONGEST {
        return end;
    }
    let mut url = &rest[..end];
    loop {
        let unopened = url.ends_with(')') && url.matches(')').count() > url.matches('(').count();
        match url.strip_suffix(['.', ',', ';', ':', '!', '?', '\'', '…', '’', ']']) {
            Some(shorter) => url = shorter,
            None if unopened => url = &url[..url.len() - 1],
            None => return url.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_reordering_characters_go() {
        assert_eq!(one_line(" a\r\nb\0c\u{202e}d\u{2066}e\u{feff} ", 50), "a b cde");
    }

    #[test]
    fn what_is_too_long_is_cut_visibly() {
        let cut = one_line(&"x".repeat(10_000), NAME);
        assert_eq!(cut.chars().count(), NAME);
        assert!(cut.ends_with('…'));
    }

    #[test]
    fn only_known_schemes_are_links() {
        for good in ["https://a.example/x?y=1&z=2", "HTTP://a.example", "mailto:help@a.example"] {
            assert_eq!(link(Some(&good.to_owned())).as_deref(), Some(good));
        }
        for bad in [
            "javascript:alert(1)",
            "data:text/html,x",
            "//a.example",
            "https://",
            "https://a b",
            "https://a\"b",
            "",
            "é",
        ] {
            assert_eq!(link(Some(&bad.to_owned())), None, "{bad}");
        }
    }

    #[test]
    fn links_in_a_sentence_end_before_its_punctuation() {
        let parts = parts("See (https://a.example/b_(c)), or mailto:x@y.example. nothttps://z");
        let shown: Vec<_> = parts.iter().map(|p| (p["text"].as_str().unwrap(), !p["href"].is_null())).collect();
        assert_eq!(
            shown,
            [
                ("See (", false),
                ("https://a.example/b_(c)", true),
                ("), or ", false),
                ("mailto:x@y.example", true),
                (". nothttps://z", false)
            ]
        );
    }

    #[test]
    fn what_only_looks_like_a_link_stays_text() {
        for odd in
            ["https://", "mailto:", "https://.", "xhttps://a.example", &format!("https://{}", ")".repeat(100_000))]
        {
            let parts = parts(odd);
            assert!(parts.iter().all(|p| p["href"].is_null()), "{odd}");
            assert_eq!(parts.iter().filter_map(|p| p["text"].as_str()).collect::<String>(), odd);
        }
    }

    #[test]
    fn paragraphs_and_lists_are_told_apart() {
        let blocks = blocks("One\ntwo\r\n\r\nTimes:\n- a\n• b\n\n- c\nEnd");
        let shape: Vec<_> = blocks
            .as_array()
            .unwrap()
            .iter()
            .map(|b| (b["list"].as_bool().unwrap(), b["lines"].as_array().unwrap().len()))
            .collect();
        assert_eq!(shape, [(false, 2), (false, 1), (true, 3), (false, 1)]);
        assert_eq!(blocks[2]["lines"][1]["text"], "- b");
    }
}
