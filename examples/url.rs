//! What a URL names: how to talk (the scheme), to whom (the host), at which port.
//!
//! ```sh
//! cargo run --example url -- http://localhost/
//! cargo run --example url -- echo://127.0.0.1         # any service that the system has a port for
//! cargo run --example url -- http://[::1]:8080/
//! ```

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::env;
use std::error::Error;
use std::process::ExitCode;

use dns_lookup::{AddrInfoHints, SockType, getaddrinfo};
use fluent_uri::Uri;
use fluent_uri::component::Authority;

fn main() -> ExitCode {
    let Some(url) = env::args_os().nth(1) else {
        eprintln!("usage: url SCHEME://HOST[:PORT][/PATH]");
        return ExitCode::from(2);
    };
    let url = url.to_string_lossy();
    match show(&url) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{url}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn show(url: &str) -> Result<(), Box<dyn Error>> {
    let uri =
        Uri::parse(url).map_err(|error| format!("no URL, as SCHEME://HOST[:PORT] is: {error}"))?;
    let scheme = uri.scheme().as_str().to_lowercase();
    let authority = uri
        .authority()
        .filter(|authority| !authority.host().is_empty())
        .ok_or("a URL, but it names no host, as SCHEME://HOST does")?;
    println!("scheme   {scheme}");
    println!("host     {}", authority.host());
    let port = port(authority, &scheme)?;
    // The name becomes addresses: from `/etc/hosts`, or from DNS. The first is the one to try first.
    let mut addrs: Vec<_> = authority.socket_addrs(port)?.collect();
    addrs.dedup();
    for addr in addrs {
        println!("address  {addr}");
    }
    Ok(())
}

/// The port that the URL gives, or the well-known one of the service that the scheme is named after.
fn port(authority: Authority, scheme: &str) -> Result<u16, Box<dyn Error>> {
    let given = authority.port_to_u16();
    if let Some(port) = given.map_err(|_| "a port is a number up to 65535")? {
        println!("port     {port}");
        return Ok(port);
    }
    let tcp = AddrInfoHints {
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    // The services database, `/etc/services`, is asked by way of an address without a host.
    let infos = getaddrinfo(None, Some(scheme), Some(tcp))
        .map_err(|_| format!("no TCP service is named {scheme:?}, so the URL must give a port"))?;
    let info = infos.flatten().next().ok_or("no address at all")?;
    println!("port     {}, the well-known one", info.sockaddr.port());
    Ok(info.sockaddr.port())
}
