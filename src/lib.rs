//! A thread-per-connection TCP server library, modelled on Python's `socketserver`.
//!
//! You write a [`RequestHandler`], and pass a factory of handlers to a [`TcpServer`]. The server
//! calls the factory once for each connection. The thread that accepts a connection also runs its
//! handler:
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
//! A connection keeps its thread while its handler runs. Afterwards the server finishes the
//! connection without a thread: it delivers the end of the reply, sends a FIN, and waits for the
//! peer's own FIN. One *reactor*, a loop over `epoll(7)`, does this for thousands of connections.
//!
//! A handler that from now on would only echo or discard input can leave that to the reactor, too,
//! with [`Connection::continue_with`]. [`EchoHandler`] is that one call. A connection in a reactor
//! takes less than 1 KiB of the process's memory. A handler that returns at once needs no thread of its
//! own either: see [`RequestHandler::never_blocks`].
//!
//! # Services
//!
//! The library has handlers for five small TCP services: [`EchoHandler`] (RFC 862), [`DiscardHandler`]
//! (RFC 863), [`ChargenHandler`] (RFC 864), [`TimeHandler`] (RFC 868) and, with the feature `daytime`,
//! `DaytimeHandler` (RFC 867). `Daytime` parses the lines that a daytime server sends.
//!
//! # Behind a proxy
//!
//! A proxy or a load balancer can pass on the addresses of its clients by the PROXY protocol. With the
//! feature `proxy-protocol` the server reads them: see `Builder::proxy_protocol`.
//!
//! # What a server guarantees
//!
//! - A handler's error or panic ends its own connection and nothing else. For panics this needs
//!   `panic = "unwind"`, Cargo's default. With `panic = "abort"` one panic ends the process. A program
//!   can [refuse to compile](RequestHandler) without unwinding.
//! - The server never queues accepted connections: the thread that accepts a connection serves it. After
//!   [`shutdown`](ServerHandle::shutdown) has returned, the server accepts no connection.
//! - At most [`max_connections`](Builder::max_connections) connections are live at once. Further clients
//!   wait in the kernel's [backlog](Builder::backlog), or are [rejected](AtLimit).
//! - During a shortage of descriptors, threads or kernel memory the server keeps its connections, and
//!   new clients wait in the backlog. The server accepts them by itself once the shortage is over. (If
//!   the process itself can't allocate memory, Rust aborts it.)
//! - [`ServerHandle::shutdown`] works from any thread, at any time, and never blocks.
//! - What a peer has received is always an exact prefix of what was written to it, whatever ended the
//!   connection.
//!
//! # Monitoring
//!
//! [`ServerHandle::status`] returns a snapshot: live connections by [`Stage`], ended ones by
//! [`CloseReason`], bytes, threads, limits and shortages. [`ServerHandle::connections`] lists the live
//! connections, each with its peer, age, bytes and stage. The daemon `echod` turns the snapshot into
//! metrics for Prometheus, and the list into a report for operators.
//!
//! # Logging
//!
//! The library logs through the [`log`] facade. An *episode* of a repeated event ends when the event has
//! not occurred for 10 s. A warning marked *once per episode* is logged at the first occurrence.
//!
//! | level | event |
//! | --- | --- |
//! | error | a handler or a hook panics, except if the error hook receives the panic |
//! | error | a listener becomes unusable, or the server can't go on for another reason; the server ends |
//! | error | a reactor or the leader panics on a connection, which is a bug of this library; the connection is closed |
//! | warn | descriptors, threads or kernel memory are short, or `accept(2)` fails for another [reason that may pass](Resource::Other): once per episode |
//! | warn | the limit of connections is reached, with up to 3 sources that have the most: once per episode |
//! | warn | a source reaches the limit per source: once per episode of all sources |
//! | warn | a handler returns an error, and there is no error hook: once per episode, with the number of errors since the last warning |
//! | warn | a trusted proxy sends no valid PROXY header: once per episode, with the number of errors since the last warning |
//! | warn | a stop aborts connections whose peers may lose data, with up to 8 of the peers |
//! | info | the server listens on an address |
//! | info | the episode of a limit ends |
//! | info | a stop begins to drain connections, or aborts only connections whose peers lose nothing |
//! | info | the server has stopped, with its totals |
//! | debug | a connection was accepted: number and addresses |
//! | debug | a connection has ended, or was rejected: addresses, bytes, seconds and the [reason](CloseReason) |
//! | debug | a trusted proxy sends no valid PROXY header, and no warning is due |
//! | debug | a handler returns an error, there is no error hook, and no warning is due |
//!
//! Errors of the connection itself, such as a reset by the peer or a timeout, appear only as the reason
//! in the connection's line. Single reads and writes are not logged. The seconds of a connection run
//! from `accept(2)` to `close(2)`, so they include the lingering close. A line has its figures as
//! `name=value`, and its record has them as key-value pairs ([`log::kv`]).

// Without `epoll(7)` each connection keeps its thread, so the code for reactors has no caller.
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
// The aliases stand here, at the re-exports, because rustdoc 1.95 drops the aliases of an item that is
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
