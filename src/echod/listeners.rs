//! The listening sockets of this process: those that it inherits, and those that it binds.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use clap::CommandFactory;
use clap::error::ErrorKind as UsageError;

use crate::address::ListenAddr;
use crate::cli::Cli;
use crate::reason;
use crate::reuse_port;
use crate::run;
use crate::service::Service;

/// Binds every address of `--listen` and `--service`, or none.
///
/// Listeners that were `passed` to this process take the place of `--listen`.
pub(crate) fn bind(
    cli: &Cli,
    passed: Vec<(Service, TcpListener)>,
) -> Result<BTreeMap<Service, Vec<TcpListener>>, Box<dyn Error>> {
    let echo: &[_] = if passed.is_empty() { &cli.listen } else { &[] };
    let echo = echo.iter().map(|addr| (Service::Echo, addr));
    let others = cli.service.iter().map(|(service, addr)| (*service, addr));
    let mut wanted = Vec::new();
    for (service, addr) in echo.chain(others) {
        let resolved = addr
            .resolve()
            .map_err(|error| format!("cannot resolve {addr}: {error}"))?;
        wanted.push(Wanted {
            service,
            addr,
            resolved,
        });
    }
    // Check before binding. Otherwise the error would depend on which ports are free.
    if let Some(clash) = clash(&wanted) {
        return Err(Cli::command()
            .error(UsageError::ArgumentConflict, clash)
            .into());
    }

    let mut listeners: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (service, listener) in passed {
        listeners.entry(service).or_default().push(listener);
    }
    for one in &wanted {
        let is_covered = |addr: &SocketAddr| {
            wanted.iter().any(|other| {
                other.addr != one.addr && other.resolved.iter().any(|other| covers(other, addr))
            })
        };
        let mut addrs = one.resolved.clone();
        addrs.retain(|addr| !is_covered(addr));
        if !addrs.is_empty() {
            let listening = run::builder(cli).listen(&addrs[..]);
            let listening = listening.map_err(|error| explain(error, cli.reuse_port))?;
            if cli.reuse_port {
                listening.iter().for_each(reuse_port::prefer_newest);
            }
            listeners.entry(one.service).or_default().extend(listening);
        }
    }
    Ok(listeners)
}

/// Adds to the error of a `bind(2)` what to do about it.
fn explain(error: socketserver::Error, shares: bool) -> Box<dyn Error> {
    match error.kind() {
        ErrorKind::PermissionDenied => format!(
            "{}; ports below {} need root or the capability CAP_NET_BIND_SERVICE",
            reason(&error),
            unprivileged_port()
        )
        .into(),
        ErrorKind::AddrInUse if shares => format!(
            "{}; to share it, run both processes as the same user and with --reuse-port",
            reason(&error)
        )
        .into(),
        _ => error.into(),
    }
}

/// Returns the lowest port that takes no privilege to bind.
fn unprivileged_port() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|port| port.trim().parse().ok())
        .unwrap_or(1024)
}

/// An address of the command line for a service, as written and as resolved.
struct Wanted<'c> {
    service: Service,
    addr: &'c ListenAddr,
    resolved: Vec<SocketAddr>,
}

/// Returns the first clash: an address that is given twice, or two services at one address.
fn clash(wanted: &[Wanted<'_>]) -> Option<String> {
    for (index, one) in wanted.iter().enumerate() {
        for other in &wanted[..index] {
            for (a, b) in pairs(&one.resolved, &other.resolved) {
                // For port 0 the system picks another port each time.
                let is_same = a == b && a.port() != 0;
                if is_same && one.service == other.service {
                    return Some(format!("{a} is given twice"));
                }
                if one.service != other.service && (is_same || covers(a, b) || covers(b, a)) {
                    return Some(format!(
                        "{} at {} and {} at {} listen on the same address",
                        other.service, other.addr, one.service, one.addr
                    ));
                }
            }
        }
    }
    None
}

fn pairs<'a>(
    some: &'a [SocketAddr],
    others: &'a [SocketAddr],
) -> impl Iterator<Item = (&'a SocketAddr, &'a SocketAddr)> {
    some.iter()
        .flat_map(|one| others.iter().map(move |other| (one, other)))
}

/// Returns whether a socket that listens on `one` gets the clients of `other`, too.
///
/// A socket at `[::]` gets all clients of its port, because it also accepts IPv4. A socket at `0.0.0.0` gets
/// the IPv4 clients.
fn covers(one: &SocketAddr, other: &SocketAddr) -> bool {
    one.ip().is_unspecified()
        && one != other
        && one.port() != 0
        && one.port() == other.port()
        && (one.is_ipv6() || other.is_ipv4())
}
