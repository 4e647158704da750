//! This library's echo by hand: a handler that reads and writes on its own thread.
//!
//! The library's own `EchoHandler`, which echod serves with, has shortcuts that only an echo can
//! take. This server measures what a protocol of one's own gets.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use socketserver::{Connection, RequestHandler, TcpServer};

/// As large as monoio's here.
const BUFFER: usize = 16 << 10;

/// As echod sets it.
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
