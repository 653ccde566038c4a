//! `allclear put`

use super::Context;
use super::failure::Failure;
use crate::domain::incident::Impact;
use crate::domain::subscription::Events;
use crate::flow::register::{self, ComponentIn, ConnectionIn, SubscriberIn};
use crate::flow::subscription::{self, SubscriptionIn};
use std::collections::BTreeMap;

/// `allclear put`
#[derive(clap::Subcommand, Debug)]
pub(super) enum Args {
    /// Put a component: a part of the platform, as on the status page
    Component {
        /// Its key
        key: String,
        /// Its name for people
        #[arg(long)]
        name: String,
        /// The group it belongs to
        #[arg(long)]
        group: Option<String>,
        /// A component it cannot work without, by key; repeat for more
        #[arg(long, value_name = "KEY")]
        depends_on: Vec<String>,
    },
    /// Put a connection: a customer's link through a component
    Connection {
        /// Its key
        key: String,
        /// Its component, by key
        #[arg(long, value_name = "KEY")]
        component: String,
        /// Its name for people
        #[arg(long)]
        name: String,
        /// Where the customer can act on it
        #[arg(long, value_name = "URL")]
        link: Option<String>,
        /// Who is told about it, by key; repeat for more
        #[arg(long = "subscriber", value_name = "KEY")]
        subscribers: Vec<String>,
    },
    /// Put a subscriber: a person who gets mail
    Subscriber {
        /// The key
        key: String,
        /// The address
        #[arg(long)]
        address: String,
        /// The person's name
        #[arg(long)]
        name: Option<String>,
        /// The language, like de-AT
        #[arg(long, default_value = "en")]
        locale: String,
        /// The time zone, like Europe/Vienna
        #[arg(long, default_value = "UTC")]
        zone: String,
        /// An attribute; repeat for more
        #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
        attributes: Vec<(String, String)>,
    },
    /// Put a subscription: to a component, to a group of components, or without either to everything
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

fn attribute(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("is not NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) async fn run(context: &Context, args: Args) -> Result<u8, Failure> {
    let store = context.store().await?;
    let put = match args {
        Args::Component { key, name, group, depends_on } => {
            register::component(&store, &key, &ComponentIn { name, group, depends_on }).await?
        }
        Args::Connection { key, component, name, link, subscribers } => {
            register::connection(&store, &key, &ConnectionIn { component, name, link, subscribers }).await?
        }
        Args::Subscriber { key, address, name, locale, zone, attributes: given } => {
            let mut attributes = BTreeMap::<String, Vec<String>>::new();
            for (name, value) in given {
                attributes.entry(name).or_default().push(value);
            }
            register::subscriber(&store, &key, &SubscriberIn { address, name, locale, zone, attributes }).await?
        }
        Args::Subscription { subscriber, component, group, events, least_impact, end } => {
            let said = SubscriptionIn { subscriber, component, group, events, least_impact, active: !end };
            subscription::put(&store, &said).await?
        }
    };
    context.answer(&put, || format!("put {} {}\n", put.id, put.key.as_deref().unwrap_or_default()))?;
    Ok(0)
}
