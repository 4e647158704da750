//! The limit on open descriptors: raised as far as allowed, and checked against what is needed.

use std::fs;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit to the hard one (`setrlimit(2)`, `RLIMIT_NOFILE`).
pub(crate) fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(errno) = setrlimit(Resource::Nofile, limit) {
        log::warn!("cannot raise the descriptor limit: {errno}");
    }
}

/// What the pipes of streams take besides: `EchoHandler` says so.
const PIPES: u64 = 64;

/// Warns if so many connections of each server, beside what is open now, would exceed the limit.
pub(crate) fn check_limit(connections: usize, servers: usize) {
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return;
    };
    let room = limit.saturating_sub(open() as u64 + PIPES);
    if connections.saturating_mul(servers) as u64 > room {
        let each = match servers {
            1 => String::new(),
            _ => format!(" for each of {servers} services"),
        };
        log::warn!(
            connections, limit, room;
            "--max-connections {connections}{each} does not fit under the descriptor limit of {limit}: \
             after {room} connections new ones will wait"
        );
    }
}

fn open() -> usize {
    // Listing the directory takes one itself. Where there is none, the standard three, the
    // listener and the wake-up are close enough.
    fs::read_dir("/proc/self/fd").map_or(6, |entries| entries.count() - 1)
}
