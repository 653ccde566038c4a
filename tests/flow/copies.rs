//! The mail as it was sent: whatever class it is of and whatever has changed since, its copy is what the relay got,
//! byte for byte, until it goes by age.

use super::by_hand::taken;
use super::table::until;
use crate::on_both;
use crate::support::{On, World, page};
use allclear::domain::delivery::{HandOver, Outcome, State};
use allclear::domain::id::DeliveryId;
use allclear::domain::time::Span;
use allclear::flow::copies::{self, Copies, ExactMail, MailError};
use allclear::flow::spill::Spill;
use allclear::flow::worker;
use allclear::mail::sink::{Act, Answer, Phase, Received, Script};
use allclear::store::record::Settled;
use allclear::template::{Templates, embedded};
use serde_json::json;
use std::sync::Arc;

on_both! {
    every_class_is_kept_as_the_relay_got_it;
    what_the_relay_refused_is_kept_when_it_saw_it;
    what_nobody_can_know_about_is_kept;
    a_relay_that_speaks_again_before_the_mail_has_none_of_it;
    the_accepted_bytes_stay;
    a_copy_waits_in_the_spill_file_with_its_outcome;
    all_that_can_be_read_of_both_spill_files_is_merged_and_the_rest_is_kept;
    what_was_spilled_is_recorded_before_a_lease_that_ran_out_is_looked_after;
    copies_go_by_age_and_what_they_were_made_of_with_them;
    what_was_never_copied_is_forgotten_with_its_age_too;
    a_copy_that_was_changed_is_not_shown;
    without_retention_nothing_is_kept;
}

async fn world(on: On, script: Script) -> World {
    let w = World::with(on, "2025-06-02T08:00:00Z", script, |_| {}).await;
    for (component, who) in [("outlook", "ann"), ("calendar", "zoe")] {
        w.component(component, component).await;
        w.subscriber(who).await;
        w.subscribe(who, component).await;
        w.connection(who, component, who).await;
    }
    w
}

async fn free(w: &World, recipients: &[&str]) {
    w.notice(json!({"kind": "free", "subject": "News", "body": "Something.", "recipients": recipients})).await;
}

/// Templates in which the free mail reads otherwise.
fn change_templates(w: &mut World) {
    let mut sources = embedded();
    sources.get_mut("mail/free/body.txt").unwrap().insert_str(0, "Changed.\n");
    let templates = Templates::load(&sources, &page()).unwrap();
    w.shared.copies = Arc::new(Copies::new(&w.shared.setting, &templates, Span::hours(45 * 24)));
    w.shared.templates = Arc::new(templates);
    w.restart();
}

/// The deliveries, oldest first.
async fn ids(w: &World) -> Vec<DeliveryId> {
    let sql = if w.url.starts_with("sqlite") {
        "SELECT lower(hex(id)) FROM delivery ORDER BY id"
    } else {
        "SELECT replace(CAST(id AS TEXT), '-', '') FROM delivery ORDER BY id"
    };
    w.query(sql).await.into_iter().map(|row| format!("dlv_{}", row[0].as_ref().unwrap()).parse().unwrap()).collect()
}

async fn copy(w: &World, id: DeliveryId) -> Result<ExactMail, MailError> {
    copies::mail(&mut w.store.read().await.unwrap(), id).await
}

async fn count(w: &World, sql: &'static str) -> i64 {
    w.query(sql).await[0][0].as_ref().unwrap().parse().unwrap()
}

async fn assert_kept_as_received(w: &World) -> Vec<Received> {
    let mails = w.sink.mails();
    for mail in &mails {
        let text = String::from_utf8_lossy(&mail.body);
        let id = text.lines().find_map(|line| line.strip_prefix("X-Allclear-Notice: ")).unwrap();
        let kept = copy(w, id.parse().unwrap()).await.unwrap();
        assert!(kept.bytes == mail.body, "{}\n---\n{text}", String::from_utf8_lossy(&kept.bytes));
    }
    mails
}

async fn every_class_is_kept_as_the_relay_got_it(on: On) {
    async fn incident(w: &World, phase: &str, component: &str, status: &str, deliver: bool) {
        let body = "Es stört.\n\n.Ein Punkt vorn\n- eine Liste: 日本語 https://example.com/a?b=c&d=e\n\n..";
        w.notice(json!({"kind": "incident", "incident": "o-1", "title": "Störung <1>", "phase": phase, "body": body,
            "components": [{"key": component, "status": status}], "deliver": deliver}))
            .await;
    }
    let mut w = world(on, Script::default()).await;
    w.broken("ann").await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    w.recovered("ann", "automatic").await;
    until(&mut w, "2025-06-02T09:00:00Z").await;
    incident(&w, "investigating", "outlook", "major_outage", true).await;
    until(&mut w, "2025-06-02T09:10:00Z").await;
    incident(&w, "identified", "calendar", "major_outage", true).await;
    until(&mut w, "2025-06-02T09:30:00Z").await;
    incident(&w, "update", "outlook", "operational", false).await;
    until(&mut w, "2025-06-02T10:00:00Z").await;
    incident(&w, "resolved", "calendar", "operational", true).await;
    until(&mut w, "2025-06-02T11:00:00Z").await;
    incident(&w, "postmortem", "calendar", "operational", true).await;
    free(&w, &["ann"]).await;
    until(&mut w, "2025-06-02T11:05:00Z").await;
    let before = assert_kept_as_received(&w).await.len();
    assert_eq!(count(&w, "SELECT CAST(COUNT(DISTINCT class) AS TEXT) FROM delivery WHERE state = 'accepted'").await, 7);
    // Mails of 5 to 7 kB: what is kept of each is a tenth.
    let kept = count(&w, "SELECT CAST(MAX(LENGTH(bytes)) AS TEXT) FROM mail_copy").await;
    assert!(kept < 900, "{kept}");

    change_templates(&mut w);
    free(&w, &["ann"]).await;
    until(&mut w, "2025-06-02T11:10:00Z").await;
    let mails = assert_kept_as_received(&w).await;
    assert_eq!(mails.len(), before + 1);
    assert!(String::from_utf8_lossy(&mails[before].body).contains("Changed."));
    assert_eq!(count(&w, "SELECT CAST(COUNT(*) AS TEXT) FROM template_set").await, 2);
}

async fn what_the_relay_refused_is_kept_when_it_saw_it(on: On) {
    let script = Script::default().answering(|at, envelope, _| {
        let no = if envelope.to.starts_with("ann") { Phase::Dot } else { Phase::Rcpt };
        (at == no).then(|| Answer::reply(at, "550 5.7.1 no"))
    });
    let mut w = world(on, script).await;
    free(&w, &["ann", "zoe"]).await;
    assert!(matches!(copy(&w, DeliveryId::new()).await, Err(MailError::Unknown)));
    w.settle().await;
    assert_eq!(w.deliveries().await, ["free failed refused", "free failed refused"]);
    let (mut kept, mut not) = (Vec::new(), Vec::new());
    for id in ids(&w).await {
        match copy(&w, id).await {
            Ok(mail) => kept.push(mail),
            Err(e) => not.push(e),
        }
    }
    assert!(String::from_utf8_lossy(&kept[0].bytes).contains("\r\nTo: ann@example.net\r\n"));
    assert_eq!(kept[0].outcome, HandOver::Refused);
    assert!(matches!(not[..], [MailError::NotSent(State::Failed)]), "{not:?}");
}

async fn what_nobody_can_know_about_is_kept(on: On) {
    let script = Script::default()
        .answering(|at, _, nth| (at == Phase::Dot && nth == 1).then_some(Answer { at, act: Act::TakeAndClose }));
    let mut w = world(on, script).await;
    free(&w, &["ann"]).await;
    w.settle().await;
    let id = ids(&w).await[0];
    let first = copy(&w, id).await.unwrap();
    assert_eq!(first.outcome, HandOver::Unknown);
    w.pass(20).await;
    let second = copy(&w, id).await.unwrap();
    assert_eq!((second.outcome, &second.bytes), (HandOver::Accepted, &first.bytes));
    assert_eq!(w.sink.mails()[0].body, first.bytes);
}

fn late(w: &World, id: DeliveryId, mail: &[u8], hand_over: HandOver) -> Settled {
    let outcome = Some(Outcome { hand_over, code: None, enhanced: None, kind: None, words: "late".to_owned() });
    Settled { outcome, copy: w.shared.copies.of("free", mail), ..taken(id) }
}

/// It asks for the mail and ends the session before it has any: what would then be recorded is no copy.
async fn a_relay_that_speaks_again_before_the_mail_has_none_of_it(on: On) {
    let bye = "354 go ahead\r\n421 4.3.2 on second thoughts, good-bye";
    let script = Script::default().answering(move |at, _, nth| {
        (at == Phase::Data && nth == 1).then(|| Answer { at, act: Act::CloseAfterReply(bye.to_owned()) })
    });
    let mut w = world(on, script).await;
    free(&w, &["ann", "zoe"]).await;
    w.settle().await;
    assert_eq!(w.deliveries().await, ["free accepted", "free accepted"]);
    assert_eq!(assert_kept_as_received(&w).await.len(), 2);
    let tries = "SELECT CAST(COUNT(*) AS TEXT) FROM attempt WHERE outcome = 'not_handed_over'";
    assert_eq!(count(&w, tries).await, 2);
}

async fn the_accepted_bytes_stay(on: On) {
    let mut w = world(on, Script::default()).await;
    free(&w, &["ann"]).await;
    w.settle().await;
    let id = ids(&w).await[0];
    // Words of another worker about the same delivery, which come late and twice.
    for hand_over in [HandOver::Unknown, HandOver::Deferred] {
        w.shared.spill.append(&[late(&w, id, b"other\r\n", hand_over), late(&w, id, b"more\r\n", hand_over)]).unwrap();
        w.shared.spill.merge(&w.store, &w.shared.setting, "late").await.unwrap();
        assert_kept_as_received(&w).await;
    }
    let sure = [late(&w, id, b"accepted\r\n", HandOver::Accepted), late(&w, id, b"other\r\n", HandOver::Unknown)];
    w.shared.spill.append(&sure).unwrap();
    w.shared.spill.merge(&w.store, &w.shared.setting, "late").await.unwrap();
    assert_eq!(copy(&w, id).await.unwrap().bytes, b"accepted\r\n");
}

async fn a_copy_waits_in_the_spill_file_with_its_outcome(on: On) {
    let mut w = world(on, Script::default()).await;
    free(&w, &["ann"]).await;
    w.settle().await;
    w.sink.set_down(true);
    free(&w, &["zoe"]).await;
    w.settle().await;
    let id = ids(&w).await[1];
    assert!(matches!(copy(&w, id).await, Err(MailError::NotSent(State::Queued))));
    let mail = [b"Subject: \xc3\xa4\r\n\r\n".as_slice(), &b"x".repeat(100_000)].concat();
    w.shared.spill.append(&[late(&w, id, &mail, HandOver::Unknown)]).unwrap();
    assert_eq!(w.shared.spill.merge(&w.store, &w.shared.setting, "late").await.unwrap(), 1);
    assert_eq!(copy(&w, id).await.unwrap().bytes, mail);
}

async fn all_that_can_be_read_of_both_spill_files_is_merged_and_the_rest_is_kept(on: On) {
    let mut w = world(on, Script::default()).await;
    // What copies are made with is noted with the first.
    free(&w, &["ann"]).await;
    w.settle().await;
    w.sink.set_down(true);
    free(&w, &["ann", "zoe"]).await;
    w.settle().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.spill");
    let spill = Spill::new(path.clone());
    let (ids, piece) = (ids(&w).await.split_off(1), b"{\"id\":\"\xff\n".as_slice());
    // One that was being merged when the process died, and what came after it; each begins with a line cut short.
    for (id, left) in ids.iter().zip([path.with_extension("merging"), path.clone()]) {
        spill.append(&[late(&w, *id, b"x", HandOver::Unknown)]).unwrap();
        let damaged = [piece, &std::fs::read(&path).unwrap()].concat();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(left, damaged).unwrap();
    }
    assert_eq!(spill.merge(&w.store, &w.shared.setting, "late").await.unwrap(), 2);
    for id in ids {
        assert_eq!(copy(&w, id).await.unwrap().bytes, b"x");
    }
    let kept: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(kept.len(), 2);
    for file in kept {
        assert!(file != path && std::fs::read(file).unwrap().starts_with(piece));
    }
    assert_eq!(spill.merge(&w.store, &w.shared.setting, "late").await.unwrap(), 0);
}

/// While a dispatcher is busy for hours nothing else merges what it spilled.
async fn what_was_spilled_is_recorded_before_a_lease_that_ran_out_is_looked_after(on: On) {
    let mut w = world(on, Script::default()).await;
    w.sink.set_down(true);
    free(&w, &["ann"]).await;
    w.settle().await;
    w.query(
        "UPDATE delivery SET state = 'sending', token = 1, owner = 'test', lease_until = 1, claimed_at = 1, message_id = 'm',
            template_set = 't', context = '{}', reason = NULL",
    )
    .await;
    w.shared.spill.append(&[late(&w, ids(&w).await[0], b"x", HandOver::Accepted)]).unwrap();
    worker::recover_all(&w.shared).await.unwrap();
    assert_eq!(w.deliveries().await, ["free accepted"]);
}

async fn copies_go_by_age_and_what_they_were_made_of_with_them(on: On) {
    let mut w = world(on, Script::default()).await;
    free(&w, &["ann"]).await;
    w.settle().await;
    let sets = "SELECT CAST(COUNT(*) AS TEXT) FROM template_set";
    let dictionaries = "SELECT CAST(COUNT(*) AS TEXT) FROM mail_dictionary";
    let contexts = "SELECT CAST(COUNT(*) AS TEXT) FROM delivery WHERE context IS NOT NULL";
    let each = count(&w, dictionaries).await;
    w.at("2025-06-20T08:00:00Z").await;
    change_templates(&mut w);
    free(&w, &["zoe"]).await;
    w.settle().await;
    let (old, new) = (ids(&w).await[0], ids(&w).await[1]);
    w.at("2025-07-17T07:00:00Z").await;
    assert_kept_as_received(&w).await;
    w.at("2025-07-17T08:30:00Z").await;
    assert!(matches!(copy(&w, old).await, Err(MailError::Removed)));
    assert!(copy(&w, new).await.is_ok());
    assert_eq!((count(&w, contexts).await, count(&w, sets).await), (1, 2));
    // The set goes a month after its last copy; what is in use stays.
    w.at("2025-08-20T08:00:00Z").await;
    assert!(matches!(copy(&w, new).await, Err(MailError::Removed)));
    assert_eq!((count(&w, sets).await, count(&w, dictionaries).await), (1, each));
    w.at("2025-09-20T08:00:00Z").await;
    assert_eq!((count(&w, sets).await, count(&w, dictionaries).await), (0, 0));
    free(&w, &["ann"]).await;
    w.settle().await;
    // Those before it are in the archive.
    assert!(copy(&w, *ids(&w).await.last().unwrap()).await.is_ok());
    assert_eq!((count(&w, sets).await, count(&w, dictionaries).await), (1, each));
}

const REMEMBERED: &str = "SELECT CAST(COUNT(*) AS TEXT) FROM delivery WHERE context <> ''";

/// The relay had nothing of it, or its process was killed before it could record the try.
async fn what_was_never_copied_is_forgotten_with_its_age_too(on: On) {
    let script = Script::default().answering(|at, to, _| {
        (at == Phase::Rcpt && to.to.starts_with("ann")).then(|| Answer::reply(at, "550 5.7.1 no"))
    });
    let mut w = world(on, script).await;
    free(&w, &["ann", "zoe"]).await;
    w.settle().await;
    w.query("DELETE FROM mail_copy").await;
    // One that waits to be sent again keeps what it says, however old it is.
    w.broken("ann").await;
    w.sink.set_down(true);
    w.pass(6).await;
    w.query("UPDATE delivery SET due_at = 9000000000000000, context = '{}', claimed_at = 1 WHERE state = 'queued'")
        .await;
    assert_eq!(count(&w, REMEMBERED).await, 3);
    w.at("2025-07-17T07:00:00Z").await;
    assert_eq!(count(&w, REMEMBERED).await, 3);
    w.at("2025-07-18T08:30:00Z").await;
    assert_eq!(count(&w, REMEMBERED).await, 1);
    let ids = ids(&w).await;
    let (refused, sent) = (copy(&w, ids[0]).await, copy(&w, ids[1]).await);
    assert!(matches!(refused, Err(MailError::NotSent(State::Failed))), "{refused:?}");
    assert!(matches!(sent, Err(MailError::NotKept)), "{sent:?}");
}

async fn a_copy_that_was_changed_is_not_shown(on: On) {
    for change in [
        "UPDATE mail_copy SET sha256 = dictionary",
        "UPDATE mail_copy SET bytes = dictionary",
        "DELETE FROM mail_dictionary",
    ] {
        let mut w = world(on, Script::default()).await;
        free(&w, &["ann"]).await;
        w.settle().await;
        w.query(change).await;
        let shown = copy(&w, ids(&w).await[0]).await;
        assert!(matches!(shown, Err(MailError::Damaged(_))), "{change}: {shown:?}");
    }
}

async fn without_retention_nothing_is_kept(on: On) {
    let mut w = world(on, Script::default()).await;
    w.shared.copies = Arc::new(Copies::new(&w.shared.setting, &w.shared.templates, Span::ZERO));
    w.restart();
    free(&w, &["ann"]).await;
    w.settle().await;
    assert!(matches!(copy(&w, ids(&w).await[0]).await, Err(MailError::NotKept)));
    assert_eq!(count(&w, REMEMBERED).await, 0);
    assert_eq!(count(&w, "SELECT CAST(COUNT(*) AS TEXT) FROM mail_dictionary").await, 0);
}
