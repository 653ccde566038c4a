//! What a mail says: typed contexts, frozen as JSON when a delivery is planned.
//! They hold facts only; words, zones and markup come when the mail is rendered.

use crate::domain::incident::{ComponentStatus, Impact, Phase};
use crate::domain::surge::{Kind, Occasion, Stage, Why};
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The content of one mail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Mail {
    /// A problem, an update or the end of an incident or a maintenance.
    Incident(IncidentMail),
    /// What happened and why.
    PostMortem(PostMortemMail),
    /// The customer must do something about connections.
    ActionRequired(ActionRequiredMail),
    /// Takes an action-required mail back.
    Correction(CorrectionMail),
    /// Components work again.
    AllClear(AllClearMail),
    /// The status team's own words.
    Free(FreeMail),
    /// Operators are told of a surge.
    Surge(SurgeMail),
}

impl Mail {
    /// The kinds, as in `templates/mail/<kind>`.
    pub const KINDS: [&'static str; 7] =
        ["incident", "post_mortem", "action_required", "correction", "all_clear", "free", "surge"];

    /// The kind of this mail, as in `templates/mail/<kind>`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Incident(_) => "incident",
            Self::PostMortem(_) => "post_mortem",
            Self::ActionRequired(_) => "action_required",
            Self::Correction(_) => "correction",
            Self::AllClear(_) => "all_clear",
            Self::Free(_) => "free",
            Self::Surge(_) => "surge",
        }
    }
}

/// Why a mail that many get reaches its reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// The reader follows what it is about.
    #[default]
    Follows,
    /// It was addressed to the reader, whatever that one follows.
    Addressed,
    /// The reader was told of it before, and follows none of it now.
    Told,
}

/// A component and how it is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComponentLine {
    /// Its name on the status page.
    pub name: String,
    /// Its state.
    pub status: ComponentStatus,
}

/// One post of an incident or a maintenance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentMail {
    /// The incident's title.
    pub title: String,
    /// The incident's reference for support.
    pub reference: String,
    /// Where the incident stands.
    pub phase: Phase,
    /// How bad it is.
    pub impact: Impact,
    /// The post as the status team wrote it: plain text, paragraphs by blank lines.
    pub body: String,
    /// The affected components and their states.
    pub components: Vec<ComponentLine>,
    /// The true start (a maintenance: the planned one).
    pub started_at: Timestamp,
    /// The true end, once known.
    pub ended_at: Option<Timestamp>,
    /// When the status team posted this.
    pub posted_at: Timestamp,
    /// Seconds between the post and this mail, when that is worth saying.
    pub late_by: Option<i64>,
    /// What it means for the reader.
    pub consequences: Option<String>,
    /// What goes on working.
    pub not_affected: Option<String>,
    /// When the next update is promised.
    pub next_update_at: Option<Timestamp>,
    /// Of an end: the reader's own connections that we asked about and that are still broken.
    #[serde(default)]
    pub still_open: Vec<String>,
    /// What makes it the reader's.
    #[serde(default)]
    pub because: Because,
    /// The incident's live page.
    pub link: Option<String>,
    /// Where help is found; the page's own when absent.
    pub support_link: Option<String>,
}

/// What happened and why, after the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PostMortemMail {
    /// The incident's title.
    pub title: String,
    /// The incident's reference for support.
    pub reference: String,
    /// The text as the status team wrote it.
    pub body: String,
    /// The components that were affected.
    pub components: Vec<ComponentLine>,
    /// The true start.
    pub started_at: Timestamp,
    /// The true end.
    pub ended_at: Option<Timestamp>,
    /// The incident's page.
    pub link: Option<String>,
    /// What makes it the reader's.
    #[serde(default)]
    pub because: Because,
    /// Where help is found; the page's own when absent.
    pub support_link: Option<String>,
}

/// A connection that needs the customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionLine {
    /// Its name as the customer knows it.
    pub name: String,
    /// When it failed.
    pub failed_at: Timestamp,
    /// Its own page, where those of one text have several.
    #[serde(default)]
    pub link: Option<String>,
}

/// What is asked about connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// The connections it is about.
    pub connections: Vec<ConnectionLine>,
    /// What happened.
    pub what_happened: String,
    /// What has been done about it.
    #[serde(default)]
    pub what_we_did: Option<String>,
    /// The one thing to do.
    pub what_to_do: String,
    /// The live page where it is done, and where one sees whether it is still needed.
    pub link: Option<String>,
}

/// Connections of one component need the customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionRequiredMail {
    /// The component they go through.
    pub component: String,
    /// Broken again after a mail said that no action is needed.
    pub again: bool,
    /// What is asked.
    #[serde(flatten)]
    pub ask: Ask,
    /// What is asked about other connections, in the words that were written for them.
    #[serde(default)]
    pub others: Vec<Ask>,
    /// Where help is found; the page's own when absent.
    pub support_link: Option<String>,
}

impl ActionRequiredMail {
    /// All that is asked.
    pub fn asks(&self) -> impl Iterator<Item = &Ask> {
        std::iter::once(&self.ask).chain(&self.others)
    }

    /// How many connections it names.
    #[must_use]
    pub fn count(&self) -> usize {
        self.asks().map(|ask| ask.connections.len()).sum()
    }
}

/// A connection that no longer needs the customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorrectedLine {
    /// Its name as the customer knows it.
    pub name: String,
    /// When it recovered.
    pub recovered_at: Timestamp,
}

/// Takes back an action-required mail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorrectionMail {
    /// The component the connections go through.
    pub component: String,
    /// The connections that recovered.
    pub connections: Vec<CorrectedLine>,
    /// When the mail taken back was sent; of several, the last.
    pub asked_at: Timestamp,
    /// When the first of several was sent.
    #[serde(default)]
    pub asked_since: Option<Timestamp>,
    /// It is not known whether that mail, or all of them, arrived.
    pub maybe: bool,
    /// The connections of these mails that still need the customer.
    pub still_open: Vec<String>,
    /// The live page.
    pub link: Option<String>,
    /// Where help is found; the page's own when absent.
    pub support_link: Option<String>,
}

/// Components work again, before or at the incident's end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AllClearMail {
    /// The incident's title.
    pub title: String,
    /// The incident's reference for support.
    pub reference: String,
    /// The components that work again.
    pub components: Vec<String>,
    /// When they failed.
    pub started_at: Timestamp,
    /// When they recovered.
    pub recovered_at: Timestamp,
    /// Something else that the reader was told of is in trouble in another incident: not all is clear.
    #[serde(default)]
    pub trouble_elsewhere: bool,
    /// The reader's own connections to them that we asked about and that are still broken.
    #[serde(default)]
    pub still_open: Vec<String>,
    /// The incident's live page.
    pub link: Option<String>,
    /// What makes it the reader's.
    #[serde(default)]
    pub because: Because,
    /// Where help is found; the page's own when absent.
    pub support_link: Option<String>,
}

/// A notice in the status team's own words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FreeMail {
    /// The subject, also the first line.
    pub subject: String,
    /// The text as the status team wrote it.
    pub body: String,
    /// A page about it.
    pub link: Option<String>,
    /// What makes it the reader's.
    #[serde(default)]
    pub because: Because,
    /// Where help is found; the page's own when absent.
    pub support_link: Option<String>,
}

/// A surge, for operators.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SurgeMail {
    /// Its id, for the commands.
    pub surge: String,
    /// What it is.
    #[serde(rename = "surge_kind")]
    pub kind: Kind,
    /// Its component's name; none when our own reports are suspect.
    pub component: Option<String>,
    /// The numbers in words: by which it was opened and, of what was decided later, what came in lately.
    pub because: String,
    /// A source said that the component is down.
    #[serde(default)]
    pub reported: bool,
    /// Nothing newly failed: connections have not come back with their component.
    #[serde(default)]
    pub not_back: bool,
    /// An operator opened it: who, and why.
    #[serde(default)]
    pub by_hand: Option<String>,
    /// When its first connection failed.
    pub since: Timestamp,
    /// When it was seen.
    pub opened_at: Timestamp,
    /// How many connections the component has.
    pub connections: i64,
    /// How far it has come.
    pub stage: Stage,
    /// Why it came there.
    pub reason: Why,
}

impl SurgeMail {
    /// What it was opened for.
    #[must_use]
    pub const fn occasion(&self) -> Occasion {
        match self {
            Self { reported: true, .. } => Occasion::Lasting,
            Self { by_hand: Some(_), .. } => Occasion::ByHand,
            Self { not_back: true, .. } => Occasion::NotBack,
            _ => Occasion::Failures,
        }
    }
}
