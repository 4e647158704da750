//! The PROXY protocol: what a trusted proxy says of its client, and what everybody else says.

mod addresses;
mod broken;
mod haproxy;
mod headers;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};

use ppp::{v1, v2};
use socketserver::{Builder, Connection, Network, RequestHandler, Rest};

use crate::support::connect_from;

/// The address of a proxy that the servers of these tests trust. All of 127.0.0.0/8 is this machine.
const PROXY: &str = "127.0.0.2";

/// The address of a client that they do not trust.
const CLIENT: &str = "127.0.0.3";

/// A builder of a server that trusts [`PROXY`].
fn trusting(builder: Builder) -> Builder {
    builder.proxy_protocol([PROXY.parse::<Network>().unwrap()])
}

fn proxy(server: SocketAddr) -> TcpStream {
    let proxy = connect_from(PROXY, server);
    // Each write is a packet.
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

/// Makes a header of version 2 that has something in addition.
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

/// A header of version 2 for a health check.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0";

/// Says who the client is and what it has connected to, then echoes.
struct GreetingEcho;

impl RequestHandler for GreetingEcho {
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        let (peer, local) = (conn.peer_addr(), conn.local_addr()?);
        writeln!(conn, "{peer} to {local}")?;
        conn.continue_with(Rest::Echo, &[]);
        Ok(())
    }
}
