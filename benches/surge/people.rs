//! Everybody there is before anything has happened.

use super::common::Fallible;
use super::common::place::{Place, blocking, on};
use super::common::product::open;

/// Small components, each to recover once, to measure a recovery's call many times.
pub const SMALL: usize = 100;
/// Connections of each of these.
const OF_SMALL: usize = 10;

/// How many connections of another component keep the slots busy during the recovery.
pub fn others(connections: usize) -> usize {
    (connections / 4).max(20_000)
}

/// How many connections there are in all.
pub fn in_all(connections: usize) -> usize {
    connections + others(connections) + SMALL * OF_SMALL
}

/// The component `mail` with so many connections (`c0`, …), then `other`, then the small ones; each connection has a
/// customer of its own.
pub fn fill(place: &Place, connections: usize) -> Fallible<()> {
    blocking(async {
        open(&place.url).await?;
        on(&place.url, people(place.url.starts_with("sqlite"), connections)).await
    })
}

fn people(sqlite: bool, connections: usize) -> String {
    let (others, all) = (connections + others(connections), in_all(connections));
    // Ids in the order of time, as the product makes them.
    let (from, id) = if sqlite {
        (
            format!(
                "(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {all}) SELECT i FROM n)"
            ),
            "unhex(printf('%016x', 1700000000000 * 65536 + i) || hex(randomblob(8)))",
        )
    } else {
        (
            format!("(SELECT i FROM generate_series(0, {all} - 1) AS g(i))"),
            "CAST(lpad(to_hex(1700000000000 * 65536 + i), 16, '0') || substr(md5(CAST(random() AS TEXT)), 1, 16) AS UUID)",
        )
    };
    format!(
        "INSERT INTO component (id, key, name, created_at)
            SELECT {id}, CASE i WHEN 0 THEN 'mail' WHEN 1 THEN 'other' ELSE 'small' || (i - 2) END, 'Mail sync', 0
            FROM {from} AS n WHERE i < 2 + {SMALL};
         INSERT INTO subscriber (id, key, address, locale, zone, created_at)
            SELECT {id}, 's' || i, 'person-' || i || '@customer.example', 'en', 'Europe/Berlin', 0 FROM {from} AS n;
         INSERT INTO connection (id, key, component_id, name, created_at)
            SELECT {id}, 'c' || i, (SELECT k.id FROM component k WHERE k.key = CASE WHEN i < {connections} THEN 'mail'
                WHEN i < {others} THEN 'other' ELSE 'small' || ((i - {others}) % {SMALL}) END), 'person-' || i || '@customer.example', 0
            FROM {from} AS n;
         INSERT INTO connection_subscriber (connection_id, subscriber_id)
            SELECT c.id, s.id FROM connection c JOIN subscriber s ON s.key = 's' || substr(c.key, 2);
         ANALYZE;"
    )
}
