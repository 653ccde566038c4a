//! `allclear audit`

use super::Context;
use super::failure::{FOUND_PROBLEMS, Failure};
use super::output::Table;
use crate::store::audit;

pub(super) async fn run(context: &Context) -> Result<u8, Failure> {
    let store = context.store().await?;
    let mut tx = store.read().await?;
    let findings = audit::run_within(&mut tx, |class| context.config.limits(class)).await?;
    context.answer(&findings, || {
        if findings.is_empty() {
            return "every promise holds\n".to_owned();
        }
        let mut table = Table::new(&["check", "subject", "what is wrong"]);
        for f in &findings {
            table.row([f.check.to_owned(), f.subject.clone(), f.detail.clone()]);
        }
        table.to_string()
    })?;
    if findings.is_empty() {
        return Ok(0);
    }
    eprintln!("error: {} promises are broken", findings.len());
    eprintln!("hint: `allclear show ID` says more of each subject");
    Ok(FOUND_PROBLEMS)
}
