//! The limits of the system: descriptors are raised as far as allowed, and `--max-connections` is
//! checked against what it needs.

use std::fs;

use rustix::process::{Resource, getrlimit, setrlimit};
use socketserver::TcpServer;

use crate::service::Service;

/// Raises the soft limit on descriptors to the hard one (`setrlimit(2)`, `RLIMIT_NOFILE`).
pub(crate) fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(errno) = setrlimit(Resource::Nofile, limit) {
        log::warn!("cannot raise the descriptor limit: {errno}");
    }
}

/// The descriptors that the library opens later: the pipes of streams, as `EchoHandler` says, and
/// some for reactors.
const LATER: u64 = 64 + 36;

/// Warns if `connections` of each service, beside what is open now, would exceed the limit on
/// descriptors or on threads.
pub(crate) fn check(connections: usize, services: &[Service]) {
    check_descriptors(connections, services.len());
    let with_threads: Vec<_> = services
        .iter()
        .filter(|service| service.needs_threads())
        .map(ToString::to_string)
        .collect();
    check_threads(connections, &with_threads);
}

fn check_descriptors(connections: usize, services: usize) {
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return;
    };
    let room = limit.saturating_sub(open() as u64 + LATER);
    if connections.saturating_mul(services) as u64 > room {
        let each = match services {
            1 => String::new(),
            _ => format!(" for each of {services} services"),
        };
        log::warn!(
            connections, limit, room;
            "--max-connections {connections}{each} does not fit under the descriptor limit of {limit}: \
             after {room} connections new ones will wait"
        );
    }
}

fn check_threads(connections: usize, services: &[String]) {
    let limit = TcpServer::max_threads();
    if connections.saturating_mul(services.len()) > limit {
        let names = services.join(", ");
        log::warn!(
            connections, limit;
            "--max-connections {connections} does not fit under the limit of {limit} threads, one for \
             each connection of {names}: beyond it new ones will wait"
        );
    }
}

fn open() -> usize {
    // Listing the directory takes one itself. Where there is none, the standard three, the
    // listener and the wake-ups are close enough.
    fs::read_dir("/proc/self/fd").map_or(10, |entries| entries.count() - 1)
}
