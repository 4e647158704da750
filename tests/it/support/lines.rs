use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex};

use log::{LevelFilter, Log, Metadata, Record};
use socketserver::{Builder, TcpServer};

use super::eventually;

/// The log lines of the connections of each server in this process, by the name of the server.
static ALL: LazyLock<Mutex<HashMap<String, Vec<String>>>> = LazyLock::new(Mutex::default);

/// The log lines of the connections of one server.
pub(crate) struct Lines {
    server: String,
}

/// Returns a builder for a server with a name of its own, and the log lines of its connections.
pub(crate) fn logged() -> (Builder, Lines) {
    static SERVERS: AtomicU32 = AtomicU32::new(0);
    // This fails if another test has already set the logger.
    let _ = log::set_logger(&Keeper);
    log::set_max_level(LevelFilter::Debug);
    let server = format!("server-{}", SERVERS.fetch_add(1, Ordering::Relaxed));
    (TcpServer::builder().name(&server), Lines { server })
}

impl Lines {
    /// Returns the lines so far.
    pub(crate) fn all(&self) -> Vec<String> {
        let all = ALL.lock().unwrap();
        all.get(&self.server).cloned().unwrap_or_default()
    }

    /// Waits for the end of the connection with this peer, and returns its log line.
    pub(crate) fn of(&self, peer: SocketAddr) -> String {
        let peer = peer.to_string();
        let mut line = None;
        eventually("the line of the connection", || {
            let mut all = self.all().into_iter();
            line = all.find(|line| field(line, "peer") == Some(&peer));
            line.is_some()
        });
        line.unwrap()
    }

    /// Waits for the end of the connection with this client, and returns the reason.
    pub(crate) fn reason(&self, client: &TcpStream) -> String {
        self.reason_of(client.local_addr().unwrap())
    }

    /// Closes the client, waits for the end of its connection, and returns the reason.
    pub(crate) fn reason_after(&self, client: TcpStream) -> String {
        let peer = client.local_addr().unwrap();
        drop(client);
        self.reason_of(peer)
    }

    fn reason_of(&self, peer: SocketAddr) -> String {
        field(&self.of(peer), "reason").unwrap().to_owned()
    }
}

/// Returns the value of `name=value` in a line.
pub(crate) fn field<'l>(line: &'l str, name: &str) -> Option<&'l str> {
    line.split_whitespace()
        .filter_map(|word| word.split_once('='))
        .find_map(|(other, value)| (other == name).then_some(value))
}

/// The logger of this process.
struct Keeper;

impl Log for Keeper {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = record.args().to_string();
        if line.contains(" reason=")
            && let Some(server) = field(&line, "service")
        {
            let mut all = ALL.lock().unwrap();
            all.entry(server.to_owned()).or_default().push(line);
        }
    }

    fn flush(&self) {}
}
