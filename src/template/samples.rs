//! Sample mails, from real incidents: what templates are checked against and previewed with.
//! Together they come to every block of every template.

use super::context::{
    ActionRequiredMail, AllClearMail, Ask, Because, ComponentLine, ConnectionLine, CorrectedLine, CorrectionMail,
    FreeMail, IncidentMail, Mail, PostMortemMail, SurgeMail,
};
use super::sources::Part;
use super::{Matter, Page, Reader, view};
use crate::domain::incident::{ComponentStatus, Impact, Phase};
use crate::domain::surge::{Kind, Occasion, Stage, Why};
use crate::domain::time::Timestamp;
use serde_json::Value;

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap_or_default()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn component(name: &str, status: ComponentStatus) -> ComponentLine {
    ComponentLine { name: name.to_owned(), status }
}

fn failed(name: &str) -> ConnectionLine {
    ConnectionLine { name: name.to_owned(), failed_at: at("2025-03-01T20:40:00Z"), link: None }
}

fn recovered(name: &str, when: &str) -> CorrectedLine {
    CorrectedLine { name: name.to_owned(), recovered_at: at(when) }
}

impl IncidentMail {
    /// A problem, a late end, an update with nothing but its text, a maintenance.
    #[must_use]
    pub fn samples() -> Vec<Self> {
        let problem = Self {
            title: "Service interruption affecting Member platform".to_owned(),
            reference: "INC-2041".to_owned(),
            phase: Phase::Investigating,
            impact: Impact::Minor,
            body:
                "We are currently investigating a service interruption affecting the Member platform. Customers using \
                   a specific branded app infrastructure are currently unable to establish a connection."
                    .to_owned(),
            components: vec![component("Member platform", ComponentStatus::PartialOutage)],
            started_at: at("2026-04-30T10:30:00Z"),
            ended_at: None,
            posted_at: at("2026-04-30T17:56:00Z"),
            late_by: None,
            consequences: some("New studio connections cannot be set up at the moment."),
            not_affected: some("Existing connections go on working."),
            next_update_at: at("2026-04-30T18:56:00Z").into(),
            still_open: Vec::new(),
            because: Because::Follows,
            link: some("https://status.example.com/incidents/INC-2041"),
            support_link: some("https://help.example.com/tickets/new?about=INC-2041&lang=en"),
        };
        let end = Self {
            phase: Phase::Resolved,
            body: "The incident has been resolved.\n\nDue to a recent change, license validation incorrectly blocked the \
                   creation of new studio connects for affected customers. Existing connections were not affected.\n\nIf \
                   you continue to experience any problems, please open a ticket: https://help.example.com/tickets/new."
                .to_owned(),
            components: vec![component("Member platform", ComponentStatus::Operational)],
            ended_at: at("2026-04-30T19:03:00Z").into(),
            posted_at: at("2026-04-30T19:03:00Z"),
            late_by: Some(52 * 60),
            consequences: some("You can set up studio connections again."),
            next_update_at: None,
            still_open: vec!["desk@studio.example".to_owned()],
            ..problem.clone()
        };
        let update = Self {
            title: "Delays in event processing".to_owned(),
            reference: String::new(),
            phase: Phase::Update,
            impact: Impact::None,
            body: "This may result in:\n- Trigger-based campaigns not firing in real time\n- Delayed audience \
                   qualification\n\nNo data loss was identified.\nWe continue to monitor closely."
                .to_owned(),
            components: Vec::new(),
            started_at: at("2025-12-14T17:30:00Z"),
            ended_at: None,
            posted_at: at("2025-12-14T22:12:00Z"),
            late_by: None,
            consequences: None,
            not_affected: None,
            next_update_at: None,
            still_open: Vec::new(),
            because: Because::Addressed,
            link: None,
            support_link: None,
        };
        let maintenance = Self {
            title: "Database upgrade in the EU data center".to_owned(),
            phase: Phase::Scheduled,
            impact: Impact::Maintenance,
            body: "We will upgrade the databases of the EU data center.".to_owned(),
            components: vec![
                component("Statistics", ComponentStatus::UnderMaintenance),
                component("Contact API", ComponentStatus::Operational),
            ],
            started_at: at("2026-06-06T22:30:00Z"),
            ended_at: at("2026-06-07T01:00:00Z").into(),
            posted_at: at("2026-05-28T08:00:00Z"),
            consequences: some("Statistics are not available during the work."),
            not_affected: some("Contacts can be read and changed all the time."),
            next_update_at: None,
            ..problem.clone()
        };
        let open_end = Self { ended_at: None, ..maintenance.clone() };
        vec![problem, end, update, maintenance, open_end]
    }
}

impl PostMortemMail {
    /// With everything, and with nothing but the text.
    #[must_use]
    pub fn samples() -> Vec<Self> {
        let full = Self {
            title: "Service interruption affecting Member platform".to_owned(),
            reference: "INC-2041".to_owned(),
            body: "Incident summary\nOn April 30, 2026, we deployed a system update intended to improve validation within \
                   our Member platform. Following the deployment, we identified a logic conflict that caused the system \
                   to incorrectly block the creation of new studio connections.\n\nFuture prevention\nWe are \
                   prioritizing the following action:\n• Configuration Streamlining: we have initiated a project to \
                   simplify the internal logic used to validate different account types."
                .to_owned(),
            components: vec![component("Member platform", ComponentStatus::Operational)],
            started_at: at("2026-04-30T10:30:00Z"),
            ended_at: at("2026-04-30T19:03:00Z").into(),
            link: some("https://status.example.com/incidents/INC-2041"),
            because: Because::Follows,
            support_link: some("https://help.example.com/tickets/new"),
        };
        let bare = Self {
            reference: String::new(),
            components: Vec::new(),
            ended_at: None,
            link: None,
            support_link: None,
            ..full.clone()
        };
        vec![full, bare]
    }
}

impl ActionRequiredMail {
    /// Two connections, one that broke again, each without a link, those of which different things are said, and many with
    /// pages of their own.
    #[must_use]
    pub fn samples() -> Vec<Self> {
        let inboxes = Ask {
            connections: vec![failed("anna@studio.example"), failed("desk@studio.example")],
            what_happened:
                "Outlook refuses the access that you gave us. This happens when a password changes or access \
                            is revoked."
                    .to_owned(),
            what_we_did: some("We stopped syncing these inboxes. Nothing was deleted; scheduled mails wait."),
            what_to_do: "Reconnect the inboxes with their current passwords.".to_owned(),
            link: some("https://app.example.com/c/7f3k?why=failed&from=mail"),
        };
        let one = Ask { connections: vec![failed("anna@studio.example")], ..inboxes.clone() };
        let licence = Ask {
            connections: vec![failed("calendar of the studio")],
            what_happened: "The licence of this calendar has expired.".to_owned(),
            what_we_did: None,
            what_to_do: "Renew the licence.".to_owned(),
            link: some("https://app.example.com/licences"),
        };
        let own = |n: usize| ConnectionLine {
            link: Some(format!("https://app.example.com/c/{n}")),
            ..failed(&format!("room-{n}@studio.example"))
        };
        let many = Ask { connections: (1..=12).map(own).collect(), link: None, ..inboxes.clone() };
        let two = Self {
            component: "Outlook".to_owned(),
            again: false,
            ask: inboxes,
            others: Vec::new(),
            support_link: some("https://help.example.com/inbox"),
        };
        let again = Self { again: true, ask: one.clone(), ..two.clone() };
        let bare = Self { ask: Ask { link: None, ..one.clone() }, support_link: None, ..two.clone() };
        let two_again = Self { again: true, ask: Ask { link: None, ..two.ask.clone() }, ..two.clone() };
        let apart = Self { ask: one, others: vec![licence], ..two.clone() };
        let many = Self { ask: many, ..two.clone() };
        vec![two, again, bare, two_again, apart, many]
    }
}

impl CorrectionMail {
    /// All is well; all is well and perhaps never asked; part is well; most of many are; and each of several mails.
    #[must_use]
    pub fn samples() -> Vec<Self> {
        let all = Self {
            component: "Outlook".to_owned(),
            connections: vec![
                recovered("anna@studio.example", "2025-03-02T01:52:00Z"),
                recovered("desk@studio.example", "2025-03-02T06:22:00Z"),
            ],
            asked_at: at("2025-03-01T20:41:00Z"),
            asked_since: None,
            maybe: false,
            still_open: Vec::new(),
            link: some("https://app.example.com/c/7f3k"),
            support_link: some("https://help.example.com/inbox"),
        };
        let one = vec![recovered("anna@studio.example", "2025-03-02T01:52:00Z")];
        let maybe = Self { connections: one.clone(), maybe: true, link: None, support_link: None, ..all.clone() };
        let part = Self { connections: one, still_open: vec!["desk@studio.example".to_owned()], ..all.clone() };
        let part_bare = Self { link: None, ..part.clone() };
        let many = (1..=12).map(|n| recovered(&format!("room-{n}@studio.example"), "2025-03-02T01:52:00Z")).collect();
        let long = Self { connections: many, ..part.clone() };
        let asked_once = [all, maybe, part, part_bare, long];
        let asked_since = at("2025-03-01T20:34:00Z").into();
        asked_once.clone().into_iter().chain(asked_once.map(|once| Self { asked_since, ..once })).collect()
    }
}

impl AllClearMail {
    /// With everything, with nothing but the times, and where something was asked that still needs the reader.
    #[must_use]
    pub fn samples() -> Vec<Self> {
        let full = Self {
            title: "Power outage at a hosting provider".to_owned(),
            reference: "INC-1987".to_owned(),
            components: vec!["Mail delivery".to_owned(), "Contact API".to_owned()],
            started_at: at("2026-02-23T14:05:00Z"),
            recovered_at: at("2026-02-23T16:45:00Z"),
            trouble_elsewhere: false,
            still_open: Vec::new(),
            link: some("https://status.example.com/incidents/INC-1987"),
            because: Because::Follows,
            support_link: some("https://help.example.com/tickets/new"),
        };
        let bare = Self {
            reference: String::new(),
            components: Vec::new(),
            recovered_at: at("2026-02-23T14:00:00Z"),
            link: None,
            support_link: None,
            ..full.clone()
        };
        let still_open = vec!["desk@studio.example".to_owned()];
        let asked = Self { still_open, because: Because::Told, ..full.clone() };
        vec![full, bare, asked]
    }
}

impl FreeMail {
    /// With a link and without.
    #[must_use]
    pub fn samples() -> Vec<Self> {
        let full = Self {
            subject: "About the mails you got on Saturday".to_owned(),
            body: "On Saturday we asked many of you to reconnect inboxes.\n\nAll inboxes are connected again."
                .to_owned(),
            link: some("https://status.example.com/about-saturday"),
            because: Because::Follows,
            support_link: some("https://help.example.com/inbox"),
        };
        vec![Self { link: None, support_link: None, ..full.clone() }, full]
    }
}

impl SurgeMail {
    /// A flood that is held, released and held again, a slow rise, suspect reports, an outage that lasts, connections that
    /// have not come back, and an operator's word.
    #[must_use]
    pub fn samples() -> Vec<Self> {
        let held = Self {
            surge: "srg_0195536a3c7b7000a5d1c0ffee000001".to_owned(),
            kind: Kind::Flood,
            component: some("Outlook"),
            because: "normal is about 3 in 10 minutes, we saw 212".to_owned(),
            reported: false,
            not_back: false,
            by_hand: None,
            since: at("2025-03-01T20:40:00Z"),
            opened_at: at("2025-03-01T20:41:00Z"),
            connections: 1_700_000,
            stage: Stage::Holding,
            reason: Why::Opened,
        };
        let because = "1 newly failed and 41 came back in the last 10 minutes; when it was seen, normal is about 3 in 10 \
                       minutes, we saw 212";
        let asking = Self { stage: Stage::Canary, reason: Why::Calm, because: because.to_owned(), ..held.clone() };
        let stopped = Self { reason: Why::RecoveriesRise, because: because.to_owned(), ..held.clone() };
        let slow = Self { kind: Kind::Slow, ..held.clone() };
        let reporter = Self { kind: Kind::Reporter, component: None, ..held.clone() };
        let because =
            "it is still reported to be down, and the first of 212 mails has waited for the longest hold".to_owned();
        let lasting = Self { reported: true, reason: Why::LongestHold, because, ..asking.clone() };
        let because =
            "not all have come back with it, and the first of 212 mails has waited for the longest hold".to_owned();
        let not_back = Self { not_back: true, reason: Why::LongestHold, because, ..asking.clone() };
        let by_hand = Self { by_hand: some("jo: their status page is red"), ..held.clone() };
        vec![held, asking, stopped, slow, reporter, lasting, not_back, by_hand]
    }
}

impl Mail {
    /// All samples of all kinds.
    #[must_use]
    pub fn samples() -> Vec<Self> {
        let mut all: Vec<_> = IncidentMail::samples().into_iter().map(Self::Incident).collect();
        all.extend(PostMortemMail::samples().into_iter().map(Self::PostMortem));
        all.extend(ActionRequiredMail::samples().into_iter().map(Self::ActionRequired));
        all.extend(CorrectionMail::samples().into_iter().map(Self::Correction));
        all.extend(AllClearMail::samples().into_iter().map(Self::AllClear));
        all.extend(FreeMail::samples().into_iter().map(Self::Free));
        all.extend(SurgeMail::samples().into_iter().map(Self::Surge));
        all
    }
}

impl Reader {
    /// One with a name and a zone, and one of whom nothing is known.
    #[must_use]
    pub fn samples() -> Vec<Self> {
        let named = Self { name: some("Anna Jansen"), locale: "nl-NL".to_owned(), zone: "Europe/Amsterdam".to_owned() };
        vec![named, Self::default()]
    }
}

impl Matter {
    /// One of each.
    #[must_use]
    pub fn samples() -> Vec<Self> {
        vec![
            Self::Incident { title: "Delays in event processing".to_owned(), reference: "INC-1".to_owned() },
            Self::Connections { component: "Outlook".to_owned() },
            Self::Notice { subject: "About Saturday".to_owned() },
            Self::Surge { kind: Kind::Flood, component: some("Outlook"), occasion: Occasion::Failures },
        ]
    }
}

/// The templates of one part by name, each with what its samples show on this page, on one with
/// everything and on one with nothing but a name.
pub(super) fn of_templates(page: &Page, part: Part) -> Vec<(String, Vec<Value>)> {
    let bare = Page { name: page.name.clone(), support_url: None, public_url: None };
    let full = Page { public_url: some("https://status.example.com"), ..bare.clone() };
    let suffix = match part {
        Part::Html => "html",
        Part::Text => "txt",
        Part::Subject => {
            let views = Matter::samples().into_iter().map(|matter| matter.view(page));
            return views.map(|(name, view)| (name.to_owned(), vec![view])).collect();
        }
    };
    let views = |kind: &str| {
        let mails = Mail::samples().into_iter().filter(|mail| mail.kind() == kind);
        mails
            .flat_map(|mail| Reader::samples().into_iter().map(move |reader| (mail.clone(), reader)))
            .flat_map(|(mail, reader)| [page, &bare, &full].map(|page| view::of(&mail, &reader, page)))
            .collect()
    };
    Mail::KINDS.iter().map(|kind| (format!("mail/{kind}/body.{suffix}"), views(kind))).collect()
}
