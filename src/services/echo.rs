//! The echo protocol, RFC 862.

use std::io;

use crate::connection::Connection;
use crate::connection::rest::Rest;
use crate::worker::handler::RequestHandler;

/// Sends back whatever arrives (RFC 862), until the client half-closes.
///
/// Every byte comes back once and in order. The handler only leaves the connection to the server
/// ([`Connection::continue_with`]). So it [never blocks](RequestHandler::never_blocks): the thread that
/// accepted the connection accepts the next at once, and a reactor, one loop for thousands of
/// connections, reads and writes.
///
/// The server stops reading from a client that does not read its echo, and so holds at most 64 KiB
/// of a client's data. A client that falls silent costs less than 1 KiB and no thread. Such clients
/// stay connected, unless there are an [idle timeout](crate::Builder::idle_timeout) and a
/// [write timeout](crate::Builder::write_timeout), which are off by default.
///
/// # Platform-specific behavior
///
/// On Linux a client that streams gets a thread, which moves the stream without copying through a
/// pipe (`splice(2)`) of up to 256 KiB. A pipe takes two descriptors, and the process has at most 32
/// of these pipes at the same time. The reactor copies all other streams. `splice` raises SIGPIPE
/// if the client has closed. Rust programs ignore this signal unless they change that.
///
/// On systems without `epoll(7)` each connection keeps its thread.
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
    /// Makes an echo handler. `EchoHandler::new` is the factory for
    /// [`serve_forever`](crate::TcpServer::serve_forever).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl RequestHandler for EchoHandler {
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        conn.continue_with(Rest::Echo, &[]);
        Ok(())
    }

    fn never_blocks() -> bool {
        true
    }
}
