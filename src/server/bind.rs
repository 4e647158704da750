//! Makes a server from its settings: binds or takes over its listeners, and rejects invalid settings.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::accept::socket_options::{self, SocketOptions};
use crate::error::Error;
use crate::server::TcpServer;
use crate::server::addresses::{covers, widest_first};
use crate::server::builder::Builder;

impl Builder {
    /// Binds every address that `addr` resolves to, and makes a server that listens on them.
    ///
    /// This is [`listen`](Self::listen) followed by [`from_listeners`](Self::from_listeners).
    ///
    /// # Errors
    ///
    /// Fails if one of the two fails: an address can't be bound, or a setting is invalid.
    #[doc(alias = "server_bind")]
    #[doc(alias = "server_activate")]
    pub fn bind(self, addr: impl ToSocketAddrs + fmt::Debug) -> Result<TcpServer, Error> {
        let listeners = self.listen(addr)?;
        self.from_listeners(listeners)
    }

    /// Makes a listening socket for every address that `addr` resolves to.
    ///
    /// For a server that listens on several names or ports, collect the sockets of several calls, and
    /// pass them to [`from_listeners`](Self::from_listeners).
    ///
    /// The sockets have the order of the addresses. An address gets no socket if another socket of the
    /// same call receives its clients, in whatever order the addresses are:
    ///
    /// - `[::]` receives all clients of its port, also those over IPv4 (`IPV6_V6ONLY` is off).
    /// - `0.0.0.0` receives all clients over IPv4.
    /// - An address that is given twice is bound once.
    /// - With port 0 each address gets its own port, so none is left out, except `0.0.0.0` beside `[::]`.
    ///
    /// An address is skipped if this machine has no such address, or lacks its family, and another
    /// address can be bound. If a wildcard is skipped, the addresses that it would have covered are bound.
    ///
    /// # Errors
    ///
    /// `addr` can't be resolved, or one of its addresses can't be bound; the error names the address. If
    /// every address was skipped, the error names one that this machine does not have, or otherwise one
    /// whose family the machine lacks.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), socketserver::Error> {
    /// use socketserver::TcpServer;
    ///
    /// let builder = TcpServer::builder();
    /// let mut listeners = builder.listen("127.0.0.1:0")?;
    /// listeners.extend(builder.listen("127.0.0.2:0")?);
    /// let server = builder.from_listeners(listeners)?;
    /// assert_eq!(server.local_addrs().len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn listen(&self, addr: impl ToSocketAddrs + fmt::Debug) -> Result<Vec<TcpListener>, Error> {
        let addrs: Vec<SocketAddr> = addr
            .to_socket_addrs()
            .map_err(|error| Error::new(format!("cannot resolve {addr:?}"), error))?
            .collect();
        let mut listeners = BTreeMap::new();
        let mut bound = Vec::new();
        let mut skipped: Option<(SocketAddr, io::Error)> = None;
        for index in widest_first(&addrs) {
            let candidate = addrs[index];
            if bound.iter().any(|&other| covers(other, candidate)) {
                continue;
            }
            match socket_options::listen(
                candidate,
                self.backlog,
                self.reuse_port,
                self.socket_buffers,
                self.options(),
            ) {
                Ok(listener) => {
                    listeners.insert(index, listener);
                    bound.push(candidate);
                }
                Err(error) if socket_options::is_not_of_this_machine(&error) => {
                    // On a machine without IPv6 the IPv6 addresses of every name fail, which is normal.
                    // An address that is not the machine's own is more likely to be the user's mistake,
                    // so report that error.
                    let tells_more = |before: &io::Error| {
                        error.kind() == ErrorKind::AddrNotAvailable && before.kind() != error.kind()
                    };
                    if skipped
                        .as_ref()
                        .is_none_or(|(_, before)| tells_more(before))
                    {
                        skipped = Some((candidate, error));
                    }
                }
                Err(error) => return Err(Error::new(format!("cannot bind {candidate}"), error)),
            }
        }
        match skipped {
            _ if !listeners.is_empty() => Ok(listeners.into_values().collect()),
            Some((candidate, error)) => Err(Error::new(format!("cannot bind {candidate}"), error)),
            None => Err(Error::invalid(
                format!("cannot bind {addr:?}"),
                "it resolves to no address",
            )),
        }
    }

    /// Makes a server that accepts on sockets that already listen, for example those that a service
    /// manager has passed.
    ///
    /// The server makes the sockets non-blocking (`O_NONBLOCK`). This changes the socket itself, also for
    /// other processes that share it, and stays after the server has ended: their `accept(2)` may fail
    /// with [`WouldBlock`](std::io::ErrorKind::WouldBlock). The server changes no other option of a
    /// listener. Options such as [`keepalive`](Self::keepalive) are set on each connection.
    ///
    /// # Errors
    ///
    /// - `listeners` is empty, or contains a socket that is not a listening TCP socket
    ///   ([`InvalidInput`](std::io::ErrorKind::InvalidInput)).
    /// - A setting is zero that must not be zero: `max_connections`, `max_per_source`, `idle_timeout`,
    ///   `write_timeout`, `max_lifetime` or `proxy_header_timeout`
    ///   ([`InvalidInput`](std::io::ErrorKind::InvalidInput)).
    /// - The system does not accept the time of [`keepalive`](Self::keepalive).
    /// - The process is out of descriptors.
    #[allow(clippy::wrong_self_convention)] // `from` means a constructor of the server here.
    pub fn from_listeners(
        self,
        listeners: impl IntoIterator<Item = TcpListener>,
    ) -> Result<TcpServer, Error> {
        self.check()?;
        let listeners: Vec<_> = listeners.into_iter().collect();
        if listeners.is_empty() {
            return Err(Error::invalid("cannot serve", "no listener was given"));
        }
        let options = self.options();
        let mut addrs = Vec::new();
        let mut prepared = Vec::new();
        for listener in listeners {
            let addr = listener
                .local_addr()
                .map_err(|error| Error::new("cannot listen on a socket that is not IP", error))?;
            let inherits = options
                .apply_to_listener(&listener)
                .map_err(|error| Error::new(format!("cannot listen on {addr}"), error))?;
            addrs.push(addr);
            prepared.push((listener, inherits));
        }
        TcpServer::new(self, prepared, addrs)
    }

    /// Makes a server for one connection that another program has accepted, such as `inetd(8)`.
    ///
    /// Once the connection has ended, [`serve_forever`](TcpServer::serve_forever) returns. The connection
    /// becomes blocking, and gets the options that accepted connections have. The server's
    /// [address](TcpServer::local_addr) is the local address of the connection. The log has lines for the
    /// connection, but none for the start and the stop of such a server.
    ///
    /// # Errors
    ///
    /// Fails as [`from_listeners`](Self::from_listeners) does, if `stream` is not a connected TCP socket
    /// or for its other reasons.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use socketserver::{EchoHandler, TcpServer};
    /// use std::io::{Read, Write};
    /// use std::net::{Shutdown, TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut client = TcpStream::connect(listener.local_addr()?)?;
    /// let (stream, _) = listener.accept()?;
    ///
    /// client.write_all(b"hello")?;
    /// client.shutdown(Shutdown::Write)?;
    /// let server = TcpServer::builder().from_stream(stream)?;
    /// assert_eq!(server.serve_forever(EchoHandler::new)?.connections(), 1);
    ///
    /// let mut echo = String::new();
    /// client.read_to_string(&mut echo)?;
    /// assert_eq!(echo, "hello");
    /// # Ok(())
    /// # }
    /// ```
    #[allow(clippy::wrong_self_convention)] // `from` means a constructor of the server here.
    pub fn from_stream(self, stream: TcpStream) -> Result<TcpServer, Error> {
        self.check()?;
        let options = self.options();
        let prepare = || {
            let peer = socket_options::peer_of(&stream)?;
            options.apply_to_stream(&stream)?;
            Ok((peer, stream.local_addr()?))
        };
        let (peer, addr) =
            prepare().map_err(|error| Error::new("cannot serve the connection", error))?;
        let mut server = TcpServer::new(self, Vec::new(), vec![addr])?;
        server.take_over(stream, peer);
        Ok(server)
    }

    pub(super) fn options(&self) -> SocketOptions {
        SocketOptions {
            keepalive: self.keepalive,
        }
    }

    /// Rejects a setting of zero with which the server could serve no client.
    fn check(&self) -> Result<(), Error> {
        #[cfg(feature = "proxy-protocol")]
        let waits_for_no_header = self.proxy_protocol.timeout.is_zero();
        #[cfg(not(feature = "proxy-protocol"))]
        let waits_for_no_header = false;
        for (name, is_zero) in [
            ("proxy_header_timeout", waits_for_no_header),
            ("max_connections", self.max_connections == 0),
            ("max_per_source", self.max_per_source == Some(0)),
            ("idle_timeout", self.timeouts.idle == Some(Duration::ZERO)),
            ("write_timeout", self.timeouts.write == Some(Duration::ZERO)),
            (
                "max_lifetime",
                self.timeouts.lifetime == Some(Duration::ZERO),
            ),
        ] {
            if is_zero {
                let cause = "it must be greater than 0";
                return Err(Error::invalid(format!("cannot serve with {name} 0"), cause));
            }
        }
        Ok(())
    }
}
