//! Sample mails as they would be claimed: what previews show, and what copies are compressed against.

use super::compose::Frozen;
use super::setting::Setting;
use crate::domain::class::Class;
use crate::domain::id::DeliveryId;
use crate::domain::time::{Span, Timestamp};
use crate::template::context::Mail;
use crate::template::{Matter, Reader, Templates};
use std::collections::BTreeMap;
use uuid::Uuid;

/// When all of them are sent: after everything they tell of.
const DATE: Timestamp = Timestamp(1_782_000_000_000_000);

/// A sample mail.
#[derive(Clone, Debug)]
pub struct Specimen {
    /// Its kind and number: `correction-2`.
    pub name: String,
    /// What the claim would freeze.
    pub frozen: Frozen,
}

/// Every sample of every kind, for a reader.
#[must_use]
pub fn all(setting: &Setting, templates: &Templates, reader: &Reader) -> Vec<Specimen> {
    let mut numbers: BTreeMap<&str, u32> = BTreeMap::new();
    let samples = Mail::samples().into_iter().map(|mail| {
        let number = numbers.entry(mail.kind()).or_default();
        *number += 1;
        Specimen { name: format!("{}-{number}", mail.kind()), frozen: frozen(setting, templates, reader, mail) }
    });
    samples.collect()
}

fn frozen(setting: &Setting, templates: &Templates, reader: &Reader, mail: Mail) -> Frozen {
    let (class, matter) = nature(&mail);
    let stream = setting.stream(class);
    let id = |n: u128| Uuid::from_u128(0x0198_c0de_0000_7000_8000_0000_0000_0000 + n).simple().to_string();
    Frozen {
        name: reader.name.clone(),
        locale: reader.locale.clone(),
        zone: reader.zone.clone(),
        date: DATE,
        from: stream.map(|s| s.from.clone()).unwrap_or_default(),
        reply_to: stream.and_then(|s| s.reply_to.clone()),
        to: "reader@example.net".to_owned(),
        subject: templates.subject(&matter).unwrap_or_default(),
        message_id: format!("{}.{}@{}", id(1), id(2), setting.domain),
        references: vec![format!("{}@{}", id(2), setting.domain)],
        reference: DeliveryId(Uuid::from_u128(0x0198_c0de_0000_7000_8000_0000_0000_0001)).to_string(),
        about: None,
        expires: (class == Class::ActionRequired).then(|| DATE + Span::hours(72)),
        mail,
    }
}

/// The class and the thread that a mail of this content belongs to.
fn nature(mail: &Mail) -> (Class, Matter) {
    let incident = |title: &str, reference: &str| Matter::Incident { title: title.into(), reference: reference.into() };
    match mail {
        Mail::Incident(m) => {
            let class = if m.phase.is_over() { Class::IncidentEnd } else { Class::IncidentUpdate };
            (class, incident(&m.title, &m.reference))
        }
        Mail::PostMortem(m) => (Class::PostMortem, incident(&m.title, &m.reference)),
        Mail::AllClear(m) => (Class::AllClear, incident(&m.title, &m.reference)),
        Mail::ActionRequired(m) => (Class::ActionRequired, Matter::Connections { component: m.component.clone() }),
        Mail::Correction(m) => (Class::Correction, Matter::Connections { component: m.component.clone() }),
        Mail::Free(m) => (Class::Free, Matter::Notice { subject: m.subject.clone() }),
        Mail::Surge(m) => {
            (Class::Free, Matter::Surge { kind: m.kind, component: m.component.clone(), occasion: m.occasion() })
        }
    }
}
