//! The `allclear` program.

fn main() -> std::process::ExitCode {
    allclear::cli::main(|config| Box::pin(async move { Ok(allclear::app::serve(&config).await?) }))
}
