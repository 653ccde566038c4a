//! All SQL, and nothing else. One body serves both databases: statements are constants, most texts are the same
//! on both, and where they must differ the two stand side by side (`Sql::differs`, `over_rows!`).
//!
//! Writes that touch many rows take them as one JSON parameter: sqlx on SQLite costs about 75 microseconds a
//! statement, so nothing here loops statements over rows.

#[macro_use]
mod seam;
#[macro_use]
mod rows;
pub mod error;
pub mod open;
mod types;

pub mod alerts;
pub mod archive;
pub mod audience;
pub mod audit;
pub mod browse;
pub mod claims;
pub mod copies;
pub mod daily;
pub mod deadlines;
pub mod deliveries;
pub mod doctor;
pub mod evidence;
pub mod failures;
pub mod fitness;
pub mod holds;
pub mod import;
pub mod import_people;
pub mod import_subscriptions;
pub mod incidents;
pub mod ingest;
pub mod journal;
pub mod keys;
pub mod lanes;
pub mod leases;
mod mount;
pub mod news;
pub mod nodes;
pub mod notices;
pub mod owners;
mod parameter;
pub mod parting;
pub mod patience;
pub mod plan;
pub mod queue;
pub mod record;
pub mod recover;
pub mod relays;
pub mod resend;
pub mod search;
pub mod setup;
pub mod status;
pub mod streams;
pub mod subjects;
pub mod suppressions;
pub mod surge;
pub mod tallies;
#[cfg(test)]
mod testing;
pub mod threads;
pub mod told;
pub mod unsubscribed;
pub mod view;
pub mod waiting;

pub use error::StoreError;
pub use open::{Clock, Store};
pub use seam::{Sql, Tx};

/// Every statement of the product, so that a test can prepare each on both databases.
#[must_use]
pub fn statements() -> Vec<Sql> {
    [
        alerts::ALL,
        archive::ALL,
        audience::ALL,
        audit::ALL,
        browse::ALL,
        claims::ALL,
        copies::ALL,
        daily::ALL,
        deadlines::ALL,
        deliveries::ALL,
        doctor::ALL,
        evidence::ALL,
        failures::ALL,
        holds::ALL,
        import::ALL,
        import_people::ALL,
        import_subscriptions::ALL,
        incidents::ALL,
        ingest::ALL,
        journal::ALL,
        keys::ALL,
        lanes::ALL,
        leases::ALL,
        nodes::ALL,
        notices::ALL,
        owners::ALL,
        parting::ALL,
        patience::ALL,
        plan::ALL,
        queue::ALL,
        record::ALL,
        recover::ALL,
        relays::ALL,
        resend::ALL,
        search::ALL,
        setup::ALL,
        status::ALL,
        streams::ALL,
        subjects::ALL,
        suppressions::ALL,
        surge::ALL,
        tallies::ALL,
        threads::ALL,
        told::ALL,
        unsubscribed::ALL,
        view::ALL,
        waiting::ALL,
    ]
    .concat()
}
