//! The listening sockets of this process: those that were passed to it, and those that it binds.

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

/// Binds everything that was asked for, or nothing. What was passed takes the place of `--listen`.
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
    // Before the first is bound, so that the error doesn't depend on which ports are free.
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

/// Says what to do about a port that takes a privilege, and about one that can't be shared.
fn explain(error: socketserver::Error, shares: bool) -> Box<dyn Error> {
    match error.kind() {
        ErrorKind::PermissionDenied => format!(
            "{}; ports below {} take root, or the capability CAP_NET_BIND_SERVICE",
            reason(&error),
            unprivileged_port()
        )
        .into(),
        ErrorKind::AddrInUse if shares => format!(
            "{}; only processes of the same user share it, each with --reuse-port",
            reason(&error)
        )
        .into(),
        _ => error.into(),
    }
}

/// Returns the first port that everybody may bind.
fn unprivileged_port() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|port| port.trim().parse().ok())
        .unwrap_or(1024)
}

/// Addresses that a service is to listen on, and how they were written.
struct Wanted<'c> {
    service: Service,
    addr: &'c ListenAddr,
    resolved: Vec<SocketAddr>,
}

/// Returns which two can't be listened on together: one address twice, or services that share one.
fn clash(wanted: &[Wanted<'_>]) -> Option<String> {
    for (index, one) in wanted.iter().enumerate() {
        for other in &wanted[..index] {
            for (a, b) in pairs(&one.resolved, &other.resolved) {
                // With port 0 the system gives each a port of its own.
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

/// Returns whether a socket that listens on `one` gets the clients of `other`, too: that of `[::]`
/// gets all, because it takes IPv4 clients, and that of `0.0.0.0` those of IPv4.
fn covers(one: &SocketAddr, other: &SocketAddr) -> bool {
    one.ip().is_unspecified()
        && one != other
        && one.port() != 0
        && one.port() == other.port()
        && (one.is_ipv6() || other.is_ipv4())
}
