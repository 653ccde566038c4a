//! Flattening: a checked template with its partials written into it. handlebars copies the whole context for each
//! partial it enters, which costs more than the rest of a mail together; a set that has passed the checks has only
//! plain partials, so that putting their text in their place says the same.

use super::graph::BLOCK;
use super::sources::Sources;

/// The source of a template without partials. `sources` have passed the checks: every partial is there and no
/// partial includes itself.
pub(super) fn flatten(sources: &Sources, source: &str) -> String {
    expand(sources, source, "")
}

fn expand(sources: &Sources, source: &str, block: &str) -> String {
    let mut out = String::with_capacity(source.len() * 2);
    let mut rest = source;
    while let Some(start) = rest.find("{{") {
        let Some(end) = rest[start..].find("}}").map(|at| start + at + 2) else { break };
        let tag = rest[start + 2..end - 2].trim();
        let (inserted, next) = if let Some(name) = tag.strip_prefix("#>") {
            let name = name.trim();
            let close = format!("{{{{/{name}}}}}");
            let Some(length) = rest[end..].find(&close) else { break };
            let inner = expand(sources, without_first_line_end(&rest[end..end + length]), block);
            (expand(sources, partial(sources, name), &inner), end + length + close.len())
        } else if let Some(name) = tag.strip_prefix('>') {
            let name = name.trim();
            let text = if name == BLOCK { block.to_owned() } else { expand(sources, partial(sources, name), block) };
            (text, end)
        } else {
            out.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        };
        let before = &rest[..start];
        let after = &rest[next..];
        // As handlebars does: a tag alone on its line takes the line's end with it.
        let alone = line_is_empty_so_far(before) && (after.starts_with('\n') || after.is_empty());
        out.push_str(before);
        out.push_str(&inserted);
        rest = if alone { after.strip_prefix('\n').unwrap_or(after) } else { after };
    }
    out.push_str(rest);
    out
}

/// The first tag of a partial that [`flatten`] reads otherwise than handlebars: its place (line and column, from 1), and
/// what it is.
pub(super) fn misread(source: &str) -> Option<((usize, usize), &'static str)> {
    let mut open: Vec<&str> = Vec::new();
    let mut from = 0;
    while let Some(start) = source[from..].find("{{").map(|at| from + at) {
        let end = source[start..].find("}}").map(|at| start + at)?;
        let inside = &source[start + 2..end];
        let tag = inside.trim_matches('~').trim();
        let closes = open.last().is_some_and(|name| tag.strip_prefix('/').map(str::trim) == Some(name));
        let block = tag.strip_prefix("#>").map(str::trim);
        let what = match block {
            Some(name) if open.contains(&name) => Some("a partial around itself"),
            _ if (closes || block.is_some() || tag.starts_with('>')) && inside.contains('~') => {
                Some("`~` at a partial")
            }
            _ if closes && inside.contains(char::is_whitespace) => Some("a blank in the tag that ends a partial"),
            _ => None,
        };
        if let Some(what) = what {
            let before: Vec<&str> = source[..start].split('\n').collect();
            let column = before.last().map_or(0, |line| line.chars().count()) + 1;
            return Some(((before.len(), column), what));
        }
        open.extend(block);
        if closes {
            open.pop();
        }
        from = end + 2;
    }
    None
}

fn partial<'a>(sources: &'a Sources, name: &str) -> &'a str {
    sources.get(name).map_or("", String::as_str)
}

fn line_is_empty_so_far(before: &str) -> bool {
    before.rsplit('\n').next().is_some_and(|line| line.trim().is_empty())
}

fn without_first_line_end(text: &str) -> &str {
    text.strip_prefix('\n').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::{Mail, Page, Reader, Templates, embedded, view};
    use handlebars::{Handlebars, html_escape, no_escape};

    fn sources(list: &[(&str, &str)]) -> Sources {
        list.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_layout_takes_its_block_and_partials_their_place() {
        let set = sources(&[("layout", "<a>\n{{> @partial-block}}\n</a>\n"), ("line", "[{{text}}]")]);
        let flat = flatten(&set, "{{#> layout}}\n{{#each lines}}{{> line}}{{/each}}\n{{/layout}}\n");
        assert_eq!(flat, "<a>\n{{#each lines}}[{{text}}]{{/each}}\n</a>\n");
    }

    #[test]
    fn what_would_be_read_otherwise_is_known() {
        for (source, place) in [
            ("a\n é{{> line~}}", Some((2, 3))),
            ("{{~> line}}", Some((1, 1))),
            ("{{~#> layout}}x{{/layout}}", Some((1, 1))),
            ("{{#> layout}}x{{/layout~}}", Some((1, 15))),
            ("{{#> layout}}x{{/ layout}}", Some((1, 15))),
            ("{{#> layout}}A{{#> layout}}B{{/layout}}{{/layout}}", Some((1, 15))),
            ("{{#> layout}}x{{/layout}}{{#> layout}}y{{> line}}{{/layout}}{{~#if a~}}{{~/if~}}", None),
        ] {
            assert_eq!(misread(source).map(|(place, _)| place), place, "{source}");
        }
    }

    #[test]
    fn the_flat_set_says_what_the_set_with_partials_says() {
        let page = Page { name: "Example".into(), support_url: None, public_url: Some("https://example.com".into()) };
        let set = embedded();
        let templates = Templates::load(&set, &page).unwrap();
        for (part, escape) in [("html", html_escape as fn(&str) -> String), ("txt", no_escape)] {
            let mut plain = Handlebars::new();
            plain.set_strict_mode(true);
            plain.set_prevent_indent(true);
            plain.register_escape_fn(escape);
            for (name, source) in set.iter().filter(|(name, _)| name.contains(part)) {
                plain.register_template_string(name, source).unwrap();
            }
            for mail in Mail::samples() {
                let reader = Reader { name: None, locale: "en".into(), zone: "UTC".into() };
                let expected = plain
                    .render(&format!("mail/{}/body.{part}", mail.kind()), &view::of(&mail, &reader, &page))
                    .unwrap();
                let rendered = templates.render(&mail, &reader).unwrap();
                let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
                let got = if part == "html" { rendered.html } else { rendered.text };
                assert_eq!(squeezed(&got), squeezed(&expected), "{} {part}", mail.kind());
            }
        }
    }
}
