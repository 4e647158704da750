//! Takes a URL apart: the scheme says how to talk, the host to which machine, the port to which program.
//!
//! ```sh
//! cargo run --example url -- http://localhost/
//! cargo run --example url -- echo://127.0.0.1         # the scheme may be any service of /etc/services
//! cargo run --example url -- http://[::1]:8080/
//! ```

mod support;

use std::env;
use std::error::Error;
use std::process::ExitCode;

use dns_lookup::{AddrInfoHints, SockType, getaddrinfo};
use fluent_uri::{Uri, component::Host};
use support::{check_name, complain, print};

fn main() -> ExitCode {
    let Some(url) = env::args_os().nth(1) else {
        complain("usage: url SCHEME://HOST[:PORT][/PATH]");
        return ExitCode::from(2);
    };
    let url = url.to_string_lossy();
    if let Err(error) = show(&url) {
        complain(format_args!("{url}: {error}"));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn show(url: &str) -> Result<(), Box<dyn Error>> {
    let uri =
        Uri::parse(url).map_err(|error| format!("not a URL of the form SCHEME://HOST: {error}"))?;
    let named = uri.authority().filter(|part| !part.host().is_empty());
    let authority = named.ok_or("this URL names no host; write SCHEME://HOST")?;
    let scheme = uri.scheme().as_str().to_lowercase();
    print(format_args!("scheme   {scheme}"));
    print(format_args!("host     {}", authority.host()));

    let given = authority.port_to_u16();
    let given = given.map_err(|_| "a port is a number up to 65535")?;
    let port = given.map_or_else(|| well_known_port(&scheme), Ok)?;
    let origin = given.map_or(", the well-known one", |_| "");
    print(format_args!("port     {port}{origin}"));

    if let Host::RegName(name) = authority.host_parsed() {
        check_name(&name.decode().to_string_lossy())?;
    }
    // The system looks the name up, in `/etc/hosts` or by DNS. A client tries the first address first.
    let mut addrs: Vec<_> = authority.socket_addrs(port)?.collect();
    addrs.dedup();
    for addr in addrs {
        print(format_args!("address  {addr}"));
    }
    Ok(())
}

/// Returns the port of the TCP service with the scheme's name, by the database `/etc/services`.
///
/// `getaddrinfo` without a host looks up the port alone.
fn well_known_port(scheme: &str) -> Result<u16, Box<dyn Error>> {
    let socktype = SockType::Stream.into();
    let hints = AddrInfoHints {
        socktype,
        ..AddrInfoHints::default()
    };
    let addrs = getaddrinfo(None, Some(scheme), Some(hints))
        .map_err(|_| format!("no TCP service is named {scheme:?}, so the URL must give a port"))?;
    let addr = addrs.flatten().next().ok_or("no address at all")?;
    Ok(addr.sockaddr.port())
}
