//! How long a notice takes when there is nothing else to do: `serve` as its operators run it, from the first octet of
//! the request to the relay's having read the final dot. One after the other, each with a pause before it.

use crate::common::Fallible;
use crate::common::place::Place;
use allclear::mail::sink::{Script, Sink};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than a round takes, and no multiple of the poll.
const PAUSE: Duration = Duration::from_millis(37);

/// So many are not counted: the first ones open sessions and prepare statements.
const WARM: u64 = 20;

/// `allclear serve` in a folder of its own, at the end of which both are gone.
struct Served {
    child: Child,
    folder: PathBuf,
    address: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn command(place: &Place, folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_allclear"));
    command.args(args).current_dir(folder).env("ALLCLEAR_DATABASE__URL", &place.url).env("ALLCLEAR_LOG", "info");
    command
}

fn run(place: &Place, folder: &Path, args: &[&str]) -> Fallible<String> {
    let done = command(place, folder, args).env_remove("ALLCLEAR_LOG").output()?;
    if !done.status.success() {
        return Err(format!("{args:?}: {}", String::from_utf8_lossy(&done.stderr)).into());
    }
    Ok(String::from_utf8(done.stdout)?.trim().to_owned())
}

fn serve(place: &Place, port: u16) -> Fallible<Served> {
    let folder = std::env::temp_dir().join(format!("drain-idle-{}", uuid::Uuid::now_v7().simple()));
    std::fs::create_dir_all(&folder)?;
    let relay = format!("[relays.main]\ntransport = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n");
    let stream = "from = \"Example <status@example.com>\"\nrelay = \"main\"\n";
    let config = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n\n[mail]\ndomain = \"example.com\"\n\n{relay}\n\
         [streams.account]\n{stream}\n[streams.incidents]\n{stream}\n\
         [limits.free]\ndaily_mails = 0\n"
    );
    std::fs::write(folder.join("allclear.toml"), config)?;
    let mut child = command(place, &folder, &["serve"]).stderr(Stdio::piped()).spawn()?;
    let mut log = BufReader::new(child.stderr.take().ok_or("serve has no log")?);
    let mut served = Served { child, folder, address: String::new() };
    let mut line = String::new();
    while served.address.is_empty() {
        line.clear();
        if log.read_line(&mut line)? == 0 {
            return Err("serve ended before it listened".into());
        }
        if let Some((_, rest)) = line.split_once("http://") {
            served.address =
                rest.chars().take_while(|c| matches!(c, '.' | ':') || c.is_ascii_digit()).collect::<String>();
        }
    }
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    Ok(served)
}

/// The times of so many notices of one mail each, in milliseconds, the shortest first; the first few are left out.
pub fn notices(database: &str, count: u64) -> Fallible<Vec<f64>> {
    let place = Place::new("drain", database)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let sink = runtime.block_on(Sink::start(Script::counting()))?;
    let served = serve(&place, sink.port())?;
    run(&place, &served.folder, &["put", "subscriber", "ann", "--address", "ann@customer.example"])?;
    let key = run(&place, &served.folder, &["key", "create", "bench", "--scope", "enqueue"])?;
    let key = key.split_whitespace().find(|word| word.starts_with("ack_")).ok_or("no key was made")?;
    let mut times = Vec::new();
    for n in 1..=count + WARM {
        std::thread::sleep(PAUSE);
        let body = format!(r#"{{"kind":"free","subject":"News {n}","body":"Something.","recipients":["ann"]}}"#);
        let began = Instant::now();
        let answer = post(&served.address, key, &body)?;
        if !answer.starts_with("HTTP/1.1 202") {
            return Err(answer.into());
        }
        runtime.block_on(sink.wait_for(n));
        if n > WARM {
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn post(address: &str, key: &str, body: &str) -> Fallible<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let head = format!(
        "POST /v1/notices HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Authorization: Bearer {key}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
