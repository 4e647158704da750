//! The rest of a connection, after its handler: the handler may leave it to the server.

use std::mem;
use std::sync::PoisonError;

use super::Connection;

/// What the server does with the rest of a connection that a handler has
/// [left](Connection::continue_with) to it.
///
/// # Examples
///
/// ```
/// use socketserver::{Rest, from_fn};
/// use std::io::Write;
///
/// let refuse = from_fn(|conn| {
///     conn.write_all(b"closed for today\n")?;
///     // Otherwise the server would drop the client's input for the lingering time only.
///     conn.continue_with(Rest::Discard, &[]);
///     Ok(())
/// });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rest {
    /// Send back whatever arrives (RFC 862), until the peer half-closes.
    Echo,
    /// Drop whatever arrives (RFC 863), until the peer half-closes.
    Discard,
}

/// A handler's wish for the rest of its connection.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) rest: Rest,
    /// Input that the handler has read and not used.
    pub(crate) unread: Vec<u8>,
}

impl Connection {
    /// Leaves the rest of the connection to the server, once the handler is done.
    ///
    /// This call only notes the wish. First `handle` returns, [`finish`] runs and the handler is
    /// dropped, all on this thread. Then the connection alone, without a thread, moves to a
    /// reactor of the server: one loop (`epoll(7)`) that carries thousands of connections. The
    /// loop first echoes or drops `unread`, then whatever arrives until the peer half-closes. Then
    /// it closes the connection. Only a stream of large reads gets a thread, while the stream lasts.
    ///
    /// `unread` is the input that the handler has read and not used: the
    /// [`buffer`](std::io::BufReader::buffer) of its `BufReader`, or nothing. If `handle` or
    /// `finish` fails or panics, the server ignores the wish and closes the connection. A second
    /// call replaces the first. Timeouts, the lifetime and a shutdown apply as to reads and writes
    /// of a handler, and errors reach the [error hook](crate::Builder::handle_error).
    ///
    /// In [`handle_request`](crate::TcpServer::handle_request), and on systems without
    /// `epoll(7)`, the calling thread carries the connection to its end.
    ///
    /// [`finish`]: crate::RequestHandler::finish
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use socketserver::{Rest, TcpServer, from_fn};
    /// use std::io::{BufRead, BufReader, Read, Write};
    /// use std::net::{Shutdown, TcpStream};
    ///
    /// // Greets by name, then echoes.
    /// let greeter = from_fn(|conn| {
    ///     let mut reader = BufReader::new(&*conn);
    ///     let mut name = String::new();
    ///     reader.read_line(&mut name)?;
    ///     (&*conn).write_all(format!("Hello, {}!\n", name.trim()).as_bytes())?;
    ///     conn.continue_with(Rest::Echo, reader.buffer());
    ///     Ok(())
    /// });
    /// let server = TcpServer::bind("127.0.0.1:0")?;
    /// let (addr, handle) = (server.local_addr(), server.handle());
    /// let serving = std::thread::spawn(move || server.serve_forever(greeter));
    ///
    /// let mut client = TcpStream::connect(addr)?;
    /// client.write_all(b"Ada\nand more")?;
    /// client.shutdown(Shutdown::Write)?;
    /// let mut reply = String::new();
    /// client.read_to_string(&mut reply)?;
    /// assert_eq!(reply, "Hello, Ada!\nand more");
    ///
    /// handle.shutdown();
    /// serving.join().expect("the server does not panic")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn continue_with(&self, rest: Rest, unread: &[u8]) {
        let unread = match rest {
            Rest::Echo => unread.to_vec(),
            // Copying these bytes would take memory until the connection ends.
            Rest::Discard => Vec::new(),
        };
        *self.wish.lock().unwrap_or_else(PoisonError::into_inner) = Some(Wish { rest, unread });
    }

    /// Takes the wish out of the connection.
    pub(crate) fn take_wish(&self) -> Option<Wish> {
        mem::take(&mut *self.wish.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
