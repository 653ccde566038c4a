//! What a source says is text, never a header, a command, a template or markup: hostile values in every
//! field are refused with the field's name, or mailed as one mail that looks like any other.

use crate::mime::{decoded, headers, links, part, tags};
use crate::on_both;
use crate::support::{Got, On, World};
use allclear::flow::ingest::IngestError;
use allclear::flow::register;
use serde_json::{Value, json};
use std::collections::HashMap;

on_both! {
    hostile_values_are_refused_by_name_or_mailed_as_text;
}

const START: &str = "2025-06-02T08:00:00Z";

#[rustfmt::skip] // one a line would be five times as long
const FRAGMENTS: &[&str] = &[
    "a\rb", "a\nb", "a\r\nBcc: eve@evil.example", "a\r\n\r\n<p>body", "a\r\n.\r\nMAIL FROM:<eve@evil.example>",
    "a\nBcc: eve@evil.example", "\u{0}", "a\u{0}b", "\u{1b}[2J", "\u{8}\u{7f}", "\u{85}a\u{2028}b\u{2029}c",
    "\u{b}\u{c}", "{{", "}}", "{{{", "{{title}}", "{{{title}}}", "{{> layouts/mail.html}}", "{{> @partial-block}}",
    "{{/if}}", "{{#each x}}", "{{lookup this \"page\"}}", "{{!-- --}}", "\\{{x}}", "{{&x}}", "<%= 1 %>", "${7*7}",
    "%s%n%d", "\u{202e}gnp.exe", "\u{2066}a\u{2069}", "\u{202a}\u{202d}x\u{202c}", "\u{feff}bom",
    "a\u{200b}b\u{200d}c\u{2060}", "\u{fffd}\u{fffe}", "\u{10ffff}", "a\u{301}\u{301}\u{301}\u{301}", "<", ">", "&",
    "\"", "'", "&lt;b&gt;", "&#60;i&#62;", "&amp;amp;", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>",
    "<b>bold</b>", "</td></tr></table>", "</title><h1>x", "<!-- x -->", "-->", "<![endif]-->",
    "<style>*{display:none}</style>", "<a href=\"https://evil.example\">here</a>", "\" onmouseover=\"alert(1)",
    "' onmouseover='alert(1)", "\"><img src=x>", "`><img>", "javascript:alert(1)", "JaVaScRiPt:alert(1)",
    "data:text/html,<b>x</b>", "vbscript:x", "file:///etc/passwd", "https://a.example/\"><b>x</b>",
    "https://a.example/?q='onclick='x", "http://a.example/<b>", "https://a.example/{{x}}",
    "https://a.example/\u{202e}moc", "https://a.example/a b", "mailto:a@b.example?bcc=eve@evil.example",
    "https://user:pass@evil.example/", "//evil.example/x", "HTTPS://A.EXAMPLE/X", "https://",
    "https://a.example/\\..\\x", ".", "..", ".\n.\n", "a\n.\nb", "\n.", "=?utf-8?q?=0D=0ABcc=3A_eve=40evil.example?=",
    "=?utf-8?b?PGI+eDwvYj4=?=", "=?utf-8?q?RE:_invoice_=E2=80=AEfdp.exe?=", "=?UTF-8?B?4oCuZ3A=?=", "=?", "?=", "=0D=0A",
    "=3Cb=3E", "--allclear-", "-- ", "--", "Content-Type: text/html", "From eve", "Subject: x", "\"eve\" <eve@evil.example>",
    "eve@evil.example, a@b.example", "<eve@evil.example>", "' OR 1=1 --", "'; DROP TABLE delivery; --", "$1", "?",
    "%00", "../../etc/passwd", " ", "\t", "", "\u{a0}", "- item\n- item", "* x\n\n\n\n* y", "# x",
    "[x](javascript:alert(1))", "null", "true", "-1", "1e999",
];

/// Each fragment in several surroundings, and a few too long for most fields: 500 in all.
fn values() -> Vec<String> {
    let mut values: Vec<String> =
        vec!["x".repeat(10_000), "<b>".repeat(4_000), "{{x}} ".repeat(2_000), "a\n".repeat(5_000)];
    for around in [["", ""], ["Inbox ", ""], ["", " and more"], ["x\n\n", "\n\nx"], ["\"", "\""]] {
        values.extend(FRAGMENTS.iter().map(|fragment| format!("{}{fragment}{}", around[0], around[1])));
    }
    values.truncate(500);
    values
}

/// The mail a value goes into: each fragment comes five times, so that it meets every field.
fn kind(nth: usize) -> &'static str {
    let nth = nth.saturating_sub(4);
    ["action", "incident", "free"][(nth % FRAGMENTS.len() + nth / FRAGMENTS.len()) % 3]
}

/// The same text without what means something in HTML or to a template: its mail shows which tags are ours.
fn harmless(value: &str) -> String {
    let safe = |c| match c {
        '<' | '>' | '"' | '`' | '\\' => '”',
        '\'' => ',',
        '&' => '+',
        '{' | '}' => 'x',
        c => c,
    };
    value.chars().map(safe).collect()
}

/// Says something with a value in the named fields; the fields refused get a usual text and are returned.
macro_rules! said {
    ($said:expr, $fields:expr, $usual:expr, $try:expr) => {{
        let mut said: Value = $said;
        let mut refused = Vec::new();
        loop {
            match $try(said.clone()).await {
                Ok(_) => break refused,
                Err(IngestError::Invalid(errors)) => {
                    for error in errors {
                        let field = error.field.split(['.', '[']).next().unwrap().to_owned();
                        assert!($fields.contains(&field.as_str()), "{}: {} in {said}", error.field, error.what);
                        assert!(!refused.contains(&field), "{field} again: {}", error.what);
                        said[&field] = $usual(&field);
                        refused.push(field);
                    }
                }
                Err(other) => panic!("{other} at {said}"),
            }
        }
    }};
}

fn usual(field: &str) -> Value {
    match field {
        "link" | "support_link" => json!("https://example.com/usual"),
        "locale" => json!("en"),
        "zone" => json!("UTC"),
        "attributes" => json!({}),
        _ => json!("usual"),
    }
}

fn parsed<T: serde::de::DeserializeOwned>(said: Value) -> T {
    serde_json::from_value(said).unwrap()
}

/// Puts one value into every field behind one mail: its component, connection, subscriber and notice.
async fn say(w: &World, kind: &str, key: &str, v: &str) -> usize {
    let mut refused = 0;
    let put = async |said: Value| register::component(&w.store, key, &parsed(said)).await;
    refused += said!(json!({"name": v, "group": v}), ["name", "group"], usual, put).len();
    let subscriber = format!("{kind}-{key}");
    let said = json!({"address": format!("{subscriber}@example.net"), "name": v, "locale": v, "zone": v, "attributes": {"a": [v]}});
    let put = async |said: Value| register::subscriber(&w.store, &subscriber, &parsed(said)).await;
    refused += said!(said, ["name", "locale", "zone", "attributes"], usual, put).len();
    let notice = async |said: Value| w.try_notice(said).await;
    refused += match kind {
        "action" => {
            let said = json!({"component": key, "name": v, "link": v, "subscribers": [&subscriber]});
            let put = async |said: Value| register::connection(&w.store, key, &parsed(said)).await;
            refused += said!(said, ["name", "link"], usual, put).len();
            let fields = ["what_happened", "what_we_did", "what_to_do", "link", "support_link"];
            let said = json!({"kind": "action_required", "connections": [key], "what_happened": v, "what_we_did": v,
                "what_to_do": v, "link": v, "support_link": v});
            said!(said, fields, usual, notice)
        }
        "incident" => {
            let fields =
                ["incident", "update", "title", "body", "consequences", "not_affected", "link", "support_link"];
            let said = json!({"kind": "incident", "incident": format!("{v} {key}"), "update": v, "title": v, "body": v,
                "phase": "investigating", "consequences": v, "not_affected": v, "link": v, "support_link": v,
                "components": [{"key": key}], "recipients": [&subscriber]});
            let usual = |field: &str| if field == "incident" { json!(key) } else { usual(field) };
            said!(said, fields, usual, notice)
        }
        _ => {
            let said = json!({"kind": "free", "subject": v, "body": v, "link": v, "support_link": v,
                "recipients": [&subscriber]});
            said!(said, ["subject", "body", "link", "support_link"], usual, notice)
        }
    }
    .len();
    refused
}

/// What must be the same in the mail of a hostile value and of its harmless twin.
fn shape(got: &Got) -> (Vec<String>, Vec<String>) {
    let names = headers(&got.raw).into_iter().map(|(name, _)| name).collect();
    (names, tags(&part(&got.raw, "text/html")))
}

fn check(got: &Got, value: &str) {
    let headers = headers(&got.raw);
    let of = |name: &str| headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>();
    assert_eq!(of("To"), [got.to.as_str()], "{value:?}");
    assert!(of("Bcc").is_empty() && of("Cc").is_empty());
    if let Some(key) = got.to.strip_prefix("incident-").and_then(|rest| rest.split('@').next()) {
        for name in ["Incident", "Update", "Phase", "Components"] {
            let one: [&str; 1] = of(&format!("X-Allclear-{name}")).try_into().unwrap();
            assert!(one[0].bytes().all(|b| (b' '..=b'~').contains(&b)), "{value:?} in {name}: {}", one[0]);
            assert!(!matches!(name, "Incident" | "Components") || one[0].ends_with(key), "{value:?}: {}", one[0]);
        }
    }
    let subject = decoded(of("Subject")[0]);
    let html = part(&got.raw, "text/html");
    let text = part(&got.raw, "text/plain");
    let misleading = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\0' | '\u{1b}');
    for shown in [&subject, &html, &text] {
        assert!(!shown.contains(misleading), "{value:?} in {shown}");
    }
    for link in links(&html) {
        let plain = link.to_lowercase().replace("&#x3a;", ":");
        let safe = ["http://", "https://", "mailto:"].iter().any(|scheme| plain.starts_with(scheme));
        assert!(safe, "{value:?} became the link {link}");
    }
}

async fn hostile_values_are_refused_by_name_or_mailed_as_text(on: On) {
    let mut w = World::new(on, START).await;
    let values = values();
    assert_eq!(values.len(), 500);
    let (mut refused, mut twins) = (0, 0);
    for (nth, value) in values.iter().enumerate() {
        refused += say(&w, kind(nth), &format!("v{nth}"), value).await;
        if harmless(value) != *value {
            say(&w, kind(nth), &format!("w{nth}"), &harmless(value)).await;
            twins += 1;
        }
    }
    assert!((500..4_000).contains(&refused), "{refused} fields were refused");
    w.settle().await;
    w.pass(6).await;
    let all = w.all();
    assert_eq!(all.len(), values.len() + twins, "one mail for each, and none that a value asked for");
    let by: HashMap<&str, &Got> = all.iter().map(|got| (got.to.as_str(), got)).collect();
    assert_eq!(by.len(), all.len());
    for (nth, value) in values.iter().enumerate() {
        let hostile = by[format!("{}-v{nth}@example.net", kind(nth)).as_str()];
        check(hostile, value);
        if let Some(twin) = by.get(format!("{}-w{nth}@example.net", kind(nth)).as_str()) {
            assert_eq!(shape(hostile), shape(twin), "{value:?}");
        }
    }
    let deliveries = w.deliveries().await;
    assert!(deliveries.iter().all(|d| d.ends_with(" accepted")), "{deliveries:?}");
}
