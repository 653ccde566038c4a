//! `allclear migrate`

use super::Context;
use super::failure::Failure;

/// Opening brings the schema up to date; this command does only that.
pub(super) async fn run(context: &Context) -> Result<u8, Failure> {
    let store = context.store_or_new().await?;
    let kind = store.kind();
    context.answer(&serde_json::json!({ "database": kind }), || format!("the {kind} database is up to date\n"))?;
    Ok(0)
}
