//! The example of the project's README: a handler that greets its client by name.
//!
//! ```console
//! $ cargo run --example greeter
//! $ nc 127.0.0.1 7007
//! ann
//! Hello, ann!
//! ```

use socketserver::{Connection, RequestHandler, TcpServer};
use std::io::{self, BufRead, BufReader, Read, Write};

struct Greeter;

impl RequestHandler for Greeter {
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        let mut name = String::new();
        BufReader::new(&*conn).take(100).read_line(&mut name)?;
        writeln!(conn, "Hello, {}!", name.trim())
    }
}

fn main() -> Result<(), socketserver::Error> {
    TcpServer::bind("127.0.0.1:7007")?.serve_forever(|| Greeter)?;
    Ok(())
}
