//! What mails say besides what is seen of them: the words of notices, and whom they must not call well by their silence.

use super::compose::ComposeError;
use super::look::Seen;
use crate::domain::class::Class;
use crate::domain::id::{ConnectionId, DeliveryId, NoticeId};
use crate::store::view::{ItemView, StillOpen};
use crate::store::{StoreError, Tx, view};
use serde::de::DeserializeOwned;
use std::collections::{HashMap, HashSet};

/// What was learnt for some mails.
#[derive(Clone, Debug, Default)]
pub struct Words {
    payloads: HashMap<NoticeId, String>,
    texts: HashMap<(DeliveryId, ConnectionId), NoticeId>,
    open: Vec<StillOpen>,
}

impl Words {
    /// Learns it for mails that may be composed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn learn<'a>(tx: &mut Tx, of: impl Iterator<Item = &'a Seen> + Clone) -> Result<Self, StoreError> {
        let some =
            |is: fn(&Seen) -> bool| of.clone().filter(|seen| is(seen)).map(|seen| seen.row.id).collect::<Vec<_>>();
        // Of one connection that no notice is about nothing was said.
        let asking = some(|s| s.row.class == Class::ActionRequired && (s.row.notice_id.is_some() || s.items.len() > 1));
        let texts = if asking.is_empty() { HashMap::new() } else { view::texts(tx, &asking).await? };
        let own = of.clone().filter_map(|seen| seen.row.notice_id);
        let notices: HashSet<NoticeId> = own.chain(texts.values().copied()).collect();
        let notices: Vec<_> = notices.into_iter().collect();
        let payloads = if notices.is_empty() { Vec::new() } else { view::payloads(tx, &notices).await? };
        let calling = some(|s| matches!(s.row.class, Class::Correction | Class::AllClear | Class::IncidentEnd));
        let open = if calling.is_empty() { Vec::new() } else { view::still_open(tx, &calling).await? };
        Ok(Self { payloads: payloads.into_iter().collect(), texts, open })
    }

    /// What a notice said.
    ///
    /// # Errors
    /// When it cannot be read back.
    pub fn by<T: DeserializeOwned>(&self, notice: Option<NoticeId>) -> Result<Option<T>, ComposeError> {
        let said = notice.and_then(|id| self.payloads.get(&id));
        let broken = |e| ComposeError(format!("its notice cannot be read back: {e}"));
        said.map(|text| serde_json::from_str(text).map_err(broken)).transpose()
    }

    /// The notice that gives the outage of a connection its text in a mail.
    #[must_use]
    pub fn about(&self, item: &ItemView) -> Option<NoticeId> {
        self.texts.get(&(item.delivery_id, item.connection_id?)).copied()
    }

    /// The connections that a mail does not speak of, and must.
    pub fn still_open(&self, mail: DeliveryId) -> impl Iterator<Item = &StillOpen> {
        self.open.iter().filter(move |one| one.delivery_id == mail)
    }
}
