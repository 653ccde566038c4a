//! Somebody between us and the relay: hears everything, and may change what the relay says.

use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

pub struct Proxy {
    pub port: u16,
    /// What we wrote, one entry a read.
    heard: Heard,
}

impl Proxy {
    /// Stands before a port of this machine; `change` makes what we hear of what the relay said.
    pub async fn before(port: u16, change: fn(String) -> String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let heard = Heard::default();
        let all = heard.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (from_us, to_us) = client.into_split();
                let (from_relay, to_relay) = TcpStream::connect(("127.0.0.1", port)).await.unwrap().into_split();
                let heard = all.clone();
                tokio::spawn(pump(from_us, to_relay, move |bytes| {
                    heard.lock().unwrap().push(bytes.clone());
                    bytes
                }));
                tokio::spawn(pump(from_relay, to_us, move |bytes| match String::from_utf8(bytes) {
                    Ok(text) => change(text).into_bytes(),
                    Err(e) => e.into_bytes(),
                }));
            }
        });
        Self { port: own, heard }
    }

    /// What we wrote, over all connections, as often as the proxy read something.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, see: impl Fn(Vec<u8>) -> Vec<u8>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&see(buffer[..read].to_vec())).await.is_err() {
            return;
        }
    }
}
