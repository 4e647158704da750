//! A protocol of lines, with state that belongs to one connection: a sum.
//!
//! ```sh
//! cargo run --example custom_handler
//! nc 127.0.0.1 7007           # in another terminal: type numbers, and an empty line to end
//! ```
//!
//! `setup` runs first, then `handle`; `finish` runs even if `handle` fails or panics.

use std::io::{self, BufRead, BufReader, Write};

use socketserver::{Connection, RequestHandler, TcpServer};

#[derive(Default)]
struct Adder {
    sum: i64,
}

impl RequestHandler for Adder {
    fn setup(&mut self, conn: &mut Connection) -> io::Result<()> {
        writeln!(conn, "Hello {}, type numbers.", conn.peer_addr())
    }

    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        // Reading and writing share the connection.
        let mut reply = &*conn;
        for line in BufReader::new(&*conn).lines() {
            let line = line?;
            if line.trim().is_empty() {
                break;
            }
            match line.trim().parse::<i64>() {
                Ok(number) => self.sum = self.sum.saturating_add(number),
                Err(error) => writeln!(reply, "{error}")?,
            }
            writeln!(reply, "= {}", self.sum)?;
        }
        Ok(())
    }

    fn finish(&mut self, conn: &mut Connection) -> io::Result<()> {
        writeln!(conn, "Your sum is {}. Bye!", self.sum)
    }
}

fn main() -> Result<(), socketserver::Error> {
    TcpServer::bind("127.0.0.1:7007")?.serve_forever(Adder::default)?;
    Ok(())
}
