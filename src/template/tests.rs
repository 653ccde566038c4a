//! What a set of templates promises, on every sample of every kind.

use super::context::{ActionRequiredMail, ComponentLine, ConnectionLine, IncidentMail};
use super::*;
use crate::domain::incident::ComponentStatus;

fn page() -> Page {
    Page {
        name: "Example".to_owned(),
        support_url: Some("https://help.example.com".to_owned()),
        public_url: Some("https://status.example.com".to_owned()),
    }
}

fn templates() -> Templates {
    Templates::embedded(&page()).unwrap()
}

fn every_sample() -> Vec<(Mail, Reader)> {
    let readers = Reader::samples();
    Mail::samples().into_iter().flat_map(|mail| readers.clone().into_iter().map(move |r| (mail.clone(), r))).collect()
}

/// The visible text of an HTML part on one line, and its links.
fn visible(html: &str) -> (String, Vec<String>) {
    let body = html.split_once("<body").unwrap().1.split_once('>').unwrap().1;
    let (mut text, mut links) = (String::new(), Vec::new());
    for piece in body.split('<') {
        let (tag, rest) = piece.split_once('>').unwrap_or(("", piece));
        if let Some((_, href)) = tag.split_once("href=\"") {
            links.push(unescape(href.split('"').next().unwrap()));
        }
        let inline = ["bdi", "/bdi", "a ", "/a", "span", "/span", "strong", "/strong"];
        if !inline.iter().any(|name| tag.starts_with(name)) {
            text.push(' ');
        }
        text.push_str(rest);
    }
    (one_line(&unescape(&text)), links)
}

fn unescape(html: &str) -> String {
    let pairs = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#x27;", "'"),
        ("&#x60;", "`"),
        ("&#x3D;", "="),
        ("&amp;", "&"),
    ];
    pairs.iter().fold(html.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The words that carry facts: numbers, addresses and links.
fn facts(text: &str) -> std::collections::BTreeSet<String> {
    let word = |w: &str| w.trim_matches(['.', ',', ':', '(', ')']).to_owned();
    text.split_whitespace()
        .filter(|w| w.contains(|c: char| c.is_ascii_digit() || c == '@') || w.contains("://"))
        .map(word)
        .collect()
}

#[test]
fn every_sample_renders_small_and_complete() {
    let set = templates();
    for (mail, reader) in every_sample() {
        let Rendered { text, html } = set.render(&mail, &reader).unwrap();
        assert!(html.len() < 40_000 && html.starts_with("<!DOCTYPE html>\n<html lang=\"en\""), "{mail:?}");
        assert!(!html.contains("{{") && !text.contains("{{") && !text.contains('<'), "{text}");
        assert!(html.matches("<table").count() == html.matches("<table role=\"presentation\"").count());
        for remote in ["<img", "<link", "@import", "url(", "src="] {
            assert!(!html.contains(remote), "{remote}");
        }
        let whole = |line: &str| !line.trim().contains(' ') || line.starts_with("allclear ");
        assert!(text.lines().all(|l| l.chars().count() <= 76 || whole(l)), "{text}");
        assert!(text.contains("\n-- \nExample\n") && text.contains("You get this because "), "{text}");
    }
}

#[test]
fn both_parts_say_the_same_facts() {
    let set = templates();
    for (mail, reader) in every_sample() {
        let Rendered { text, html } = set.render(&mail, &reader).unwrap();
        let (shown, links) = visible(&html);
        assert_eq!(facts(&shown), facts(&text), "{text}");
        for link in links {
            assert!(text.contains(&link) && shown.contains(&link), "{link}");
        }
        let flat = one_line(&text);
        let view = view::of(&mail, &reader, &page());
        let mut values = Vec::new();
        strings(&view, &mut values);
        let no_words = |v: &String| *v == view["accent"] || v.starts_with("- ");
        for value in values.iter().filter(|v| !no_words(v)) {
            assert!(shown.contains(value.as_str()), "`{value}` not in {shown}");
            assert!(flat.contains(value.as_str()), "`{value}` not in {flat}");
        }
    }
}

fn strings(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(one_line(text)),
        Value::Array(items) => items.iter().for_each(|item| strings(item, found)),
        Value::Object(map) => map.values().for_each(|item| strings(item, found)),
        _ => {}
    }
}

#[test]
fn the_first_words_are_the_status() {
    let set = templates();
    for (mail, reader) in every_sample() {
        let Rendered { text, html } = set.render(&mail, &reader).unwrap();
        let lead = view::of(&mail, &reader, &page())["lead"].as_str().unwrap().to_owned();
        assert!(one_line(&text).starts_with(&lead) && visible(&html).0.starts_with(&lead), "{lead}");
        match mail {
            Mail::Correction(c) if c.still_open.is_empty() => assert!(lead.starts_with("No action needed. ")),
            Mail::Correction(_) => assert!(lead.starts_with("No action needed for ")),
            Mail::ActionRequired(_) => assert!(lead.starts_with("Action needed")),
            Mail::AllClear(_) => assert!(lead.starts_with("All clear: ")),
            _ => {}
        }
    }
}

#[test]
fn a_late_end_tells_true_times_and_that_it_is_late() {
    let mail = Mail::Incident(IncidentMail::samples().remove(1));
    let text = templates().render(&mail, &Reader::samples()[0]).unwrap().text;
    for line in [
        "Resolved: Member platform works normally again.\n",
        "Began: Thu 30 Apr 2026, 12:30 (UTC+02:00) / 10:30 UTC\n",
        "Ended: Thu 30 Apr 2026, 21:03 (UTC+02:00) / 19:03 UTC\n",
        "Lasted: 8 hours 33 minutes\n",
        "This mail reaches you 52 minutes late.",
        "Not affected: Existing connections go on working.\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn hostile_values_stay_values() {
    let nasty = format!(
        "<script>alert(1)</script> {{{{x}}}} {{{{{{y}}}}}} \"' onload=a & \u{202e}evil\u{2066} {}",
        "A".repeat(10_000)
    );
    let mut incident = IncidentMail::samples().remove(0);
    incident.title.clone_from(&nasty);
    incident.reference.clone_from(&nasty);
    incident.body.clone_from(&nasty);
    incident.consequences = Some(nasty.clone());
    incident.link = Some("javascript:alert(1)".to_owned());
    incident.support_link = Some("https://a.example/\"onmouseover=\"x".to_owned());
    incident.components = vec![ComponentLine { name: nasty.clone(), status: ComponentStatus::MajorOutage }];
    let mut action = ActionRequiredMail::samples().remove(0);
    action.component.clone_from(&nasty);
    action.ask.what_to_do.clone_from(&nasty);
    action.ask.connections = vec![ConnectionLine { name: nasty.clone(), ..action.ask.connections[0].clone() }];
    let reader = Reader { name: Some(nasty.clone()), ..Reader::default() };
    for mail in [Mail::Incident(incident), Mail::ActionRequired(action)] {
        let Rendered { text, html } = templates().render(&mail, &reader).unwrap();
        for markup in ["<script", "onload=a", "javascript:", "\"onmouse", "\u{202e}", "\u{2066}"] {
            assert!(!html.contains(markup), "{markup}");
        }
        assert!(
            html.contains("&lt;script&gt;alert(1)&lt;/script&gt; {{x}} {{{y}}} &quot;&#x27; onload&#x3D;a &amp; evil")
        );
        assert!(text.contains("<script>alert(1)</script> {{x}} {{{y}}} \"' onload=a & evil"), "{text}");
        assert!(!text.contains('\u{202e}'));
    }
}

#[test]
fn a_context_reads_back_from_its_json_and_no_sample_time_is_mistyped() {
    for mail in Mail::samples() {
        let json = serde_json::to_string(&mail).unwrap();
        assert!(json.contains(&format!("\"kind\":\"{}\"", mail.kind())) && !json.contains("\"1970"), "{json}");
        assert_eq!(serde_json::from_str::<Mail>(&json).unwrap(), mail);
    }
}

#[test]
fn a_subject_is_one_short_line() {
    let set = templates();
    let incident = |title: &str| Matter::Incident { title: title.to_owned(), reference: String::new() };
    assert_eq!(set.subject(&incident("A & B\r\nBcc: x\0<y>")).unwrap(), "[Example] A & B Bcc: x <y>");
    assert_eq!(set.subject(&incident(&"x".repeat(500))).unwrap().chars().count(), 120);
    let connections = Matter::Connections { component: "Outlook".to_owned() };
    assert_eq!(set.subject(&connections).unwrap(), "Your connection to Outlook");
    assert_eq!(set.subject(&Matter::Notice { subject: "Hello".to_owned() }).unwrap(), "Hello");
}

/// The fault of the embedded set with one template replaced or added.
fn fault(name: &str, source: &str) -> TemplateError {
    let mut sources = embedded();
    sources.insert(name.to_owned(), source.to_owned());
    Templates::load(&sources, &page()).err().unwrap()
}

#[test]
fn an_unknown_path_is_refused_with_its_place() {
    let unknown = |path: &str| Fault::UnknownPath(path.to_owned());
    for (source, path, column) in [
        ("ok\n {{nope}}", "nope", 2),
        ("ok\n {{#if nope}}x{{/if}}", "nope", 2),
        ("ok\n {{#each nope}}x{{/each}}", "nope", 2),
        ("ok\n {{#each body}}{{nope}}{{/each}}", "nope", 16),
        ("ok\n {{#unless link.nope}}x{{/unless}}", "link.nope", 2),
    ] {
        let found = fault("mail/free/body.txt", source);
        let place = format!("mail/free/body.txt.hbs:2:{column}");
        assert_eq!((found.place(), &found.fault), (place, &unknown(path)));
        assert!(found.hint().contains("lead") || found.hint().contains("lines"), "{}", found.hint());
    }
}

#[test]
fn what_cannot_be_checked_or_is_unsafe_is_refused() {
    let free = |source| fault("mail/free/body.html", source).fault;
    assert_eq!(free("{{{lead}}}"), Fault::Unescaped);
    assert_eq!(free("{{&lead}}"), Fault::Unescaped);
    assert_eq!(free("{{#if link}}{{{link}}}{{/if}}"), Fault::Unescaped);
    assert_eq!(free("{{link}}"), Fault::NotText("link".to_owned()));
    assert_eq!(free("{{body}}"), Fault::NotText("body".to_owned()));
    assert_eq!(free("{{#each lead}}x{{/each}}"), Fault::NotList("lead".to_owned()));
    assert!(matches!(free("{{#*inline \"a\"}}{{/inline}}"), Fault::Unsupported(_)));
    assert!(matches!(free("{{lookup body 0}}"), Fault::Unsupported(_)));
    assert!(matches!(free("{{#if (eq link lead)}}x{{/if}}"), Fault::Unsupported(_)));
    assert!(matches!(free("{{#if link}}"), Fault::Syntax(_)));
    assert!(matches!(free("{{#> layouts/mail.html~}}x{{/layouts/mail.html}}"), Fault::Unsupported(_)));
    assert_eq!(free("{{#if lead}}x{{else}}{{nope}}{{/if}}"), Fault::Unreached);
    assert_eq!(fault("mail/fre/body.html", "x").fault, Fault::Unused);
    let mut sources = embedded();
    sources.remove("mail/all_clear/body.txt");
    let missing = Templates::load(&sources, &page()).err().unwrap();
    assert_eq!((missing.template.as_str(), missing.fault), ("mail/all_clear/body.txt", Fault::Missing));
}

#[test]
fn a_value_stands_only_where_escaping_protects_it() {
    for (source, column, place) in [
        ("<img alt={{lead}}>", 10, "without quotes"),
        ("<img alt = {{lead}}>", 12, "without quotes"),
        ("<img alt=a{{lead}}>", 11, "without quotes"),
        ("<script>var t={{lead}}</script>", 15, "<script>"),
        ("<SCRIPT type=\"x\">'</b>{{lead}}'</SCRIPT>", 23, "<script>"),
        ("<style>{{#if lead}}p { color: {{lead}} }{{/if}}</style>", 31, "<style>"),
        ("<a onclick=\"f('{{lead}}')\">x</a>", 16, "event handler"),
        ("<a title=\"x\" OnClick = '{{lead}}'>x</a>", 25, "event handler"),
        ("<a href=\"{{lead}}\">x</a>", 10, "link"),
        ("<p style=\"color:{{lead}}\">x</p>", 17, "style"),
        ("<p {{lead}}>x</p>", 4, "tag"),
        ("<{{lead}}>x", 2, "tag"),
        ("<p title=\"x\"{{lead}}>x</p>", 13, "tag"),
        ("{{#if link}}<script>{{else}}<b>{{/if}}{{lead}}", 39, "<script>"),
        ("<script>{{#if link}}</script>{{/if}}{{lead}}", 37, "<script>"),
    ] {
        let html = format!("ok\n{source}");
        let found = fault("mail/free/body.html", &html);
        assert_eq!(found.place(), format!("mail/free/body.html.hbs:2:{column}"), "{source}: {found}");
        assert!(matches!(found.fault, Fault::Exposed(..)) && found.to_string().contains(place), "{source}: {found}");
        assert!(!found.hint().is_empty());
    }
    // The place of a partial counts, wherever it is written.
    let mut sources = embedded();
    sources.insert("mail/free/body.html".to_owned(), "<script>{{> layouts/mine.html}}</script>".to_owned());
    sources.insert("layouts/mine.html".to_owned(), "{{lead}}".to_owned());
    let found = Templates::load(&sources, &page()).err().unwrap();
    assert_eq!(found.place(), "layouts/mine.html.hbs:1:1");
    sources.insert("mail/free/body.html".to_owned(), "{{#> layouts/mine.html}}x{{/layouts/mine.html}}".to_owned());
    sources.insert("layouts/mine.html".to_owned(), "<style>{{> @partial-block}}</style>".to_owned());
    let found = Templates::load(&sources, &page()).err().unwrap();
    assert_eq!(found.place(), "layouts/mine.html.hbs:1:8");
}

#[test]
fn a_value_in_text_between_quotes_and_after_code_is_fine() {
    for source in [
        "<p title=\"{{lead}}\" lang='{{lead}}'>{{lead}}</p>",
        "<script>1 < 2</script><style>p { color: red }</style>{{lead}}",
        "<!-- <script> {{lead}} -->{{lead}}<br/>1 < 2 {{lead}}",
        "<a href=\"https://example.com/?q={{lead}}\">x</a>{{#if link}}<a href='{{@root.link}}'>x</a>{{/if}}",
        "<td {{#if link}}class=\"a\"{{else}}class=b{{/if}} title=\"{{lead}}\">{{lead}}",
        "<p style=\"color:{{accent}}\">{{#each body}}<br>{{> layouts/block.html}}{{/each}}",
    ] {
        let mut sources = embedded();
        sources.insert("mail/free/body.html".to_owned(), source.to_owned());
        assert_eq!(Templates::load(&sources, &page()).err(), None, "{source}");
    }
}

#[test]
fn partials_in_a_circle_are_refused() {
    let mut sources = embedded();
    sources.insert("layouts/a.html".to_owned(), "\n {{#if lead}}{{> layouts/b.html}}{{/if}}".to_owned());
    sources.insert(
        "layouts/b.html".to_owned(),
        "{{#> layouts/mail.html}}{{> layouts/a.html}}{{/layouts/mail.html}}".to_owned(),
    );
    let found = Templates::load(&sources, &page()).err().unwrap();
    let circle = Fault::Cycle("layouts/a.html > layouts/b.html > layouts/a.html".to_owned());
    assert_eq!((found.template.as_str(), found.line, found.fault), ("layouts/b.html", 1, circle));
    let itself = fault("layouts/mail.html", "{{> layouts/mail.html}}").fault;
    assert_eq!(itself, Fault::Cycle("layouts/mail.html > layouts/mail.html".to_owned()));
    assert_eq!(
        fault("mail/free/body.html", "{{> layouts/mail.txt}}").fault,
        Fault::UnknownPartial("layouts/mail.txt".to_owned())
    );
}

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

#[test]
fn every_fault_is_told_with_its_place_and_a_hint() {
    let folder = folder(&[
        (
            "mail/free/body.html.hbs",
            "{{{lead}}}\n{{#if nope}}x{{/if}}\n{{shout lead}}\n{{> layouts/gone.html}}\n{{lead}} {{&lead}}",
        ),
        ("mail/free/body.txt.hbs", "{{#if lead}}never closed"),
        ("mail/incident/subject.txt.hbs", "{{page}}\n{{titel}}\n"),
        ("layouts/a.txt.hbs", "{{> layouts/b.txt}}"),
        ("layouts/b.txt.hbs", "{{> layouts/a.txt}}"),
        ("mail/fre/body.txt.hbs", "x"),
        ("notes.md", "x"),
        (".DS_Store", "x"),
    ]);
    let faults = Templates::faults(Some(folder.path()), &page());
    let mut places: Vec<_> = faults.iter().map(TemplateError::place).collect();
    places.sort();
    let expected = [
        "layouts/b.txt.hbs:1:1",
        "mail/fre/body.txt.hbs",
        "mail/free/body.html.hbs:1:1",
        "mail/free/body.html.hbs:2:1",
        "mail/free/body.html.hbs:3:1",
        "mail/free/body.html.hbs:4:1",
        "mail/free/body.html.hbs:5:10",
        "mail/free/body.txt.hbs:1:25",
        "mail/incident/subject.txt.hbs:1:9",
        "mail/incident/subject.txt.hbs:2:1",
        "notes.md",
    ];
    assert_eq!(places, expected, "{faults:#?}");
    let hint = |place: &str| faults.iter().find(|f| f.place() == place).unwrap().hint();
    assert!(hint("mail/incident/subject.txt.hbs:2:1").ends_with("page, reference, title"));
    assert!(
        hint("mail/fre/body.txt.hbs").contains("mail/free/body.txt") && !hint("mail/fre/body.txt.hbs").contains("html")
    );
    assert!(hint("notes.md").contains("layouts/mail.html"));
    assert!(faults.iter().all(|f| !f.hint().is_empty()));
    assert!(Templates::overlaid(Some(folder.path()), &page()).is_err());
}

#[test]
fn files_of_a_folder_are_laid_over_the_built_in_ones() {
    let mine = folder(&[
        ("mail/free/body.txt.hbs", "Dear reader,\n{{> layouts/greeting.txt}}"),
        (
            "layouts/greeting.txt.hbs",
            "{{#> layouts/mail.txt}}{{#each body}}{{> layouts/prose.txt}}{{/each}}\
            {{#if link}}{{link}}{{/if}}{{/layouts/mail.txt}}",
        ),
    ]);
    assert_eq!(Templates::faults(Some(mine.path()), &page()), []);
    let set = Templates::overlaid(Some(mine.path()), &page()).unwrap();
    assert_ne!(set.set_hash(), templates().set_hash());
    let mail = Mail::samples().into_iter().find(|mail| mail.kind() == "free").unwrap();
    assert!(set.render(&mail, &Reader::default()).unwrap().text.starts_with("Dear reader,\n"));
    assert_eq!(Templates::overlaid(None, &page()).unwrap().set_hash(), templates().set_hash());

    let unused = folder(&[("layouts/mine.html.hbs", "x")]);
    let found = Templates::faults(Some(unused.path()), &page());
    assert!(
        matches!(&found[..], [f] if f.fault == Fault::Unused && f.hint().contains("layouts/mail.html")),
        "{found:?}"
    );
    let gone = Templates::faults(Some(&unused.path().join("gone")), &page());
    assert!(matches!(&gone[..], [f] if matches!(f.fault, Fault::Unreadable(_))), "{gone:?}");
}

#[test]
fn a_subject_is_one_line_that_says_something() {
    assert_eq!(fault("mail/free/subject.txt", "{{subject}}\r\nBcc: x").fault, Fault::LineBreak);
    for name in ["mail/incident/subject.txt", "mail/free/body.txt", "mail/free/body.html"] {
        assert_eq!(fault(name, "  \n").fault, Fault::Blank);
    }
    assert_eq!(fault("mail/free/subject.txt", "{{{subject}}}").fault, Fault::Unescaped);
}

#[test]
fn the_hash_is_that_of_the_sources() {
    let (set, mut sources) = (templates(), embedded());
    sources.insert("mail/free/subject.txt".to_owned(), "{{subject}}!".to_owned());
    let changed = Templates::load(&sources, &page()).unwrap();
    assert_eq!((set.set_hash().len(), set.set_hash() == templates().set_hash()), (64, true));
    assert_ne!(set.set_hash(), changed.set_hash());
}
