//! The dialogue of one mail.

use crate::*;
use allclear::mail::sink::Envelope;
use allclear::mail::{OpenPhase, Reply};

#[tokio::test]
async fn a_mail_arrives_as_it_was_written_in_one_session() {
    for script in both() {
        let pipelining = script.pipelining;
        let sink = Sink::start(script).await.unwrap();
        let mut session = open(&sink).await;
        assert_eq!(session.pipelines(), pipelining);
        for n in 0..3 {
            let outcome = send(&mut session, &format!("c{n}@customer.example")).await;
            assert_eq!(outcome, Outcome::Accepted(Reply::new(250, "2.0.0 taken")));
        }
        assert!(usable(&session) && session.alive().await);
        session.close().await;
        sink.wait_for(3).await;
        let mails = sink.mails();
        assert_eq!((mails[2].to.as_str(), mails[2].from.as_str()), ("c2@customer.example", FROM));
        assert_eq!((mails[0].message_id.as_str(), mails[0].subject.as_str()), ("<1@acme.example>", "one two"));
        assert!(mails.iter().all(|mail| mail.body == MAIL));
        assert_eq!((sink.sessions(), sink.early_commands()), (1, if pipelining { 6 } else { 0 }));
    }
}

#[tokio::test]
async fn a_dead_recipient_among_several_costs_no_reconnect() {
    for script in both() {
        let script = script.answering(|_, envelope, _| {
            envelope.to.starts_with("dead").then(|| Answer::reply(Phase::Rcpt, "550 5.1.1 no such user"))
        });
        let sink = Sink::start(script).await.unwrap();
        let mut session = open(&sink).await;
        for to in ["a@c.example", "dead@c.example", "dead2@c.example", "b@c.example"] {
            let outcome = send(&mut session, to).await;
            assert_eq!(code(&outcome), if to.starts_with("dead") { 550 } else { 250 }, "{to}");
            assert!(usable(&session));
        }
        assert_eq!((sink.count(), sink.sessions()), (2, 1));
    }
}

#[tokio::test]
async fn each_reply_at_each_phase_has_its_outcome_and_leaves_the_session_right() {
    // Phase, reply, outcome (1 not handed over, 2 unknown), session still good.
    let cases = [
        (Phase::Mail, "451 4.3.0 later", 451, true),
        (Phase::Mail, "550 5.7.1 not you", 550, true),
        (Phase::Mail, "251 odd", 1, false),
        (Phase::Mail, "421 4.3.2 going down", 1, false),
        (Phase::Rcpt, "451 4.7.1 greylisted", 451, true),
        (Phase::Rcpt, "550 5.1.1 unknown", 550, true),
        (Phase::Rcpt, "251 5.1.6 forwarded", 250, true),
        (Phase::Rcpt, "252 cannot verify", 1, false),
        (Phase::Rcpt, "421 4.7.0 too many", 421, false),
        (Phase::Data, "451 4.3.0 later", 451, true),
        (Phase::Data, "554 5.0.0 no", 554, true),
        (Phase::Data, "421 4.3.2 going down", 421, false),
        (Phase::Data, "250 odd", 1, false),
        (Phase::Dot, "451 4.3.0 later", 451, true),
        (Phase::Dot, "554 5.7.1 spam", 554, true),
        (Phase::Dot, "421 4.3.2 going down", 421, false),
        (Phase::Dot, "354 odd", 2, false),
        (Phase::Dot, "no reply at all", 2, false),
    ];
    for script in both() {
        for (phase, line, expected, good) in cases {
            let first = move |_: Phase, envelope: &Envelope, nth: u32| {
                (!envelope.to.starts_with("next") && nth == 1).then(|| Answer::reply(phase, line))
            };
            let sink = Sink::start(script.clone().answering(first)).await.unwrap();
            let mut session = open(&sink).await;
            let outcome = send(&mut session, "x@c.example").await;
            assert_eq!(code(&outcome), expected, "{line} at {phase:?}: {outcome:?}");
            assert_eq!(usable(&session), good, "{line} at {phase:?}");
            if !good {
                assert_eq!(code(&send(&mut session, "y@c.example").await), 1, "{line} at {phase:?}");
                assert_eq!(sink.sessions(), 1);
            } else if phase != Phase::Mail {
                assert_eq!(code(&send(&mut session, "next@c.example").await), 250, "{line} at {phase:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_relay_that_refuses_the_envelope_and_asks_for_the_mail_gets_a_lone_dot() {
    let script = Script::default().answering(|phase, envelope, _| match phase {
        _ if envelope.to.starts_with("good") => None,
        Phase::Rcpt => Some(Answer::reply(phase, "550 5.1.1 unknown")),
        Phase::Data => Some(Answer::reply(phase, "354 go ahead all the same")),
        _ => None,
    });
    let sink = Sink::start(script).await.unwrap();
    let mut session = open(&sink).await;
    assert_eq!(code(&send(&mut session, "dead@c.example").await), 550);
    assert!(usable(&session));
    assert_eq!(code(&send(&mut session, "good@c.example").await), 250);
    assert_eq!((sink.count(), sink.sessions()), (1, 1));
}

#[tokio::test]
async fn a_session_cut_before_354_hands_nothing_over_and_after_the_mail_nobody_knows() {
    for script in both() {
        for (phase, act, expected, taken) in [
            (Phase::Mail, Act::Close, 1, 0),
            (Phase::Rcpt, Act::Close, 1, 0),
            (Phase::Data, Act::Close, 1, 0),
            (Phase::Data, Act::CloseAfterReply("421 4.3.2 bye".to_owned()), 421, 0),
            (Phase::Dot, Act::Close, 2, 0),
            (Phase::Dot, Act::TakeAndClose, 2, 1),
            (Phase::Dot, Act::CloseAfterReply("250 2.0.0 taken".to_owned()), 250, 0),
        ] {
            let sink = Sink::start(script.clone().always(at(phase, act.clone()))).await.unwrap();
            let mut session = open(&sink).await;
            let outcome = send(&mut session, "x@c.example").await;
            assert_eq!(code(&outcome), expected, "{act:?} at {phase:?}: {outcome:?}");
            assert_eq!(sink.count(), taken);
            assert_eq!(usable(&session), expected == 250);
        }
    }
}

#[tokio::test]
async fn a_refusal_already_read_stands_when_the_relay_then_hangs_up() {
    let script = Script::default().always(at(Phase::Rcpt, Act::CloseAfterReply("550 5.1.1 unknown".to_owned())));
    let sink = Sink::start(script).await.unwrap();
    let mut session = open(&sink).await;
    assert_eq!(code(&send(&mut session, "x@c.example").await), 550);
    assert!(!usable(&session));
}

#[tokio::test]
async fn silence_ends_a_phase_at_its_own_limit() {
    for script in both() {
        for (phase, expected) in [(Phase::Mail, 1), (Phase::Rcpt, 1), (Phase::Data, 1), (Phase::Dot, 2)] {
            let sink = Sink::start(script.clone().always(at(phase, Act::Stall))).await.unwrap();
            let mut session = Session::open(&hasty(&sink)).await.unwrap();
            assert_eq!(code(&send(&mut session, "x@c.example").await), expected, "{phase:?}");
            assert!(!usable(&session));
        }
    }
    for phase in [Phase::Connect, Phase::Ehlo] {
        let sink = Sink::start(Script::default().always(at(phase, Act::Stall))).await.unwrap();
        let error = Session::open(&hasty(&sink)).await.unwrap_err();
        assert_eq!(error.phase, OpenPhase::Greeting);
    }
}

#[tokio::test]
async fn a_dropped_future_leaves_the_session_unusable() {
    for script in both() {
        let sink = Sink::start(script.always(at(Phase::Dot, Act::Stall))).await.unwrap();
        let mut session = open(&sink).await;
        session.envelope(FROM, "x@c.example").await.unwrap();
        tokio::select! {
            biased;
            outcome = session.data(MAIL) => panic!("{outcome:?}"),
            () = std::future::ready(()) => {}
        }
        assert!(!usable(&session) && !session.alive().await);
        assert_eq!(code(&session.data(MAIL).await), 1);
    }
}

#[tokio::test]
async fn a_mail_that_is_not_fit_never_touches_the_wire() {
    for script in both() {
        let sink = Sink::start(script).await.unwrap();
        let mut session = open(&sink).await;
        for bad in [&b"a\nb\r\n"[..], b"a\rb\r\n", b"a\r\n.\n\r\n", "ä\r\n".as_bytes()] {
            session.envelope(FROM, "x@c.example").await.unwrap();
            assert_eq!(code(&session.data(bad).await), 1);
        }
        assert_eq!(code(&send(&mut session, "y@c.example").await), 250);
        session.envelope(FROM, "unused@c.example").await.unwrap();
        session.reset().await;
        assert_eq!(code(&session.data(MAIL).await), 1, "no envelope");
        assert_eq!(code(&send(&mut session, "z@c.example").await), 250);
        assert_eq!((sink.count(), sink.sessions()), (2, 1));
    }
}
