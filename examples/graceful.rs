//! A server that stops cleanly, with a log, Ctrl-C, and the totals.
//!
//! ```sh
//! RUST_LOG=debug cargo run --example graceful
//! nc 127.0.0.1 7007           # in another terminal: type a line; then Ctrl-C ends the server
//! ```
//!
//! After the first Ctrl-C the server accepts no new connections, and those that it has get 10 s to end.
//! A second Ctrl-C aborts them. SIGTERM, which service managers and `kill` send, does the same.
//!
//! A server of your own needs `cargo add env_logger` and `cargo add ctrlc --features termination`. Without that
//! feature SIGTERM ends the process at once. The module `support` only reads the address and prints.

mod support;

use std::error::Error;
use std::time::Duration;

use env_logger::Env;
use socketserver::{EchoHandler, TcpServer};

fn main() -> Result<(), Box<dyn Error>> {
    // The library logs what the server does at `info`, and each connection at `debug`.
    env_logger::Builder::from_env(Env::default().default_filter_or("info")).init();
    let addr = support::argument(1, "127.0.0.1:7007");
    let server = TcpServer::builder()
        .drain_timeout(Duration::from_secs(10))
        .bind(&*addr)?;
    let handle = server.handle();
    let mut is_stopping = false;
    // A thread of `ctrlc` runs this closure, not a signal handler. So the closure may lock and allocate.
    ctrlc::set_handler(move || {
        if is_stopping {
            handle.shutdown_now();
        } else {
            handle.shutdown();
        }
        is_stopping = true;
    })?;
    let totals = server.serve_forever(EchoHandler::new)?;
    support::print(format_args!(
        "{} connections, {} bytes in, {} bytes out, {} aborted",
        totals.connections(),
        totals.bytes_in(),
        totals.bytes_out(),
        totals.aborted(),
    ));
    Ok(())
}
