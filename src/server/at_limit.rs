//! What becomes of a client at the limit of connections.

/// What happens to a client that connects while the limit of connections is reached.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use socketserver::{AtLimit, EchoHandler, TcpServer};
/// use std::io::Read;
/// use std::net::TcpStream;
///
/// let server = TcpServer::builder()
///     .at_limit(AtLimit::Refuse)
///     .bind("127.0.0.1:0")?;
/// let (addr, handle) = (server.local_addr(), server.handle());
/// handle.set_max_connections(0);
/// let serving = std::thread::spawn(move || server.serve_forever(EchoHandler::new));
///
/// // It is closed, and nothing is sent.
/// assert_eq!(TcpStream::connect(addr)?.read(&mut [0; 8])?, 0);
///
/// handle.shutdown();
/// let totals = serving.join().expect("the server does not panic")?;
/// assert_eq!((totals.connections(), totals.refused()), (0, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AtLimit {
    /// It waits in the kernel's backlog until a connection ends.
    #[default]
    Wait,
    /// It is accepted, sent a FIN and nothing else, and counted as
    /// [refused](crate::Totals::refused).
    Refuse,
}
