//! A server that speaks a part of Redis's protocol: PING, GET, SET, INCR and INCRBY.
//!
//! ```sh
//! cargo run --release --example redis            # serves 127.0.0.1:6379, or an address you add
//! redis-cli                                      # in another terminal
//! cargo run --release --example redis -- bench   # redis-benchmark against this and two others
//! ```
//!
//! `session.rs` is the handler, for any stream. This file runs the handler on the library. `bare.rs`, run
//! with `-- bare`, runs it on threads of the standard library.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

mod bare;
mod bench;
mod commands;
mod resp;
mod session;
mod store;

use std::env;
use std::error::Error;
use std::time::Duration;

use socketserver::{TcpServer, from_fn};
use store::Store;

/// The default address, which is also that of `redis-server`.
const ADDR: &str = "127.0.0.1:6379";

/// With the largest request (`resp.rs`), this bounds the memory that connections take.
const MAX_CONNECTIONS: usize = 1000;

/// The server closes a connection whose client has read no replies for this long.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

fn serve(addr: &str) -> Result<(), Box<dyn Error>> {
    let server = TcpServer::builder()
        .max_connections(MAX_CONNECTIONS)
        .write_timeout(WRITE_TIMEOUT)
        .bind(addr)?;
    let handle = server.handle();
    ctrlc::set_handler(move || handle.shutdown())?;
    println!("listening at {}", server.local_addr());
    let store = Store::default();
    let totals = server.serve_forever(from_fn(move |conn| session::talk(conn, &store)))?;
    println!("stopped after {} connections", totals.connections());
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<_> = env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    match args[..] {
        [] => serve(ADDR),
        ["bare"] => bare::serve(ADDR),
        ["bare", addr] => bare::serve(addr),
        ["bench"] => bench::run(&bench::FULL),
        ["bench", "--quick"] => bench::run(&bench::QUICK),
        [addr] if addr.contains(':') => serve(addr),
        _ => Err("usage: redis [bare] [HOST:PORT], or redis bench [--quick]".into()),
    }
}
