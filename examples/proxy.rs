//! A TCP proxy: connects each client to another server, the upstream, and moves bytes both ways.
//!
//! ```sh
//! cargo run                   # the upstream: echod
//! cargo run --example proxy -- 127.0.0.1:7007 127.0.0.1:7008   # in another terminal
//! nc 127.0.0.1 7008           # in a third one
//! ```
//!
//! The two directions end separately, so each has a thread: a FIN from one side becomes a FIN to the
//! other, and the opposite direction goes on. A failure of one side becomes a reset of the other,
//! because a FIN would tell that side that the stream is complete.

#[path = "support/serve.rs"]
mod serve;
mod support;

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use log::warn;
use socketserver::{Connection, RequestHandler, TcpServer};

/// Time limit for a write to a side that does not read.
const STALL: Duration = Duration::from_secs(60);
/// When the proxy stops, it waits for an upstream that has been silent for at most this long.
const GRACE: Duration = Duration::from_secs(2);
/// How often a thread that waits for the upstream checks whether the proxy stops.
const TICK: Duration = Duration::from_secs(1);

/// The most bytes that a thread moves at once.
const BUFFER: usize = 64 * 1024;

struct Proxy {
    upstream: String,
    /// The proxy closes both sides when neither has sent anything for this long.
    idle: Duration,
}

impl RequestHandler for Proxy {
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        let name = &*self.upstream;
        match support::resolve(name).and_then(|addrs| support::connect(&addrs)) {
            Ok(upstream) => Relay::new(conn, upstream, self.idle)?.run(),
            Err(error) => {
                warn!("peer={} upstream {name}: {error}", conn.peer_addr());
                conn.abort();
                Ok(())
            }
        }
    }
}

/// A client, and its connection to the upstream.
struct Relay<'c> {
    client: &'c Connection,
    upstream: TcpStream,
    idle: Duration,
    /// Whether the proxy sends a FIN to the upstream, because the client has sent everything.
    is_uploaded: AtomicBool,
    /// Whether the proxy sends a FIN to the client, because the upstream has sent everything.
    is_downloaded: AtomicBool,
    failed: Once,
}

impl<'c> Relay<'c> {
    fn new(client: &'c Connection, upstream: TcpStream, idle: Duration) -> io::Result<Self> {
        upstream.set_nodelay(true)?;
        upstream.set_read_timeout(Some(TICK))?;
        upstream.set_write_timeout(Some(STALL))?;
        Ok(Self {
            client,
            upstream,
            idle,
            is_uploaded: AtomicBool::new(false),
            is_downloaded: AtomicBool::new(false),
            failed: Once::new(),
        })
    }

    fn run(&self) -> io::Result<()> {
        thread::scope(|scope| {
            thread::Builder::new().spawn_scoped(scope, || self.upload())?;
            self.download();
            Ok(())
        })
    }

    /// Moves bytes from the client to the upstream.
    fn upload(&self) {
        let mut client = self.client;
        let mut buffer = vec![0; BUFFER];
        let end = loop {
            match client.read(&mut buffer) {
                Ok(0) if is_reset(client.stream(), &self.is_downloaded) => return self.fail(None),
                Ok(0) => break Shutdown::Write,
                Ok(n) => {
                    if let Err(error) = (&self.upstream).write_all(&buffer[..n]) {
                        return self.fail(Some(error));
                    }
                }
                // The idle timeout. Shutting down both directions also ends `download`.
                Err(error) if error.kind() == ErrorKind::TimedOut => break Shutdown::Both,
                Err(_) => return self.fail(None),
            }
        };
        // Set the flag before the FIN goes out, because `is_reset` in `download` relies on this order.
        self.is_uploaded.store(true, Ordering::SeqCst);
        // This fails if the upstream has reset the connection. `download` finds that out.
        let _ = self.upstream.shutdown(end);
    }

    /// Moves bytes from the upstream to the client.
    fn download(&self) {
        let mut client = self.client;
        let mut buffer = vec![0; BUFFER];
        let mut since = Instant::now();
        loop {
            match (&self.upstream).read(&mut buffer) {
                Ok(0) if is_reset(&self.upstream, &self.is_uploaded) => {
                    return self.fail(Some(ErrorKind::ConnectionReset.into()));
                }
                Ok(0) => break,
                Ok(n) => {
                    if client.write_all(&buffer[..n]).is_err() {
                        return self.fail(None);
                    }
                    since = Instant::now();
                }
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    return self.fail(Some(error));
                }
                // As long as `upload` reads, the client's connection has the idle timeout.
                Err(_) if !self.is_uploaded.load(Ordering::SeqCst) => since = Instant::now(),
                Err(_) if client.is_closing() && since.elapsed() >= GRACE => break,
                Err(_) if since.elapsed() >= self.idle => break,
                Err(_) => {}
            }
        }
        self.is_downloaded.store(true, Ordering::SeqCst);
        // This fails if the client has reset the connection. `upload` finds that out.
        let _ = client.shutdown_write();
    }

    /// Resets both sides, which also wakes the other thread. Logs `error`, an error of the upstream.
    fn fail(&self, error: Option<io::Error>) {
        // The other thread then fails, too, but only because of the first failure.
        self.failed.call_once(|| {
            if let Some(error) = error {
                warn!("peer={} upstream: {error}", self.client.peer_addr());
            }
            // If the client has reset the connection itself, don't count that as an abort by the server.
            if self.client.stream().peer_addr().is_ok() {
                self.client.abort();
            }
            // On Linux this sends a RST (`connect(2)`, `AF_UNSPEC`).
            if rustix::net::connect_unspec(&self.upstream).is_err() {
                let _ = self.upstream.shutdown(Shutdown::Both);
            }
        });
    }
}

/// Returns whether an end of file was a reset, whose error the other thread has read.
///
/// A socket reports its error once. After that, a read returns an end of file. After a reset the socket
/// has no peer any more (`getpeername(2)`). It has none either after a FIN in both directions, so `has_fin`
/// says whether this program has sent a FIN.
fn is_reset(stream: &TcpStream, has_fin: &AtomicBool) -> bool {
    stream.peer_addr().is_err() && !has_fin.load(Ordering::SeqCst)
}

fn main() -> Result<(), Box<dyn Error>> {
    let upstream = support::argument(1, "127.0.0.1:7007");
    let addr = support::argument(2, "127.0.0.1:7008");
    let idle = Duration::from_secs(support::argument(3, "60").parse()?);
    let builder = TcpServer::builder()
        .idle_timeout(idle)
        // Otherwise a long download would be idle.
        .output_is_activity(true)
        .write_timeout(STALL);
    serve::serve(builder, &addr, move || Proxy {
        upstream: upstream.clone(),
        idle,
    })
}
