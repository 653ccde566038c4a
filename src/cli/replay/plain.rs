//! A status page's HTML as plain text.

/// The tags that status pages write. Anything else between angle brackets is text.
const TAGS: &[&str] = &[
    "a",
    "b",
    "blockquote",
    "br",
    "code",
    "div",
    "em",
    "h1",
    "h2",
    "h3",
    "h4",
    "hr",
    "i",
    "img",
    "li",
    "ol",
    "p",
    "pre",
    "small",
    "span",
    "strong",
    "sub",
    "sup",
    "table",
    "tbody",
    "td",
    "th",
    "tr",
    "u",
    "ul",
    "var",
];

/// Tags become line breaks or nothing, and entities their characters.
pub fn text(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (piece, length) = tag(rest).or_else(|| entity(rest)).unwrap_or_else(|| (rest[..1].to_owned(), 1));
        out.push_str(&piece);
        rest = &rest[length..];
    }
    out.push_str(rest);
    out.trim().to_owned()
}

fn tag(text: &str) -> Option<(String, usize)> {
    let inner = &text.strip_prefix('<')?[..text.find('>')?.checked_sub(1)?];
    let name = inner.trim_start_matches('/').split(|c: char| c.is_whitespace() || c == '/').next()?.to_lowercase();
    let closes = inner.starts_with('/');
    let becomes = match name.as_str() {
        "li" if !closes => "\n- ",
        "br" | "hr" | "tr" => "\n",
        "p" | "ul" | "ol" | "div" | "blockquote" | "pre" | "table" | "h1" | "h2" | "h3" | "h4" => "\n\n",
        _ => "",
    };
    TAGS.contains(&name.as_str()).then(|| (becomes.to_owned(), inner.len() + 2))
}

fn entity(text: &str) -> Option<(String, usize)> {
    let name = &text.strip_prefix('&')?[..text.find(';').filter(|end| *end < 12)?.checked_sub(1)?];
    let number = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
    let c = match (name, name.strip_prefix('#')) {
        ("amp", _) => '&',
        ("lt", _) => '<',
        ("gt", _) => '>',
        ("quot", _) => '"',
        ("apos", _) => '\'',
        ("nbsp", _) => ' ',
        (_, Some(digits)) => match digits.strip_prefix(['x', 'X']) {
            Some(hex) => number(hex, 16)?,
            None => number(digits, 10)?,
        },
        _ => return None,
    };
    Some((c.to_string(), name.len() + 2))
}

#[cfg(test)]
mod tests {
    #[test]
    fn markup_becomes_lines_and_the_rest_stays() {
        for (html, text) in [
            ("<ul><li><strong>02:50</strong> - a &amp; b</li><li>c</li></ul>", "- 02:50 - a & b\n- c"),
            ("<p>One.</p><p>Two<br />three.</p>", "One.\n\n\n\nTwo\nthree."),
            ("latency < 5 s, 3 > 2, <model> & AT&T;", "latency < 5 s, 3 > 2, <model> & AT&T;"),
            ("&#39;x&#x27; &lt;b&gt; &nope; &", "'x' <b> &nope; &"),
            ("<a href=\"https://a.example\">here</a>é<", "hereé<"),
        ] {
            assert_eq!(super::text(html), text, "{html}");
        }
    }
}
