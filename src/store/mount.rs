//! Which file system a file lies on. SQLite's locks and its shared memory do not work over a network: two machines
//! would each believe to be the only writer.

use std::path::{Path, PathBuf};

/// File systems whose files are also written by other machines, or by a host outside this one. Those of FUSE are
/// listed without their `fuse.`.
const NETWORK: [&str; 30] = [
    "9p",
    "afs",
    "afp",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "davfs",
    "fhgfs",
    "gcsfuse",
    "gfs2",
    "glusterfs",
    "gpfs",
    "juicefs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "orangefs",
    "prl_fs",
    "rclone",
    "s3fs",
    "smb3",
    "smbfs",
    "sshfs",
    "vboxsf",
    "virtiofs",
    "vmhgfs",
    "vmhgfs-fuse",
];

/// The network file system a file lies on, or will lie on once it is made: its type and where it is mounted.
/// Linux alone can tell.
pub(super) fn network_file_system(file: &Path) -> Option<(String, PathBuf)> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let real = file.canonicalize().or_else(|_| folder.canonicalize()).ok()?;
    mount_of(&text, &real).filter(|(kind, _)| NETWORK.contains(&kind.strip_prefix("fuse.").unwrap_or(kind)))
}

/// The type and the place of the mount that holds a path: the longest one, and of equal ones the last, which covers
/// those before. The fields are in proc(5).
fn mount_of(mountinfo: &str, path: &Path) -> Option<(String, PathBuf)> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (fields, rest) = line.split_once(" - ")?;
        let place = PathBuf::from(unescaped(fields.split(' ').nth(4)?));
        Some((rest.split(' ').next()?.to_owned(), place))
    });
    mounts.filter(|(_, place)| path.starts_with(place)).max_by_key(|(_, place)| place.as_os_str().len())
}

/// The kernel writes space, tab, line end and backslash as three octal digits.
fn unescaped(place: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(place.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:5 / /srv rw shared:2 - nfs4 server:/export rw,vers=4.2
24 23 254:1 / /srv/fast rw - xfs /dev/vdb rw
25 22 0:6 / /mnt/my\\040share rw - cifs //server/share rw
26 22 0:7 / /data rw - ext4 /dev/vdc rw
27 26 0:8 / /data rw master:1 propagate_from:2 - fuse.sshfs me@host: rw
";

    #[test]
    fn the_innermost_and_last_mount_counts() {
        for (path, kind) in [
            ("/var/lib/allclear.db", "ext4"),
            ("/srv/allclear.db", "nfs4"),
            ("/srvother/allclear.db", "ext4"),
            ("/srv/fast/deep/allclear.db", "xfs"),
            ("/mnt/my share/allclear.db", "cifs"),
            ("/data/allclear.db", "fuse.sshfs"),
        ] {
            assert_eq!(mount_of(MOUNTS, Path::new(path)).unwrap().0, kind, "{path}");
        }
        assert_eq!(mount_of("nonsense\n\n", Path::new("/")), None);
    }

    #[test]
    fn this_machines_own_folder_is_found() {
        if let Ok(text) = std::fs::read_to_string("/proc/self/mountinfo") {
            assert!(mount_of(&text, Path::new("/")).is_some(), "{text}");
        }
    }
}
