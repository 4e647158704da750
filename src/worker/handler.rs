//! The trait that users implement to serve a connection, and the code that calls it.
//!
//! A server calls its factory once for each connection to make a handler. The private `drive` calls the
//! handler's three steps, and catches errors and panics, so that they end only that connection.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::catch::catch;
use crate::connection::Connection;

/// Serves one connection.
///
/// The server makes one handler per connection, on the thread that runs the handler. So the fields of a
/// handler can hold the state of its connection, and a handler needs to be neither `Send` nor `Sync`.
///
/// A panic in any step, or while the handler is dropped, ends its connection and nothing else. This needs
/// `panic = "unwind"`, Cargo's default. With `panic = "abort"` in a profile of the program's `Cargo.toml`,
/// one panic ends the process. A program can refuse to compile in that case:
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
    /// An error ends the connection, and is passed to the [error hook](crate::Builder::handle_error).
    /// Neither `handle` nor [`finish`](Self::finish) runs then.
    fn setup(&mut self, _conn: &mut Connection) -> io::Result<()> {
        Ok(())
    }

    /// Serves the connection. After this returns, the server closes the connection, unless the handler has
    /// left the rest of it to the server ([`continue_with`](Connection::continue_with)).
    ///
    /// # Errors
    ///
    /// An error ends the connection, and is passed to the
    /// [error hook](crate::Builder::handle_error). Return the errors of reads and writes with `?`. The
    /// server distinguishes a peer's reset or a timeout from other errors, and logs the right reason.
    ///
    /// `?` does not convert other errors into an [`io::Error`] (E0277). [`io::Error::other`] converts them,
    /// also if they are boxed as `Box<dyn Error + Send + Sync>`:
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
    /// The server calls `finish` if and only if [`setup`](Self::setup) succeeded, also after an error or a
    /// panic in `handle`.
    ///
    /// # Errors
    ///
    /// An error is passed to the [error hook](crate::Builder::handle_error).
    fn finish(&mut self, _conn: &mut Connection) -> io::Result<()> {
        Ok(())
    }

    /// Returns whether the factory and every step of its handlers return at once. Returns `false` by
    /// default.
    ///
    /// If `true`, the thread that accepts a client runs the client's handler, and then accepts the next
    /// client. If `false`, another thread has to wake up for the next client, so that a crowd of clients
    /// costs about one and a half times the processor time. `true` suits a handler that leaves the
    /// connection to the server ([`continue_with`](Connection::continue_with)) without reading first, as
    /// [`EchoHandler`](crate::EchoHandler) does.
    ///
    /// A handler that says so and blocks all the same holds up the clients that connect meanwhile, and
    /// delays a shutdown by half a second. Reads block until the client sends. Writes block once the send
    /// buffer of the connection is full, so a short greeting does not.
    ///
    /// Hooks may block, and so may reading a PROXY header. So a server with a
    /// [verify](crate::Builder::verify_request), [error](crate::Builder::handle_error) or
    /// [close](crate::Builder::on_close) hook, or with trusted proxies, runs each handler as if this were
    /// `false`.
    ///
    /// # Examples
    ///
    /// ```
    /// use socketserver::{Connection, RequestHandler, Rest};
    /// use std::io::{self, Write};
    ///
    /// /// Greets, then echoes.
    /// struct Welcome;
    ///
    /// impl RequestHandler for Welcome {
    ///     fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
    ///         conn.write_all(b"welcome\n")?;
    ///         conn.continue_with(Rest::Echo, &[]);
    ///         Ok(())
    ///     }
    ///
    ///     fn never_blocks() -> bool {
    ///         true
    ///     }
    /// }
    /// ```
    #[doc(alias("inline", "nonblocking"))]
    #[must_use]
    fn never_blocks() -> bool
    where
        Self: Sized,
    {
        false
    }
}

/// Returns a factory of handlers that call a function to serve a connection.
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
/// Many threads call the function at the same time, so it is an `Fn`. To change what connections share, use
/// an atomic or a [`Mutex`](std::sync::Mutex):
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
/// A closure outlives the function that makes it, so it must own what it captures: write `move` (E0373).
/// Changing a captured variable does not compile (E0594):
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

/// A handler that calls a function, made by [`from_fn`].
///
/// # Examples
///
/// ```
/// use socketserver::{Connection, FnHandler, from_fn};
/// use std::io::{self, Write};
///
/// fn greet(conn: &mut Connection) -> io::Result<()> {
///     conn.write_all(b"hello\n")
/// }
///
/// let factory = from_fn(greet);
/// let handler: FnHandler<_> = factory();
/// ```
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

/// The failure of a handler or a hook: an error or a panic.
///
/// [`Builder::handle_error`](crate::Builder::handle_error) receives it. `Display` shows the error, or
/// `panicked: ` and the message.
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
    /// The handler returned this error.
    Error(io::Error),
    /// The handler or the verify hook panicked with this message.
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

/// Makes the handlers of a server.
pub(crate) struct HandlerFactory {
    pub(crate) make: Box<dyn Fn() -> Box<dyn RequestHandler> + Send + Sync>,
    pub(crate) never_blocks: bool,
}

impl HandlerFactory {
    pub(crate) fn new<F, H>(factory: F) -> Self
    where
        F: Fn() -> H + Send + Sync + 'static,
        H: RequestHandler + 'static,
    {
        Self {
            make: Box::new(move || Box::new(factory())),
            never_blocks: H::never_blocks(),
        }
    }
}

/// Makes a handler, calls its `setup`, `handle` and `finish`, and drops it. Every failure of these steps
/// goes to `report`. Returns whether all steps succeeded.
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

/// Runs one step of users' code. An error or a panic goes to `report`.
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
    // Dropping an error runs users' code, too, which may panic as the step may.
    if let Err(message) = catch(|| drop(failure)) {
        report(conn, &HandlerError::Panic(message));
    }
    None
}
