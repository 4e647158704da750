//! A handler of your own: it reads numbers, one a line, and keeps a sum for each connection.
//!
//! ```sh
//! cargo run --example custom_handler
//! nc 127.0.0.1 7007           # in another terminal: type numbers, and an empty line to end
//! ```
//!
//! `setup` runs first, then `handle`; `finish` runs even if `handle` fails or panics.

use std::io::{self, BufRead, BufReader, Error, Read, Write};

use socketserver::{Connection, RequestHandler, TcpServer};

/// The most bytes of a line. Without a limit, a line without end would fill the memory.
const LONGEST: u64 = 1000;

#[derive(Default)]
struct Adder {
    sum: i64,
}

impl RequestHandler for Adder {
    fn setup(&mut self, conn: &mut Connection) -> io::Result<()> {
        writeln!(conn, "Hello {}, type numbers.", conn.peer_addr())
    }

    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        // `&Connection` can be read from and written to, so both can use it at the same time.
        let (mut lines, mut reply) = (BufReader::new(&*conn), &*conn);
        loop {
            // Read bytes and not a `String`, because not every terminal sends UTF-8.
            let mut line = Vec::new();
            if (&mut lines).take(LONGEST).read_until(b'\n', &mut line)? as u64 == LONGEST {
                return Err(Error::other("a line is too long"));
            }
            let line = String::from_utf8_lossy(line.trim_ascii());
            if line.is_empty() {
                return Ok(());
            }
            match line.parse::<i64>() {
                Ok(number) => self.sum = self.sum.saturating_add(number),
                Err(error) => writeln!(reply, "{error}")?,
            }
            writeln!(reply, "= {}", self.sum)?;
        }
    }

    fn finish(&mut self, conn: &mut Connection) -> io::Result<()> {
        writeln!(conn, "Your sum is {}. Bye!", self.sum)
    }
}

fn main() -> Result<(), socketserver::Error> {
    TcpServer::bind("127.0.0.1:7007")?.serve_forever(Adder::default)?;
    Ok(())
}
