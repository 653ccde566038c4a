//! STUB: written elsewhere.

use super::failure::Failure;

/// Runs the demo.
///
/// # Errors
/// Always: it is a stub.
pub async fn run(_args: &Args) -> Result<u8, Failure> {
    Err(Failure::new(1, "the demo is not built in this tree", "take the tree that has it"))
}

/// `allclear demo`
#[derive(clap::Args, Debug)]
pub struct Args {}
