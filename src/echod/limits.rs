//! The limits of the system: descriptors are raised as far as allowed, and `--max-connections` is
//! checked against what it needs.

use std::fs;
use std::path::Path;

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

/// What a connection may take while it is busy: its buffers, in the kernel. Idle it takes 5 KiB.
const MEMORY_EACH: u64 = 64 * 1024;

/// What the process takes beside its connections.
const MEMORY_BASE: u64 = 64 * 1024 * 1024;

/// The threads beside those of connections: listeners, reactors, the log, signals, notification.
const THREADS_BASE: usize = 16;

/// Warns if `connections` of each service, beside what is open now, would exceed the limit on
/// descriptors, on threads or on memory.
pub(crate) fn check(connections: usize, services: &[Service]) {
    let (operators, services): (Vec<Service>, Vec<Service>) = services
        .iter()
        .partition(|service| service.is_for_operators());
    // These have a small limit of their own.
    let limit_of = |service: &Service| service.max_connections(connections);
    let operators = operators.iter().map(limit_of).sum();
    check_descriptors(connections, services.len(), operators);
    let with_threads: Vec<_> = services
        .iter()
        .filter(|service| service.needs_threads())
        .map(ToString::to_string)
        .collect();
    check_threads(connections, &with_threads, operators);
    check_memory(
        connections
            .saturating_mul(services.len())
            .saturating_add(operators),
    );
}

fn check_descriptors(connections: usize, services: usize, operators: usize) {
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return;
    };
    let room = limit.saturating_sub((open() + operators) as u64 + LATER);
    if connections.saturating_mul(services) as u64 > room {
        let each = match services {
            1 => String::new(),
            _ => format!(" for each of {services} services"),
        };
        let rest = match room {
            0 => "which leaves none for connections".to_owned(),
            _ => format!("beyond {room} connections new ones will wait"),
        };
        log::warn!(
            connections, limit, room;
            "--max-connections {connections}{each} does not fit under the descriptor limit of {limit}: \
             {rest}"
        );
    }
}

fn check_threads(connections: usize, services: &[String], operators: usize) {
    let tasks = cgroup_limit("pids.max").and_then(|limit| usize::try_from(limit).ok());
    let tasks = tasks.map_or(usize::MAX, |limit| limit.saturating_sub(THREADS_BASE));
    let limit = TcpServer::max_threads().min(tasks);
    let limit = limit.saturating_sub(operators);
    if connections.saturating_mul(services.len()) > limit {
        let names = services.join(", ");
        log::warn!(
            connections, limit;
            "--max-connections {connections} does not fit under the limit of {limit} threads, one for \
             each connection of {names}: beyond it new ones will wait"
        );
    }
}

fn check_memory(connections: usize) {
    let Some(limit) = cgroup_limit("memory.max") else {
        return;
    };
    let needed = MEMORY_BASE.saturating_add((connections as u64).saturating_mul(MEMORY_EACH));
    if needed > limit {
        let [needed_mib, limit_mib] = [needed, limit].map(|bytes| bytes / (1024 * 1024));
        log::warn!(
            connections, limit, needed;
            "{connections} busy connections may take {needed_mib} MiB, and the memory limit is \
             {limit_mib} MiB (memory.max, MemoryMax=)"
        );
    }
}

/// Returns the lowest limit of the control groups that this process is in (`cgroups(7)`, version 2).
fn cgroup_limit(name: &str) -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    lowest_limit(Path::new("/sys/fs/cgroup"), &groups, name)
}

/// Returns the lowest limit that `name` has in the group that `groups` names, and in those around it.
fn lowest_limit(root: &Path, groups: &str, name: &str) -> Option<u64> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let limits = Path::new(group).ancestors().filter_map(|group| {
        // Where there is no limit it is `max`.
        let path = root.join(group).join(name);
        fs::read_to_string(path).ok()?.trim().parse().ok()
    });
    limits.min()
}

fn open() -> usize {
    // Listing the directory takes one itself. Where there is none, the standard three, the
    // listener and the wake-ups are close enough.
    fs::read_dir("/proc/self/fd").map_or(10, |entries| entries.count() - 1)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_lowest_limit_of_all_groups_around_holds() -> io::Result<()> {
        let root = std::env::temp_dir().join(format!("echod-groups-{}", std::process::id()));
        let service = root.join("system.slice/echod.service");
        fs::create_dir_all(&service)?;
        fs::write(service.join("pids.max"), "max\n")?;
        fs::write(root.join("system.slice/pids.max"), "300\n")?;
        fs::write(root.join("pids.max"), "400\n")?;
        let limit = |groups, name| lowest_limit(&root, groups, name);
        let groups = "8:pids:/other\n0::/system.slice/echod.service\n";
        assert_eq!(limit(groups, "pids.max"), Some(300));
        assert_eq!(limit("0::/\n", "pids.max"), Some(400));
        assert_eq!(limit(groups, "memory.max"), None);
        assert_eq!(limit("8:pids:/other\n", "pids.max"), None);
        fs::remove_dir_all(root)
    }
}
