//! The mail exactly as it was sent. Rendering it again would be exact only until a line of this program changes, so
//! the bytes themselves are kept, compressed (Zstandard, RFC 8878) against sample mails of their kind, and checked
//! against their hash when they are read. They go by age.

use super::compose;
use super::setting::Setting;
use super::specimen;
use crate::domain::delivery::{HandOver, State};
use crate::domain::hex::hex;
use crate::domain::id::DeliveryId;
use crate::domain::time::{Span, Timestamp};
use crate::store::copies::{self, MailCopy};
use crate::store::{Store, StoreError, Tx, archive, lanes};
use crate::template::context::Mail;
use crate::template::{Reader, Templates};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;
use zstd::bulk::Compressor;
use zstd::stream::read::Decoder;

/// What is kept of larger samples: their ends.
const LONGEST_DICTIONARY: usize = 64 * 1024;
/// How often a process notes that it uses its set and dictionaries.
const NOTED_EVERY: Span = Span::hours(1);
/// How often old copies are looked for.
const SWEPT_EVERY: Span = Span::minutes(10);
/// How many copies are removed in one transaction.
const PAGE: i64 = 500;
/// How often all mails are gone through for what those were made of that have no copy.
const FORGOTTEN_EVERY: Span = Span::hours(24);

struct Dictionary {
    hash: [u8; 32],
    bytes: Vec<u8>,
    /// Each has digested it once: doing that anew costs more than compressing a mail.
    idle: Mutex<Vec<Compressor<'static>>>,
}

/// Keeps the mails of a process.
pub struct Copies {
    keep: Span,
    set: (String, String),
    dictionaries: BTreeMap<&'static str, Dictionary>,
    noted_at: AtomicI64,
    swept_at: AtomicI64,
    /// The last mail gone by on the way through all of them, and when the next way begins.
    passed: Mutex<(DeliveryId, Timestamp)>,
}

/// A mail as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExactMail {
    /// Its bytes, before dots were doubled for the wire.
    pub bytes: Vec<u8>,
    /// Their SHA-256, in hexadecimal.
    pub sha256: String,
    /// How the try ended in which they were handed over.
    pub outcome: HandOver,
    /// When it ended.
    pub at: Timestamp,
}

/// Why a mail cannot be shown as it was sent.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// No such delivery.
    #[error("there is no such delivery")]
    Unknown,
    /// Nothing left.
    #[error("the mail has not been sent: it is {0}")]
    NotSent(State),
    /// It went by age.
    #[error("the mail was sent; its copy has been removed by age (retention.mail_copies_days)")]
    Removed,
    /// It was sent, and nothing was kept.
    #[error("the mail may have been sent, but no copy of it was kept")]
    NotKept,
    /// What is stored is not what was sent.
    #[error("the stored copy is not the mail that was sent: {0}")]
    Damaged(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MailError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown => "name a delivery by its id, dlv_…, as `allclear show` lists it".to_owned(),
            Self::NotSent(_) => "`allclear show` with the same id says why it waits, or why it was not sent".to_owned(),
            Self::Removed => "the delivery and its tries are still there: `allclear show`".to_owned(),
            Self::NotKept => {
                "either retention.mail_copies_days was 0, or the process ended before it could record the try; while what \
                 it was made of is kept `allclear templates preview --delivery` renders it again"
                    .to_owned()
            }
            Self::Damaged(_) => "the row in mail_copy or mail_dictionary was changed; restore it".to_owned(),
            Self::Store(e) => e.hint(),
        }
    }
}

impl Copies {
    /// Copies that are kept for so long; for [`Span::ZERO`] none are made.
    #[must_use]
    pub fn new(setting: &Setting, templates: &Templates, keep: Span) -> Self {
        let kinds = if keep == Span::ZERO { &[][..] } else { &Mail::KINDS[..] };
        let sources = serde_json::to_string(templates.sources()).unwrap_or_default();
        Self {
            keep,
            set: (templates.set_hash().to_owned(), sources),
            dictionaries: kinds.iter().map(|kind| (*kind, dictionary(setting, templates, kind))).collect(),
            noted_at: AtomicI64::new(i64::MIN),
            swept_at: AtomicI64::new(i64::MIN),
            passed: Mutex::new(BEGINNING),
        }
    }

    /// Whether no mail is kept, nor what it was made of.
    #[must_use]
    pub fn keeps_none(&self) -> bool {
        self.keep == Span::ZERO
    }

    /// The copy of a mail that is handed over; none when none are kept.
    #[must_use]
    pub fn of(&self, kind: &str, mail: &[u8]) -> Option<MailCopy> {
        let dictionary = self.dictionaries.get(kind)?;
        match dictionary.compress(mail) {
            Ok(bytes) => Some(MailCopy {
                dictionary: hex(&dictionary.hash),
                sha256: hex(&Sha256::digest(mail)),
                bytes: hex(&bytes),
            }),
            Err(e) => {
                tracing::error!(error = %e, "a mail cannot be compressed, and no copy of it is kept: {e}");
                None
            }
        }
    }

    /// Notes in the database, now and then, that this set of templates and its dictionaries are in use: copies can
    /// only be kept beside them. What it answers is given to [`Copies::noted`] after the commit.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note(&self, tx: &mut Tx) -> Result<Option<Timestamp>, StoreError> {
        let now = tx.now();
        if now.0.saturating_sub(self.noted_at.load(Ordering::Relaxed)) < NOTED_EVERY.0 {
            return Ok(None);
        }
        let dictionaries = self.dictionaries.values().map(|d| (&d.hash[..], &d.bytes[..]));
        copies::in_use(tx, (&self.set.0, &self.set.1), dictionaries).await?;
        Ok(Some(now))
    }

    /// The note is durable.
    pub fn noted(&self, at: Option<Timestamp>) {
        if let Some(at) = at {
            self.noted_at.store(at.0, Ordering::Relaxed);
        }
    }

    /// Removes, now and then, what is older than it is kept, and closes the lanes of what is long over.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sweep(&self, store: &Store) -> Result<bool, StoreError> {
        let now = store.read().await?.now();
        if now.0.saturating_sub(self.swept_at.load(Ordering::Relaxed)) < SWEPT_EVERY.0 {
            return Ok(false);
        }
        let until = Timestamp(now.0 - self.keep.0);
        let mut tx = store.begin().await?;
        let removed = copies::remove(&mut tx, until, PAGE).await?;
        let more = i64::try_from(removed).is_ok_and(|removed| removed == PAGE);
        if !more {
            copies::remove_sets(&mut tx, until).await?;
            lanes::close(&mut tx, PAGE).await?;
        }
        tx.commit().await?;
        if !more {
            self.swept_at.store(now.0, Ordering::Relaxed);
        }
        Ok(removed > 0)
    }

    /// Removes what mails were made of that were never handed over, or of which no copy was kept, at the same age: goes on
    /// by one page; whether there may be more now.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget(&self, store: &Store) -> Result<bool, StoreError> {
        let (after, next_at) = *self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut read = store.read().await?;
        let now = read.now();
        if now < next_at {
            return Ok(false);
        }
        let until = Timestamp(now.0 - self.keep.0);
        let page = copies::pass(&mut read, after, until, PAGE).await?;
        drop(read);
        let old: Vec<_> = page.iter().filter(|d| d.uncopied).map(|d| d.id).collect();
        if !old.is_empty() {
            let mut tx = store.begin().await?;
            copies::forget(&mut tx, &old).await?;
            tx.commit().await?;
        }
        // Ids follow the time of planning: beyond a page of young ones all are young.
        let last = page.last().filter(|_| page.iter().any(|d| d.created_at <= until));
        let place = last.map_or((BEGINNING.0, now + FORGOTTEN_EVERY), |last| (last.id, next_at));
        *self.passed.lock().unwrap_or_else(PoisonError::into_inner) = place;
        Ok(last.is_some())
    }
}

const BEGINNING: (DeliveryId, Timestamp) = (DeliveryId(Uuid::nil()), Timestamp(i64::MIN));

/// What a document says about the mail of a delivery that was put away.
#[derive(Deserialize)]
struct PutAway {
    state: State,
    maybe_mailed: bool,
    /// Early documents do not say it.
    copy_removed: Option<bool>,
}

/// The mail of a delivery as it was sent.
///
/// # Errors
/// When it was not sent, when no copy is kept, when the copy does not match its hash, when the database fails.
pub async fn mail(tx: &mut Tx, id: DeliveryId) -> Result<ExactMail, MailError> {
    let Some(found) = copies::stored(tx, id).await? else {
        // What was put away had lost its copy before.
        let Some(kept) = archive::documents(tx, &[id]).await?.pop() else { return Err(MailError::Unknown) };
        let ended: PutAway = serde_json::from_str(&kept.document).map_err(|e| StoreError::Corrupt {
            table: "archived_delivery",
            column: "document",
            row: id.to_string(),
            what: e.to_string(),
        })?;
        return Err(not_there(ended.copy_removed.unwrap_or(ended.maybe_mailed), ended.maybe_mailed, ended.state));
    };
    let (Some(compressed), Some(sha256), Some(outcome), Some(at)) =
        (found.bytes, found.sha256, found.outcome, found.stored_at)
    else {
        return Err(not_there(found.removed, found.maybe_mailed, found.state));
    };
    let dictionary = found.dictionary.ok_or_else(|| MailError::Damaged("its dictionary is not there".to_owned()))?;
    let bytes = decompress(&dictionary, &compressed)
        .map_err(|e| MailError::Damaged(format!("it cannot be decompressed: {e}")))?;
    let actual = Sha256::digest(&bytes);
    if actual[..] != sha256[..] {
        return Err(MailError::Damaged(format!("its SHA-256 is {}, not {}", hex(&actual), hex(&sha256))));
    }
    Ok(ExactMail { bytes, sha256: hex(&sha256), outcome, at })
}

const fn not_there(removed: bool, maybe_mailed: bool, state: State) -> MailError {
    match (removed, maybe_mailed) {
        (true, _) => MailError::Removed,
        (false, true) => MailError::NotKept,
        (false, false) => MailError::NotSent(state),
    }
}

/// A mail of 7 kB becomes 585 octets; level 3 saves 4 % of them and takes half as long again.
const LEVEL: i32 = 1;

impl Dictionary {
    fn new(bytes: Vec<u8>) -> Self {
        Self { hash: Sha256::digest(&bytes).into(), bytes, idle: Mutex::default() }
    }

    fn compress(&self, mail: &[u8]) -> std::io::Result<Vec<u8>> {
        let spare = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut compressor = spare.map_or_else(|| Compressor::with_dictionary(LEVEL, &self.bytes), Ok)?;
        let compressed = compressor.compress(mail);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(compressor);
        compressed
    }
}

/// What mails of a kind have in common: its samples, each line once. What most mails are like comes last, where
/// pointing is cheapest; before it the same in the other encoding, which a name beyond ASCII brings.
fn dictionary(setting: &Setting, templates: &Templates, kind: &str) -> Dictionary {
    let zone = "Europe/Berlin".to_owned();
    let plain = Reader { name: None, locale: "en".to_owned(), zone };
    let encoded = Reader { name: Some("Zoë".to_owned()), ..plain.clone() };
    let mails = |reader: &Reader| -> Vec<Vec<u8>> {
        let all = specimen::all(setting, templates, reader).into_iter().filter(|s| s.frozen.mail.kind() == kind);
        all.filter_map(|s| compose::bytes(&s.frozen, templates).ok()).collect()
    };
    let (plain, encoded) = (mails(&plain), mails(&encoded));
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut seen: HashSet<&[u8]> = HashSet::new();
    for mail in plain.iter().chain(encoded.first()) {
        pieces
            .push(mail.split_inclusive(|b| *b == b'\n').filter(|line| seen.insert(*line)).flatten().copied().collect());
    }
    let all: Vec<u8> = pieces.into_iter().rev().flatten().collect();
    Dictionary::new(all[all.len().saturating_sub(LONGEST_DICTIONARY)..].to_vec())
}

fn decompress(dictionary: &[u8], compressed: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    Decoder::with_dictionary(compressed, dictionary)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}
