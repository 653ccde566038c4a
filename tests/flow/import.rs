//! Import on both databases: what is kept, what is refused and why, what a second run does.

use crate::on_both;
use crate::support::{On, World};
use allclear::domain::kind::Kind;
use allclear::flow::import::{self, Counts, Event, Format, ImportError, Job, Refusal};
use allclear::flow::register;
use serde_json::{Value, json};
use std::io::Cursor;
use tokio_util::sync::CancellationToken;

on_both! {
    good_lines_are_kept_and_wrong_ones_named;
    a_cell_that_goes_on_over_lines_smuggles_no_row;
    a_second_run_changes_nothing_and_a_later_line_wins;
    a_dry_run_counts_the_same_and_writes_nothing;
    what_a_line_names_must_be_there;
    attributes_have_lines_of_their_own;
    what_a_line_leaves_out_stays_and_an_empty_cell_empties;
    who_is_told_stays_when_a_connection_is_renamed;
    a_put_that_says_a_part_leaves_the_rest;
    subscriptions_begin_and_end;
    subscriptions_have_groups_and_preferences;
    a_stop_leaves_whole_batches;
    two_at_once_end_as_one;
    a_subscription_put_twice_at_once_is_one;
    what_the_database_turns_back_is_taken_anew;
    a_line_that_is_too_long_is_refused_alone;
    column_names_that_cannot_be_used_end_it;
    who_was_imported_is_mailed;
}

const CSV: Format = Format::Csv { delimiter: None };

async fn world(on: On) -> World {
    World::new(on, "2026-04-30T10:00:00Z").await
}

async fn try_import(w: &World, job: Job, text: &str) -> Result<(Counts, Vec<Refusal>), ImportError> {
    let mut refused = Vec::new();
    let input = Cursor::new(text.to_owned().into_bytes());
    let counts = import::run(&w.store, job, input, &CancellationToken::new(), &mut |event| {
        if let Event::Refused(refusal) = event {
            refused.push(refusal);
        }
    })
    .await?;
    Ok((counts, refused))
}

/// Lines, inserted, updated, unchanged, refused; and `line field: reason`.
async fn import(w: &World, kind: Kind, format: Format, text: &str) -> ([u64; 5], Vec<String>) {
    let (counts, refused) = try_import(w, Job { kind, format, dry_run: false }, text).await.unwrap();
    (five(counts), refused.iter().map(|r| format!("{} {}: {}", r.line, r.field, r.reason)).collect())
}

fn five(c: Counts) -> [u64; 5] {
    [c.lines, c.inserted, c.updated, c.unchanged, c.refused]
}

async fn rows(w: &World, sql: &'static str) -> Vec<String> {
    let rows = w.query(sql).await.into_iter();
    rows.map(|row| row.into_iter().map(|cell| cell.unwrap_or("-".to_owned())).collect::<Vec<_>>().join(" ")).collect()
}

const SUBSCRIBERS: &str = "SELECT key, address, name, locale, zone FROM subscriber ORDER BY key";

async fn good_lines_are_kept_and_wrong_ones_named(on: On) {
    let w = world(on).await;
    let csv = "\u{feff}key;address;name;locale;zone;attributes.plan\r\n\
        jo;Jo@Example.com;\"Jo \"\"J\"\" Doe; Ltd\";de-AT;europe/vienna;pro|beta\r\n\
        \r\n\
        al;al;;;Mars/Base;\r\n\
        bo;bo@exämple.org;;;;\r\n\
        cy;cy@example.com;;;\r\n\
        \"dee \u{7}\";dee@example.com;;;;\r\n\
        ;nobody@example.com;;;;";
    let (counts, refused) = import(&w, Kind::Subscribers, CSV, csv).await;
    assert_eq!(counts, [6, 2, 0, 0, 4]);
    assert_eq!(
        refused,
        [
            "4 zone: is not an IANA time zone like `Europe/Vienna`",
            "4 address: the address needs exactly one @",
            "6 line: has 5 cells, and the first line names 6 columns",
            "7 key: has control characters or line breaks",
            "8 key: is missing",
        ]
    );
    let expected = ["bo bo@xn--exmple-cua.org - en UTC", "jo Jo@example.com Jo \"J\" Doe; Ltd de-AT Europe/Vienna"];
    assert_eq!(rows(&w, SUBSCRIBERS).await, expected);
    assert_eq!(
        rows(&w, "SELECT name, value FROM subscriber_attribute ORDER BY value").await,
        ["plan beta", "plan pro"]
    );

    let lines = "{\"key\":\"di\",\"address\":\"di@example.com\"}\n\n[1]\n{\"key\":\"x\",\"address\":\"x@example.com\",\"colour\":1}\n\
        {\"key\":7,\"address\":\"x@example.com\"}\n{\"key\":\"y\"}\nnonsense\n{\"key\":\"z\",\"address\":\"z@example.com\",\"attributes\":{\"a\":[1]}}\n\
        {\"key\":\"q\",\"address\":\"first@example.com\",\"address\":\"second@example.com\"}\n\
        {\"key\":\"q\",\"address\":\"q@example.com\",\"attributes\":{\"app\":[\"x\"],\"app\":[\"y\"]}}";
    let (counts, refused) = import(&w, Kind::Subscribers, Format::JsonLines, lines).await;
    assert_eq!(counts, [9, 1, 0, 0, 8]);
    let begins = [
        "3 line: is not a JSON object",
        "4 colour: unknown field",
        "5 key: is not a text",
        "6 address: is missing",
        "7 line: is not a JSON object",
        "8 attributes.a[0]: invalid type",
        "9 address: is given twice",
        "10 attributes.app: is given twice",
    ];
    for (refused, begin) in refused.iter().zip(begins) {
        assert!(refused.starts_with(begin), "{refused}");
    }
}

async fn a_cell_that_goes_on_over_lines_smuggles_no_row(on: On) {
    let w = world(on).await;
    let csv = "key,address,name\na,a@example.com,\"x\nevil,evil@example.com,y\nz\"\nb,b@example.com,say \"hi\"\nc,c@example.com,\"open\nd,d@example.com,\n";
    let (counts, refused) = import(&w, Kind::Subscribers, CSV, csv).await;
    assert_eq!(counts, [3, 1, 0, 0, 2]);
    assert!(refused[0].starts_with("2 line: opens a quote that closes in line 4"), "{refused:?}");
    assert!(refused[1].starts_with("6 line: opens a quote that nothing closes"), "{refused:?}");
    assert_eq!(rows(&w, SUBSCRIBERS).await, ["b b@example.com say \"hi\" en UTC"]);
}

async fn a_second_run_changes_nothing_and_a_later_line_wins(on: On) {
    let w = world(on).await;
    let csv = "key,address,name\njo,jo@example.com,Jo\nal,al@example.com,\njo,jo@example.com,Joanna\njo,jo@example.com,Joanna\n";
    assert_eq!(import(&w, Kind::Subscribers, CSV, csv).await.0, [4, 2, 1, 1, 0]);
    let expected = ["al al@example.com - en UTC", "jo jo@example.com Joanna en UTC"];
    assert_eq!(rows(&w, SUBSCRIBERS).await, expected);
    let again = "key,address,name\njo,jo@example.com,Joanna\nal,al@example.com,\n";
    assert_eq!(import(&w, Kind::Subscribers, CSV, again).await.0, [2, 0, 0, 2, 0]);
    let moved = "{\"key\":\"al\",\"address\":\"al@example.net\",\"locale\":\"de\"}";
    assert_eq!(import(&w, Kind::Subscribers, Format::JsonLines, moved).await.0, [1, 0, 1, 0, 0]);
    assert_eq!(rows(&w, SUBSCRIBERS).await[0], "al al@example.net - de UTC");
}

/// More than one batch, with keys that come back in a later one.
fn many() -> String {
    let line = |n: usize| format!("k{},k{}@example.com\n", n % 35_000, if n < 36_000 { n % 35_000 } else { n });
    "key,address\n".to_owned() + &(0..37_000).map(line).collect::<String>() + "wrong,wrong\n"
}

async fn a_dry_run_counts_the_same_and_writes_nothing(on: On) {
    let w = world(on).await;
    import(&w, Kind::Subscribers, CSV, "key,address\nk5,k5@example.com\nk6,old@example.com\n").await;
    let job = Job { kind: Kind::Subscribers, format: CSV, dry_run: true };
    let (dry, refused) = try_import(&w, job, &many()).await.unwrap();
    assert_eq!(rows(&w, "SELECT key FROM subscriber ORDER BY key").await, ["k5", "k6"]);
    let (wet, same) = try_import(&w, Job { dry_run: false, ..job }, &many()).await.unwrap();
    assert_eq!(five(wet), [37_001, 34_998, 1_001, 1_001, 1]);
    assert_eq!((dry, refused), (wet, same));
    assert_eq!(rows(&w, "SELECT key FROM subscriber").await.len(), 35_000);
}

async fn what_a_line_names_must_be_there(on: On) {
    let w = world(on).await;
    let components = "key,name,group,depends_on\ndb,Database,core,\nmail,Mail,core,db\nchat,Chat,,mail|late\nself,Self,,self\n\
        late,Late,,\nchat,Chat,,mail|late\n";
    let (counts, refused) = import(&w, Kind::Components, CSV, components).await;
    assert_eq!(counts, [6, 4, 0, 0, 2]);
    assert_eq!(refused, ["4 depends_on: no component has the key `late`", "5 depends_on: names the component itself"]);
    assert_eq!(import(&w, Kind::Components, CSV, components).await.0, [6, 0, 0, 5, 1]);
    assert_eq!(rows(&w, "SELECT key FROM component ORDER BY key").await, ["chat", "db", "late", "mail"]);
    w.subscriber("jo").await;
    w.subscriber("al").await;
    let connections = "key,component,name,link,subscribers\nc1,mail,Inbox,https://example.com/c1,jo|al\n\
        c2,fax,Inbox,,jo\nc3,mail,Inbox,,jo|nobody\nc1,db,Inbox,,jo\nc4,mail,Inbox,javascript:x,\n";
    let (counts, refused) = import(&w, Kind::Connections, CSV, connections).await;
    assert_eq!(counts, [5, 1, 0, 0, 4]);
    assert_eq!(refused[0], "3 component: no component has the key `fax`");
    assert_eq!(refused[1], "4 subscribers: no subscriber has the key `nobody`");
    assert!(refused[2].starts_with("5 component: cannot change") && refused[3].starts_with("6 link: "), "{refused:?}");
    let who = "SELECT s.key FROM connection_subscriber c JOIN subscriber s ON s.id = c.subscriber_id ORDER BY s.key";
    assert_eq!(rows(&w, who).await, ["al", "jo"]);
    let fewer = "{\"key\":\"c1\",\"component\":\"mail\",\"name\":\"Inbox\",\"subscribers\":[\"al\"]}";
    assert_eq!(import(&w, Kind::Connections, Format::JsonLines, fewer).await.0, [1, 0, 1, 0, 0]);
    assert_eq!(import(&w, Kind::Connections, Format::JsonLines, fewer).await.0, [1, 0, 0, 1, 0]);
    assert_eq!(rows(&w, who).await, ["al"]);
}

async fn attributes_have_lines_of_their_own(on: On) {
    let w = world(on).await;
    let people = "key,address\njo,jo@example.com\nal,al@example.com\n";
    import(&w, Kind::Subscribers, CSV, people).await;
    let attributes =
        "subscriber,name,values\njo,plan,pro|beta\njo,region,eu\nno,plan,pro\nal,plan,\nal,plan,free\njo,plan,pro\n";
    let (counts, refused) = import(&w, Kind::Attributes, CSV, attributes).await;
    assert_eq!(counts, [6, 3, 1, 0, 2]);
    assert_eq!(refused, ["4 subscriber: no subscriber has the key `no`", "5 values: is missing"]);
    const ALL: &str = "SELECT s.key, a.name, a.value FROM subscriber_attribute a JOIN subscriber s \
        ON s.id = a.subscriber_id ORDER BY s.key, a.name, a.value";
    assert_eq!(rows(&w, ALL).await, ["al plan free", "jo plan pro", "jo region eu"]);
    // People again, without a word about attributes, leave them; with one they are all there is.
    assert_eq!(import(&w, Kind::Subscribers, CSV, people).await.0, [2, 0, 0, 2, 0]);
    assert_eq!(rows(&w, ALL).await.len(), 3);
    let all = "key,address,attributes.plan\njo,jo@example.com,max\nal,al@example.com,free\n";
    assert_eq!(import(&w, Kind::Subscribers, CSV, all).await.0, [2, 0, 1, 1, 0]);
    assert_eq!(import(&w, Kind::Subscribers, CSV, all).await.0, [2, 0, 0, 2, 0]);
    assert_eq!(rows(&w, ALL).await, ["al plan free", "jo plan max"]);
}

const COMPONENTS: &str = "SELECT c.key, c.name, c.group_key, d.key FROM component c
    LEFT JOIN component_dependency x ON x.component_id = c.id LEFT JOIN component d ON d.id = x.depends_on ORDER BY c.key";
const CONNECTIONS: &str = "SELECT x.key, x.name, x.link, s.key FROM connection x
    LEFT JOIN connection_subscriber o ON o.connection_id = x.id LEFT JOIN subscriber s ON s.id = o.subscriber_id ORDER BY x.key";
const ATTRIBUTES: &str = "SELECT name, value FROM subscriber_attribute ORDER BY name, value";

/// A component, a subscriber and a connection with all that they can have.
async fn full(w: &World) {
    import(w, Kind::Components, CSV, "key,name,group,depends_on\ndb,DB,,\nmail,Mail,eu,db\n").await;
    let people = "key,address,name,locale,zone,attributes.plan\njo,jo@example.com,Jo,de,Europe/Vienna,pro\n";
    import(w, Kind::Subscribers, CSV, people).await;
    let connections = "key,component,name,link,subscribers\nc1,mail,Inbox,https://example.com/c1,jo\n";
    import(w, Kind::Connections, CSV, connections).await;
}

async fn what_a_line_leaves_out_stays_and_an_empty_cell_empties(on: On) {
    let w = world(on).await;
    full(&w).await;
    for (kind, format, text, sql, after) in [
        (
            Kind::Components,
            CSV,
            "key,name\nmail,M\nnew,N\n",
            COMPONENTS,
            ["db DB - -", "mail M eu db", "new N - -"].as_slice(),
        ),
        (
            Kind::Components,
            Format::JsonLines,
            "{\"key\":\"mail\",\"name\":\"M\",\"group\":null}\n{\"key\":\"new\",\"name\":\"N\",\"group\":\"us\"}\n\
             {\"key\":\"new\",\"name\":\"O\"}",
            COMPONENTS,
            &["db DB - -", "mail M - db", "new O us -"],
        ),
        (
            Kind::Connections,
            CSV,
            "key,component,name\nc1,mail,Renamed\nc2,mail,New\n",
            CONNECTIONS,
            &["c1 Renamed https://example.com/c1 jo", "c2 New - -"],
        ),
        (
            Kind::Connections,
            Format::JsonLines,
            "{\"key\":\"c1\",\"component\":\"mail\",\"name\":\"Again\",\"link\":null}\n\
             {\"key\":\"c2\",\"component\":\"mail\",\"name\":\"New\",\"subscribers\":[\"jo\"]}",
            CONNECTIONS,
            &["c1 Again - jo", "c2 New - jo"],
        ),
        (
            Kind::Connections,
            CSV,
            "key,component,name,subscribers\nc1,mail,Again,\n",
            CONNECTIONS,
            &["c1 Again - -", "c2 New - jo"],
        ),
        (
            Kind::Subscribers,
            CSV,
            "key,address\njo,new@example.com\nal,al@example.com\n",
            SUBSCRIBERS,
            &["al al@example.com - en UTC", "jo new@example.com Jo de Europe/Vienna"],
        ),
        (
            Kind::Subscribers,
            CSV,
            "key,address,name,zone\njo,new@example.com,,\n",
            SUBSCRIBERS,
            &["al al@example.com - en UTC", "jo new@example.com - de UTC"],
        ),
    ] {
        let job = Job { kind, format, dry_run: true };
        let dry = try_import(&w, job, text).await.unwrap();
        let wet = try_import(&w, Job { dry_run: false, ..job }, text).await.unwrap();
        assert_eq!(dry, wet, "{text}");
        assert_eq!(rows(&w, sql).await, after, "{text}");
    }
    assert_eq!(rows(&w, ATTRIBUTES).await, ["plan pro"]);
    // What gives nothing new changes nothing.
    assert_eq!(import(&w, Kind::Subscribers, CSV, "key,address\njo,new@example.com\n").await.0, [1, 0, 0, 1, 0]);
    assert_eq!(import(&w, Kind::Components, CSV, "key,name\nnew,O\n").await.0, [1, 0, 0, 1, 0]);
    assert_eq!(import(&w, Kind::Connections, CSV, "key,component,name\nc2,mail,New\n").await.0, [1, 0, 0, 1, 0]);
}

async fn who_is_told_stays_when_a_connection_is_renamed(on: On) {
    let mut w = world(on).await;
    full(&w).await;
    import(&w, Kind::Connections, CSV, "key,component,name\nc1,mail,Renamed\n").await;
    w.broken("c1").await;
    let got = w.at("2026-04-30T10:10:00Z").await;
    assert_eq!(got.iter().map(|mail| mail.to.as_str()).collect::<Vec<_>>(), ["jo@example.com"]);
}

async fn a_put_that_says_a_part_leaves_the_rest(on: On) {
    let w = world(on).await;
    full(&w).await;
    let fields = |said: Value| said.as_object().unwrap().clone();
    let put = import::component(&w.store, "mail", fields(json!({"name": "M"}))).await.unwrap();
    assert_eq!(rows(&w, COMPONENTS).await, ["db DB - -", "mail M eu db"]);
    let again =
        import::component(&w.store, "mail", fields(json!({"name": "M", "group": null, "depends_on": []}))).await;
    assert_eq!(again.unwrap(), put);
    assert_eq!(rows(&w, COMPONENTS).await, ["db DB - -", "mail M - -"]);

    import::connection(&w.store, "c1", fields(json!({"component": "mail", "name": "C"}))).await.unwrap();
    import::connection(&w.store, "c2", fields(json!({"component": "mail", "name": "C"}))).await.unwrap();
    assert_eq!(rows(&w, CONNECTIONS).await, ["c1 C https://example.com/c1 jo", "c2 C - -"]);
    let moved = import::connection(&w.store, "c1", fields(json!({"component": "db", "name": "C"}))).await.unwrap_err();
    assert!(moved.to_string().starts_with("component: cannot change"), "{moved}");

    import::subscriber(&w.store, "jo", fields(json!({"address": "new@example.com"}))).await.unwrap();
    assert_eq!(rows(&w, SUBSCRIBERS).await, ["jo new@example.com Jo de Europe/Vienna"]);
    assert_eq!(rows(&w, ATTRIBUTES).await, ["plan pro"]);
    import::subscriber(&w.store, "jo", fields(json!({"address": "new@example.com", "attributes": {}}))).await.unwrap();
    assert_eq!(rows(&w, ATTRIBUTES).await.len(), 0);
    let wrong = import::subscriber(&w.store, "jo", fields(json!({"address": "x", "zone": "Mars"}))).await.unwrap_err();
    assert!(wrong.to_string().starts_with("zone: is not an IANA time zone"), "{wrong}");
}

async fn subscriptions_begin_and_end(on: On) {
    let w = world(on).await;
    w.subscriber("jo").await;
    w.component("mail", "Mail").await;
    let begin = "subscriber,component\njo,mail\njo,\nal,mail\njo,fax\n";
    let (counts, refused) = import(&w, Kind::Subscriptions, CSV, begin).await;
    assert_eq!(counts, [4, 2, 0, 0, 2]);
    assert_eq!(
        refused,
        ["4 subscriber: no subscriber has the key `al`", "5 component: no component has the key `fax`"]
    );
    let end = "{\"subscriber\":\"jo\",\"component\":\"mail\",\"active\":false}\n{\"subscriber\":\"jo\"}";
    assert_eq!(import(&w, Kind::Subscriptions, Format::JsonLines, end).await.0, [2, 0, 1, 1, 0]);
    assert_eq!(import(&w, Kind::Subscriptions, Format::JsonLines, end).await.0, [2, 0, 0, 2, 0]);
    let open = "SELECT CASE WHEN component_id IS NULL THEN 'all' ELSE 'one' END, \
        CASE WHEN ended_at IS NULL THEN 'open' ELSE 'ended' END FROM subscription ORDER BY 1";
    assert_eq!(rows(&w, open).await, ["all open", "one ended"]);
    assert_eq!(import(&w, Kind::Subscriptions, CSV, begin).await.0, [4, 0, 1, 1, 2]);
    assert_eq!(rows(&w, open).await, ["all open", "one open"]);
}

async fn subscriptions_have_groups_and_preferences(on: On) {
    let mut w = world(on).await;
    w.subscriber("jo").await;
    import(&w, Kind::Components, CSV, "key,name,group\nmail,Mail,eu\n").await;
    let lines = "subscriber,component,group,events,least_impact,active\njo,,eu,begin_and_end,major,\njo,mail,,,minor,true\n\
        jo,,,none,,\njo,,us,,,\njo,mail,eu,,,\njo,,eu,some,,\njo,,eu,,maintenance,\njo,,us,,,false\n";
    let (counts, refused) = import(&w, Kind::Subscriptions, CSV, lines).await;
    assert_eq!(counts, [8, 3, 0, 1, 4], "what is not there is not ended");
    let begins = [
        "5 group: no component is in the group `us`",
        "6 group: stands beside a component",
        "7 events: unknown variant `some`",
        "8 least_impact: is none of none, minor, major, critical",
    ];
    assert!(refused.len() == 4 && refused.iter().zip(begins).all(|(r, begin)| r.starts_with(begin)), "{refused:?}");
    const ALL: &str = "SELECT COALESCE(c.key, s.group_key, 'all') || ' ' || s.events || ' ' || s.least_impact || ' ' || \
        CAST((s.created_at - 1777543200000000) / 60000000 AS TEXT) || CASE WHEN s.ended_at IS NULL THEN '' ELSE ' ended' END \
        FROM subscription s LEFT JOIN component c ON c.id = s.component_id ORDER BY 1";
    let all = ["all none none 0", "eu begin_and_end major 0", "mail all minor 0"];
    assert_eq!(rows(&w, ALL).await, all);
    assert_eq!(import(&w, Kind::Subscriptions, CSV, lines).await.0, [8, 0, 0, 4, 4]);
    // A line is all there is to say: what it leaves out is as by default. Begun again it counts from then on.
    w.pass(1).await;
    let again = "{\"subscriber\":\"jo\",\"group\":\"eu\"}\n{\"subscriber\":\"jo\"}\n\
        {\"subscriber\":\"jo\",\"component\":\"mail\",\"least_impact\":\"minor\",\"active\":false}";
    assert_eq!(import(&w, Kind::Subscriptions, Format::JsonLines, again).await.0, [3, 0, 3, 0, 0]);
    w.pass(1).await;
    assert_eq!(import(&w, Kind::Subscriptions, CSV, "subscriber,component\njo,mail\n").await.0, [1, 0, 1, 0, 0]);
    assert_eq!(rows(&w, ALL).await, ["all all none 1", "eu all none 0", "mail all none 2"]);
}

async fn a_stop_leaves_whole_batches(on: On) {
    let w = world(on).await;
    let stop = CancellationToken::new();
    let job = Job { kind: Kind::Subscribers, format: CSV, dry_run: false };
    let hear = &mut |event| {
        if matches!(event, Event::Done { .. }) {
            stop.cancel();
        }
    };
    let counts = import::run(&w.store, job, Cursor::new(many().into_bytes()), &stop, hear).await.unwrap();
    assert!(counts.lines > 0 && counts.lines < 37_000, "{counts:?}");
    assert_eq!(rows(&w, "SELECT key FROM subscriber").await.len() as u64, counts.inserted);
}

async fn two_at_once_end_as_one(on: On) {
    let w = world(on).await;
    let job = Job { kind: Kind::Subscribers, format: CSV, dry_run: false };
    let text = many();
    let (one, two) = tokio::join!(try_import(&w, job, &text), try_import(&w, job, &text));
    let (one, two) = (one.unwrap().0, two.unwrap().0);
    assert_eq!((one.refused, two.refused), (1, 1));
    assert_eq!(rows(&w, "SELECT key FROM subscriber").await.len() as u64, one.inserted + two.inserted);
}

async fn a_subscription_put_twice_at_once_is_one(on: On) {
    let w = world(on).await;
    w.component("imap", "Mail").await;
    for key in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        w.subscriber(key).await;
        let said = json!({"subscriber": key, "component": "imap"});
        tokio::join!(w.subscription(said.clone()), w.subscription(said));
    }
    assert_eq!(rows(&w, "SELECT CAST(COUNT(*) AS TEXT) FROM subscription").await, ["8"]);
}

/// Each but the second of two is turned back, as by a deadlock. On SQLite nobody writes beside another.
async fn turn_back(w: &World) {
    for sql in [
        "CREATE SEQUENCE tries",
        "CREATE FUNCTION turn_back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('tries') % 2 = 1 THEN RAISE EXCEPTION 'turned back' USING ERRCODE = '40P01'; END IF;
            RETURN NULL; END $$",
        "CREATE TRIGGER t BEFORE INSERT ON component FOR EACH STATEMENT EXECUTE FUNCTION turn_back()",
        "CREATE TRIGGER t BEFORE INSERT ON subscriber FOR EACH STATEMENT EXECUTE FUNCTION turn_back()",
        "CREATE TRIGGER t BEFORE INSERT ON connection FOR EACH STATEMENT EXECUTE FUNCTION turn_back()",
        "CREATE TRIGGER t BEFORE INSERT ON subscription FOR EACH STATEMENT EXECUTE FUNCTION turn_back()",
        "CREATE TRIGGER t BEFORE INSERT ON signal FOR EACH STATEMENT EXECUTE FUNCTION turn_back()",
        "CREATE TRIGGER t BEFORE INSERT ON notice FOR EACH STATEMENT EXECUTE FUNCTION turn_back()",
    ] {
        w.execute(sql).await;
    }
}

async fn what_the_database_turns_back_is_taken_anew(on: On) {
    fn said<T: serde::de::DeserializeOwned>(json: Value) -> T {
        serde_json::from_value(json).unwrap()
    }
    let w = world(on).await;
    if on == On::Postgres {
        turn_back(&w).await;
    }
    register::component(&w.store, "imap", &said(json!({"name": "Mail"}))).await.unwrap();
    register::subscriber(&w.store, "ann", &said(json!({"address": "ann@example.net"}))).await.unwrap();
    let connection = json!({"component": "imap", "name": "Inbox", "subscribers": ["ann"]});
    register::connection(&w.store, "ann-1", &said(connection)).await.unwrap();
    w.subscription(json!({"subscriber": "ann", "component": "imap"})).await;
    assert_eq!(w.broken("ann-1").await.outcome.as_str(), "waiting");
    let update = json!({"kind": "incident", "incident": "i", "title": "Slow", "phase": "investigating",
        "components": [{"key": "imap", "status": "partial_outage"}], "body": "We are looking."});
    assert_eq!(w.notice(update).await.outcome.as_str(), "planned");
    for table in ["SELECT key FROM component", "SELECT what FROM signal", "SELECT outcome FROM notice"] {
        assert_eq!(rows(&w, table).await.len(), 1, "{table}");
    }
    if on == On::Postgres {
        assert_eq!(rows(&w, "SELECT CAST(last_value AS TEXT) FROM tries").await, ["12"], "each twice");
    }
}

async fn a_line_that_is_too_long_is_refused_alone(on: On) {
    let w = world(on).await;
    let long = "x".repeat(600_000);
    let line = |key: &str, name: &str| json!({"key": key, "address": "a@example.com", "name": name}).to_string();
    let lines = [line("a", "A"), line("b", &long), line("c", "C")].join("\n");
    let (counts, refused) = import(&w, Kind::Subscribers, Format::JsonLines, &lines).await;
    assert_eq!((counts, refused.len()), ([3, 2, 0, 0, 1], 1));
    assert_eq!(refused[0], "2 line: is longer than 262144 bytes");
    // In CSV a quote may stand in what was cut.
    let csv = format!("key,address,name\nd,d@example.com,\ne,e@example.com,{long}\nf,f@example.com,\n");
    let (counts, refused) = import(&w, Kind::Subscribers, CSV, &csv).await;
    assert_eq!(counts, [2, 1, 0, 0, 1]);
    assert!(refused[0].ends_with("nothing after it is read"), "{refused:?}");
}

async fn column_names_that_cannot_be_used_end_it(on: On) {
    let w = world(on).await;
    for (text, what) in [
        ("", "the first line is missing"),
        ("key,\"address\n", "the first line opens a quote"),
        (
            "key,address,colour\na,a@example.com,red\n",
            "the first line names the unknown column `colour`; the columns of subscribers are",
        ),
    ] {
        let job = Job { kind: Kind::Subscribers, format: CSV, dry_run: false };
        let error = try_import(&w, job, text).await.unwrap_err();
        assert!(matches!(error, ImportError::Columns(_)) && error.to_string().starts_with(what), "{error}");
    }
    assert_eq!(rows(&w, SUBSCRIBERS).await.len(), 0);
}

async fn who_was_imported_is_mailed(on: On) {
    let mut w = world(on).await;
    import(&w, Kind::Components, CSV, "key,name\nmail,Mail sync\n").await;
    import(&w, Kind::Subscribers, CSV, "key,address\njo,\"\"\"jo doe\"\"@exämple.org\"\nal,al@example.com\n").await;
    import(&w, Kind::Connections, CSV, "key,component,name,subscribers\nc1,mail,Inbox,jo\n").await;
    import(&w, Kind::Subscriptions, CSV, "subscriber,component\nal,mail\n").await;
    w.broken("c1").await;
    w.notice(json!({"kind": "incident", "incident": "i", "title": "Mail is late", "phase": "investigating",
        "components": [{"key": "mail"}], "body": "We look."}))
        .await;
    let got = w.at("2026-04-30T10:10:00Z").await;
    let mut to: Vec<_> = got.iter().map(|mail| mail.to.as_str()).collect();
    to.sort_unstable();
    assert_eq!(to, ["\"jo doe\"@xn--exmple-cua.org", "al@example.com"]);
}
