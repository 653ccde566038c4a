//! What the lines of each kind are: how they are read, what they name, and when two are the same thing.

use super::super::intake::{Check, FieldError};
use super::super::owners;
use super::super::reading::typed;
use super::super::register::{self, ComponentIn, ConnectionIn, SubscriberIn};
use super::super::subscription::{self, SubscriptionIn};
use crate::store::import::{self, Change, Component, Connection};
use crate::store::import_people::{self, Attribute, Subscriber};
use crate::store::import_subscriptions::{self, Subscription};
use crate::store::{StoreError, Tx};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::hash::Hash;

type Read<R> = Result<R, Vec<FieldError>>;

/// One line, read and checked as far as that goes without the database.
pub(super) trait Row: Clone + PartialEq + Hash + Send + Sync + 'static {
    /// Reads the fields of a line.
    fn read(fields: Map<String, Value>) -> Read<Self>;

    /// What is the same in two lines about the same thing.
    fn identity(&self) -> Cow<'_, str>;

    /// The component that the line itself makes known.
    fn component(&self) -> Option<&str> {
        None
    }

    /// The components that must be there, with the fields that name them.
    fn components(&self) -> Vec<(String, &str)> {
        Vec::new()
    }

    /// The group of components that must be there.
    fn group(&self) -> Option<&str> {
        None
    }

    /// The subscribers that must be there, with the fields that name them.
    fn subscribers(&self) -> Vec<(String, &str)> {
        Vec::new()
    }

    /// What the line comes to, given what there is.
    fn over(&self, _current: Option<&Self>) -> Result<Cow<'_, Self>, FieldError> {
        Ok(Cow::Borrowed(self))
    }

    /// What there is of some rows.
    fn current(tx: &mut Tx, of: &[&Self]) -> impl Future<Output = Result<Vec<Self>, StoreError>> + Send;

    /// Writes rows.
    fn put(tx: &mut Tx, of: &[Change<Self>]) -> impl Future<Output = Result<(), StoreError>> + Send;
}

fn key(fields: &mut Map<String, Value>) -> Read<String> {
    match fields.remove("key") {
        Some(Value::String(key)) => Ok(key),
        Some(_) => Err(vec![FieldError::new("key", "is not a text")]),
        None => Err(vec![FieldError::new("key", "is missing")]),
    }
}

fn said<T: serde::de::DeserializeOwned>(fields: Map<String, Value>) -> Read<T> {
    typed(fields).map_err(|error| vec![error])
}

impl Row for Component {
    fn read(mut fields: Map<String, Value>) -> Read<Self> {
        let key = key(&mut fields)?;
        let said: ComponentIn = said(fields)?;
        register::check_component(&key, &said)?;
        Ok(Self { key, name: said.name, group: said.group, depends_on: said.depends_on.into_iter().collect() })
    }

    fn identity(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.key)
    }

    fn component(&self) -> Option<&str> {
        Some(&self.key)
    }

    fn components(&self) -> Vec<(String, &str)> {
        self.depends_on.iter().map(|key| ("depends_on".to_owned(), key.as_str())).collect()
    }

    async fn current(tx: &mut Tx, of: &[&Self]) -> Result<Vec<Self>, StoreError> {
        import::components(tx, of).await
    }

    async fn put(tx: &mut Tx, of: &[Change<Self>]) -> Result<(), StoreError> {
        import::put_components(tx, of).await
    }
}

impl Row for Connection {
    fn read(mut fields: Map<String, Value>) -> Read<Self> {
        let key = key(&mut fields)?;
        let said: ConnectionIn = said(fields)?;
        register::check_connection(&key, &said)?;
        let subscribers = said.subscribers.into_iter().collect();
        Ok(Self { key, component: said.component, name: said.name, link: said.link, subscribers })
    }

    fn identity(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.key)
    }

    fn components(&self) -> Vec<(String, &str)> {
        vec![("component".to_owned(), &self.component)]
    }

    fn subscribers(&self) -> Vec<(String, &str)> {
        self.subscribers.iter().map(|key| ("subscribers".to_owned(), key.as_str())).collect()
    }

    fn over(&self, current: Option<&Self>) -> Result<Cow<'_, Self>, FieldError> {
        let moved = current.is_some_and(|current| current.component != self.component);
        if moved { Err(register::fixed_component()) } else { Ok(Cow::Borrowed(self)) }
    }

    async fn current(tx: &mut Tx, of: &[&Self]) -> Result<Vec<Self>, StoreError> {
        import::connections(tx, of).await
    }

    async fn put(tx: &mut Tx, of: &[Change<Self>]) -> Result<(), StoreError> {
        import::put_connections(tx, of).await?;
        let known = of.iter().filter(|change| !change.new).map(|change| change.row.key.as_str());
        owners::changed(tx, &known.collect::<Vec<_>>()).await
    }
}

impl Row for Subscriber {
    fn read(mut fields: Map<String, Value>) -> Read<Self> {
        let key = key(&mut fields)?;
        let with_attributes = fields.contains_key("attributes");
        let said: SubscriberIn = said(fields)?;
        let row = register::subscriber_row(&key, &said)?;
        let attributes = with_attributes.then(|| row.attributes.into_iter().collect());
        Ok(Self { key, address: row.address, name: row.name, locale: row.locale, zone: row.zone, attributes })
    }

    fn identity(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.key)
    }

    /// Attributes have lines of their own: a line that does not give them leaves them.
    fn over(&self, current: Option<&Self>) -> Result<Cow<'_, Self>, FieldError> {
        Ok(match current.and_then(|current| current.attributes.as_ref()) {
            Some(kept) if self.attributes.is_none() => {
                Cow::Owned(Self { attributes: Some(kept.clone()), ..self.clone() })
            }
            _ => Cow::Borrowed(self),
        })
    }

    async fn current(tx: &mut Tx, of: &[&Self]) -> Result<Vec<Self>, StoreError> {
        import_people::subscribers(tx, of).await
    }

    async fn put(tx: &mut Tx, of: &[Change<Self>]) -> Result<(), StoreError> {
        import_people::put_subscribers(tx, of).await
    }
}

impl Row for Subscription {
    fn read(fields: Map<String, Value>) -> Read<Self> {
        let said: SubscriptionIn = said(fields)?;
        subscription::check(&said)?;
        let SubscriptionIn { subscriber, component, group, events, least_impact, active } = said;
        Ok(Self { subscriber, component, group, events, least_impact, active })
    }

    fn identity(&self) -> Cow<'_, str> {
        // No key has control characters.
        let (component, group) = (self.component.as_deref(), self.group.as_deref());
        format!("{}\n{}\n{}", self.subscriber, component.unwrap_or_default(), group.unwrap_or_default()).into()
    }

    fn components(&self) -> Vec<(String, &str)> {
        self.component.iter().map(|key| ("component".to_owned(), key.as_str())).collect()
    }

    /// One that ends may be of a group that is no more.
    fn group(&self) -> Option<&str> {
        self.group.as_deref().filter(|_| self.active)
    }

    fn subscribers(&self) -> Vec<(String, &str)> {
        vec![("subscriber".to_owned(), &self.subscriber)]
    }

    async fn current(tx: &mut Tx, of: &[&Self]) -> Result<Vec<Self>, StoreError> {
        import_subscriptions::subscriptions(tx, of).await
    }

    async fn put(tx: &mut Tx, of: &[Change<Self>]) -> Result<(), StoreError> {
        import_subscriptions::put_subscriptions(tx, of).await
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AttributeIn {
    subscriber: String,
    name: String,
    values: Vec<String>,
}

impl Row for Attribute {
    fn read(fields: Map<String, Value>) -> Read<Self> {
        let said: AttributeIn = said(fields)?;
        let mut check = Check::default();
        check.line("name", &said.name, 100);
        register::check_values(&mut check, "values", &said.values);
        if said.values.is_empty() {
            check.refuse("values", "are none");
        }
        check.done()?;
        Ok(Self { subscriber: said.subscriber, name: said.name, values: said.values.into_iter().collect() })
    }

    fn identity(&self) -> Cow<'_, str> {
        format!("{}\n{}", self.subscriber, self.name).into()
    }

    fn subscribers(&self) -> Vec<(String, &str)> {
        vec![("subscriber".to_owned(), &self.subscriber)]
    }

    async fn current(tx: &mut Tx, of: &[&Self]) -> Result<Vec<Self>, StoreError> {
        import_people::attributes(tx, of).await
    }

    async fn put(tx: &mut Tx, of: &[Change<Self>]) -> Result<(), StoreError> {
        import_people::put_attributes(tx, of).await
    }
}
