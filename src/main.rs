//! The `allclear` program.

fn main() -> std::process::ExitCode {
    allclear::cli::main(|config| {
        Box::pin(async move { allclear::app::serve(&config).await.map_err(|e| (e.to_string(), e.hint())) })
    })
}
