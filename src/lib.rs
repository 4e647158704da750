//! A threaded TCP server by handler objects: what Python's `socketserver` is to Python.
//!
//! One idle thread of the server waits for the next client, accepts it, and serves it with a
//! [`RequestHandler`] of its own. You pass a factory; the server calls it once for each connection
//! to make a handler:
//!
//! ```no_run
//! use socketserver::{EchoHandler, TcpServer};
//!
//! fn main() -> Result<(), socketserver::Error> {
//!     TcpServer::bind("127.0.0.1:7007")?.serve_forever(EchoHandler::new)?;
//!     Ok(())
//! }
//! ```
//!
//! # A handler of your own
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use socketserver::{Connection, RequestHandler, TcpServer};
//! use std::io::{self, Read, Write};
//!
//! struct Upper;
//!
//! impl RequestHandler for Upper {
//!     fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
//!         let mut buffer = [0; 1024];
//!         loop {
//!             let n = conn.read(&mut buffer)?;
//!             if n == 0 {
//!                 return Ok(());
//!             }
//!             buffer[..n].make_ascii_uppercase();
//!             conn.write_all(&buffer[..n])?;
//!         }
//!     }
//! }
//!
//! let server = TcpServer::bind("127.0.0.1:0")?;
//! let addr = server.local_addr();
//! let handle = server.handle();
//! let serving = std::thread::spawn(move || server.serve_forever(|| Upper));
//!
//! let mut client = std::net::TcpStream::connect(addr)?;
//! client.write_all(b"shout")?;
//! let mut reply = [0; 5];
//! client.read_exact(&mut reply)?;
//! assert_eq!(&reply, b"SHOUT");
//!
//! handle.shutdown();
//! serving.join().expect("the server does not panic")?;
//! # Ok(())
//! # }
//! ```
//!
//! # A thread for the handler, a reactor for the rest
//!
//! A connection has its thread for as long as its handler runs. What remains is carried without
//! one: delivering the end of a reply, the FIN, waiting for the peer's own FIN. A handler that only
//! has to echo or to drop what still comes leaves that to the server, too, with
//! [`Connection::continue_with`]: [`EchoHandler`] is that one call. A *reactor*, one loop for
//! thousands of connections, does it all (`epoll(7)`). Such a connection takes less than 1 KiB.
//!
//! # Services
//!
//! The handlers that ship are those of the small services of the internet's first years:
//! [`EchoHandler`], [`DiscardHandler`], [`ChargenHandler`], [`TimeHandler`], and, with the feature
//! `daytime`, `DaytimeHandler`, whose lines `Daytime` reads.
//!
//! # Behind a proxy
//!
//! With the feature `proxy-protocol`, a proxy or a load balancer can pass on the addresses of its clients:
//! `Builder::proxy_protocol`.
//!
//! # What a server guarantees
//!
//! - A handler's error or panic ends its own connection and nothing else. For panics this needs
//!   `panic = "unwind"`, Cargo's default: with `panic = "abort"` each ends the process. A program can
//!   [insist](RequestHandler) on it.
//! - A connection is only accepted to be served by the thread that serves it. After a request to stop
//!   none is.
//! - No more than [`max_connections`](Builder::max_connections) are live at once; others wait in
//!   the kernel's backlog, unless they are to be rejected.
//! - A shortage of descriptors or threads, or of the kernel's memory for either, loses no client,
//!   and ends by itself. (Out of memory of its own, a Rust program aborts.)
//! - [`ServerHandle::shutdown`] works from any thread, at any time, and never blocks.
//! - What a peer received is an exact prefix of what was written to it, however it ends.
//!
//! # Monitoring
//!
//! [`ServerHandle::status`] is a snapshot of what a server does: how many connections are live, with a
//! handler or without a thread, how many have ended and why, bytes, threads, limits, shortages.
//! [`ServerHandle::connections`] has each connection, with its peer, its age, its bytes and its [`Stage`].
//! The daemon `echod` makes Prometheus' metrics of the first, and a list for operators of the second.
//!
//! # Logging
//!
//! What the [`log`] facade gets:
//!
//! | level | event |
//! | --- | --- |
//! | error | a handler or a hook panics, unless that is passed to the error hook |
//! | error | a listener becomes unusable, which ends the server |
//! | warn | descriptors, threads or memory are short: once per episode |
//! | warn | the limit of connections is reached, with the sources that have the most: once per episode |
//! | warn | a source reaches the limit per source: once per episode, for all sources |
//! | warn | a handler returns an error, if there is no error hook: once per episode, with how many did before |
//! | warn | a source that is trusted to send a PROXY header sends something else: once per episode, with how many did before |
//! | warn | a stop aborts connections that lose something by it, with some of their peers |
//! | info | the server listens on an address |
//! | info | a limit has not been reached for 10 s, which ends its episode |
//! | info | a stop begins to drain connections, or aborts some that lose nothing by it |
//! | info | the server has stopped, with its totals |
//! | debug | a connection has ended, or was rejected: peer, bytes, seconds, and the reason |
//! | debug | a connection that must begin with a PROXY header does not: what came instead |
//! | debug | a handler returns an error that is no routine one of a network, if there is no error hook |
//!
//! Nothing is logged for a message. The seconds of a connection count from `accept(2)` to
//! `close(2)`, so they include the lingering close. What is counted is in the text, as `name=value`,
//! and also in the record's key-value pairs ([`log::kv`]).

// Without `epoll(7)` each connection keeps its thread, and what only a reactor uses has no caller.
#![cfg_attr(
    not(any(target_os = "linux", target_os = "android")),
    allow(dead_code, unused_imports, unused_variables)
)]

mod accept;
mod catch;
mod connection;
mod error;
mod hand_over;
#[cfg(feature = "proxy-protocol")]
mod proxy_protocol;
mod reactor;
mod semaphore;
mod server;
mod services;
mod state;
mod sync;
mod thread_limit;
mod wake;
mod warn_once;
mod worker;

pub use accept::AtLimit;
// The aliases of what is exported here are here, too. rustdoc 1.95 forgets those of an item that is
// re-exported from a private module (rust-lang/rust#152939).
#[doc(alias("BufReader", "lines", "read_line", "read_until", "take"))]
#[doc(alias("utf8", "from_utf8", "InvalidData", "E0382", "E0499", "E0502", "E0596"))]
#[doc(alias("Send", "Sync", "scope", "split", "E0521", "rfile", "wfile"))]
pub use connection::Connection;
pub use connection::rest::Rest;
pub use connection::wait::Wait;
pub use error::Error;
#[cfg(feature = "proxy-protocol")]
pub use proxy_protocol::network::{Network, NetworkError};
#[doc(alias("TCPServer", "ThreadingTCPServer", "ThreadingMixIn"))]
pub use server::TcpServer;
pub use server::builder::Builder;
pub use server::running::RunningServer;
pub use services::{ChargenHandler, DiscardHandler, EchoHandler, TimeHandler};
#[cfg(feature = "daytime")]
pub use services::{Daytime, DaytimeError, DaytimeFormat, DaytimeHandler, LeapSecond};
pub use state::close_reason::CloseReason;
pub use state::closed::ClosedConnection;
pub use state::connection_handle::ConnectionHandle;
pub use state::handle::ServerHandle;
pub use state::resource::Resource;
pub use state::stage::Stage;
pub use state::status::ServerStatus;
pub use state::totals::Totals;
#[doc(alias("BaseRequestHandler", "StreamRequestHandler"))]
#[doc(alias("abort", "catch_unwind", "panic", "unwind"))]
pub use worker::handler::RequestHandler;
#[doc(alias(
    "Arc", "Fn", "FnMut", "Mutex", "atomic", "closure", "move", "E0373", "E0594"
))]
pub use worker::handler::from_fn;
pub use worker::handler::{FnHandler, HandlerError};

/// Compiles the snippets of the pages.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../examples/python.md")]
struct Pages;
