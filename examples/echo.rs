//! An echo server in one line.
//!
//! ```sh
//! cargo run --example echo
//! nc 127.0.0.1 7007           # in another terminal: type a line; Ctrl-C ends nc
//! ```

use socketserver::{EchoHandler, TcpServer};

fn main() -> Result<(), socketserver::Error> {
    TcpServer::bind("127.0.0.1:7007")?.serve_forever(EchoHandler::new)?;
    Ok(())
}
