//! A relay that is slow, mute, mad or gone: the outcome is never better than what was said, every call
//! returns within its limits, and a session in doubt is not used again. Time is tokio's, and paused.

use crate::mad::{Do, Mad, flood, say, seconds};
use crate::*;
use allclear::mail::{Login, OpenError, OpenPhase, Secret};
use std::sync::atomic::Ordering;

/// One mail to a relay that does `acts` at `phase`, both ways of talking: the code of the outcome (1 not
/// handed over, 2 unknown), and the rules that hold whatever happens.
async fn expect(phase: Phase, acts: &[Do], expected: u16, good: bool) -> [Outcome; 2] {
    let mut outcomes = Vec::new();
    for pipelining in [false, true] {
        let what = format!("{acts:.60?} at {phase:?}, pipelining {pipelining}");
        let relay = Mad::new(phase, acts, pipelining).start().await;
        let mut session = Session::open(&Transport::Smtp(relay.clone())).await.unwrap();
        let started = tokio::time::Instant::now();
        let outcome = send(&mut session, "x@c.example").await;
        let limits = relay.timeouts;
        let longest = limits.command * 3 + limits.data_start + limits.data_block + limits.data_done;
        assert!(started.elapsed() <= longest, "{what}: {:?}", started.elapsed());
        assert_eq!(code(&outcome), expected, "{what}: {outcome:?}");
        assert_eq!(usable(&session), good, "{what}: {outcome:?}");
        let next = send(&mut session, "y@c.example").await;
        assert_eq!(code(&next), if good { 250 } else { 1 }, "{what}, then {next:?}");
        outcomes.push(outcome);
    }
    outcomes.try_into().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_slow_relay_is_waited_for_up_to_the_limit_of_its_phase() {
    let late = |wait: u64, reply: &str| [Do::Wait(seconds(wait)), say(reply)];
    for wait in [1, 60, 299] {
        expect(Phase::Mail, &late(wait, "250 ok\r\n"), 250, true).await;
        expect(Phase::Rcpt, &late(wait, "250 ok\r\n"), 250, true).await;
        expect(Phase::Rcpt, &late(wait, "550 5.1.1 no\r\n"), 550, true).await;
    }
    for wait in [1, 119] {
        expect(Phase::Data, &late(wait, "354 go\r\n"), 250, true).await;
    }
    for wait in [1, 60, 240, 540, 599] {
        expect(Phase::Dot, &late(wait, "250 2.0.0 taken\r\n"), 250, true).await;
        expect(Phase::Dot, &late(wait, "554 5.7.1 no\r\n"), 554, true).await;
    }
    let just = |over: u64, reply: &str| [Do::Wait(seconds(over) + Duration::from_millis(100)), say(reply)];
    expect(Phase::Dot, &just(780, "250 2.0.0 taken\r\n"), 250, true).await;
    // What would leave after a reply before it was looked at too long ago.
    expect(Phase::Data, &just(120, "354 go\r\n"), 1, false).await;
    // Too late is never a reply, even when it comes: nobody may read it as the next one's.
    expect(Phase::Mail, &late(301, "250 ok\r\n"), 1, false).await;
    expect(Phase::Rcpt, &late(301, "250 ok\r\n"), 1, false).await;
    expect(Phase::Data, &late(121, "354 go\r\n"), 1, false).await;
    expect(Phase::Dot, &late(781, "250 2.0.0 taken\r\n"), 2, false).await;
}

#[tokio::test(start_paused = true)]
async fn no_mail_is_begun_when_its_dialogue_should_be_over() {
    for pipelining in [false, true] {
        let relay = Mad::new(Phase::Data, &[Do::Wait(seconds(2)), say("354 go\r\n")], pipelining).start().await;
        let mut session = Session::open(&Transport::Smtp(relay)).await.unwrap();
        session.ends_at(tokio::time::Instant::now() + seconds(1));
        assert_eq!(code(&send(&mut session, "x@c.example").await), 1);
        assert!(!session.wrote_mail());
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_drips_is_read_and_its_phase_still_ends() {
    for (phase, text) in [(Phase::Mail, "250 ok\r\n"), (Phase::Rcpt, "250 ok\r\n"), (Phase::Data, "354 go\r\n")] {
        expect(phase, &[Do::Drip(text, seconds(2))], 250, true).await;
        expect(phase, &[Do::Drip(text, seconds(50))], 1, false).await;
    }
    expect(Phase::Dot, &[Do::Drip("250 2.0.0 taken\r\n", seconds(30))], 250, true).await;
    expect(Phase::Dot, &[Do::Drip("250 2.0.0 taken\r\n", seconds(60))], 2, false).await;
    let lines = [Do::Drip("450-4.2.2 full\r\n450 4.2.2 really\r\n", seconds(3))];
    let deferred = expect(Phase::Rcpt, &lines, 450, true).await;
    assert_eq!(deferred[0], Outcome::Deferred(allclear::mail::Reply::new(450, "4.2.2 full really")));
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_goes_deaf_resets_or_hangs_up_hands_nothing_over_before_the_mail_and_leaves_doubt_after() {
    for act in [Do::Deaf, Do::Reset, Do::Close] {
        for phase in [Phase::Mail, Phase::Rcpt, Phase::Data] {
            expect(phase, std::slice::from_ref(&act), 1, false).await;
        }
        expect(Phase::Dot, std::slice::from_ref(&act), 2, false).await;
        expect(Phase::Data, &[say("35"), act.clone()], 1, false).await;
        expect(Phase::Dot, &[say("250 2.0.0 tak"), act.clone()], 2, false).await;
        expect(Phase::Dot, &[say("250-2.0.0 taken\r\n"), act], 2, false).await;
    }
}

/// Whether the end is noticed before the first byte of the mail is written is a race that either may win.
#[tokio::test(start_paused = true)]
async fn a_relay_that_asks_for_the_mail_and_does_not_stay_is_never_believed_to_have_it() {
    for act in [Do::Deaf, Do::Reset, Do::Close] {
        for pipelining in [false, true] {
            let relay = Mad::new(Phase::Data, &[say("354 go\r\n"), act.clone()], pipelining).start().await;
            let mut session = Session::open(&Transport::Smtp(relay)).await.unwrap();
            let outcome = send(&mut session, "x@c.example").await;
            let noticed = matches!(&outcome, Outcome::NotHandedOver { why, .. } if why.contains("lost"));
            let doubt = matches!(outcome, Outcome::Unknown { .. });
            assert!(doubt || (noticed && !matches!(act, Do::Deaf)), "{act:?}: {outcome:?}");
            assert!(!usable(&session));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_stops_reading_a_large_mail_leaves_doubt_within_the_limit() {
    let relay = Mad::new(Phase::Data, &[say("354 go\r\n"), Do::Deaf], true).start().await;
    let mut session = Session::open(&Transport::Smtp(relay.clone())).await.unwrap();
    session.envelope(FROM, "x@c.example").await.unwrap();
    let large = "0123456789abcdef0123456789abcdef\r\n".repeat(1_000_000);
    let started = tokio::time::Instant::now();
    assert_eq!(code(&session.data(large.as_bytes()).await), 2);
    let limits = relay.timeouts;
    assert!(started.elapsed() <= limits.data_start + limits.data_block + limits.data_done);
    assert!(!usable(&session));
}

#[tokio::test(start_paused = true)]
async fn replies_are_read_however_they_are_written() {
    for taken in [
        &b"250-2.0.0 first\r\n250-\r\n250 2.0.0 last\r\n"[..],
        b"250\r\n",
        b"250 2.0.0 a lone line feed\n",
        b"250 2.0.0 \xc3\xa4 \xe4\xff\xfe Latin-1 and worse\r\n",
        b"250 2.0.0 a NUL \0, an escape \x1b[2J and a CR \r in it\r\n",
    ] {
        for outcome in expect(Phase::Dot, &[Do::Say(taken.to_vec())], 250, true).await {
            let Outcome::Accepted(reply) = outcome else { panic!("{outcome:?}") };
            assert!(!reply.text.chars().any(char::is_control), "{reply:?}");
        }
    }
    // 571 is in no RFC, and said all the same; what its first digit says is enough.
    let Outcome::Refused(reply) = &expect(Phase::Rcpt, &[say("571 5.7.1 no\r\n")], 550, true).await[0] else {
        panic!()
    };
    assert_eq!(reply.text, "5.7.1 no");
    let latin = [Do::Say(b"550 5.1.1 Empf\xe4nger unbekannt\r\n".to_vec())];
    let Outcome::Refused(reply) = &expect(Phase::Rcpt, &latin, 550, true).await[0] else { panic!() };
    assert_eq!((reply.enhanced.as_deref(), reply.text.as_str()), (Some("5.1.1"), "5.1.1 Empf\u{fffd}nger unbekannt"));
    let whole = "550-5.7.26 This mail has been blocked because the sender\r\n550 5.7.26 is unauthenticated.\r\n";
    let Outcome::Refused(reply) = &expect(Phase::Dot, &[say(whole)], 550, true).await[0] else { panic!() };
    assert!(reply.text.contains("blocked because the sender is unauthenticated"), "{reply:?}");
    // Of several codes in one reply the last counts, if it says no.
    for phase in [Phase::Rcpt, Phase::Dot] {
        let both = [say("250-2.1.5 well\r\n450-4.0.0 or so\r\n550 5.1.1 no such user\r\n")];
        let Outcome::Refused(reply) = &expect(phase, &both, 550, true).await[0] else { panic!() };
        assert_eq!(reply.text, "2.1.5 well 4.0.0 or so 5.1.1 no such user");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_reply_is_not_taken_for_one() {
    for nonsense in
        ["550-no\r\n250 ok\r\n", "hello\r\n", "\r\n", "2500 ok\r\n", "25 ok\r\n", "999 ok\r\n", "150 ok\r\n"]
    {
        expect(Phase::Rcpt, &[say(nonsense)], 1, false).await;
        expect(Phase::Dot, &[say(nonsense)], 2, false).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_of_any_length_costs_no_memory() {
    let long = format!("250 2.0.0 {}\r\n", "ä".repeat(1_000_000));
    for outcome in expect(Phase::Dot, &[say(&long)], 250, true).await {
        let Outcome::Accepted(reply) = outcome else { panic!("{outcome:?}") };
        assert!((500..1_000).contains(&reply.text.len()), "{}", reply.text.len());
    }
    let long = format!("550 5.1.1 {}\r\n", "x".repeat(1_000_000));
    expect(Phase::Rcpt, &[say(&long)], 550, true).await;
    let many = format!("{}550 5.1.1 no\r\n", "550-5.1.1 x\r\n".repeat(50_000));
    expect(Phase::Rcpt, &[say(&many)], 550, true).await;
    // A line without an end, and lines without end.
    let flood = |line: String| [vec![say("250-")], flood(&line)].concat();
    for endless in [flood("x".repeat(10_000)), flood("\r\n250-x".repeat(200))] {
        expect(Phase::Rcpt, &endless, 1, false).await;
        expect(Phase::Dot, &endless, 2, false).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_out_of_step_is_never_believed() {
    // One reply too many, before the mail: every later one answers the command before it.
    for extra in ["250 ok\r\n250 again\r\n", "250 ok\r\n354 go\r\n250 taken\r\n"] {
        expect(Phase::Mail, &[say(extra)], 1, false).await;
        expect(Phase::Rcpt, &[say(extra)], 1, false).await;
    }
    // "Taken", said before there was anything to take.
    expect(Phase::Data, &[say("354 go\r\n250 2.0.0 taken\r\n")], 1, false).await;
    expect(Phase::Data, &[say("250 2.0.0 taken\r\n354 go\r\n")], 1, false).await;
    // One too many after the mail: this mail was taken, the next must not live on the surplus.
    for pipelining in [false, true] {
        let extra = [say("250 2.0.0 taken\r\n250 2.0.0 taken\r\n")];
        let relay = Mad::new(Phase::Dot, &extra, pipelining).start().await;
        let mut session = Session::open(&Transport::Smtp(relay)).await.unwrap();
        assert_eq!(code(&send(&mut session, "x@c.example").await), 250);
        let next = send(&mut session, "y@c.example").await;
        assert_eq!((code(&next), usable(&session)), (1, false), "{next:?}");
    }
}

async fn refused(relay: Relay) -> OpenError {
    Session::open(&Transport::Smtp(relay)).await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_misbehaves_before_the_first_mail_gives_an_error_within_its_limits() {
    let mut acts = vec![flood(&"x".repeat(10_000)), vec![Do::Drip("220-mad.test greets you\r\n", seconds(40))]];
    acts.extend(
        [Do::Deaf, Do::Reset, Do::Close, say("220-mad\r\n550 no\r\n"), say("554 5.7.1 go away\r\n")].map(|a| vec![a]),
    );
    for phase in [Phase::Connect, Phase::Ehlo] {
        for acts in &acts {
            let relay = Mad::new(phase, acts, true).start().await;
            let started = tokio::time::Instant::now();
            let error = refused(relay.clone()).await;
            assert_eq!(error.phase, OpenPhase::Greeting, "{acts:.60?} at {phase:?}");
            assert!(started.elapsed() <= relay.timeouts.greeting + relay.timeouts.command, "{acts:.60?}");
        }
    }
    for wait in [1, 60, 299] {
        let acts = [Do::Wait(seconds(wait)), say("220 at last\r\n")];
        let relay = Mad::new(Phase::Connect, &acts, true).start().await;
        assert!(Session::open(&Transport::Smtp(relay)).await.is_ok(), "{wait} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_offers_only_auth_login_gets_it() {
    let mad = Mad { offers: &["AUTH LOGIN"], ..Mad::new(Phase::Connect, &[], false) };
    let relay = mad.start().await;
    let with = |password| {
        let login = Login { user: "user".to_owned(), password: Secret::new(password) };
        Relay { login: Some(login), ..relay.clone() }
    };
    let mut session = Session::open(&Transport::Smtp(with("password"))).await.unwrap();
    assert_eq!(code(&send(&mut session, "x@c.example").await), 250);
    let error = refused(with("hunter2")).await;
    assert_eq!((error.phase, error.reply.map(|reply| reply.code)), (OpenPhase::Login, Some(535)));
}

#[tokio::test(start_paused = true)]
async fn a_session_is_asked_for_a_sign_of_life_only_after_30_s_of_silence() {
    let mad = Mad::new(Phase::Connect, &[], true);
    let relay = mad.start().await;
    let mut session = Session::open(&Transport::Smtp(relay)).await.unwrap();
    for (wait, noops) in [(0, 0), (29, 0), (31, 1), (5, 1), (31, 2)] {
        tokio::time::advance(seconds(wait)).await;
        assert!(session.alive().await);
        assert_eq!(mad.noops.load(Ordering::SeqCst), noops, "after {wait} s more");
    }
    assert_eq!(code(&send(&mut session, "x@c.example").await), 250);
}
