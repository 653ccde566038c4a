//! A panic, caught where it would end more than what met it: one mail's must not keep its neighbours back, and one
//! round's must not end a loop while the process goes on taking mail in.

use super::compose::ComposeError;
use futures_util::FutureExt;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Makes something of one mail; a panic is that mail's fault like any other.
pub(super) fn about_a_mail<T>(make: impl FnOnce() -> Result<T, ComposeError>) -> Result<T, ComposeError> {
    // What was half made is thrown away with the error.
    catch_unwind(AssertUnwindSafe(make))
        .unwrap_or_else(|panic| Err(ComposeError(format!("a fault of the program: {}", words(&*panic)))))
}

/// A round of a loop; the error is the panic's words. A transaction it was in has been rolled back, and what it had
/// claimed comes back when its lease ends.
///
/// # Errors
/// When the round panicked.
pub async fn round<T>(round: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(round).catch_unwind().await.map_err(|panic| words(&*panic))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without words").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_an_error_with_its_words() {
        let mail: Result<(), _> = about_a_mail(|| panic!("no {}", "luck"));
        assert_eq!(mail.unwrap_err().to_string(), "a fault of the program: no luck");
        assert_eq!(round(async { panic!("alas") }).await, Err::<(), _>("alas".to_owned()));
        assert_eq!(round(async { 1 }).await, Ok(1));
    }
}
