//! The echo protocol, RFC 862.

use std::io::{self, Read, Write};

use crate::connection::Connection;
use crate::handler::RequestHandler;

/// Sends back whatever it receives (RFC 862), until the client half-closes.
///
/// Every byte returns, once and in order. A client that stops reading is no longer read from,
/// so at most one buffer of its data is held here.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use socketserver::{EchoHandler, TcpServer};
/// use std::io::{Read, Write};
/// use std::net::{Shutdown, TcpStream};
/// use std::thread;
///
/// let mut server = TcpServer::bind("127.0.0.1:0")?;
/// let addr = server.local_addr();
/// let serving = thread::spawn(move || server.handle_request(EchoHandler::new));
///
/// let mut client = TcpStream::connect(addr)?;
/// client.write_all(b"hello")?;
/// client.shutdown(Shutdown::Write)?;
/// let mut echo = String::new();
/// client.read_to_string(&mut echo)?;
/// assert_eq!(echo, "hello");
/// # drop(client);
/// # serving.join().expect("the server does not panic")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct EchoHandler {
    _private: (),
}

impl EchoHandler {
    /// Enough for a line or a small message: what a connection holds until it sends more at once.
    const SMALLEST: usize = 4 * 1024;
    /// A stream in buffers of 64 KiB moves about five times as fast as in 4 KiB.
    const LARGEST: usize = 64 * 1024;

    /// Makes an echo handler: the factory to pass to
    /// [`serve_forever`](crate::TcpServer::serve_forever).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl RequestHandler for EchoHandler {
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        let mut buffer = vec![0; Self::SMALLEST];
        loop {
            let n = conn.read(&mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            conn.write_all(&buffer[..n])?;
            if n == buffer.len() && n < Self::LARGEST {
                buffer.resize(n * 4, 0);
            }
        }
    }
}
