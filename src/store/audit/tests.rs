//! Every check must be able to fail: rows written by hand, each the trace of one fault.

use super::*;
use crate::store::{Store, testing};

/// Times are `T0 + n`; the clock stands at `testing::NOW`, a year after.
const WORLD: &str = "
    INSERT INTO component (id, key, name, created_at) VALUES (x'c0', 'imap', 'Mail', 0);
    INSERT INTO subscriber (id, key, address, locale, zone, created_at) VALUES (x'50', 'jo', 'jo@example.com', 'en', 'UTC', 0);
    INSERT INTO connection (id, key, component_id, name, fault, episode, cleared, failed_at, created_at)
        VALUES (x'a1', 'mine', x'c0', 'Mine', 'permanent', 1, 0, 1000, 0);
    INSERT INTO connection_subscriber VALUES (x'a1', x'50');
    INSERT INTO lane (id, class, fence_kind, fence_id, created_at) VALUES (x'1a', 'action_required', 'component', x'c0', 0);
    INSERT INTO thread (id, matter_kind, matter_id, subscriber_id, root, subject, sender, told_at, last_mailed_at, created_at)
        VALUES (x'7d', 'connections', x'c0', x'50', 'r', 's', 'f', 1010, 1010, 0);
    INSERT INTO delivery (id, class, stream, lane_id, cause_id, subscriber_id, thread_id, state, due_at, maybe_mailed,
            created_at, claimed_at, decided_at)
        VALUES (x'0d', 'action_required', 's', x'1a', x'0c', x'50', x'7d', 'accepted', 1000, TRUE, 1000, 1005, 1010);
    INSERT INTO delivery_item (delivery_id, subject_id, component_id, connection_id, episode, failed_at)
        VALUES (x'0d', x'a1', x'c0', x'a1', 1, 1000);
    INSERT INTO attempt (id, delivery_id, token, owner, ended_at, outcome, guarded)
        VALUES (x'a7', x'0d', 1, 'w', 1010, 'accepted', TRUE);";

const CORRECTION: &str = "
    INSERT INTO delivery (id, class, stream, lane_id, cause_id, subscriber_id, thread_id, state, due_at, maybe_mailed,
            created_at, claimed_at, decided_at)
        VALUES (x'0e', 'correction', 's', x'1a', x'0d', x'50', x'7d', 'accepted', 2000, TRUE, 2000, 2005, 2010);
    INSERT INTO delivery_item (delivery_id, subject_id, component_id, connection_id, episode, failed_at, corrects_id)
        VALUES (x'0e', x'a1', x'c0', x'a1', 1, 1000, x'0d');";

const AUTOMATIC: &str = "
    UPDATE connection SET cleared = 1, cleared_by = 'automatic', fault = 'none';
    INSERT INTO recovery (id, component_id, connection_id, episode, recovered_by, committed_at, swept_at)
        VALUES (x'4e', x'c0', x'a1', 1, 'automatic', 1500, 1600);";

const BY_HAND: &str = "
    UPDATE connection SET cleared = 1, cleared_by = 'customer', fault = 'none';
    INSERT INTO recovery (id, component_id, connection_id, episode, recovered_by, committed_at, swept_at)
        VALUES (x'4e', x'c0', x'a1', 1, 'customer', 1500, 1600);";

const COVERING: &str = "
    INSERT INTO episode (component_id, n, since, ended_at, covers_connections, covers_from, covers_until)
        VALUES (x'c0', 1, 900, 1400, TRUE, 900, 1400);
    INSERT INTO recovery (id, component_id, episode, recovered_by, covers_from, covers_until, committed_at, swept_at,
            confirm_by, confirmed_at, unconfirmed)
        VALUES (x'4f', x'c0', 1, 'unknown', 900, 1400, 1400, 1600, 5000, 5100, 1);";

/// Every two-digit identifier stands for sixteen bytes: the same byte over and over.
fn widened(text: &str) -> &'static str {
    let mut wide = String::new();
    for (position, part) in text.split("x'").enumerate() {
        match part.split_at_checked(2).filter(|_| position > 0) {
            Some((byte, rest)) => wide += &format!("x'{}{rest}", byte.repeat(16)),
            None => wide += part,
        }
    }
    wide.leak()
}

async fn findings(rows: &[&str]) -> Vec<String> {
    let (_dir, store, _clock): (_, Store, _) = testing::store().await;
    let mut tx = store.begin().await.unwrap();
    for text in rows {
        testing::sql(&mut tx, widened(text)).await;
    }
    let found = run(&mut tx).await.unwrap();
    found.into_iter().map(|f| format!("{} {}", f.check, f.subject.split_at(6).0)).collect()
}

#[tokio::test]
async fn nothing_is_found_where_nothing_is_wrong() {
    for rows in [
        &[][..],
        &[WORLD],
        &[WORLD, AUTOMATIC, CORRECTION],
        &[WORLD, BY_HAND],
        &[WORLD, COVERING, CORRECTION],
        // Under way: the sweep has not been there yet.
        &[WORLD, AUTOMATIC, "UPDATE recovery SET swept_at = NULL"],
        // The fault was its own: the covering recovery says nothing about it.
        &[WORLD, COVERING, "UPDATE connection SET own_fault_episode = 1"],
        // Covered, and reconnected by hand before the sweep came by.
        &[WORLD, COVERING, BY_HAND],
        // Reconnected by hand first, covered afterwards.
        &[WORLD, COVERING, BY_HAND, "UPDATE recovery SET committed_at = 1300 WHERE connection_id IS NOT NULL"],
        // The correction could not be delivered, and says so.
        &[
            WORLD,
            AUTOMATIC,
            CORRECTION,
            "UPDATE delivery SET state = 'failed', reason = 'refused', maybe_mailed = FALSE WHERE class = 'correction'",
        ],
    ] {
        assert_eq!(findings(rows).await, [""; 0], "{rows:?}");
    }
}

#[tokio::test]
async fn who_was_asked_in_vain_and_not_corrected_is_found() {
    for recovered in [AUTOMATIC, COVERING] {
        assert_eq!(findings(&[WORLD, recovered]).await, ["uncorrected dlv_0d", "last_mail dlv_0d"]);
    }
    // Covered, and the sweep was over, before the customer did it by hand.
    let expected = ["uncorrected dlv_0d", "last_mail dlv_0d"];
    let later = "UPDATE recovery SET committed_at = 60002000, swept_at = 60003000 WHERE connection_id IS NOT NULL";
    assert_eq!(findings(&[WORLD, COVERING, BY_HAND, later]).await, expected);
    let withdrawn = "UPDATE delivery SET state = 'withdrawn', reason = 'recovered', maybe_mailed = FALSE WHERE class = 'correction'";
    assert_eq!(findings(&[WORLD, AUTOMATIC, CORRECTION, withdrawn]).await, ["last_mail dlv_0d"]);
}

#[tokio::test]
async fn a_correction_of_what_never_left_is_found() {
    let never = "UPDATE delivery SET state = 'withdrawn', reason = 'recovered', maybe_mailed = FALSE WHERE class = 'action_required'";
    assert_eq!(findings(&[WORLD, AUTOMATIC, CORRECTION, never]).await, ["corrected_never_mailed dlv_0e"]);
}

#[tokio::test]
async fn a_calming_last_mail_about_a_broken_connection_is_found() {
    let again = "UPDATE connection SET episode = 2, failed_at = 3000, fault = 'permanent'";
    assert_eq!(findings(&[WORLD, AUTOMATIC, CORRECTION, again]).await, ["last_mail dlv_0e"]);
    let healing = "UPDATE connection SET fault = 'recoverable'";
    assert_eq!(findings(&[WORLD, AUTOMATIC, CORRECTION, again, healing]).await, [""; 0]);
}

#[tokio::test]
async fn more_copies_than_smtp_makes_unavoidable_are_found() {
    let twice = "INSERT INTO attempt (id, delivery_id, token, owner, ended_at, outcome, guarded)
        VALUES (x'a8', x'0d', 2, 'w', 1020, 'accepted', FALSE)";
    assert_eq!(findings(&[WORLD, twice]).await, ["copies dlv_0d"]);
    assert_eq!(findings(&[WORLD, twice, "UPDATE delivery SET reaps = 1"]).await, [""; 0]);
}

#[tokio::test]
async fn what_was_accepted_and_never_decided_is_found() {
    let late = "INSERT INTO plan (id, kind, matter_id, created_at) VALUES (x'91', 'component_up', x'c0', 1000)";
    assert_eq!(findings(&[WORLD, late]).await, ["undecided pln_91"]);
    let nobody = "UPDATE plan SET done_at = 1, outcome = 'planned', component_id = x'c0'";
    assert_eq!(findings(&[WORLD, late, nobody]).await, ["undecided pln_91"]);
    let signal =
        "INSERT INTO signal (id, source, received_at, observed_at, component_id, connection_id, what, fault, outcome)
        VALUES (x'51', 's', 1000, 1000, x'c0', x'a1', 'failed', 'permanent', 'waiting')";
    assert_eq!(findings(&[WORLD, signal]).await, ["undecided sig_51"]);
    let planned =
        "INSERT INTO plan (id, kind, matter_id, signal_id, connection_id, episode, component_episode, failed_at,
            created_at, done_at, outcome)
        VALUES (x'92', 'failure', x'c0', x'51', x'a1', 1, 0, 1000, 1000, 1001, 'planned')";
    assert_eq!(findings(&[WORLD, signal, planned]).await, [""; 0]);
    assert_eq!(findings(&[WORLD, signal, planned, "UPDATE plan SET episode = 2"]).await, ["undecided pln_92"]);
    let notice = "INSERT INTO notice (id, kind, class, source, received_at, observed_at, payload, outcome)
        VALUES (x'4c', 'free', 'free', 's', 1000, 1000, '{}', 'planned')";
    assert_eq!(findings(&[WORLD, notice]).await, ["undecided ntc_4c"]);
    let queued = "UPDATE delivery SET state = 'queued', decided_at = NULL, maybe_mailed = FALSE";
    assert_eq!(findings(&[WORLD, queued]).await, ["undecided dlv_0d"]);
}

#[tokio::test]
async fn what_was_taken_for_sending_and_left_there_is_found() {
    let sending = "UPDATE delivery SET state = 'sending', decided_at = NULL, owner = 'w', lease_until = 2000,
        message_id = 'm', context = '{}'";
    assert_eq!(findings(&[WORLD, sending]).await, ["stale_sending dlv_0d"]);
}

#[tokio::test]
async fn covered_connections_that_nobody_asked_after_are_found() {
    let late = "UPDATE recovery SET confirmed_at = NULL";
    assert_eq!(findings(&[WORLD, COVERING, CORRECTION, late]).await, ["unconfirmed rec_4f"]);
    let unlisted = "UPDATE recovery SET unconfirmed = 0";
    assert_eq!(findings(&[WORLD, COVERING, CORRECTION, unlisted]).await, ["unconfirmed rec_4f"]);
}

#[tokio::test]
async fn who_was_told_of_an_incident_and_not_of_its_end_is_found() {
    let told = "INSERT INTO incident (id, key, title, phase, impact, revision, started_at, updated_at, resolved_at, created_at)
            VALUES (x'1c', 'i', 't', 'resolved', 'minor', 2, 1, 2, 2, 0);
        INSERT INTO thread (id, matter_kind, matter_id, subscriber_id, root, subject, sender, told_at, last_mailed_at, created_at)
            VALUES (x'7e', 'incident', x'1c', x'50', 'r', 's', 'f', 1010, 1010, 0);";
    assert_eq!(findings(&[WORLD, told]).await, ["last_mail thr_7e"]);
    assert_eq!(findings(&[WORLD, told, "UPDATE thread SET ended_at = 1020 WHERE id = x'7e'"]).await, [""; 0]);
}

#[tokio::test]
async fn a_changed_line_of_the_journal_is_found() {
    let line = "INSERT INTO journal VALUES (1, x'31', 1, 'jo', 'hold', 'all', 'why', x'00')";
    assert_eq!(findings(&[line]).await, ["journal line 1"]);
}
