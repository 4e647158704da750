//! The PROXY protocol: headers from a trusted proxy, and from everyone else.

mod addresses;
mod broken;
mod haproxy;
mod headers;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};

use ppp::{v1, v2};
use socketserver::{Builder, Connection, Network, RequestHandler, Rest};

use crate::support::connect_from;

/// The address of a proxy that the servers of these tests trust. All of 127.0.0.0/8 belongs to this machine.
const PROXY: &str = "127.0.0.2";

/// The address of a client that the servers do not trust.
const CLIENT: &str = "127.0.0.3";

/// Makes the server trust [`PROXY`].
fn trusting(builder: Builder) -> Builder {
    builder.proxy_protocol([PROXY.parse::<Network>().unwrap()])
}

fn proxy(server: SocketAddr) -> TcpStream {
    let proxy = connect_from(PROXY, server);
    // Send each write as a packet of its own.
    proxy.set_nodelay(true).unwrap();
    proxy
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Makes a header of version 1.
fn v1_header(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let addresses = v1::Addresses::from((source, destination));
    addresses.to_string().into_bytes()
}

/// Makes a header of version 2.
fn v2_header(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    v2_header_with(source, destination, &[])
}

/// Makes a header of version 2 with additional bytes after the addresses.
fn v2_header_with(source: SocketAddr, destination: SocketAddr, noise: &[u8]) -> Vec<u8> {
    let command = v2::Version::Two | v2::Command::Proxy;
    let addresses = (source, destination);
    let builder = v2::Builder::with_addresses(command, v2::Protocol::Stream, addresses);
    let builder = match noise {
        [] => builder,
        noise => builder.write_tlv(v2::Type::NoOp, noise).unwrap(),
    };
    builder.build().unwrap()
}

/// A header of version 2 with the command LOCAL, as for a health check.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0";

/// Sends the addresses of the client and of the server, then echoes.
struct GreetingEcho;

impl RequestHandler for GreetingEcho {
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        let (peer, local) = (conn.peer_addr(), conn.local_addr()?);
        writeln!(conn, "{peer} to {local}")?;
        conn.continue_with(Rest::Echo, &[]);
        Ok(())
    }
}
