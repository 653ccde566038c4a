//! What the lines of each kind are: how they are read, what they name, and when two are the same thing.

use super::super::intake::{Check, FieldError};
use super::super::owners;
use super::super::reading::typed;
use super::super::register::{self, ComponentIn, ConnectionIn, SubscriberIn};
use super::super::subscription::{self, SubscriptionIn};
use super::columns::Columns;
use crate::domain::subscription::Events;
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
pub(super) struct Line<R> {
    pub(super) row: R,
    /// The fields it does not give: where there is a row already, these stay as they are.
    left_out: Vec<&'static str>,
}

impl<R: Row> Line<R> {
    /// Reads the fields of a line; in a file with columns an empty cell gives its field as empty.
    pub(super) fn read(fields: Map<String, Value>, columns: Option<&Columns>) -> Read<Self> {
        let given = |field: &str| columns.map_or_else(|| fields.contains_key(field), |columns| columns.have(field));
        let left_out = R::OPTIONAL.iter().copied().filter(|field| !given(field)).collect();
        Ok(Self { row: R::read(fields)?, left_out })
    }

    /// What the line comes to, given what there is.
    pub(super) fn over(&self, current: Option<&R>) -> Result<Cow<'_, R>, FieldError> {
        let mut row = Cow::Borrowed(&self.row);
        if let Some(current) = current {
            self.row.check_over(current)?;
            self.left_out.iter().for_each(|field| row.to_mut().keep(field, current));
        }
        Ok(row)
    }
}

/// What a line is about.
pub(super) trait Row: Clone + PartialEq + Hash + Send + Sync + 'static {
    /// The fields that a line may leave out to keep what there is.
    const OPTIONAL: &'static [&'static str] = &[];

    /// Reads the fields of a line.
    fn read(fields: Map<String, Value>) -> Read<Self>;

    /// What is the same in two lines about the same thing.
    fn identity(&self) -> Cow<'_, str>;

    /// It only ends what there is: where there is nothing, it does nothing.
    fn only_ends(&self) -> bool {
        false
    }

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

    /// Whether it may take the place of what there is.
    fn check_over(&self, _current: &Self) -> Result<(), FieldError> {
        Ok(())
    }

    /// Takes one of the optional fields from what there is.
    fn keep(&mut self, _field: &str, _current: &Self) {}

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
    const OPTIONAL: &'static [&'static str] = &["group", "depends_on"];

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

    fn keep(&mut self, field: &str, current: &Self) {
        match field {
            "group" => self.group.clone_from(&current.group),
            _ => self.depends_on.clone_from(&current.depends_on),
        }
    }

    async fn current(tx: &mut Tx, of: &[&Self]) -> Result<Vec<Self>, StoreError> {
        import::components(tx, of).await
    }

    async fn put(tx: &mut Tx, of: &[Change<Self>]) -> Result<(), StoreError> {
        import::put_components(tx, of).await
    }
}

impl Row for Connection {
    const OPTIONAL: &'static [&'static str] = &["link", "subscribers"];

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

    fn check_over(&self, current: &Self) -> Result<(), FieldError> {
        if current.component == self.component { Ok(()) } else { Err(register::fixed_component()) }
    }

    fn keep(&mut self, field: &str, current: &Self) {
        match field {
            "link" => self.link.clone_from(&current.link),
            _ => self.subscribers.clone_from(&current.subscribers),
        }
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
    const OPTIONAL: &'static [&'static str] = &["name", "locale", "zone", "attributes"];

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

    fn keep(&mut self, field: &str, current: &Self) {
        match field {
            "name" => self.name.clone_from(&current.name),
            "locale" => self.locale.clone_from(&current.locale),
            "zone" => self.zone.clone_from(&current.zone),
            _ => self.attributes.clone_from(&current.attributes),
        }
    }

    async fn current(tx: &mut Tx, of: &[&Self]) -> Result<Vec<Self>, StoreError> {
        import_people::subscribers(tx, of).await
    }

    async fn put(tx: &mut Tx, of: &[Change<Self>]) -> Result<(), StoreError> {
        import_people::put_subscribers(tx, of).await
    }
}

/// What a line leaves out is as by default: one that says nothing but whose it is begins it again.
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

    fn only_ends(&self) -> bool {
        !self.active
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
        import_subscriptions::put_subscriptions(tx, of).await?;
        let changed = of.iter().filter(|change| !change.new).map(|change| &change.row);
        let over = changed.filter(|row| !row.active || row.events == Events::None);
        subscription::ended(tx, &over.map(|row| row.subscriber.as_str()).collect()).await
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
