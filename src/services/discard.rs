//! The discard protocol, RFC 863.

use std::io;

use crate::connection::Connection;
use crate::connection::rest::Rest;
use crate::worker::handler::RequestHandler;

/// Drops whatever arrives (RFC 863), until the client half-closes. Sends nothing.
///
/// The handler only leaves the connection to the server ([`Connection::continue_with`]), so that the
/// connection needs no thread of its own. A client that falls silent stays connected, unless there is
/// an [idle timeout](crate::Builder::idle_timeout), which is off by default. On systems without
/// `epoll(7)` each connection keeps its thread.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use socketserver::{DiscardHandler, TcpServer};
/// use std::io::{Read, Write};
/// use std::net::{Shutdown, TcpStream};
/// use std::thread;
///
/// let mut server = TcpServer::bind("127.0.0.1:0")?;
/// let addr = server.local_addr();
/// let serving = thread::spawn(move || server.handle_request(DiscardHandler::new));
///
/// let mut client = TcpStream::connect(addr)?;
/// client.write_all(b"this is dropped")?;
/// client.shutdown(Shutdown::Write)?;
/// assert_eq!(client.read(&mut [0; 8])?, 0);
/// # drop(client);
/// # serving.join().expect("the server does not panic")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct DiscardHandler {
    _private: (),
}

impl DiscardHandler {
    /// Makes a discard handler. `DiscardHandler::new` is the factory for
    /// [`serve_forever`](crate::TcpServer::serve_forever).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl RequestHandler for DiscardHandler {
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        conn.continue_with(Rest::Discard, &[]);
        Ok(())
    }

    fn never_blocks() -> bool {
        true
    }
}
