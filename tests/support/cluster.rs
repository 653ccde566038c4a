//! A PostgreSQL server of a test's own, to be set as no server should be, and PgBouncer before it. Both refuse to
//! run as root; then an unprivileged user runs them.
#![allow(dead_code)]

use sqlx::{Connection, PgConnection};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub struct Cluster {
    folder: tempfile::TempDir,
    bin: PathBuf,
    pub port: u16,
    address: String,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.control(&["-m", "immediate", "stop"]).status();
    }
}

impl Cluster {
    pub fn start() -> Self {
        Self::start_in(&std::env::temp_dir())
    }

    /// With its data under a folder.
    pub fn start_in(folder: &Path) -> Self {
        Self::start_with(folder, "127.0.0.1", "")
    }

    /// At an address of this machine, for those who come from a network (`10.1.2.0/24`).
    pub fn start_at(address: &str, network: &str) -> Self {
        Self::start_with(&std::env::temp_dir(), address, &format!("host all all {network} trust\n"))
    }

    fn start_with(folder: &Path, address: &str, access: &str) -> Self {
        let folder = unprivileged_folder_in(folder);
        let mut cluster = Self { folder, bin: postgres_bin(), port: 0, address: address.to_owned() };
        let data = cluster.data();
        let mut initdb = unprivileged(&cluster.bin.join("initdb"), cluster.folder.path());
        initdb.args(["-U", "allclear", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "-D"]).arg(data);
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut file = std::fs::OpenOptions::new().append(true).open(cluster.data().join("pg_hba.conf")).unwrap();
        std::io::Write::write_all(&mut file, access.as_bytes()).unwrap();
        for _ in 0..5 {
            cluster.port = free_port();
            if cluster.control(&["start"]).status().unwrap().success() {
                return cluster;
            }
        }
        panic!("{}", std::fs::read_to_string(cluster.folder.path().join("log")).unwrap());
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// As a power cut would: nothing is finished, nothing is written any more.
    pub fn stop_at_once(&self) {
        let _ = self.control(&["-m", "immediate", "stop"]).status();
    }

    /// Up again, and whether it came up.
    pub fn start_again(&self) -> bool {
        self.control(&["start"]).status().unwrap().success()
    }

    fn control(&self, args: &[&str]) -> Command {
        let mut command = unprivileged(&self.bin.join("pg_ctl"), self.folder.path());
        let folder = self.folder.path().display();
        let (port, address) = (self.port, &self.address);
        let options = format!("-p {port} -c listen_addresses={address} -c unix_socket_directories={folder}");
        command.args(args).arg("-w").arg("-D").arg(self.data()).arg("-l").arg(self.folder.path().join("log"));
        command.arg("-o").arg(options).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Follows another server from now on; there is none, so it only waits.
    pub fn become_standby(&self) {
        std::fs::write(self.data().join("standby.signal"), "").unwrap();
        assert!(self.control(&["-m", "fast", "restart"]).status().unwrap().success());
    }

    pub fn url(&self) -> String {
        format!("postgres://allclear@{}:{}/postgres", self.address, self.port)
    }

    /// Runs statements, each in a transaction of its own.
    pub async fn run(&self, statements: &str) {
        let mut conn = PgConnection::connect(&self.url()).await.unwrap();
        for sql in statements.split(';') {
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut conn).await.unwrap();
        }
    }

    /// Sets a parameter of the server, or without a value its default, and waits until it is in force.
    pub async fn set(&self, name: &str, value: Option<&str>) {
        let mut conn = PgConnection::connect(&self.url()).await.unwrap();
        let before: String = show(&mut conn, name).await;
        let change = match value {
            Some(value) => format!("ALTER SYSTEM SET {name} = {value}"),
            None => format!("ALTER SYSTEM RESET {name}"),
        };
        self.run(&change).await;
        self.run("SELECT pg_reload_conf()").await;
        // The server that answers a new connection has read its configuration before.
        while show(&mut PgConnection::connect(&self.url()).await.unwrap(), name).await == before {}
    }
}

/// Runs a test once more, in a process of its own that sees a small disk where nobody else does. `Some`: this is that
/// process, and this its disk. Nothing is checked where this machine allows no mounts, and then the test says so.
pub fn small_disk(test: &str, megabytes: u32) -> Option<PathBuf> {
    const DISK: &str = "ALLCLEAR_TEST_SMALL_DISK";
    if let Some(disk) = std::env::var_os(DISK) {
        return Some(disk.into());
    }
    let folder = unprivileged_folder();
    let unshared = |script: &str| {
        let mut unshare = Command::new("unshare");
        if unprivileged_user().is_none() {
            unshare.arg("--map-root-user");
        }
        unshare.args(["--mount", "sh", "-c", script]).current_dir(folder.path());
        unshare
    };
    if !unshared("true").status().is_ok_and(|status| status.success()) {
        println!("not checked: this machine allows no mount namespaces");
        return None;
    }
    let script = format!("mount -t tmpfs -o size={megabytes}m,mode=777 none \"${DISK}\" && exec \"$0\" \"$@\"");
    let mut inside = unshared(&script);
    inside.arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]).env(DISK, folder.path());
    assert!(inside.status().unwrap().success());
    None
}

/// Takes all the room there is, to the last byte; removing the file gives it back.
pub fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("fill");
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
    for size in [1 << 20, 4 << 10, 1] {
        let block = vec![0; size];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
    }
    path
}

async fn show(conn: &mut PgConnection, name: &str) -> String {
    sqlx::query_scalar("SELECT current_setting($1)").bind(name).fetch_one(conn).await.unwrap()
}

pub struct Pooler {
    child: Child,
    _folder: tempfile::TempDir,
    pub port: u16,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pooler {
    /// PgBouncer before a server, with these lines of configuration.
    pub fn start(cluster: &Cluster, lines: &str) -> Self {
        let binary = found("pgbouncer").expect("pgbouncer is missing: install it (Debian: apt-get install pgbouncer)");
        let folder = unprivileged_folder();
        let port = free_port();
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=allclear\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nauth_type = any\nunix_socket_dir =\n{lines}\n",
            cluster.port
        );
        std::fs::write(folder.path().join("ini"), config).unwrap();
        let mut child = unprivileged(&binary, folder.path()).args(["-q", "ini"]).stderr(Stdio::null()).spawn().unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "pgbouncer ended");
            std::thread::yield_now();
        }
        Self { child, _folder: folder, port }
    }

    pub fn url(&self) -> String {
        format!("postgres://allclear@127.0.0.1:{}/postgres", self.port)
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The newest of Debian's, else what the path leads to.
fn postgres_bin() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let bins = versions.map(|entry| entry.unwrap().path().join("bin")).filter(|bin| bin.join("postgres").exists());
    let number = |bin: &PathBuf| bin.parent().unwrap().file_name().unwrap().to_str().unwrap().parse::<u32>().ok();
    let linked = || Some(found("initdb")?.canonicalize().unwrap().parent().unwrap().to_owned());
    bins.max_by_key(number).or_else(linked).expect("PostgreSQL's server is missing: install it (Debian: postgresql)")
}

fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(program)).find(|file| file.exists())
}

/// User and group for what must not run as root; nothing when the tests do not.
pub fn unprivileged_user() -> Option<(u32, u32)> {
    if std::fs::metadata("/proc/self").ok()?.uid() != 0 {
        return None;
    }
    let id = |flag| {
        let said = Command::new("id").args([flag, "nobody"]).output().unwrap().stdout;
        String::from_utf8(said).unwrap().trim().parse().unwrap()
    };
    Some((id("-u"), id("-g")))
}

pub fn unprivileged_folder() -> tempfile::TempDir {
    unprivileged_folder_in(&std::env::temp_dir())
}

fn unprivileged_folder_in(parent: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir_in(parent).unwrap();
    if let Some((user, group)) = unprivileged_user() {
        std::os::unix::fs::chown(folder.path(), Some(user), Some(group)).unwrap();
    }
    folder
}

/// A program in a folder, as the unprivileged user.
pub fn unprivileged(program: &Path, folder: &Path) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(program);
    command.current_dir(folder);
    if let Some((user, group)) = unprivileged_user() {
        command.uid(user).gid(group);
    }
    command
}
