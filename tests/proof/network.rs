//! Nodes on hosts of their own: network namespaces, joined by a bridge to PostgreSQL and the relay. They share the work
//! without configuration. One is killed, one is cut off and comes back, one joins: nothing is lost, stale or said twice.

use crate::amount::{amount, random};
use crate::cluster::Cluster;
use crate::load::{self, Running, SLOTS};
use crate::site::{Node, Site, until};
use crate::verdict::judge;
use allclear::mail::sink::{Script, Sink};
use allclear::store::open::Connections;
use allclear::store::{Clock, Store};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// Where the forwarder of a host leads to; only set for the forwarder.
const FORWARD_TO: &str = "ALLCLEAR_TEST_FORWARD_TO";
/// Where a node finds the relay on its own host: what is sent further must be encrypted, and the sink cannot do that.
const RELAY: u16 = 2525;
/// A lease is 4 s, see [`crate::site`].
const LONGER_THAN_A_LEASE: Duration = Duration::from_secs(6);

fn ip(args: &str) -> Result<(), String> {
    let said = Command::new("ip").args(args.split(' ')).output().map_err(|e| format!("ip (Debian: iproute2): {e}"))?;
    let words = String::from_utf8_lossy(&said.stderr).trim().to_owned();
    said.status.success().then_some(()).ok_or(format!("ip {args}: {words}"))
}

/// A bridge of this machine, and the hosts on it. Dropped, all of it is gone.
struct Network {
    name: String,
    subnet: String,
    hosts: Vec<Host>,
}

/// A network namespace, with the forwarder that stands for the relay in it.
struct Host {
    name: String,
    forwarder: std::process::Child,
}

impl Network {
    /// Fails where namespaces or links cannot be made.
    fn new() -> Result<Self, String> {
        let id = std::process::id();
        let subnet = format!("10.{}.{}", 128 + id % 100, id / 100 % 250);
        let network = Self { name: format!("ac{}", id % 100_000), subnet, hosts: Vec::new() };
        ip(&format!("link add {} type bridge", network.name))?;
        ip(&format!("addr add {}/24 dev {}", network.gateway(), network.name))?;
        ip(&format!("link set {} up", network.name))?;
        Ok(network)
    }

    fn gateway(&self) -> Ipv4Addr {
        format!("{}.1", self.subnet).parse().unwrap()
    }

    /// One more host; its relay is the one at this port of the bridge.
    fn add_host(&mut self, relay: u16) -> Result<(), String> {
        let (bridge, n) = (self.name.clone(), self.hosts.len());
        let name = format!("{bridge}h{n}");
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add {name} type veth peer name eth0 netns {name}"))?;
        ip(&format!("link set {name} master {bridge} up"))?;
        ip(&format!("-n {name} link set lo up"))?;
        ip(&format!("-n {name} addr add {}/24 dev eth0", self.address(n)))?;
        ip(&format!("-n {name} link set eth0 up"))?;
        let mut forwarder = inside(&name, &std::env::current_exe().unwrap());
        forwarder.args(["--exact", "network::hosts_share_the_work_and_any_may_die_or_be_cut_off", "--nocapture"]);
        forwarder.env(FORWARD_TO, format!("{}:{relay}", self.gateway()));
        self.hosts.push(Host { name, forwarder: forwarder.spawn().map_err(|e| e.to_string())? });
        Ok(())
    }

    fn address(&self, host: usize) -> String {
        format!("{}.{}", self.subnet, 10 + host)
    }

    /// A node on a host, without a name of its own.
    async fn node(&self, site: &Site, host: usize) -> Node {
        let mut command = inside(&self.hosts[host].name, env!("CARGO_BIN_EXE_allclear").as_ref());
        command.arg("serve");
        site.equip(&format!("host{host}"), &mut command);
        command.env_remove("ALLCLEAR_DISPATCH__NODE").env("ALLCLEAR_HTTP__LISTEN", format!("{}:0", self.address(host)));
        // Else each would name its own address in its mails.
        command.env("ALLCLEAR_PAGE__PUBLIC_URL", "https://status.example.net");
        Node::start(command).await.expect("serve ended before it listened")
    }

    /// Pulls the cable, or plugs it in again.
    fn link(&self, host: usize, state: &str) {
        ip(&format!("link set {} {state}", self.hosts[host].name)).unwrap();
    }
}

fn inside(namespace: &str, program: &std::path::Path) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(program);
    command
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in &mut self.hosts {
            let _ = host.forwarder.kill();
            let _ = host.forwarder.wait();
            let _ = ip(&format!("netns del {}", host.name));
        }
        let _ = ip(&format!("link del {}", self.name));
    }
}

/// Stands for the relay on its host.
async fn forward(to: &str) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, RELAY)).await.unwrap();
    loop {
        let (mut here, _) = listener.accept().await.unwrap();
        let to = to.to_owned();
        tokio::spawn(async move {
            let mut there = TcpStream::connect(to).await?;
            copy_bidirectional(&mut here, &mut there).await
        });
    }
}

/// How many mails each node has handed over, by its name.
async fn shares(site: &Site) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for owner in site.texts("SELECT owner FROM attempt WHERE outcome = 'accepted'").await {
        *shares.entry(owner.rsplit_once('/').unwrap().0.to_owned()).or_default() += 1;
    }
    shares
}

/// Waits until nodes with these names have each handed over some more mails.
async fn all_work(site: &Site, names: &[&str]) {
    let before = shares(site).await;
    let more = |now: &BTreeMap<String, usize>, name: &str| {
        now.get(name).copied().unwrap_or(0) >= before.get(name).copied().unwrap_or(0) + 5
    };
    until(async || {
        let now = shares(site).await;
        names.iter().all(|name| more(&now, name))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_share_the_work_and_any_may_die_or_be_cut_off() {
    if let Ok(to) = std::env::var(FORWARD_TO) {
        return forward(&to).await;
    }
    let mut network = match Network::new() {
        Ok(network) => network,
        Err(missing) => return println!("not checked, for network namespaces need root and `ip`: {missing}"),
    };
    let mut random = random();
    // It hangs up on whoever is silent within a mail: what a cut-off node began must not arrive when it is back.
    let script = Script { patience: Some(Duration::from_secs(1)), ..Script::default() };
    let sink = Sink::start_at(network.gateway(), script).await.unwrap();
    let cluster = Cluster::start_at(&network.gateway().to_string(), &format!("{}.0/24", network.subnet));
    let store = Store::open(&cluster.url(), Connections::default(), Clock::Database).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let site = Arc::new(Site::with(store, folder, cluster.url(), RELAY, load::SETTINGS).await);
    for _ in 0..3 {
        network.add_host(sink.port()).unwrap();
    }
    let mut nodes = Vec::new();
    for host in 0..3 {
        nodes.push(network.node(&site, host).await);
    }
    let running = Running::start(&site, 24, &mut random).await;
    running.load.open(&nodes[0].address);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let names = [host.clone(), format!("{host}-2"), format!("{host}-3")];
    let [one, two, three] = names.each_ref().map(String::as_str);
    all_work(&site, &[one, two, three]).await;

    let rounds = amount(1, 20);
    for _ in 0..rounds {
        nodes.remove(1).kill();
        all_work(&site, &[one, three]).await;
        network.link(2, "down");
        let cut = Instant::now();
        until(async || cut.elapsed() > LONGER_THAN_A_LEASE).await;
        all_work(&site, &[one]).await;
        network.link(2, "up");
        all_work(&site, &[one, three]).await;
        // The one that joins takes the name that is free, and what its last bearer left.
        nodes.insert(1, network.node(&site, 1).await);
        all_work(&site, &[one, two, three]).await;
    }

    let ledger = running.end().await;
    let counts = judge(&site, &nodes[0], &sink, &ledger).await;
    println!("network: {rounds} killed, cut off and joined: {counts}; {:?}", shares(&site).await);
    assert!(counts.copies <= rounds * 2 * SLOTS, "{} copies", counts.copies);
}
