//! The echo server of the lecture, with a handler that reads and writes on its own thread.
//!
//! ```sh
//! cargo run --example echo_by_hand
//! nc 127.0.0.1 7007           # in another terminal: type a line; Ctrl-C ends nc
//! ```
//!
//! A `Connection` implements `Read` and `Write`, as a `TcpStream` does. While `read` waits for this
//! client, other threads serve other clients.

use std::io::{self, Read, Write};

use socketserver::{Connection, RequestHandler, TcpServer};

struct Echo;

impl RequestHandler for Echo {
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        let mut buf = [0; 1024];
        loop {
            // TCP carries a stream of bytes: one `read` may return a part of a message, or several.
            let n = conn.read(&mut buf)?;
            if n == 0 {
                // The client has half-closed. Returning from `handle` ends the connection.
                return Ok(());
            }
            conn.write_all(&buf[..n])?;
        }
    }
}

fn main() -> Result<(), socketserver::Error> {
    TcpServer::bind("127.0.0.1:7007")?.serve_forever(|| Echo)?;
    Ok(())
}
