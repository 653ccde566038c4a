//! `--send-test`: one mail through every stream, and the relay's own words about it.

use super::finding::{Finding, fail, ok, warn};
use crate::config::{Config, Stream};
use crate::flow::setting::transports;
use crate::mail::{Letter, Outcome, Transport, build, probe};
use crate::store::open::system_time;
use uuid::Uuid;

pub(super) async fn send(config: &Config, to: &str) -> Vec<Finding> {
    let transports = transports(config);
    let mut found = Vec::new();
    for (name, stream) in &config.streams {
        if let Some(transport) = transports.get(name) {
            found.push(through(config, name, stream, transport, to).await);
        }
    }
    found
}

async fn through(config: &Config, name: &str, stream: &Stream, transport: &Transport, to: &str) -> Finding {
    let what = |said: String| format!("stream {name}: the test mail to {to}: {said}");
    let mail = match build(&letter(config, name, stream, to)) {
        Ok(mail) => mail,
        Err(e) => return fail(what(e.to_string()), format!("correct streams.{name}")),
    };
    let mut session = match probe::open(transport).await {
        Ok(session) => session,
        Err(e) => return fail(what(e.to_string()), e.hint()),
    };
    let outcome = match session.envelope(&stream.from.address, to).await {
        Ok(()) => session.data(&mail).await,
        Err(outcome) => outcome,
    };
    session.close().await;
    match outcome {
        Outcome::Accepted(reply) => ok(what(format!("taken: {reply}"))),
        Outcome::Deferred(reply) => {
            warn(what(format!("put off: {reply}")), "try again in some minutes; a relay may do so with strangers")
        }
        Outcome::Refused(reply) => fail(
            what(format!("refused: {reply}")),
            "the relay says why: most often the sender, the login or the recipient",
        ),
        Outcome::NotHandedOver { why, .. } | Outcome::Unknown { why } => {
            fail(what(why), "check the relay's own log for this moment")
        }
    }
}

fn letter(config: &Config, name: &str, stream: &Stream, to: &str) -> Letter {
    let line =
        format!("This is a test of stream `{name}` by `allclear doctor`. Nothing happened; nothing is to be done.");
    Letter {
        message_id: format!("{}@{}", Uuid::now_v7().simple(), config.mail.domain),
        date: system_time(),
        from: stream.from.to_string(),
        reply_to: stream.reply_to.as_ref().map(ToString::to_string),
        to: to.to_owned(),
        subject: format!("[Test] {}: stream {name}", config.page.name),
        in_reply_to: None,
        references: Vec::new(),
        language: "en".to_owned(),
        reference: "doctor-test".to_owned(),
        about: None,
        expires: None,
        text: format!("{line}\n"),
        html: format!("<p>{}</p>\n", line.replace('&', "&amp;").replace('<', "&lt;")),
    }
}
