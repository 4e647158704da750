//! The echo protocol, RFC 862.

#[cfg(any(target_os = "linux", target_os = "android"))]
mod pipe;

use std::io::{self, Write};

use crate::connection::Connection;
use crate::worker::handler::RequestHandler;

/// Sends back whatever it receives (RFC 862), until the client half-closes.
///
/// Every byte returns, once and in order. A client that stops reading is no longer read from,
/// so at most one buffer of its data is held here: 1 KiB on the stack, and once it sends more at
/// once, up to 64 KiB, given back when it falls silent.
///
/// # Platform-specific behavior
///
/// On Linux a client that streams is echoed without copying, through a pipe (`splice(2)`) that holds
/// up to 256 KiB: two descriptors, for at most 32 connections at a time. It counts on SIGPIPE being
/// ignored, as it is in a Rust program that does not change that.
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
    /// Makes an echo handler: the factory to pass to
    /// [`serve_forever`](crate::TcpServer::serve_forever).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl RequestHandler for EchoHandler {
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        loop {
            match copy(conn)? {
                Next::End => return Ok(()),
                #[cfg(any(target_os = "linux", target_os = "android"))]
                Next::Stream(pipe) => pipe::relay(conn, pipe)?,
            }
        }
    }
}

/// Enough for a line or a small message. With it, the stack of an idle connection is two pages.
const SMALLEST: usize = 1024;

/// A stream in buffers of 64 KiB moves about five times as fast as in 4 KiB.
const LARGEST: usize = 64 * 1024;

/// What comes after messages that are worth copying.
enum Next {
    End,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Stream(pipe::Pipe),
}

/// Sends back what is received through a buffer that grows with the messages.
fn copy(mut conn: &Connection) -> io::Result<Next> {
    let mut small = [0; SMALLEST];
    let mut large = Vec::new();
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let mut stream = pipe::Detector::default();
    loop {
        let buffer = if large.is_empty() {
            &mut small[..]
        } else {
            &mut large[..]
        };
        let Some(n) = conn.receive_soon(buffer)? else {
            // For how long nobody knows: a connection that is idle holds no memory for it.
            large = Vec::new();
            conn.wait_for_input()?;
            continue;
        };
        if n == 0 {
            return Ok(Next::End);
        }
        conn.write_all(&buffer[..n])?;
        if n == buffer.len() && n < LARGEST {
            large = vec![0; (n * 4).min(LARGEST)];
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(pipe) = stream.sees(n) {
            return Ok(Next::Stream(pipe));
        }
    }
}
