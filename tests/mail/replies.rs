//! Replies that others have collected, with what they make of them, read where they lie: `../shared/data`.

use crate::*;
use allclear::domain::reply::ReplyKind;
use allclear::mail::{Reply, classify, ruling};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

type Row = HashMap<String, String>;

/// The rows of a file of the shared data; nothing, and a line that says so, where there is none.
fn rows(name: &str) -> Option<Vec<Row>> {
    let path = data(name);
    if !path.exists() {
        println!("passed over: {} is not here", path.display());
        return None;
    }
    Some(csv::Reader::from_path(path).unwrap().deserialize().map(Result::unwrap).collect())
}

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name)
}

/// A collected text as the session would have given it: the code is the column's, else the text's first.
fn reply(text: &str, code: &str, otherwise: u16) -> Reply {
    let codes = |word: &str| word.parse().ok().filter(|code| (400..600).contains(code));
    let first = || text.split(|c: char| !c.is_ascii_digit()).filter(|w| w.len() == 3).find_map(codes);
    let code = code.parse().ok().or_else(first).unwrap_or(otherwise);
    let text = text.strip_prefix(&code.to_string()).unwrap_or(text);
    Reply::new(code, text.trim_start_matches(['-', ' ']))
}

/// The collected replies that are negative, as a relay can say them in one line.
fn collected() -> Option<Vec<Reply>> {
    let said = |row: &Row| {
        let reply = reply(&row["reply"], &row["code"], 400);
        let text: String = reply.text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(400).collect();
        // A code that no RFC has reaches us as its class.
        let code = if reply.code % 100 < 60 { reply.code } else { reply.code / 100 * 100 + 50 };
        Reply::new(code, text.replace(char::is_control, " ").trim())
    };
    Some(rows("smtp-replies/replies.csv")?.iter().map(said).collect())
}

/// What is left of a text without what differs from one mail to the next.
fn gist(text: &str) -> String {
    let word = |word: &str| {
        let bare: String = word.chars().filter(|c| c.is_alphabetic()).collect();
        (!word.contains('@') && !bare.is_empty()).then(|| bare.to_lowercase())
    };
    // Sendmail's transcripts go on with what the server said to the commands after the refused one.
    let text = text.split(" 503 ").next().unwrap_or_default();
    let words: Vec<_> = text.split_whitespace().filter_map(word).collect();
    let mut seen = HashSet::new();
    // Transcripts say it twice.
    words.into_iter().filter(|word| seen.insert(word.clone())).collect::<Vec<_>>().join(" ")
}

/// Whether the mail is tried again: what the dispatcher makes of the kind. Nothing while the stream is paused.
fn tried_again(kind: ReplyKind, code: u16) -> Option<bool> {
    match kind {
        ReplyKind::MailboxFull | ReplyKind::SlowDown | ReplyKind::QuotaUsed | ReplyKind::Greylisted => Some(true),
        ReplyKind::AddressDead => Some(false),
        ReplyKind::MessageAtFault | ReplyKind::Unknown => Some(code < 500),
        ReplyKind::OurAuthentication | ReplyKind::OurReputation | ReplyKind::Credentials => None,
    }
}

#[test]
fn collected_replies_are_understood() {
    let Some(rows) = rows("smtp-replies/replies.csv") else { return };
    let mut by_gist: HashMap<String, HashSet<&str>> = HashMap::new();
    for row in &rows {
        by_gist.entry(gist(&row["reply"])).or_default().insert(&row["suppress"]);
    }
    let (mut suppress, mut retry, mut silenced, mut held) = (Tally::default(), Tally::default(), Vec::new(), 0);
    for row in &rows {
        let reply = reply(&row["reply"], &row["code"], 400);
        let kind = classify(&reply);
        let dead = kind == ReplyKind::AddressDead;
        let told = format!(
            "{:>3} {kind} by {:?}\n    labelled suppress={} retry={} {}: {}",
            row["id"],
            ruling(&reply).map_or("no rule", |rule| rule.name),
            row["suppress"],
            row["retry"],
            row["category"],
            row["reply"].chars().take(300).collect::<String>()
        );
        let disputed = by_gist[&gist(&row["reply"])].len() > 1;
        if row["suppress"] != "unstated" {
            let right = dead == (row["suppress"] == "yes");
            suppress.count(right, &told);
            if !right && dead && !disputed {
                silenced.push(told.clone());
            }
        }
        // "retry from the class of the code" restates the code; a full mailbox or a rate is later's business all the same.
        let later = ["mailboxfull", "toomanyconn"].contains(&row["category"].as_str());
        if row["retry"] != "unstated" {
            let wanted = row["retry"] == "retry" || later;
            held += usize::from(tried_again(kind, reply.code).is_none());
            retry.count(tried_again(kind, reply.code).is_none_or(|again| again == wanted), &told);
        }
    }
    println!(
        "suppress: {suppress}\nretry ({held} are held back with their stream, which either label allows): {retry}"
    );
    assert!(suppress.share() >= 0.95 && retry.share() >= 0.95, "suppress: {suppress}\nretry: {retry}");
    assert!(silenced.is_empty(), "silenced by mistake:\n{}", silenced.join("\n"));
}

/// What the mails of the other collection say in `Diagnostic-Code`, without those that the first collection was
/// taken from: the table was tried on that one again and again while it was made.
#[test]
fn replies_inside_returned_mails_are_understood() {
    let Some(rows) = rows("bounces/expected.csv") else { return };
    let Some(tried) = self::rows("smtp-replies/replies.csv") else { return };
    let tried: HashSet<_> = tried.iter().map(|row| row["source"].replace("sisimai:", "sisimai/")).collect();
    let mut tally = Tally::default();
    for row in rows
        .iter()
        .filter(|row| !tried.contains(&row["file"]))
        .filter(|row| row["kind"] == "bounce" && row["hard"] != "unstated")
    {
        let of_this = rows.iter().filter(|other| other["file"] == row["file"]).count();
        let mail = std::fs::read(data("bounces").join(&row["file"])).unwrap();
        let said = diagnostics(&String::from_utf8_lossy(&mail));
        let nth = row["n"].parse::<usize>().unwrap();
        if said.len() != of_this {
            continue;
        }
        let class = row["status"].split('.').next().and_then(|class| class.parse().ok()).unwrap_or(5);
        let reply = reply(&said[nth - 1], &row["smtp_code"], class * 100 + 50);
        let kind = classify(&reply);
        let told =
            format!("{} {kind}, labelled hard={} {}: {}", row["file"], row["hard"], row["reason"], said[nth - 1]);
        tally.count((kind == ReplyKind::AddressDead) == (row["hard"] == "yes"), &told);
    }
    println!("{tally}");
    assert!(tally.right > 20 && tally.share() >= 0.9, "{tally}");
}

/// The values of the mail's Diagnostic-Code fields, unfolded, without the type before the first semicolon.
fn diagnostics(mail: &str) -> Vec<String> {
    let text = mail.replace("\r\n", "\n").replace("\n ", " ").replace("\n\t", " ");
    let value = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let value = value.split_once(';').map_or(value, |(_, value)| value);
        name.eq_ignore_ascii_case("diagnostic-code").then(|| value.trim().to_owned())
    };
    text.lines().filter_map(value).collect()
}

/// Whatever a relay says about a mail at RCPT or after the dot reaches the outcome whole, and the session
/// goes on; 421 ends it, and nothing else does.
#[tokio::test]
async fn each_collected_reply_reaches_the_outcome_whole_and_only_421_ends_the_session() {
    let Some(collected) = collected() else { return };
    for phase in [Phase::Rcpt, Phase::Dot] {
        for script in both() {
            let answers = collected.clone();
            let sink = Sink::start(script.answering(move |_, envelope, _| {
                let nth = envelope.to.strip_prefix('r')?.split('@').next()?.parse::<usize>().ok()?;
                Some(Answer::reply(phase, &answers.get(nth)?.to_string()))
            }));
            let sink = sink.await.unwrap();
            let mut session = open(&sink).await;
            for (nth, said) in collected.iter().enumerate() {
                let outcome = send(&mut session, &format!("r{nth}@c.example")).await;
                let ends = said.code == 421;
                match &outcome {
                    Outcome::NotHandedOver { why, .. } => {
                        assert!(ends && phase == Phase::Rcpt && why.contains("421"), "{why}")
                    }
                    Outcome::Deferred(reply) => assert_eq!(reply, said),
                    Outcome::Refused(reply) => assert_eq!((reply, said.code >= 500), (said, true)),
                    other => panic!("{other:?} from {said}"),
                }
                assert_eq!(usable(&session), !ends, "{said}");
                if ends {
                    session = open(&sink).await;
                } else if nth % 10 == 0 {
                    assert_eq!(code(&send(&mut session, "fine@c.example").await), 250, "after {said}");
                }
            }
            let ends = collected.iter().filter(|said| said.code == 421).count() as u64;
            assert_eq!(sink.sessions(), 1 + ends);
        }
    }
}

#[derive(Default)]
struct Tally {
    right: usize,
    wrong: Vec<String>,
}

impl Tally {
    fn count(&mut self, right: bool, told: &str) {
        if right {
            self.right += 1;
        } else {
            self.wrong.push(told.to_owned());
        }
    }

    fn share(&self) -> f64 {
        self.right as f64 / (self.right + self.wrong.len()) as f64
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = self.right + self.wrong.len();
        write!(f, "{} of {all} right ({:.1} %)", self.right, 100.0 * self.share())?;
        self.wrong.iter().try_for_each(|wrong| write!(f, "\n{wrong}"))
    }
}
