//! `allclear put`

use super::Context;
use super::failure::{Failure, NOT_FOUND};
use super::output::printable;
use crate::domain::incident::Impact;
use crate::domain::subscription::Events;
use crate::flow::import;
use crate::flow::subscription::{self, SubscriptionIn};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// `allclear put`
#[derive(clap::Subcommand, Debug)]
pub(super) enum Args {
    /// Put a component: a part of the platform, as on the status page; what is not given stays as it is
    Component {
        /// Its key
        key: String,
        /// Its name for people
        #[arg(long)]
        name: String,
        /// The group it belongs to; "" for none
        #[arg(long)]
        group: Option<String>,
        /// A component it cannot work without, by key; repeat for all there are, "" for none. Updates of incidents go by
        /// it; requests to reconnect do not
        #[arg(long, value_name = "KEY")]
        depends_on: Vec<String>,
    },
    /// Put a connection: a customer's link through a component; what is not given stays as it is
    Connection {
        /// Its key
        key: String,
        /// Its component, by key
        #[arg(long, value_name = "KEY")]
        component: String,
        /// Its name for people
        #[arg(long)]
        name: String,
        /// Where the customer can act on it; "" for nowhere in particular
        #[arg(long, value_name = "URL")]
        link: Option<String>,
        /// Who is told about it, by key; repeat for all there are, "" for nobody
        #[arg(long = "subscriber", value_name = "KEY")]
        subscribers: Vec<String>,
    },
    /// Put a subscriber: a person who gets mail; what is not given stays as it is
    Subscriber {
        /// The key
        key: String,
        /// The address
        #[arg(long)]
        address: String,
        /// The person's name; "" for none
        #[arg(long)]
        name: Option<String>,
        /// The language, like de-AT; at first en
        #[arg(long)]
        locale: Option<String>,
        /// The time zone, like Europe/Vienna; at first UTC
        #[arg(long)]
        zone: Option<String>,
        /// An attribute; repeat for all there are, "" for none
        #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
        attributes: Vec<(String, String)>,
    },
    /// Put a subscription: to a component, to a group of components, or without either to everything; this says all of
    /// it, whatever was put before
    Subscription {
        /// The subscriber, by key
        #[arg(long, value_name = "KEY")]
        subscriber: String,
        /// The component, by key
        #[arg(long, value_name = "KEY")]
        component: Option<String>,
        /// The group of components
        #[arg(long, value_name = "KEY", conflicts_with = "component")]
        group: Option<String>,
        /// Which news: all, begin_and_end, or none for now
        #[arg(long, default_value = "all")]
        events: Events,
        /// Nothing of incidents below this impact: none, minor, major, critical
        #[arg(long, value_name = "IMPACT", default_value = "none")]
        least_impact: Impact,
        /// End it
        #[arg(long)]
        end: bool,
    },
}

/// An empty text is no attribute: alone it empties them, beside others it is refused.
fn attribute(text: &str) -> Result<(String, String), String> {
    if text.is_empty() {
        return Ok(Default::default());
    }
    let (name, value) = text.split_once('=').filter(|pair| !pair.0.is_empty()).ok_or("is not NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) async fn run(context: &Context, args: Args) -> Result<u8, Failure> {
    let store = context.store_or_new().await?;
    let put = match args {
        Args::Component { key, name, group, depends_on } => {
            let said = [("name", Some(name.into())), ("group", text(group)), ("depends_on", list(depends_on))];
            import::component(&store, &key, given(said)).await?
        }
        Args::Connection { key, component, name, link, subscribers } => {
            let said = [
                ("component", Some(component.into())),
                ("name", Some(name.into())),
                ("link", text(link)),
                ("subscribers", list(subscribers)),
            ];
            import::connection(&store, &key, given(said)).await?
        }
        Args::Subscriber { key, address, name, locale, zone, attributes: pairs } => {
            let said = [
                ("address", Some(address.into())),
                ("name", text(name)),
                ("locale", locale.map(Value::from)),
                ("zone", zone.map(Value::from)),
                ("attributes", attributes(pairs)),
            ];
            import::subscriber(&store, &key, given(said)).await?
        }
        Args::Subscription { subscriber, component, group, events, least_impact, end } => {
            let said = SubscriptionIn { subscriber, component, group, events, least_impact, active: !end };
            subscription::put(&store, &said).await?.ok_or_else(|| {
                let hint = format!("`allclear show {}` says what they follow", printable(&said.subscriber));
                Failure::new(NOT_FOUND, "there is no such subscription to end", hint)
            })?
        }
    };
    context.answer(&put, || format!("put {} {}\n", put.id, put.key.as_deref().unwrap_or_default()))?;
    Ok(0)
}

/// The fields that are given.
fn given<const N: usize>(said: [(&str, Option<Value>); N]) -> Map<String, Value> {
    said.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?))).collect()
}

/// An empty text empties the field.
fn text(said: Option<String>) -> Option<Value> {
    said.map(|text| if text.is_empty() { Value::Null } else { text.into() })
}

/// An empty text alone empties the list.
fn list(said: Vec<String>) -> Option<Value> {
    (!said.is_empty()).then(|| if said == [""] { json!([]) } else { said.into() })
}

fn attributes(said: Vec<(String, String)>) -> Option<Value> {
    let mut all = BTreeMap::<String, Vec<String>>::new();
    let given = !said.is_empty();
    let emptied = said == [Default::default()];
    for (name, value) in said.into_iter().filter(|_| !emptied) {
        all.entry(name).or_default().push(value);
    }
    given.then(|| json!(all))
}
