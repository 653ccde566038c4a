//! What is read, and what is refused with its place.

use crate::{STATUSPAGE, TIMELINE, history};
use allclear::cli::replay::history::{Follows, Mode};
use allclear::cli::replay::reading::read;
use allclear::domain::incident::Phase;

#[test]
fn statuspage_is_read_in_the_order_of_posting() {
    let history = history(STATUSPAGE);
    assert_eq!(history.page, "Acme");
    let one = history.incidents.iter().find(|i| i.key == "one").unwrap();
    let keys: Vec<_> = one.updates.iter().map(|u| u.key.as_str()).collect();
    assert_eq!(keys, ["o1", "o2", "o3"]);
    assert_eq!(one.updates[2].body, "Over.");
    let followed: Vec<_> = history.subscribers().into_iter().map(|s| (s.key, s.follows)).collect();
    assert_eq!(
        followed,
        [
            ("everything".to_owned(), Follows::Everything),
            ("nothing".to_owned(), Follows::Nothing),
            ("search".to_owned(), Follows::One("search".to_owned())),
            ("mail".to_owned(), Follows::One("mail".to_owned())),
        ]
    );
}

#[test]
fn a_timeline_is_read_in_the_words_of_ours() {
    let mut history = history(TIMELINE);
    let phases: Vec<_> = history.incidents.iter().flat_map(|i| &i.updates).map(|u| u.phase).collect();
    assert_eq!(phases, [Phase::InProgress, Phase::Completed, Phase::Update]);
    let update = &history.incidents[0].updates[0];
    assert_eq!(update.key, "2025-04-01T10:00:00+02:00");
    assert_eq!(update.arrives.to_string(), "2025-04-01T08:00:00Z");
    assert_eq!(history.course(Mode::Free).len(), 3);
}

#[test]
fn what_a_timeline_leaves_out_may_be_null() {
    let text = TIMELINE.replace("[\"Web API\"]", "null").replace("\"impact\":\"minor\"", "\"impact\":null");
    let history = history(&text);
    assert!(history.components().is_empty());
    assert_eq!(history.incidents.len(), 2);
}

#[test]
fn doubled_is_everything_twice_and_the_later_of_two_neighbours_first() {
    let mut history = history(STATUSPAGE);
    let course = history.course(Mode::Doubled);
    let order: Vec<_> = course.iter().map(|a| history.incidents[a.incident].updates[a.update].key.as_str()).collect();
    assert_eq!(order, ["o2", "o1", "o2", "o1", "o3", "o3", "t2", "t1", "t2", "t1"]);
}

#[test]
fn updates_of_one_time_are_told_apart() {
    let text = r#"{"page":"a","id":"i","name":"n","components":["x","x"],"updates":[
        {"at":"2025-04-02T10:00:00Z","status":"Update","body":"a"},{"at":"2025-04-02T10:00:00Z","status":"Update"}]}"#;
    let history = history(&text.replace('\n', ""));
    let updates = &history.incidents[0].updates;
    assert_eq!([updates[0].key.as_str(), &updates[1].key], ["2025-04-02T10:00:00Z", "2025-04-02T10:00:00Z#2"]);
    assert_eq!((updates[1].body.as_str(), updates[1].components.len()), ("n", 1), "no text: the title");
}

#[test]
fn each_page_of_a_timeline_is_a_history() {
    let line = |page: &str| format!(r#"{{"page":"{page}","id":"i","name":"n","updates":[]}}"#);
    let all = read(format!("{}\n{}\n", line("a"), line("b")).as_bytes()).unwrap();
    assert_eq!(all.iter().map(|h| h.page.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn what_cannot_be_read_is_refused_with_its_place() {
    for (text, place) in [
        (String::new(), "line 1: EOF"),
        ("[]".to_owned(), "line 1: "),
        ("hello".to_owned(), "line 1: "),
        ("\u{fffd}".to_owned(), "line 1: "),
        (r#"{"incidents": 3}"#.to_owned(), "incidents: invalid type"),
        (STATUSPAGE.replace("2025-03-01T18:00:00.000Z\", \"inc", "soon\", \"inc"), "incidents[0].started_at: `soon`"),
        (STATUSPAGE.replace("\"identified\"", "\"found\""), "incident one: incident_updates[1].status: `found`"),
        (STATUSPAGE.replace("\"two\"", "\"one\""), "incident one: is there twice"),
        (STATUSPAGE.replace("\"major_outage\"}", "\"dead\"}"), "new_status: unknown variant `dead`"),
        (TIMELINE.replace("Completed", "Gone"), "line 2: updates[1].status: `gone`"),
        (TIMELINE.replace("2025-04-02T10:00:00Z", "2 April"), "line 4: updates[0].at: `2 April`"),
        (TIMELINE.replace("\"id\":\"i1\",", ""), "line 4: .: missing field `id`"),
        (STATUSPAGE.replace("\"o2\"", "\" \""), "incident one: update 2: an id"),
        (TIMELINE.replace("Web API", ""), "line 2: update 1: an id, or a component's key"),
        (TIMELINE.replace("\"minor\"", "\"vast\""), "line 4: impact: unknown variant `vast`"),
    ] {
        let wrong = read(text.as_bytes()).unwrap_err();
        assert!(wrong.contains(place), "{wrong}\nis not {place}");
    }
    assert_eq!(
        read(b"{\n}\n").unwrap_err(),
        "it is neither an incidents.json nor a timeline of one incident a line",
        "it is JSON, so nothing of where that breaks off"
    );
    let broken = read(format!("{}{{\n", TIMELINE.trim_start()).as_bytes()).unwrap_err();
    assert!(broken.starts_with("line ") && broken.contains(": EOF while") && !broken.contains('?'), "{broken}");
    assert!(read(&[b'{', 0xff]).unwrap_err().contains("after byte 1"));
}
