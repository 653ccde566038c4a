//! Whether PostgreSQL keeps what it commits, and whether a session with it stays one session. A server that fails
//! here makes every promise of ours void: refused, not warned about.

use super::StoreError;
use super::open::unfit;
use sqlx::{Acquire, AssertSqlSafe, PgConnection, PgPool, Row};
use uuid::Uuid;

/// What the statements need (`AS MATERIALIZED`).
const OLDEST: i32 = 120_000;

/// Set by statement, not in the startup packet, which poolers take apart. `off` forgets commits; every other level
/// is durable here and the administrator's choice. The default price of a random page is a spinning disk's: it makes
/// the server read whole tables where a few rows are asked for. A node that freezes within a transaction, and lives on
/// at the other end of its connection, would keep its locks from all others; so would one whose host lost its power, for as
/// long as the server takes it for silent (two hours).
pub(super) const SESSION: &str = "SELECT
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('random_page_cost', '1.1', false),
    set_config('idle_in_transaction_session_timeout', '10s', false),
    set_config('tcp_keepalives_idle', '30', false),
    set_config('tcp_keepalives_interval', '10', false),
    set_config('tcp_keepalives_count', '3', false),
    set_config('tcp_user_timeout', '60000', false),
    set_config('synchronous_commit', CASE current_setting('synchronous_commit')
        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)";

/// What a PostgreSQL server says about itself, in a session as we set it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Server {
    /// Its version, for people.
    pub version: String,
    /// Its version as a number: 150004 for 15.4.
    pub version_number: i32,
    /// Whether it writes through to the disk.
    pub fsync: String,
    /// Whether it can mend a page that was half written.
    pub full_page_writes: String,
    /// When it calls a transaction committed.
    pub synchronous_commit: String,
    /// Whether transactions may write.
    pub read_only: String,
    /// Whether it follows another server.
    pub standby: bool,
    /// Whether it cleans up by itself.
    pub autovacuum: String,
    /// Whether this user may make tables where its statements look for them.
    pub may_create: bool,
}

const SERVER: &str = "SELECT current_setting('server_version') AS version,
    current_setting('server_version_num')::int4 AS version_number, current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes, current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('default_transaction_read_only') AS read_only, pg_is_in_recovery() AS standby,
    current_setting('autovacuum') AS autovacuum,
    COALESCE(has_schema_privilege(current_schema()::text, 'CREATE'), false) AS may_create";

impl Server {
    pub(super) async fn ask(pool: &PgPool) -> Result<Self, StoreError> {
        let asked = sqlx::query_as(SERVER).fetch_one(pool).await;
        asked.map_err(|e| StoreError::failed("read the server's settings", e))
    }

    /// Everything for which this server is refused.
    #[must_use]
    pub fn refusals(&self) -> Vec<StoreError> {
        let mut refused = Vec::new();
        let mut refuse = |is: bool, what: String, hint: &str| {
            if is {
                refused.push(unfit(what, hint));
            }
        };
        refuse(
            self.version_number < OLDEST,
            format!("PostgreSQL {} is too old", self.version),
            "use version 12 or newer; versions from 15 on are tested",
        );
        refuse(
            self.fsync != "on",
            format!("PostgreSQL runs with fsync = {}: a crash may destroy what it has committed", self.fsync),
            "set fsync = on in postgresql.conf and reload the server",
        );
        refuse(
            self.full_page_writes != "on",
            format!(
                "PostgreSQL runs with full_page_writes = {}: a crash may leave half-written pages",
                self.full_page_writes
            ),
            "set full_page_writes = on in postgresql.conf and reload the server",
        );
        refuse(
            self.synchronous_commit == "off",
            "PostgreSQL runs with synchronous_commit = off: a crash may forget what it has committed".to_owned(),
            "set synchronous_commit = on; local and the remote levels will do as well",
        );
        // That may be so for a while: of a server that is set up anew, or before another takes over.
        let mut waits = |what: String, hint: &str| refused.push(StoreError::Away { what, hint: hint.to_owned() });
        if self.standby {
            let what = "PostgreSQL is a standby here: it takes no writes, and may be behind".to_owned();
            waits(what, "point database.url at the primary");
        } else if self.read_only != "off" {
            let what = format!("PostgreSQL takes no writes here: default_transaction_read_only = {}", self.read_only);
            waits(what, "set it off for this role and database, or point database.url elsewhere");
        }
        refused
    }
}

/// Refuses a pooler that gives a session's statements to several servers: settings, locks and prepared statements
/// would be found on another session than ours. A mark is set on one connection; while a transaction of a second one
/// occupies a server, the mark must be on the first and not on the second. Twice, since a pooler with two servers
/// that takes turns may give each back to its own once.
pub(super) async fn check_session(pool: &PgPool) -> Result<(), StoreError> {
    let failed = |e| StoreError::failed("try whether a session stays one", e);
    let mut marked = pool.acquire().await.map_err(failed)?;
    let mut other = pool.acquire().await.map_err(failed)?;
    let mark = Uuid::now_v7().simple().to_string();
    let set = format!("SELECT set_config('allclear.session', '{mark}', false)");
    sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut *marked).await.map_err(failed)?;
    for _ in 0..2 {
        let mut busy = other.begin().await.map_err(|e| match e {
            sqlx::Error::Database(e) => pooled(&format!("it refuses transactions ({})", e.message())),
            e => failed(e),
        })?;
        // In this order: with a single server the second question would wait for the transaction to end.
        if mark_of(&mut busy).await.map_err(failed)? == mark || mark_of(&mut marked).await.map_err(failed)? != mark {
            return Err(pooled("one session's statements reach several servers"));
        }
        busy.rollback().await.map_err(failed)?;
    }
    Ok(())
}

/// Asked without a prepared statement: those are the first that a pooler loses.
async fn mark_of(conn: &mut PgConnection) -> Result<String, sqlx::Error> {
    let row = sqlx::raw_sql("SELECT current_setting('allclear.session', true)").fetch_one(conn).await?;
    Ok(row.try_get::<Option<String>, _>(0)?.unwrap_or_default())
}

fn pooled(why: &str) -> StoreError {
    unfit(
        format!("PostgreSQL is behind a pooler in transaction or statement mode: {why}"),
        "point database.url at the server itself, or set pool_mode = session for this database",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit() -> Server {
        Server {
            version: "15.4".into(),
            version_number: 150_004,
            fsync: "on".into(),
            full_page_writes: "on".into(),
            synchronous_commit: "on".into(),
            read_only: "off".into(),
            standby: false,
            autovacuum: "on".into(),
            may_create: true,
        }
    }

    #[test]
    fn a_server_is_refused_for_what_forgets_a_commit_and_for_nothing_else() {
        for level in ["on", "local", "remote_write", "remote_apply"] {
            assert!(Server { synchronous_commit: level.into(), ..fit() }.refusals().is_empty(), "{level}");
        }
        assert!(Server { autovacuum: "off".into(), ..fit() }.refusals().is_empty());
        for (server, word) in [
            (Server { version_number: 110_022, version: "11.22".into(), ..fit() }, "11.22 is too old"),
            (Server { fsync: "off".into(), ..fit() }, "fsync = off"),
            (Server { full_page_writes: "off".into(), ..fit() }, "full_page_writes = off"),
            (Server { synchronous_commit: "off".into(), ..fit() }, "synchronous_commit = off"),
            (Server { standby: true, read_only: "on".into(), ..fit() }, "standby"),
            (Server { read_only: "on".into(), ..fit() }, "default_transaction_read_only = on"),
        ] {
            let refused = server.refusals();
            assert_eq!(refused.len(), 1, "{refused:?}");
            assert!(refused[0].to_string().contains(word) && !refused[0].hint().is_empty(), "{refused:?}");
        }
    }
}
