//! The settings of the PROXY protocol.

use std::time::Duration;

use super::Builder;
use crate::proxy_protocol::network::Network;

impl Builder {
    /// The default of [`proxy_header_timeout`](Self::proxy_header_timeout): 3 s.
    ///
    /// This is the minimum that the specification recommends, so that a lost segment can be sent again.
    pub const PROXY_HEADER_TIMEOUT: Duration = Duration::from_secs(3);

    /// Sets the networks of trusted proxies, whose connections begin with a PROXY header. Defaults to none.
    /// Needs the feature `proxy-protocol`.
    ///
    /// The header passes on the address of the proxy's client. The server reads versions 1 and 2 of the
    /// protocol ([specification](https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt)).
    ///
    /// From a trusted network the header is required. From any other network a header is ordinary input, so
    /// that no client can claim another address. Trust only addresses that belong to your proxies, because
    /// every program that can connect from there can claim any address. The server compares the socket's
    /// peer address with the networks. An IPv4 peer of an IPv6 listener counts as IPv4.
    ///
    /// The addresses in the header replace those of the socket. The source in the header becomes the
    /// connection's [`peer_addr`](crate::Connection::peer_addr), also in the hooks, in the log and for
    /// [`max_per_source`](Self::max_per_source). The destination, to which the client has connected,
    /// becomes the [`local_addr`](crate::Connection::local_addr). [`stream`](crate::Connection::stream) still returns
    /// the socket, with its own addresses. The connection keeps the addresses of the socket
    ///
    /// - until the header has been read, in
    ///   [`ServerHandle::connections`](crate::ServerHandle::connections),
    /// - if the proxy itself opened the connection, for example for a health check (`LOCAL`),
    /// - if the client's protocol is not TCP or not known (`UNKNOWN`, `UNSPEC`, `UNIX`, `DGRAM`).
    ///
    /// The server reads the header on the connection's thread, before the
    /// [verify hook](Self::verify_request). Handlers don't see the header, and `bytes_in` does not count it.
    /// Bytes after the header, in the same packet or later, are the connection's first input. A header may
    /// have at most 107 bytes in version 1, the specification's limit, and at most 4096 in version 2. The
    /// server ignores additional values (TLVs), except a checksum (`PP2_TYPE_CRC32C`), which must be right.
    ///
    /// The server closes a connection that begins with something else, that ends within its header, or that
    /// has no whole header [in time](Self::proxy_header_timeout). It sends nothing. If input is unread, the
    /// kernel resets the connection. The reason is [`ProxyHeader`](crate::CloseReason::ProxyHeader). The
    /// server logs the cause at debug, and once per episode as a warning. It does not warn of a peer that
    /// connects and closes without sending a byte, because simple health checks do that. At a stop the server
    /// closes connections without a whole header at once.
    ///
    /// Until the header has been read, the server can't know that a client exceeds
    /// [`max_per_source`](Self::max_per_source). So [`Totals::connections`](crate::Totals::connections)
    /// counts such a connection as well as [`Totals::rejected`](crate::Totals::rejected), and the
    /// [`on_close`](Self::on_close) hook receives it with the reason [`Limit`](crate::CloseReason::Limit).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use socketserver::{Connection, Network, TcpServer, from_fn};
    /// use std::io::{Read, Write};
    /// use std::net::TcpStream;
    ///
    /// let loopback: Network = "127.0.0.0/8".parse()?;
    /// let server = TcpServer::builder()
    ///     .proxy_protocol([loopback])
    ///     .bind("127.0.0.1:0")?
    ///     .start(from_fn(|conn: &mut Connection| write!(conn, "hello, {}", conn.peer_addr())))?;
    ///
    /// let mut proxy = TcpStream::connect(server.local_addr())?;
    /// proxy.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 7\r\n")?;
    /// let mut reply = String::new();
    /// proxy.read_to_string(&mut reply)?;
    /// assert_eq!(reply, "hello, 192.0.2.7:4711");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn proxy_protocol(mut self, trusted: impl IntoIterator<Item = Network>) -> Self {
        self.proxy_protocol.trusted = trusted.into_iter().collect();
        self
    }

    /// Sets the time limit for the whole header of a [trusted proxy](Self::proxy_protocol). Defaults to
    /// [`PROXY_HEADER_TIMEOUT`](Self::PROXY_HEADER_TIMEOUT). Must not be zero. Needs the feature
    /// `proxy-protocol`.
    ///
    /// The time runs from the moment at which a thread begins to serve the connection. Single bytes that
    /// arrive don't extend it. While the server waits for the header, the connection keeps its slot and
    /// its thread.
    #[must_use]
    pub fn proxy_header_timeout(mut self, timeout: Duration) -> Self {
        self.proxy_protocol.timeout = timeout;
        self
    }
}
