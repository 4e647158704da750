//! An echo server on this library, with a handler that reads and writes on its own thread.
//!
//! The library's own `EchoHandler`, which echod uses, has shortcuts that only an echo can take. This server
//! shows the rates that a handler of your own can reach.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use socketserver::{Connection, RequestHandler, TcpServer};

/// The same size as in the server on monoio.
const BUFFER: usize = 16 << 10;

/// The stack size that echod sets.
const STACK: usize = 128 << 10;

struct Echo;

impl RequestHandler for Echo {
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        let mut buffer = [0; BUFFER];
        loop {
            let n = conn.read(&mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            conn.write_all(&buffer[..n])?;
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let addr: SocketAddr = std::env::args().nth(1).ok_or("usage: ADDR")?.parse()?;
    let server = TcpServer::builder()
        .max_connections(20_000)
        .stack_size(STACK)
        .bind(addr)?;
    server.serve_forever(|| Echo)?;
    Ok(())
}
