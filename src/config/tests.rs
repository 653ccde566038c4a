//! What a configuration may and may not say.

use std::fs;
use std::path::Path;

use super::*;

fn env(pairs: &[(&str, &str)]) -> std::vec::IntoIter<(String, String)> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect::<Vec<_>>().into_iter()
}

fn with(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    check::load(None, env(pairs))
}

/// Loads a file of this text; beside it lies `secret`, which holds `hunter2`.
fn file(text: &str, pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("allclear.toml");
    fs::write(&path, text).unwrap();
    fs::write(folder.path().join("secret"), "hunter2\n").unwrap();
    Config::load(Some(&path), env(pairs))
}

fn refused(text: &str) -> (String, String, String) {
    let error = file(text, &[]).unwrap_err();
    (error.key().unwrap_or_default().to_owned(), error.to_string(), error.hint())
}

#[test]
fn nothing_at_all_is_enough_for_a_first_run() {
    let config = with(&[]).unwrap();
    assert_eq!(config.database.url.expose(), "sqlite:allclear.db");
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8025");
    assert_eq!(config.page.public_url, "http://127.0.0.1:8025");
    assert!(matches!(&config.relays["default"], Relay::Maildir(path) if path == Path::new("./maildir")));
    assert_eq!(config.stream(Class::Correction).unwrap().0, "account");
    assert_eq!(config.stream(Class::PostMortem).unwrap().0, "incidents");
    assert_eq!(config.streams["incidents"].from.to_string(), "\"Status\" <status@localhost>");
    assert_eq!(config.dispatch.lease, Span::minutes(13));
    assert_eq!(config.recovery.unconfirmed, Unconfirmed::Ask);
    for &class in Class::ALL {
        assert_eq!(config.limits(class), Limits::of(class));
    }
}

#[test]
fn templates_lie_beside_the_file_and_copies_are_kept_for_days() {
    let config = file("[templates]\nfolder = \"mails\"\n[retention]\nmail_copies_days = 0\n", &[]).unwrap();
    assert!(config.templates.folder.unwrap().is_absolute() && config.retention.mail_copies == Span::ZERO);
    let config = with(&[("ALLCLEAR_RETENTION__MAIL_COPIES_DAYS", "7")]).unwrap();
    assert_eq!((config.templates.folder, config.retention.mail_copies), (None, Span::hours(7 * 24)));
    let kept = with(&[]).unwrap().retention;
    assert_eq!((kept.mail_copies, kept.archive_after), (Span::hours(45 * 24), Some(Span::hours(90 * 24))));
    assert_eq!(file("[retention]\narchive_after_days = 0\n", &[]).unwrap().retention.archive_after, None);
    assert_eq!(refused("[retention]\nmail_copies_days = 4000").0, "retention.mail_copies_days");
}

#[cfg(unix)]
#[test]
fn of_variables_that_are_not_text_only_ours_are_refused() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let bytes = || OsString::from_vec(vec![0xe9]);
    let read =
        |name: &str| source::environment([(OsString::from(name), bytes()), ("A".into(), "b".into())].into_iter());
    assert_eq!(read("LESS").unwrap(), [("A".to_owned(), "b".to_owned())]);
    assert_eq!(read("ALLCLEAR_HTTP__LISTEN").unwrap_err().key(), Some("ALLCLEAR_HTTP__LISTEN"));
}

#[test]
fn a_file_sets_what_it_names() {
    let config = file(
        r#"
        [relays.main]
        transport = "smtp"
        host = "relay.acme.example"
        tls = "implicit"
        user = "acme"
        password_file = "secret"
        end_seconds = 400
        [streams.account]
        from = "Acme, Inc. <care@acme.example>"
        slots = 2
        [streams.late]
        from = "late@acme.example"
        classes = ["post_mortem"]
        [limits.action_required]
        dwell_seconds = 60
        "#,
        &[],
    )
    .unwrap();
    let Relay::Smtp(relay) = &config.relays["main"] else { panic!("not SMTP") };
    assert_eq!((relay.port, relay.tls, relay.phases.end), (465, Tls::Implicit, Span::seconds(400)));
    assert_eq!(relay.login.as_ref().unwrap().password.expose(), "hunter2");
    assert_eq!((config.mail.domain.as_str(), relay.hello_name.as_str()), ("acme.example", "acme.example"));
    let account = &config.streams["account"];
    assert_eq!((account.slots, account.relay.as_str()), (2, "main"));
    assert_eq!(account.from.to_string(), "\"Acme, Inc.\" <care@acme.example>");
    assert_eq!(config.stream(Class::PostMortem).unwrap().0, "late");
    assert_eq!(config.stream(Class::Free).unwrap().0, "incidents");
    let limits = config.limits(Class::ActionRequired);
    assert_eq!((limits.dwell, limits.longest_hold), (Span::minutes(1), Some(Span::hours(12))));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn the_environment_wins_over_the_file() {
    let pairs = [
        ("ALLCLEAR_HTTP__LISTEN", "127.0.0.1:9000"),
        ("ALLCLEAR_PAGE__NAME", "42"),
        ("ALLCLEAR_DISPATCH__POLL_MILLISECONDS", "20"),
        ("ALLCLEAR_STREAMS__LATE__CLASSES", "post_mortem, free"),
        ("HOSTNAME", "node-a"),
    ];
    let config = file("[http]\nlisten = \"127.0.0.1:8000\"\nmax_body_bytes = 2048", &pairs).unwrap();
    assert_eq!((config.http.listen.port(), config.http.max_body_bytes), (9000, 2048));
    assert_eq!((config.page.name.as_str(), config.dispatch.host.as_str()), ("42", "node-a"));
    assert_eq!(config.dispatch.poll, Span::millis(20));
    assert_eq!(config.streams["late"].classes, [Class::PostMortem, Class::Free]);
}

#[test]
fn variables_of_others_are_left_alone() {
    let others = ["ALLCLEAR_TEST_POSTGRES", "ALLCLEAR_TEST_HTTP__X", "ALLCLEAR_CONFIG", "ALLCLEAR_LOG"];
    let mut pairs = others.map(|name| (name, "x")).to_vec();
    pairs.extend([("ALLCLEAR_PORT_8025_TCP", "x"), ("ALLCLEAR_DATABASE_PORT", "x"), ("PATH", "x")]);
    assert!(with(&pairs).is_ok());
}

#[test]
fn a_variable_that_names_nothing_is_refused_by_its_name() {
    for name in [
        "ALLCLEAR_DATABSE__URL",
        "ALLCLEAR_DATABASE_URL",
        "ALLCLEAR_DATABASE_URL_FILE",
        "ALLCLEAR_OPERATORS_ADDRESS",
        "ALLCLEAR_PAGE_NAME",
        "ALLCLEAR_PLAN_PAGE_SIZE",
        "ALLCLEAR_HTTP__LISTN",
        "ALLCLEAR_HTTP__",
    ] {
        let error = with(&[(name, "x")]).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert!(!error.hint().is_empty());
    }
    assert_eq!(with(&[("ALLCLEAR_PAGE_NAME", "x")]).unwrap_err().hint(), "Write ALLCLEAR_PAGE__NAME.");
}

#[test]
fn an_unknown_key_is_refused_with_its_name_and_file() {
    let (key, text, hint) = refused("[dispatch]\nlease = 3");
    assert_eq!(key, "dispatch.lease");
    assert!(text.contains("allclear.toml"), "{text}");
    assert!(hint.contains("lease_seconds"), "{hint}");
    assert_eq!(refused("[dispach]\nlease_seconds = 3").0, "dispach");
    assert_eq!(refused("[relays.main]\nhots = \"x\"").0, "relays.main.hots");
}

#[test]
fn a_wrong_type_is_refused_with_its_name_and_file() {
    for text in ["slots = \"many\"", "slots = -1", "slots = 1.5", "slots = true"] {
        let (key, text, _) = refused(&format!("[streams.account]\n{text}"));
        assert_eq!(key, "streams.account.slots", "{text}");
        assert!(text.contains("allclear.toml") && text.contains("whole number"), "{text}");
    }
    assert_eq!(refused("[relays.main]\ntls = \"maybe\"").0, "relays.main.tls");
    let error = with(&[("ALLCLEAR_PLAN__PAGE_SIZE", "many")]).unwrap_err();
    assert!(error.to_string().contains("ALLCLEAR_PLAN__PAGE_SIZE"), "{error}");
}

#[test]
fn a_password_in_the_file_is_refused_and_not_repeated() {
    for section in ["relays.main", "database"] {
        let (key, text, hint) = refused(&format!("[{section}]\npassword = \"hunter2\""));
        assert_eq!(key, format!("{section}.password"));
        assert!(hint.contains("password_file") && hint.contains("url_file"), "{hint}");
        assert!(!text.contains("hunter2"));
    }
    let (_, text, _) = refused("[relays.main]\npassword = \"hunter2");
    assert!(text.contains("allclear.toml") && !text.contains("hunter2"), "{text}");
}

#[test]
fn each_class_is_in_exactly_one_stream() {
    let (key, text, _) = refused("[streams.a]\nclasses = [\"free\"]\n[streams.b]\nclasses = [\"free\"]");
    assert_eq!(key, "streams.b.classes");
    assert!(text.contains("`free`"), "{text}");
    let (_, text, _) = refused("[streams.account]\nclasses = [\"action_required\"]");
    assert!(text.contains("`correction` is in no stream"), "{text}");
    assert_eq!(refused("[streams.a]\nslots = 1").0, "streams.a.classes");
    assert_eq!(refused("[streams.a]\nclasses = [\"spam\"]").0, "streams.a.classes");
}

#[test]
fn values_out_of_range_are_refused() {
    assert_eq!(refused("[streams.account]\nslots = 0").0, "streams.account.slots");
    assert_eq!(refused("[dispatch]\nlease_seconds = 720").0, "dispatch.lease_seconds");
    assert_eq!(refused("[dispatch]\nretry_cap_seconds = 5").0, "dispatch.retry_cap_seconds");
    assert_eq!(refused("[plan]\npage_size = 0").0, "plan.page_size");
    assert_eq!(refused("[limits.correction]\ngreatest_age_seconds = 5").0, "limits.correction");
    assert_eq!(refused("[limits.free]\ndwell_seconds = 9223372036854775807").0, "limits.free.dwell_seconds");
    assert_eq!(refused("[limits.incident_end]\ndaily_mails = 4").0, "limits.incident_end.daily_mails");
    assert_eq!(refused("[limits.free]\ndaily_mails = 10001").0, "limits.free.daily_mails");
    for (limits, key) in [
        ("action_required]\ngreatest_age_seconds = 43200", "greatest_age_seconds"),
        ("incident_update]\ngreatest_age_seconds = 0", "greatest_age_seconds"),
        ("all_clear]\ngreatest_age_seconds = 600", "greatest_age_seconds"),
        ("incident_update]\ngap_seconds = 40\ngreatest_age_seconds = 40", "greatest_age_seconds"),
        ("action_required]\nlongest_hold_seconds = 60", "dwell_seconds"),
    ] {
        let refused = refused(&format!("[limits.{limits}")).0;
        assert!(refused.starts_with("limits.") && refused.ends_with(key), "{limits}: {refused}");
    }
    for limit in [
        "incident_end]\nstable_for_seconds",
        "incident_end]\ngap_seconds",
        "incident_end]\nlongest_hold_seconds",
        "all_clear]\ndwell_seconds",
        "all_clear]\ngap_seconds",
        "free]\nstable_for_seconds",
        "free]\ngap_seconds",
        "free]\nlongest_silence_seconds",
        "action_required]\ntold_elsewhere_seconds",
        "incident_update]\nstable_for_seconds",
    ] {
        let (key, text, _) = refused(&format!("[limits.{limit} = 3600"));
        assert_eq!(key, format!("limits.{}", limit.replace("]\n", ".")));
        assert!(text.contains("no such limit"), "{text}");
    }
    let short = "[limits.action_required]\nlongest_hold_seconds = 600\n";
    let (key, text, _) = refused(short);
    assert!(key == "limits.action_required.longest_hold_seconds" && text.contains("surge.calm_minutes (15)"), "{text}");
    for surge in ["calm_minutes = 10", "enabled = false"] {
        assert!(file(&format!("{short}[surge]\n{surge}"), &[]).is_ok(), "{surge}");
    }
    assert!(file("[limits.incident_update]\ngap_seconds = 40\ngreatest_age_seconds = 41", &[]).is_ok());
    assert_eq!(file("[limits.free]\ndaily_mails = 0", &[]).unwrap().limits(Class::Free).daily_mails, None);
    assert_eq!(refused("[http]\nlisten = \"8025\"").0, "http.listen");
    assert_eq!(refused("[database]\nurl = \"mysql://x\"").0, "database.url");
    assert_eq!(refused("[page]\nsupport_url = \"javascript:x\"").0, "page.support_url");
}

#[test]
fn a_link_that_no_mail_would_have_is_refused() {
    let long = format!("https://acme.example/{}", "x".repeat(2_000));
    for url in ["https://acme.example/`x", "https://acme.example/\\\\x", "https://a b", "https:///", "ftp://x", &long] {
        assert_eq!(refused(&format!("[page]\npublic_url = \"{url}\"")).0, "page.public_url", "{url}");
    }
    assert_eq!(refused(&format!("[page]\nsupport_url = \"{long}\"")).0, "page.support_url");
    let page = file("[page]\npublic_url = \"https://a.example/c/\"\nsupport_url = \"https://a.example/s/\"", &[])
        .unwrap()
        .page;
    assert_eq!(
        (page.public_url.as_str(), page.support_url.as_deref()),
        ("https://a.example/c", Some("https://a.example/s/"))
    );
}

#[test]
fn a_sender_needs_an_address_on_one_line() {
    let long = format!("{} <status@acme.example>", "ü".repeat(240));
    for from in [
        "Acme Status",
        "Acme <status>",
        "a@b@c",
        "",
        "x@y.example, z@y.example",
        "a@b\\nBcc: c@d",
        "Acme <sta(tus@acme.example>",
        "a..b@acme.example",
        "status@-acme.example",
        "status@-acme",
        "status@acme..example",
        "\\\"a b\\\"@acme.example",
        &long,
    ] {
        assert_eq!(refused(&format!("[streams.account]\nfrom = \"{from}\"")).0, "streams.account.from", "{from}");
    }
}

#[test]
fn a_sender_made_of_the_page_and_the_domain_stands_in_a_header_too() {
    for name in ["x".repeat(600), "ü".repeat(260), "\\\"".repeat(250)] {
        let page = format!("[page]\nname = \"{name}\"\n");
        let (key, text, hint) = refused(&page);
        assert!(key == "page.name" && text.contains("octets") && hint.contains("streams.account.from"), "{text}");
        let own = "[streams.account]\nfrom = \"a@acme.example\"\n[streams.incidents]\nfrom = \"a@acme.example\"\n";
        assert!(file(&format!("{page}{own}"), &[]).is_ok());
    }
    for domain in ["acme..example", "-acme.example", ".acme.example", "acme.example.", "ac_me.example"] {
        assert_eq!(refused(&format!("[mail]\ndomain = \"{domain}\"")).0, "mail.domain", "{domain}");
    }
    assert_eq!(file("[mail]\ndomain = \"relay\"", &[]).unwrap().streams["account"].from.address, "status@relay");
}

#[test]
fn a_sender_is_called_as_it_is_written() {
    for (written, name) in [
        ("Acme \"The Best\"", "Acme \"The Best\""),
        ("\"The Best\" of \"Acme\"", "\"The Best\" of \"Acme\""),
        ("\"Acme, Inc.\"", "Acme, Inc."),
        (r#""Acme \"The Best\" \\o/""#, r#"Acme "The Best" \o/"#),
        ("Acme\"", "Acme\""),
    ] {
        let config = file(&format!("[streams.account]\nfrom = '{written} <status@acme.example>'"), &[]).unwrap();
        let from = &config.streams["account"].from;
        assert_eq!(from.name.as_deref(), Some(name), "{written}");
        assert_eq!(from.to_string().parse::<Mailbox>().as_ref(), Ok(from));
    }
}

#[test]
fn a_sender_outside_ascii_goes_out_in_ascii_or_is_refused() {
    let smtp = "[relays.main]\ntransport = \"smtp\"\nhost = \"relay.acme.example\"\n";
    let stream = "[streams.account]\nfrom = \"München <status@münchen.example>\"\nreply_to = \"a@BÜRO.example\"";
    let config = file(&format!("{smtp}{stream}"), &[]).unwrap();
    let account = &config.streams["account"];
    assert_eq!(account.from.to_string(), "\"München\" <status@xn--mnchen-3ya.example>");
    assert_eq!(account.reply_to.as_ref().unwrap().address, "a@xn--bro-hoa.example");
    assert_eq!(config.mail.domain, "xn--mnchen-3ya.example");
    let written = format!("[mail]\ndomain = \"münchen.example\"\n{smtp}hello_name = \"büro.example\"");
    let config = file(&written, &[]).unwrap();
    let Relay::Smtp(relay) = &config.relays["main"] else { panic!("not SMTP") };
    assert_eq!(
        (config.mail.domain.as_str(), relay.hello_name.as_str()),
        ("xn--mnchen-3ya.example", "xn--bro-hoa.example")
    );
    assert_eq!(config.streams["incidents"].from.address, "status@xn--mnchen-3ya.example");
    for (key, address) in
        [("from", "stätus@acme.example"), ("reply_to", "stätus@acme.example"), ("from", "a@ｘ.example")]
    {
        let (at, text, hint) = refused(&format!("[streams.account]\n{key} = \"{address}\""));
        assert_eq!(at, format!("streams.account.{key}"));
        assert!(text.contains(if address.starts_with("st") { "before the @" } else { "international" }), "{text}");
        assert!(hint.contains("status@acme.example"), "{hint}");
    }
    for (key, text) in
        [("mail.domain", "[mail]\ndomain = \"mün chen.example\""), ("mail.domain", "[mail]\ndomain = \"ü\"")]
    {
        assert_eq!(refused(text).0, key, "{text}");
    }
    assert_eq!(refused(&format!("{smtp}hello_name = \"ü..example\"")).0, "relays.main.hello_name");
}

#[test]
fn a_relay_is_complete_and_keeps_its_password_off_the_wire() {
    let smtp = "[relays.main]\ntransport = \"smtp\"\n";
    assert_eq!(refused("[relays.main]\nhost = \"x\"").0, "relays.main.transport");
    assert_eq!(refused(smtp).0, "relays.main.host");
    for smtp_only in [
        "host = \"x\"",
        "port = 25",
        "tls = \"none\"",
        "user = \"u\"",
        "password_file = \"secret\"",
        "ca_file = \"secret\"",
        "hello_name = \"x.example\"",
        "sessions = 2",
        "mails_per_minute = 60",
        "messages_per_session = 1",
        "end_seconds = 60",
    ] {
        let (key, text, _) = refused(&format!("[relays.main]\ntransport = \"maildir\"\n{smtp_only}"));
        assert!(key == format!("relays.main.{}", smtp_only.split(' ').next().unwrap()), "{key}");
        assert!(text.contains("belongs to the smtp transport"), "{text}");
    }
    for host in ["smtp://x", "relay.acme.example:587", "a b", "u@x", "x/", "[::1]:25", "ü..example"] {
        assert_eq!(refused(&format!("{smtp}host = \"{host}\"")).0, "relays.main.host", "{host}");
    }
    let Relay::Smtp(relay) = file(&format!("{smtp}host = \"büro.example\""), &[]).unwrap().relays["main"].clone()
    else {
        panic!("not SMTP")
    };
    assert_eq!(relay.host, "xn--bro-hoa.example");
    let Relay::Smtp(relay) = file(&format!("{smtp}host = \"[2001:db8::1]\""), &[]).unwrap().relays["main"].clone()
    else {
        panic!("not SMTP")
    };
    assert_eq!(relay.host, "2001:db8::1");
    let login = format!("{smtp}host = \"x\"\nuser = \"u\"\n");
    assert_eq!(refused(&login).0, "relays.main.user");
    assert_eq!(refused(&format!("{login}password_file = \"none\"")).0, "relays.main.password_file");
    let plain = format!("{login}password_file = \"secret\"\ntls = \"none\"");
    assert_eq!(refused(&plain).0, "relays.main.tls");
    assert!(file(&plain.replace("\"x\"", "\"127.0.0.1\""), &[]).is_ok());
    for (host, here) in [("192.0.2.1", false), ("2001:db8::1", false), ("127.8.8.8", true), ("::1", true), ("x", true)]
    {
        let outcome = file(&format!("{smtp}host = \"{host}\"\ntls = \"none\""), &[]);
        assert_eq!(outcome.as_ref().err().and_then(ConfigError::key), (!here).then_some("relays.main.tls"), "{host}");
    }
    assert_eq!(refused("[streams.account]\nrelay = \"other\"").0, "streams.account.relay");
}

#[test]
fn the_database_url_comes_from_its_file_beside_the_configuration() {
    let (key, text, _) = refused("[database]\nurl_file = \"secret\"");
    assert_eq!(key, "database.url_file", "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let error = Config::load(Some(Path::new("no-such-folder/allclear.toml")), env(&[])).unwrap_err();
    assert!(error.to_string().contains("no-such-folder"), "{error}");
}

#[test]
fn caps_are_read_and_domains_are_named_as_addresses_are_stored() {
    let config = file(
        "[relays.main]\ntransport = \"smtp\"\nhost = \"127.0.0.1\"\ntls = \"none\"\nsessions = 3\n\
         mails_per_minute = 30\n[streams.incidents]\nmails_per_minute = 20\ndomain_mails_per_minute = 5\n\
         domains = { \"Gmail.com\" = 10, \"exämple.org\" = 2 }\n",
        &[],
    )
    .unwrap();
    let Relay::Smtp(relay) = &config.relays["main"] else { panic!("{:?}", config.relays) };
    assert_eq!((relay.sessions, relay.mails_per_minute), (Some(3), Some(30)));
    let stream = &config.streams["incidents"];
    assert_eq!((stream.mails_per_minute, stream.domain_mails_per_minute), (Some(20), Some(5)));
    let domains: Vec<_> = stream.domains.iter().map(|(name, most)| (name.as_str(), *most)).collect();
    assert_eq!(domains, [("gmail.com", 10), ("xn--exmple-cua.org", 2)]);
    let main = "relays.main]\ntransport = \"smtp\"\nhost = \"x\"\n";
    for (section, key) in [
        (main, "relays.main.mails_per_minute"),
        (main, "relays.main.sessions"),
        ("streams.incidents]\n", "streams.incidents.mails_per_minute"),
        ("streams.incidents]\n", "streams.incidents.domain_mails_per_minute"),
        ("streams.incidents]\n", "streams.incidents.domains.\"gmail.com\""),
    ] {
        let name = key.splitn(3, '.').last().unwrap();
        let (_, text, hint) = refused(&format!("[{section}{name} = 0"));
        assert!(text.contains("0 is out of range"), "{key}: {text}");
        assert!(hint.starts_with("Give 1 to 1000") && hint.ends_with("leave it out for no cap."), "{key}: {hint}");
    }
    let (key, text, _) = refused("[streams.incidents.domains]\n\"GMAIL.com\" = 200\n\"gmail.com\" = 100");
    assert!(key == "streams.incidents.domains.gmail.com" && text.contains("named twice"), "{key}: {text}");
    let (key, text, _) = refused("[streams.incidents.domains]\nlocalhost = 5");
    assert_eq!(key, "streams.incidents.domains.localhost");
    assert!(text.contains("needs a dot"), "{text}");
}

#[test]
fn surges_are_looked_for_unless_that_is_switched_off() {
    use crate::domain::surge::Rules;
    assert_eq!(with(&[]).unwrap().surge, Some(Rules::default()));
    assert_eq!(with(&[("ALLCLEAR_SURGE__ENABLED", "false")]).unwrap().surge, None);
    assert_eq!(file("[surge]\nenabled = false", &[]).unwrap().surge, None);
    assert_eq!(refused("[surge]\nenabled = \"maybe\"").0, "surge.enabled");
    let config = file("[surge]\nleast = 50\ncanary_wait_seconds = 60\nbaseline_days = 14", &[]).unwrap();
    let rules = config.surge.unwrap();
    assert_eq!((rules.flood.least, rules.canary_wait, rules.flood.minutes), (50, Span::minutes(1), 10));
    assert_eq!(rules.baseline, Span::hours(14 * 24));
    assert_eq!(refused("[surge]\nleast = 1").0, "surge.least");
    assert_eq!(refused("[surge]\nslow_window_minutes = 10").0, "surge.slow_window_minutes");
    assert_eq!(refused("[surge]\nreporter_percent = 101").0, "surge.reporter_percent");
    assert_eq!(with(&[]).unwrap().recovery.patience, Some(Span::hours(24)));
    assert_eq!(file("[recovery]\npatience_seconds = 0", &[]).unwrap().recovery.patience, None);
}

#[test]
fn operators_have_an_address_and_a_webhook_that_is_signed_and_not_in_the_clear() {
    let signed = "webhook_secret_file = \"secret\"\n";
    let config = file(
        &format!(
            "[operators]\naddress = \"On@Call.example\"\nwebhook_url = \"https://ops.acme.example/hook\"\n{signed}"
        ),
        &[],
    )
    .unwrap();
    assert_eq!(config.operators.address.as_deref(), Some("On@call.example"));
    let webhook = config.operators.webhook.unwrap();
    assert_eq!((webhook.url.as_str(), webhook.secret.expose()), ("https://ops.acme.example/hook", "hunter2"));
    assert_eq!(refused("[operators]\naddress = \"oncall\"").0, "operators.address");
    assert_eq!(refused("[operators]\nwebhook_url = \"https://x\"").0, "operators.webhook_secret_file");
    assert_eq!(refused(&format!("[operators]\n{signed}")).0, "operators.webhook_url");
    let kept = file(&format!("[operators]\nwebhook_url = \"https://x/in/\"\n{signed}"), &[]).unwrap();
    assert_eq!(kept.operators.webhook.unwrap().url, "https://x/in/");
    for url in ["https://u:hunter2@x/in", "https://x?y=1", "https://x:99999/in", "https:///in", "https://ü.example/in"]
    {
        let (key, text, _) = refused(&format!("[operators]\nwebhook_url = \"{url}\"\n{signed}"));
        assert!(key == "operators.webhook_url" && text.contains("cannot be posted to"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    for (url, fits) in [
        ("http://127.0.0.1:9/x", true),
        ("http://[::1]:9", true),
        ("http://localhost", true),
        ("http://192.0.2.1/x", false),
        ("http://ops.acme.example/hook", false),
        ("http://localhost.acme.example", false),
    ] {
        let set = file(&format!("[operators]\nwebhook_url = \"{url}\"\n{signed}"), &[]);
        assert_eq!(
            set.err().and_then(|e| e.key().map(str::to_owned)),
            (!fits).then(|| "operators.webhook_url".to_owned()),
            "{url}"
        );
    }
}
