//! The folders that are written to: there, writable, and with space.

use super::finding::{Finding, fail, ok, warn};
use crate::config::{Config, Relay};
use std::fs::{self, File};
use std::io;
use std::path::Path;

const MIB: u64 = 1 << 20;
const SCARCE: u64 = 1024 * MIB;
const TOO_LITTLE: u64 = 100 * MIB;

pub(super) fn look(config: &Config, database: Option<&Path>) -> Vec<Finding> {
    let spill = &config.dispatch.spill_file;
    let mut places: Vec<(&str, &Path)> = database.map(|file| ("the database", folder_of(file))).into_iter().collect();
    places.push(("the spill file", folder_of(spill)));
    for relay in config.relays.values() {
        if let Relay::Maildir(path) = relay {
            // `serve` makes this one itself.
            places.push(("mails", path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."))));
        }
    }
    let mut found = space(&places);
    found.extend(spilled(spill));
    found.extend(database.and_then(read_only));
    found
}

/// Each folder once, with all it is for.
pub(super) fn space(places: &[(&str, &Path)]) -> Vec<Finding> {
    let mut folders: Vec<(&Path, Vec<&str>)> = Vec::new();
    for (what, folder) in places {
        match folders.iter_mut().find(|(known, _)| known == folder) {
            Some((_, uses)) => uses.push(what),
            None => folders.push((folder, vec![what])),
        }
    }
    folders.iter().map(|(folder, uses)| look_at(folder, &uses.join(", "))).collect()
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn look_at(folder: &Path, uses: &str) -> Finding {
    let name = format!("the folder {} ({uses})", folder.display());
    if let Err(e) = try_write(folder) {
        let hint = "make it, and let the user of `allclear serve` write it; give it space if it is full";
        return fail(format!("{name} cannot be written: {e}"), hint);
    }
    match free(folder) {
        Ok(free) => judge(&name, free),
        Err(e) => warn(format!("{name}: its free space cannot be read: {e}"), "look at it yourself"),
    }
}

fn judge(name: &str, free: u64) -> Finding {
    let what = format!("{name} can be written, {} MiB are free", free / MIB);
    let hint = "free some space, or move it to a larger disk: nothing can be taken in, or recorded, on a full one";
    match free {
        SCARCE.. => ok(what),
        TOO_LITTLE.. => warn(what, hint),
        _ => fail(what, hint),
    }
}

/// Permissions do not tell everything (read-only mounts, quotas, a full disk): writing does.
fn try_write(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".allclear-doctor-{}", uuid::Uuid::now_v7().simple()));
    let written = File::create_new(&path).and_then(|mut file| io::Write::write_all(&mut file, b"doctor\n"));
    let removed = if path.exists() { fs::remove_file(&path) } else { Ok(()) };
    written.and(removed)
}

#[cfg(unix)]
fn free(folder: &Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(folder)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

#[cfg(not(unix))]
fn free(_: &Path) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Outcomes that wait to be recorded; the one being merged was set aside under another name.
fn spilled(spill: &Path) -> Option<Finding> {
    let files = [spill.to_path_buf(), spill.with_extension("merging")];
    let waiting = files.iter().find(|file| fs::metadata(file).is_ok_and(|file| file.len() > 0))?;
    Some(warn(
        format!("{} holds what became of mails while the database was away", waiting.display()),
        "`allclear serve` records it when it starts, or once the database is back; do not delete it",
    ))
}

/// A database that can be read but not written.
fn read_only(file: &Path) -> Option<Finding> {
    let error = File::options().write(true).open(file).err().filter(|e| e.kind() != io::ErrorKind::NotFound)?;
    Some(fail(format!("{} cannot be written: {error}", file.display()), "let the user of `allclear serve` write it"))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn little_space_is_a_warning_and_less_a_failure() {
        for (free, level) in [(SCARCE, Level::Ok), (SCARCE - 1, Level::Warn), (TOO_LITTLE - 1, Level::Fail)] {
            assert_eq!(judge("x", free).level, level);
        }
    }

    #[test]
    fn a_folder_is_named_once_and_a_missing_one_fails() {
        let folder = tempfile::tempdir().unwrap();
        let found = space(&[("a", folder.path()), ("b", folder.path()), ("c", &folder.path().join("nowhere"))]);
        assert_eq!(found.len(), 2);
        assert!(found[0].what.contains("(a, b)") && found[1].level == Level::Fail, "{found:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "the try is cleaned up");
    }
}
