//! `allclear key`

use super::failure::{CONFLICT, Failure, NOT_FOUND, USAGE};
use super::output::{Table, or_dash};
use super::{Context, who};
use crate::domain::key::Scope;
use crate::store::{journal, keys};

/// `allclear key`
#[derive(clap::Subcommand, Debug)]
pub(super) enum Args {
    /// Make a key; its token is shown once
    Create {
        /// Its name: the source of what is said with it
        name: String,
        /// What it allows; repeat for more
        #[arg(long = "scope", required = true)]
        scopes: Vec<Scope>,
    },
    /// List the keys
    List,
    /// Revoke a key at once
    Revoke {
        /// Its name
        name: String,
    },
}

pub(super) async fn run(context: &Context, args: Args) -> Result<u8, Failure> {
    let creates = matches!(args, Args::Create { .. });
    let store = if creates { context.store_or_new().await? } else { context.store().await? };
    let mut tx = if matches!(args, Args::List) { store.read().await? } else { store.begin().await? };
    match args {
        Args::Create { name, scopes } => {
            if name.is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) || name == "cli" {
                let hint = "give the source's name, like `statuspage`; `cli` is taken by this program";
                return Err(Failure::new(USAGE, "the name is empty, too long, taken, or has control characters", hint));
            }
            let token = keys::create(&mut tx, &name, &scopes).await.map_err(|e| {
                if e.is_conflict() {
                    Failure::new(
                        CONFLICT,
                        format!("there is or was a key `{name}`"),
                        "take another name, like `statuspage-2`",
                    )
                } else {
                    e.into()
                }
            })?;
            let given: Vec<_> = scopes.iter().map(|s| s.as_str()).collect();
            journal::append(&mut tx, &who(), "create_key", &name, &given.join(", ")).await?;
            tx.commit().await?;
            eprintln!("keep it now: the token cannot be shown again");
            context.answer(&serde_json::json!({ "name": name, "scopes": scopes, "token": token }), || {
                format!("{token}\n")
            })?;
        }
        Args::List => {
            let keys = keys::list(&mut tx).await?;
            context.answer(&keys, || {
                let mut table = Table::new(&["name", "scopes", "created", "revoked"]);
                for key in &keys {
                    let scopes: Vec<_> = key.scopes.iter().map(|s| s.as_str()).collect();
                    table.row([
                        key.name.clone(),
                        scopes.join(","),
                        key.created_at.to_string(),
                        or_dash(key.revoked_at),
                    ]);
                }
                table.to_string()
            })?;
        }
        Args::Revoke { name } => {
            if !keys::revoke(&mut tx, &name).await? {
                let what = format!("no key `{name}` is in use");
                return Err(Failure::new(NOT_FOUND, what, "see `allclear key list`"));
            }
            journal::append(&mut tx, &who(), "revoke_key", &name, "").await?;
            tx.commit().await?;
            context.answer(&serde_json::json!({ "name": name, "revoked": true }), || format!("revoked {name}\n"))?;
        }
    }
    Ok(0)
}
