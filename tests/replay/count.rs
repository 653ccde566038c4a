//! The counting, against mails made by hand: right ones count as right, and each kind of fault is found.

use crate::history;
use crate::support::t;
use allclear::cli::replay::count::{Counted, Sent, count};
use allclear::cli::replay::history::Mode;

/// One incident: down 08:00, worse 08:10, over 09:00.
const ENDS: &str = r#"[["a","08:00","investigating","partial_outage"], ["b","08:10","identified","major_outage"],
    ["c","09:00","resolved","operational"]]"#;
/// One that is down, works, and is watched until it is over.
const WAVERS: &str = r#"[["a","08:00","investigating","partial_outage"], ["b","08:05","investigating","operational"],
    ["c","08:30","monitoring","operational"], ["d","09:00","resolved","operational"]]"#;
/// The same with a summary after the end, a relapse, and another end.
const RELAPSES: &str = r#"[["a","08:00","investigating","partial_outage"], ["b","09:00","resolved","operational"],
    ["c","09:30","monitoring","operational"], ["d","10:00","investigating","major_outage"],
    ["e","11:00","resolved","operational"]]"#;

/// Counts mails to the follower of `imap` (`one`), of `smtp` (`two`), or of everything: `to time update phase`; for those
/// who are mailed, and those whom the incident does not concern.
fn counted(updates: &str, mails: &[&str]) -> Counted {
    let is_mailed = |name: &str| mails.iter().any(|mail| mail.starts_with(name));
    counted_for(updates, mails, |key| match key {
        "imap" => is_mailed("one "),
        "everything" => is_mailed("everything "),
        _ => true,
    })
}

fn counted_for(updates: &str, mails: &[&str], whom: impl Fn(&str) -> bool) -> Counted {
    let updates: Vec<[String; 4]> = serde_json::from_str(updates).unwrap();
    let updates: Vec<_> = updates
        .into_iter()
        .map(|[id, at, status, state]| {
            serde_json::json!({"id": id, "status": status, "body": "x", "created_at": format!("2025-03-01T{at}:00Z"),
                "affected_components": [{"code": "imap", "name": "IMAP", "new_status": state}]})
        })
        .collect();
    let other = serde_json::json!({"id": "z", "status": "resolved", "body": "x", "created_at": "2025-03-02T00:00:00Z",
        "affected_components": [{"code": "smtp", "name": "SMTP", "new_status": "operational"}]});
    let text = serde_json::json!({"incidents": [
        {"id": "i, 1", "name": "n", "incident_updates": updates},
        {"id": "other", "name": "n", "incident_updates": [other]}]});
    let history = history(&text.to_string());
    let mut subscribers = history.subscribers();
    subscribers.retain(|s| whom(&s.key));
    let made: Vec<_> = mails
        .iter()
        .map(|mail| {
            let [to, at, update, phase] = mail.split(' ').collect::<Vec<_>>().try_into().unwrap();
            let key = match to {
                "one" => "imap",
                "two" => "smtp",
                other => other,
            };
            let known = subscribers.iter().find(|s| s.key == key);
            let to = known.map_or_else(|| to.to_owned(), |s| s.address.clone());
            let update = if update == "-" { String::new() } else { format!("X-Allclear-Update: {update}\r\n") };
            let raw = format!(
                "Subject: x\r\nX-Allclear-Incident: i%2C\r\n 1\r\n{update}x-allclear-phase: {phase}\r\n\
                 X-Allclear-Components: imap\r\n\r\nX-Allclear-Phase: body\r\n"
            );
            (to, t(&format!("2025-03-01T{at}:00Z")), raw)
        })
        .collect();
    let sent: Vec<_> =
        made.iter().map(|(to, at, raw)| Sent { to, at: *at, raw: raw.as_bytes(), name: "mail" }).collect();
    count(&history, &subscribers, &sent, Mode::Free)
}

/// What is wrong, as `stale missing duplicate unreported stray`.
fn wrong(counted: &Counted) -> [usize; 5] {
    let Counted { stale_mails, missing_ends, duplicates, unreported, strays, .. } = counted;
    let all = [*stale_mails, *missing_ends, *duplicates, *unreported, *strays];
    assert_eq!(counted.wrong.is_empty(), all == [0; 5], "{:?}", counted.wrong);
    all
}

#[test]
fn what_is_right_counts_as_right() {
    for (updates, mails) in [
        (ENDS, &["one 08:00 a investigating", "one 08:10 b identified", "one 09:00 c resolved"][..]),
        // Within the least distance a newer one takes the older one's place.
        (ENDS, &["everything 08:09 a investigating", "everything 08:14 b identified", "everything 09:00 c resolved"]),
        // An all-clear is the end, whether or not it names an update.
        (WAVERS, &["one 08:00 a investigating", "one 08:15 - resolved"]),
        (RELAPSES, &["one 08:00 a investigating", "one 09:00 b resolved"]),
        (
            RELAPSES,
            &["one 08:00 a investigating", "one 09:00 b resolved", "one 10:00 d investigating", "one 11:00 e resolved"],
        ),
    ] {
        let counted = counted(updates, mails);
        let expected = if updates == RELAPSES && mails.len() == 2 { [0, 0, 0, 1, 0] } else { [0; 5] };
        assert_eq!(wrong(&counted), expected, "{mails:?}: {:?}", counted.wrong);
    }
}

#[test]
fn each_kind_of_fault_is_counted() {
    for (fault, updates, mails) in [
        // A problem mail after the end, at its very time, and after this subscriber's own end.
        ([1, 1, 0, 0, 0], ENDS, &["one 09:01 b identified"][..]),
        ([1, 1, 0, 0, 0], ENDS, &["one 09:00 b identified"]),
        (
            [1, 0, 0, 0, 0],
            WAVERS,
            &["one 08:00 a investigating", "one 08:15 - resolved", "one 08:30 c monitoring", "one 09:00 d resolved"],
        ),
        (
            [1, 0, 0, 0, 0],
            RELAPSES,
            &[
                "one 08:00 a investigating",
                "one 09:00 b resolved",
                "one 09:30 c monitoring",
                "one 10:00 d investigating",
                "one 11:00 e resolved",
            ],
        ),
        // An older state after a newer one.
        ([1, 0, 0, 0, 0], ENDS, &["one 08:10 b identified", "one 08:20 a investigating", "one 09:00 c resolved"]),
        // Told, and never told the end; the other subscriber was.
        (
            [0, 1, 0, 0, 0],
            ENDS,
            &["one 08:10 b identified", "everything 08:10 b identified", "everything 09:00 c resolved"],
        ),
        // A second end of the relapse is missing.
        (
            [0, 1, 0, 0, 0],
            RELAPSES,
            &["one 08:00 a investigating", "one 09:00 b resolved", "one 10:00 d investigating"],
        ),
        // The same update twice; two ends.
        ([0, 0, 1, 0, 0], ENDS, &["one 08:10 b identified", "one 08:10 b identified", "one 09:00 c resolved"]),
        ([0, 0, 1, 0, 0], WAVERS, &["one 08:00 a investigating", "one 08:15 - resolved", "one 09:00 d resolved"]),
        // All clear, they say, in the middle of the outage.
        ([1, 0, 0, 0, 0], ENDS, &["one 08:10 b identified", "one 08:40 - resolved"]),
        // A change of phase for the worse that was told too late, or never.
        ([0, 0, 0, 1, 0], ENDS, &["one 08:00 a investigating", "one 08:16 b identified", "one 09:00 c resolved"]),
        ([0, 0, 0, 1, 0], ENDS, &["one 08:00 a investigating", "one 09:00 c resolved"]),
        // Mails to those who follow something else, to nobody, to strangers; and mails that do not say what they are, which
        // tell nobody anything.
        ([0, 0, 0, 0, 1], ENDS, &["two 08:00 a investigating"]),
        ([0, 0, 0, 0, 1], ENDS, &["nothing 08:00 a investigating"]),
        ([0, 0, 0, 0, 1], ENDS, &["eve@example.net 08:00 a investigating"]),
        ([0, 0, 0, 1, 1], ENDS, &["one 08:00 q investigating"]),
        ([0, 0, 0, 1, 1], ENDS, &["one 08:00 - investigating"]),
        ([0, 0, 0, 1, 1], ENDS, &["one 08:00 a odd"]),
    ] {
        let counted = counted(updates, mails);
        assert_eq!(wrong(&counted), fault, "{mails:?}: {:?}", counted.wrong);
    }
}

#[test]
fn silence_from_the_first_report_on_is_counted() {
    let all = |updates: &str, mails: &[&str]| wrong(&counted_for(updates, mails, |_| true));
    assert_eq!(all(ENDS, &[]), [0, 0, 0, 2, 0], "neither follower was told anything");
    let one = ["one 08:00 a investigating", "one 08:10 b identified", "one 09:00 c resolved"];
    assert_eq!(all(ENDS, &one), [0, 0, 0, 1, 0], "of the two one was");
    // What is over, or taken back, before it need be told; what comes with the end; what is no trouble.
    for updates in [
        ENDS.replace("09:00", "08:05").replace("08:10", "08:04"),
        ENDS.replace("identified\",\"major_outage", "identified\",\"operational").replace("08:10", "08:04"),
        ENDS.replace("investigating", "resolved").replace("identified", "postmortem"),
        ENDS.replace("partial_outage", "operational").replace("major_outage", "operational"),
    ] {
        assert_eq!(all(&updates, &[]), [0; 5], "{updates}");
    }
}

/// Two incidents of one component: of the second nothing more need be said while the first is fresh.
#[test]
fn what_another_incident_told_of_a_moment_ago_is_no_silence() {
    let incident = |id: &str, begin: &str, deliver: bool, posted: &str| {
        serde_json::json!({"id": id, "name": "n", "incident_updates": [
            {"id": format!("{id}1"), "status": "investigating", "body": "x", "created_at": format!("2025-03-01T{posted}:00Z"),
             "display_at": format!("2025-03-01T{begin}:00Z"), "deliver_notifications": deliver,
             "affected_components": [{"code": "imap", "name": "IMAP", "new_status": "partial_outage"}]}]})
    };
    let silent = |begin: &str, deliver: bool, posted: &str| {
        let all = [incident("i", "08:00", true, "08:00"), incident("k", begin, deliver, posted)];
        let history = history(&serde_json::json!({"incidents": all}).to_string());
        let subscribers = history.subscribers();
        let raw = "X-Allclear-Incident: i\r\nX-Allclear-Update: i1\r\nX-Allclear-Phase: investigating\r\n\r\n";
        let sent = |s: &allclear::cli::replay::history::Subscriber| (s.address.clone(), t("2025-03-01T08:00:00Z"));
        let to: Vec<_> = subscribers.iter().filter(|s| s.key != "nothing").map(sent).collect();
        let sent: Vec<_> = to.iter().map(|(to, at)| Sent { to, at: *at, raw: raw.as_bytes(), name: "mail" }).collect();
        count(&history, &subscribers, &sent, Mode::Free).unreported
    };
    assert_eq!(silent("08:30", true, "08:30"), 0);
    assert_eq!(silent("08:31", true, "08:31"), 2);
    assert_eq!(silent("09:00", false, "09:00"), 0, "nobody was to be notified");
    assert_eq!(silent("09:00", true, "13:00"), 0, "told hours later");
}

#[test]
fn pairs_are_those_who_follow_one_component_and_got_any() {
    let counted = counted(ENDS, &["one 08:10 b identified", "one 09:00 c resolved", "everything 08:10 b identified"]);
    assert_eq!((counted.incidents, counted.updates, counted.mails), (2, 4, 3));
    assert!((counted.mails_per_told_pair() - 2.0).abs() < f64::EPSILON);
}
