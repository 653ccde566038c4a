//! What several benches need: a database of their own, and the product as it runs.

pub mod place;
pub mod product;

use std::error::Error;

pub type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The value after a name among the arguments.
pub fn given<'a>(args: &'a [String], name: &str) -> Option<&'a str> {
    args.iter().position(|a| a == name).and_then(|at| args.get(at + 1)).map(String::as_str)
}

/// What is parted by commas.
pub fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

/// The databases that `--databases` names, or all there are.
pub fn databases(args: &[String]) -> Vec<String> {
    match (given(args, "--databases"), std::env::var("ALLCLEAR_TEST_POSTGRES")) {
        (Some(named), _) => list(named),
        (None, Ok(_)) => list("sqlite,postgres"),
        (None, Err(_)) => {
            println!("PostgreSQL is left out: ALLCLEAR_TEST_POSTGRES names no server");
            list("sqlite")
        }
    }
}

/// The most memory this process ever had, in KiB.
pub fn peak() -> Fallible<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
