//! Nodes: which process dispatches under which name. Whoever holds a name's lock knows that the incarnations before
//! it are dead, so what they held need not wait out a quarantine: their connections were closed with them.

use super::open::unfit;
use super::{Store, StoreError};
use sqlx::Connection;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// A living bearer that hears that its session is lost takes its name's lock again within a second. So long is waited for it.
const ALIVE: Duration = Duration::from_millis(2_500);

/// So long the server may take to answer before it is asked on a new session.
const SILENT: Duration = Duration::from_secs(5);

/// When it has answered on new sessions for so long, and not on the old one, whatever lies between has forgotten the old one.
/// After a break an old one needs about as long again as the break lasted. The server gives it up later, and with it the lock
/// ([`super::fitness`]).
const LOST: Duration = Duration::from_secs(30);

/// So long asking on a new one may take.
const ASKING: Duration = Duration::from_secs(10);

statements! {
    INCARNATION = super::Sql::same("SELECT incarnation FROM node WHERE name = $1");
    TAKE_OVER = super::Sql::same(
        "INSERT INTO node (name, incarnation, started_at) VALUES ($1, $2, $3)
         ON CONFLICT (name) DO UPDATE SET incarnation = excluded.incarnation, started_at = excluded.started_at",
    );
    LEAVE = super::Sql::same(
        "DELETE FROM node WHERE name = $1 AND incarnation = $2
            AND NOT EXISTS (SELECT 1 FROM delivery WHERE state = 'sending' AND owner = $3)",
    );
}

/// The right to dispatch under a name, held until it is dropped.
#[derive(Debug)]
pub struct Node {
    /// What this process writes as the owner of its claims.
    pub owner: String,
    /// Its name.
    pub name: String,
    incarnation: Uuid,
    _lock: Option<File>,
    /// Which file was SQLite's when the name was taken.
    file: Option<(u64, u64)>,
    session: Option<sqlx::PgConnection>,
    /// Since when the server answers on new sessions, and not on this one.
    silent_since: Option<Instant>,
}

impl Node {
    /// Sees to it that the name is still this process's: a server that was restarted has forgotten its locks, and SQLite's file
    /// may be gone.
    ///
    /// # Errors
    /// When another process has taken the name meanwhile, or this one's connections lead nowhere, or to a file that was moved
    /// ([`StoreError::Unfit`]); or when the database fails.
    pub async fn hold(&mut self, store: &Store) -> Result<(), StoreError> {
        let Some(session) = &mut self.session else { return self.look_after_file(store) };
        let answered = tokio::time::timeout(SILENT, session.ping()).await;
        if matches!(answered, Ok(Ok(()))) {
            self.silent_since = None;
            return Ok(());
        }
        let asked = tokio::time::timeout(ASKING, self.ask_anew(store)).await;
        let timed_out = |_| Err(StoreError::failed("connect", sqlx::Error::PoolTimedOut));
        // A server that answers nobody says nothing of the old session.
        let (session, newest) = asked.unwrap_or_else(timed_out).inspect_err(|_| self.silent_since = None)?;
        if newest != Some(self.incarnation) {
            return Err(taken(&self.name));
        }
        if answered.is_err() && self.silent_since.get_or_insert_with(Instant::now).elapsed() >= LOST {
            return Err(unfit(
                "the connections to the database lead nowhere, though it answers on new ones",
                "start this again, or let a supervisor do it: what was on the wire comes back when its lease ends",
            ));
        }
        // Locked by whom? By the session that was lost, which the server takes for alive a little longer, or by a process that
        // starts and looks whether this one is.
        if session.is_some() {
            (self.session, self.silent_since) = (session, None);
        }
        Ok(())
    }

    fn look_after_file(&self, store: &Store) -> Result<(), StoreError> {
        match store.file() {
            Some(file) if number(file) != self.file => Err(unfit(
                format!("the SQLite file {} was moved, removed or replaced while it was in use", file.display()),
                "put it back with its -wal file, if it is to be had, and start this again; or restore it",
            )),
            _ => Ok(()),
        }
    }

    /// A new session, if it has the name's lock, and the name's newest incarnation.
    async fn ask_anew(&self, store: &Store) -> Result<(Option<sqlx::PgConnection>, Option<Uuid>), StoreError> {
        let Some(mut session) = store.session().await? else { return Ok((None, Some(self.incarnation))) };
        let locked = lock(&mut session, &self.name).await?;
        let newest = newest(&mut session, &self.name).await?;
        Ok((Some(session).filter(|_| locked), newest))
    }

    /// Gives the name back: nothing was left under it, so whoever takes it next need not look whether its bearer lives.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn leave(self, store: &Store) -> Result<(), StoreError> {
        let mut tx = store.begin().await?;
        exec!(tx, LEAVE, &self.name, self.incarnation, &self.owner)?;
        tx.commit().await
    }
}

/// Takes the lock of a name, for as long as the session lives; whether nobody else had it.
async fn lock(session: &mut sqlx::PgConnection, name: &str) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended('allclear ' || $1, 0))")
        .bind(name)
        .fetch_one(session)
        .await
        .map_err(|e| StoreError::failed("lock the node's name", e))
}

/// The newest incarnation under a name.
async fn newest(session: &mut sqlx::PgConnection, name: &str) -> Result<Option<Uuid>, StoreError> {
    sqlx::query_scalar(INCARNATION.postgres)
        .bind(name)
        .fetch_optional(session)
        .await
        .map_err(|e| StoreError::failed(INCARNATION.name, e))
}

/// Takes a name, unless its bearer lives.
async fn claim(session: &mut sqlx::PgConnection, name: &str) -> Result<bool, StoreError> {
    if !lock(session, name).await? {
        return Ok(false);
    }
    if newest(session, name).await?.is_none() {
        return Ok(true);
    }
    sqlx::query("SELECT pg_advisory_unlock(hashtextextended('allclear ' || $1, 0))")
        .bind(name)
        .execute(&mut *session)
        .await
        .map_err(|e| StoreError::failed("let go of the node's name", e))?;
    tokio::time::sleep(ALIVE).await;
    lock(session, name).await
}

fn taken(name: &str) -> StoreError {
    let what = format!("another process dispatches as node `{name}`");
    unfit(what, "stop it first, or give this one a `dispatch.node` of its own")
}

/// So many processes of one host at most are told apart by number.
const MOST_ON_A_HOST: u32 = 1_000;

/// Takes the right to dispatch under a name: the one given, or the one that this process had `before`, or the first of
/// `host`, `host-2`, `host-3`… that no running process has. Whoever starts again after the host's processes died takes one
/// of their names, and with it what that one left behind: best its own, whose spill file it has. SQLite has one dispatching
/// process whatever its name.
///
/// # Errors
/// When another process has the name given, or the database fails.
pub async fn take(store: &Store, given: Option<&str>, before: Option<&str>, host: &str) -> Result<Node, StoreError> {
    let lock = store.file().map(lock_file).transpose()?;
    let mut session = store.session().await?;
    let name = match &mut session {
        Some(session) => free_name(session, given, before, host).await?,
        None => given.unwrap_or(host).to_owned(),
    };
    let name = name.as_str();
    let incarnation = Uuid::now_v7();
    let mut tx = store.begin().await?;
    let now = tx.now();
    exec!(tx, TAKE_OVER, name, incarnation, now)?;
    tx.commit().await?;
    Ok(Node {
        owner: format!("{name}/{}", incarnation.simple()),
        name: name.to_owned(),
        incarnation,
        _lock: lock,
        file: store.file().and_then(number),
        session,
        silent_since: None,
    })
}

async fn free_name(
    session: &mut sqlx::PgConnection,
    given: Option<&str>,
    before: Option<&str>,
    host: &str,
) -> Result<String, StoreError> {
    let Some(given) = given else {
        let names = (1..=MOST_ON_A_HOST).map(|n| if n == 1 { host.to_owned() } else { format!("{host}-{n}") });
        let own = names.clone().find(|name| Some(name.as_str()) == before);
        for name in own.into_iter().chain(names) {
            if claim(session, &name).await? {
                return Ok(name);
            }
        }
        return Err(taken(host));
    };
    if claim(session, given).await? { Ok(given.to_owned()) } else { Err(taken(given)) }
}

/// What tells the file at a path from any other, if there is one.
#[cfg(unix)]
fn number(file: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(file).ok().map(|found| (found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn number(_: &Path) -> Option<(u64, u64)> {
    None
}

fn lock_file(database: &Path) -> Result<File, StoreError> {
    // Whatever it is called here, it is one file.
    let mut path = std::fs::canonicalize(database).unwrap_or_else(|_| database.to_owned()).into_os_string();
    path.push(".dispatch.lock");
    let folder = "check that this user may write the folder";
    let file = File::create(&path).map_err(|e| unfit(format!("{} cannot be made: {e}", path.display()), folder))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(unfit(
            format!("another process dispatches from {}", database.display()),
            "stop it first: an SQLite database has one dispatching process, PostgreSQL may have several",
        )),
        Err(TryLockError::Error(e)) => Err(unfit(format!("{} cannot be locked: {e}", path.display()), folder)),
    }
}
