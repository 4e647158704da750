//! What users implement: a handler for one connection, and how it is driven.
//!
//! A server calls its factory once for each connection to make a handler. The private `drive`
//! calls the handler's three steps so that neither an error nor a panic in one of them gets past
//! the connection.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::catch::catch;
use crate::connection::Connection;

/// Serves one connection.
///
/// The server makes one handler per connection, on that connection's own thread, so a handler
/// may keep state of the connection in itself and needs to be neither `Send` nor `Sync`.
///
/// A panic in any step, or as the handler is dropped, ends its connection and nothing else. This needs
/// `panic = "unwind"`, Cargo's default. With `panic = "abort"` in a profile of the program's
/// `Cargo.toml`, one panic ends all connections. A program can insist:
///
/// ```
/// #[cfg(not(panic = "unwind"))]
/// compile_error!("a panic must not end the server: build it with panic = \"unwind\"");
/// ```
///
/// # Examples
///
/// ```
/// use socketserver::{Connection, RequestHandler};
/// use std::io::{self, Write};
///
/// struct Greeter {
///     greeting: &'static str,
/// }
///
/// impl RequestHandler for Greeter {
///     fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
///         writeln!(conn, "{}, {}!", self.greeting, conn.peer_addr().ip())
///     }
/// }
/// ```
pub trait RequestHandler {
    /// Prepares the connection, before [`handle`](Self::handle). Does nothing by default.
    ///
    /// # Errors
    ///
    /// An error ends the connection: neither `handle` nor [`finish`](Self::finish) runs.
    fn setup(&mut self, _conn: &mut Connection) -> io::Result<()> {
        Ok(())
    }

    /// Serves the connection. When it returns, the connection is closed, unless the handler leaves
    /// the rest of the connection to the server ([`continue_with`](Connection::continue_with)).
    ///
    /// # Errors
    ///
    /// An error ends the connection, and is passed to the
    /// [error hook](crate::Builder::handle_error). Errors of reads and writes are best returned
    /// with `?`: the server tells a peer's reset from a fault.
    ///
    /// `?` does not convert other errors into an [`io::Error`] (E0277). [`io::Error::other`] does, also
    /// those that are boxed as `Box<dyn Error + Send + Sync>`:
    ///
    /// ```
    /// use socketserver::{Connection, RequestHandler};
    /// use std::error::Error;
    /// use std::io::{self, Write};
    ///
    /// fn price(item: &str) -> Result<u32, Box<dyn Error + Send + Sync>> {
    ///     Ok(item.parse()?)
    /// }
    ///
    /// struct Shop;
    ///
    /// impl RequestHandler for Shop {
    ///     fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
    ///         let price = price("12").map_err(io::Error::other)?;
    ///         writeln!(conn, "{price}")
    ///     }
    /// }
    /// ```
    ///
    /// ```compile_fail,E0277
    /// # use socketserver::Connection;
    /// # use std::io::{self, Write};
    /// fn handle(conn: &mut Connection) -> io::Result<()> {
    ///     let price: u32 = "12".parse()?;
    ///     writeln!(conn, "{price}")
    /// }
    /// ```
    #[doc(alias("E0277", "anyhow", "boxed", "map_err", "other"))]
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()>;

    /// Cleans up, after [`handle`](Self::handle). Does nothing by default.
    ///
    /// It runs if and only if [`setup`](Self::setup) succeeded, also after an error or a panic in
    /// `handle`.
    ///
    /// # Errors
    ///
    /// An error is passed to the [error hook](crate::Builder::handle_error).
    fn finish(&mut self, _conn: &mut Connection) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a factory of handlers out of a function that serves a connection.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use socketserver::{TcpServer, from_fn};
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
///
/// let mut server = TcpServer::bind("127.0.0.1:0")?;
/// let addr = server.local_addr();
/// let serving = std::thread::spawn(move || {
///     server.handle_request(from_fn(|conn| write!(conn, "you are {}", conn.peer_addr())))
/// });
///
/// let mut client = TcpStream::connect(addr)?;
/// let mut greeting = String::new();
/// client.read_to_string(&mut greeting)?;
/// assert_eq!(greeting, format!("you are {}", client.local_addr()?));
/// # drop(client);
/// # serving.join().expect("the server does not panic")?;
/// # Ok(())
/// # }
/// ```
///
/// Many threads call the function at the same time, so it is an `Fn`. It can change what connections share
/// through an atomic or a [`Mutex`](std::sync::Mutex):
///
/// ```
/// use socketserver::from_fn;
/// use std::io::Write;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// let visits = AtomicU64::new(0);
/// let factory = from_fn(move |conn| {
///     let number = visits.fetch_add(1, Ordering::Relaxed) + 1;
///     writeln!(conn, "you are number {number}")
/// });
/// ```
///
/// It outlives the function that makes it, so it owns what it captures: write `move` (E0373). Changing a
/// variable that it has captured does not compile (E0594):
///
/// ```compile_fail,E0594
/// # use socketserver::from_fn;
/// # use std::io::Write;
/// let mut visits = 0;
/// let factory = from_fn(move |conn| {
///     visits += 1;
///     writeln!(conn, "you are number {visits}")
/// });
/// ```
pub fn from_fn<F>(handle: F) -> impl Fn() -> FnHandler<F>
where
    F: Fn(&mut Connection) -> io::Result<()>,
{
    let handle = Arc::new(handle);
    move || FnHandler(Arc::clone(&handle))
}

/// A handler that calls a function; made by [`from_fn`].
pub struct FnHandler<F>(Arc<F>);

impl<F> RequestHandler for FnHandler<F>
where
    F: Fn(&mut Connection) -> io::Result<()>,
{
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        (self.0)(conn)
    }
}

impl<F> fmt::Debug for FnHandler<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnHandler").finish_non_exhaustive()
    }
}

/// How a handler, or a hook, failed.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), socketserver::Error> {
/// use socketserver::{HandlerError, TcpServer};
///
/// let server = TcpServer::builder()
///     .handle_error(|conn, failure| match failure {
///         HandlerError::Panic(message) => eprintln!("{}: bug: {message}", conn.peer_addr()),
///         error => eprintln!("{}: {error}", conn.peer_addr()),
///     })
///     .bind("127.0.0.1:0")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum HandlerError {
    /// It returned this error.
    Error(io::Error),
    /// It panicked with this message.
    Panic(String),
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => error.fmt(f),
            Self::Panic(message) => write!(f, "panicked: {message}"),
        }
    }
}

/// Makes the handler of a connection.
pub(crate) type HandlerFactory = Arc<dyn Fn() -> Box<dyn RequestHandler> + Send + Sync>;

/// Makes a handler and takes it through setup, handle and finish. Every failure on the way,
/// of its making and its dropping too, goes to `report`. Returns whether there was none.
pub(crate) fn drive<'h>(
    make: &dyn Fn() -> Box<dyn RequestHandler + 'h>,
    conn: &mut Connection,
    report: &dyn Fn(&Connection, &HandlerError),
) -> bool {
    let Some(mut handler) = guard(conn, report, |_| Ok(make())) else {
        return false;
    };
    let mut succeeded = guard(conn, report, |conn| handler.setup(conn)).is_some();
    if succeeded {
        succeeded &= guard(conn, report, |conn| handler.handle(conn)).is_some();
        succeeded &= guard(conn, report, |conn| handler.finish(conn)).is_some();
    }
    let dropped = guard(conn, report, |_| {
        drop(handler);
        Ok(())
    });
    succeeded && dropped.is_some()
}

/// Runs one step of somebody else's code. An error or a panic goes to `report`.
fn guard<T>(
    conn: &mut Connection,
    report: &dyn Fn(&Connection, &HandlerError),
    step: impl FnOnce(&mut Connection) -> io::Result<T>,
) -> Option<T> {
    let failure = match catch(|| step(conn)) {
        Ok(Ok(value)) => return Some(value),
        Ok(Err(error)) => HandlerError::Error(error),
        Err(message) => HandlerError::Panic(message),
    };
    report(conn, &failure);
    // Dropping an error runs the error's own code, which may panic like the step itself.
    if let Err(message) = catch(|| drop(failure)) {
        report(conn, &HandlerError::Panic(message));
    }
    None
}
