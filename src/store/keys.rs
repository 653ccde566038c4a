//! API keys: what is stored is the SHA-256 of a token with 256 random bits, so a stolen copy of the database
//! opens nothing. (A slow hash protects short passwords; against 256 bits nobody can guess anyway.)

use super::{StoreError, Tx};
use crate::domain::id::KeyId;
use crate::domain::key::Scope;
use crate::domain::time::Timestamp;
use rand::RngExt;
use serde::Serialize;
use sha2::{Digest, Sha256};

statements! {
    ADD_KEY = super::Sql::same("INSERT INTO api_key (id, name, hash, created_at) VALUES ($1, $2, $3, $4)");
    ADD_SCOPE = super::Sql::same("INSERT INTO api_key_scope (key_id, scope) VALUES ($1, $2) ON CONFLICT DO NOTHING");
    FIND_KEY = super::Sql::same(
        "SELECT k.id, k.name, k.created_at, k.revoked_at, s.scope FROM api_key k LEFT JOIN api_key_scope s ON s.key_id = k.id
         WHERE k.hash = $1 AND k.revoked_at IS NULL ORDER BY s.scope",
    );
    KEYS = super::Sql::same(
        "SELECT k.id, k.name, k.created_at, k.revoked_at, s.scope FROM api_key k LEFT JOIN api_key_scope s ON s.key_id = k.id
         ORDER BY k.id, s.scope",
    );
    REVOKE = super::Sql::same("UPDATE api_key SET revoked_at = $2 WHERE name = $1 AND revoked_at IS NULL");
}

const PREFIX: &str = "ack_";
const RANDOM: usize = 43;
const CHECK: usize = 4;

/// A key as far as it can be shown.
#[derive(Clone, Debug, Serialize)]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// Its name: the source of what is said with it.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// A key beside one of its scopes, if it has any.
#[derive(sqlx::FromRow)]
struct KeyRow {
    id: KeyId,
    name: String,
    created_at: Timestamp,
    revoked_at: Option<Timestamp>,
    scope: Option<Scope>,
}

/// Makes a key; the token is returned here and can never be read again.
///
/// # Errors
/// When the database fails, or the name is taken ([`StoreError::is_conflict`]).
pub async fn create(tx: &mut Tx, name: &str, scopes: &[Scope]) -> Result<String, StoreError> {
    let random = base64url(&rand::rng().random::<[u8; 32]>());
    let token = format!("{PREFIX}{random}{}", checksum(&random));
    let (id, now) = (KeyId::new(), tx.now());
    exec!(tx, ADD_KEY, id, name, hash(&token), now)?;
    for scope in scopes {
        exec!(tx, ADD_SCOPE, id, *scope)?;
    }
    Ok(token)
}

/// The key of a token, unless it is unknown or revoked.
///
/// # Errors
/// When the database fails.
pub async fn find(tx: &mut Tx, token: &str) -> Result<Option<Key>, StoreError> {
    if !well_formed(token) {
        return Ok(None);
    }
    Ok(with_scopes(rows!(tx, KeyRow, FIND_KEY, hash(token))?).pop())
}

/// All keys, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn list(tx: &mut Tx) -> Result<Vec<Key>, StoreError> {
    Ok(with_scopes(rows!(tx, KeyRow, KEYS)?))
}

/// Revokes a key by its name; `false` when there is none in use.
///
/// # Errors
/// When the database fails.
pub async fn revoke(tx: &mut Tx, name: &str) -> Result<bool, StoreError> {
    let now = tx.now();
    Ok(exec!(tx, REVOKE, name, now)? > 0)
}

fn with_scopes(rows: Vec<KeyRow>) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    for KeyRow { id, name, created_at, revoked_at, scope } in rows {
        match keys.last_mut() {
            Some(last) if last.id == id => last.scopes.extend(scope),
            _ => keys.push(Key { id, name, scopes: scope.into_iter().collect(), created_at, revoked_at }),
        }
    }
    keys
}

fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

/// The checksum tells a mistyped or cut token without asking the database, and lets scanners know a leaked one.
fn checksum(random: &str) -> String {
    base64url(&Sha256::digest(random.as_bytes())[..3])
}

fn well_formed(token: &str) -> bool {
    let Some(rest) = token.strip_prefix(PREFIX) else { return false };
    rest.len() == RANDOM + CHECK && rest.is_ascii() && checksum(&rest[..RANDOM]) == rest[RANDOM..]
}

/// RFC 4648 section 5, without padding.
fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            text.push(char::from(LETTERS[bits >> (18 - 6 * place) & 63]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing;

    #[test]
    fn base64url_is_that_of_rfc_4648() {
        for (bytes, text) in [("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg")] {
            assert_eq!(base64url(bytes.as_bytes()), text);
        }
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
    }

    #[tokio::test]
    async fn a_key_is_found_by_its_token_until_it_is_revoked() {
        let (_dir, store, _) = testing::store().await;
        let mut tx = store.begin().await.unwrap();
        let token = create(&mut tx, "page", &[Scope::Signal, Scope::Enqueue]).await.unwrap();
        assert_eq!(token.len(), 4 + 43 + 4);
        let key = find(&mut tx, &token).await.unwrap().unwrap();
        assert_eq!((key.name.as_str(), key.scopes), ("page", vec![Scope::Enqueue, Scope::Signal]));
        for wrong in [token.to_lowercase(), token[..50].to_owned(), "ack_".to_owned(), "é".repeat(20)] {
            assert!(find(&mut tx, &wrong).await.unwrap().is_none(), "{wrong}");
        }
        assert!(revoke(&mut tx, "page").await.unwrap());
        assert!(!revoke(&mut tx, "page").await.unwrap());
        assert!(find(&mut tx, &token).await.unwrap().is_none());
        assert_eq!(list(&mut tx).await.unwrap().len(), 1);
    }
}
