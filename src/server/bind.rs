//! From the settings to a server: its listeners, and what it can't be built with.

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
    /// It is [`listen`](Self::listen), then [`from_listeners`](Self::from_listeners).
    ///
    /// # Errors
    ///
    /// Those of both.
    #[doc(alias = "server_bind")]
    #[doc(alias = "server_activate")]
    pub fn bind(self, addr: impl ToSocketAddrs + fmt::Debug) -> Result<TcpServer, Error> {
        let listeners = self.listen(addr)?;
        self.from_listeners(listeners)
    }

    /// Makes a listening socket for every address that `addr` resolves to, for servers with
    /// several: collect the sockets, and pass them to [`from_listeners`](Self::from_listeners).
    ///
    /// The sockets have the order of the addresses. An address whose clients arrive at another
    /// socket of the same call has none of its own, whatever the order: `[::]` takes all clients of
    /// its port, also those of IPv4 (`IPV6_V6ONLY` off), `0.0.0.0` takes all clients of IPv4, and an
    /// address that is given twice is bound once. Port 0 stands for another port each time, so there
    /// nothing is left out, except `0.0.0.0` beside `[::]`.
    ///
    /// Where this machine can't listen on an address, because the machine lacks the family or the
    /// address is not its own, the other addresses are enough. If that is so of a wildcard, the
    /// addresses that it would have covered are bound.
    ///
    /// # Errors
    ///
    /// `addr` can't be resolved, or one of its addresses can't be bound; the error names it. If the
    /// machine can listen on none of several, the error is of an address that is not its own, or
    /// else of a family that it lacks.
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
        for place in widest_first(&addrs) {
            let one = addrs[place];
            if bound.iter().any(|&other| covers(other, one)) {
                continue;
            }
            match socket_options::listen(
                one,
                self.backlog,
                self.reuse_port,
                self.socket_buffers,
                self.options(),
            ) {
                Ok(listener) => {
                    listeners.insert(place, listener);
                    bound.push(one);
                }
                Err(error) if socket_options::is_not_of_this_machine(&error) => {
                    // A machine without IPv6 says so for half of the addresses of every name. So an
                    // address that is not the machine's own is more likely to be the user's mistake.
                    let tells_more = |before: &io::Error| {
                        error.kind() == ErrorKind::AddrNotAvailable && before.kind() != error.kind()
                    };
                    if skipped
                        .as_ref()
                        .is_none_or(|(_, before)| tells_more(before))
                    {
                        skipped = Some((one, error));
                    }
                }
                Err(error) => return Err(Error::new(format!("cannot bind {one}"), error)),
            }
        }
        match skipped {
            _ if !listeners.is_empty() => Ok(listeners.into_values().collect()),
            Some((one, error)) => Err(Error::new(format!("cannot bind {one}"), error)),
            None => Err(Error::invalid(
                format!("cannot bind {addr:?}"),
                "it resolves to no address",
            )),
        }
    }

    /// Makes a server that listens on sockets that were bound elsewhere, in an earlier process
    /// for example.
    ///
    /// `accept(2)` no longer blocks on them from then on (`O_NONBLOCK`), also for other processes that
    /// share them. Nothing else is set on a listener, and each connection gets its own options.
    ///
    /// # Errors
    ///
    /// There is no listener, one of them is not a listening TCP socket, a setting is zero that
    /// can't be, or the process is out of descriptors.
    #[allow(clippy::wrong_self_convention)] // It is `from` as in the constructor of the server.
    pub fn from_listeners(
        self,
        listeners: impl IntoIterator<Item = TcpListener>,
    ) -> Result<TcpServer, Error> {
        self.check()?;
        let listeners: Vec<_> = listeners.into_iter().collect();
        if listeners.is_empty() {
            return Err(Error::invalid("cannot serve", "there is no listener"));
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

    /// Makes a server for one connection, which was accepted elsewhere, as `inetd(8)` does. Once it
    /// has ended, [`serve_forever`](TcpServer::serve_forever) returns.
    ///
    /// It gets the settings that accepted connections have, and is made to block. The
    /// [address](TcpServer::local_addr) of the server is the connection's own. Of such a server only the
    /// connection's end is logged, neither its start nor its stop.
    ///
    /// # Errors
    ///
    /// It is not a connected TCP socket, a setting is zero that can't be, or the process is out of
    /// descriptors.
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
    #[allow(clippy::wrong_self_convention)] // It is `from` as in the constructor of the server.
    pub fn from_stream(self, stream: TcpStream) -> Result<TcpServer, Error> {
        self.check()?;
        let options = self.options();
        let prepare = || {
            let peer = socket_options::peer_of(&stream)?;
            options.apply_to_stream(&stream)?;
            Ok((peer, stream.local_addr()?))
        };
        let (peer, addr) =
            prepare().map_err(|error| Error::new("cannot serve a connection", error))?;
        let mut server = TcpServer::new(self, Vec::new(), vec![addr])?;
        server.take_over(stream, peer);
        Ok(server)
    }

    pub(super) fn options(&self) -> SocketOptions {
        SocketOptions {
            keepalive: self.keepalive,
        }
    }

    /// Refuses a zero where it would mean that nobody is served.
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
                let cause = "it must be more than zero";
                return Err(Error::invalid(format!("cannot serve with {name} 0"), cause));
            }
        }
        Ok(())
    }
}
