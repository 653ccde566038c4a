//! One put as a line of an import: what it leaves out stays as it is where it is there already. (The PUTs over HTTP
//! replace all there is: `register`.)

use super::super::ingest::IngestError;
use super::super::intake::FieldError;
use super::super::register::{self, Put};
use super::batch::Book;
use super::lines::Batch;
use super::row::{Line, Row};
use super::{Component, Connection, Event, Subscriber};
use crate::store::{Store, setup};
use serde_json::{Map, Value};

/// Puts a component, with the fields of its PUT.
///
/// # Errors
/// As [`register::component`].
pub async fn component(store: &Store, key: &str, fields: Map<String, Value>) -> Result<Put, IngestError> {
    one::<Component>(store, key, fields).await?;
    let id = register::component_id(&mut store.read().await?, "key", key).await?;
    Ok(Put { id: id.to_string(), key: Some(key.to_owned()) })
}

/// Puts a connection, with the fields of its PUT.
///
/// # Errors
/// As [`register::connection`].
pub async fn connection(store: &Store, key: &str, fields: Map<String, Value>) -> Result<Put, IngestError> {
    one::<Connection>(store, key, fields).await?;
    let found = setup::connection_id(&mut store.read().await?, key).await?;
    let (id, _) = found.ok_or_else(|| FieldError::new("key", "is no longer there"))?;
    Ok(Put { id: id.to_string(), key: Some(key.to_owned()) })
}

/// Puts a subscriber, with the fields of its PUT.
///
/// # Errors
/// As [`register::subscriber`].
pub async fn subscriber(store: &Store, key: &str, fields: Map<String, Value>) -> Result<Put, IngestError> {
    one::<Subscriber>(store, key, fields).await?;
    let id = register::subscriber_id(&mut store.read().await?, "key", key).await?;
    Ok(Put { id: id.to_string(), key: Some(key.to_owned()) })
}

async fn one<R: Row>(store: &Store, key: &str, mut fields: Map<String, Value>) -> Result<(), IngestError> {
    fields.insert("key".to_owned(), key.into());
    let batch = Batch { lines: vec![(1, Ok(Line::<R>::read(fields, None)?))], bytes: 0 };
    let mut refused = Vec::new();
    let mut hear = |event| {
        if let Event::Refused(refusal) = event {
            refused.push(FieldError { field: refusal.field, what: refusal.reason });
        }
    };
    Book::new(false).take(store, &batch, &mut hear).await?;
    if refused.is_empty() { Ok(()) } else { Err(refused.into()) }
}
