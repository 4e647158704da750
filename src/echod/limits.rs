//! The limits of the system: raises the one on descriptors, and warns if `--max-connections` needs more than
//! they allow.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, getrlimit, setrlimit};
use socketserver::TcpServer;

use crate::cli::Cli;
use crate::service::Service;

/// Raises the soft limit on descriptors to the hard one (`setrlimit(2)`, `RLIMIT_NOFILE`).
pub(crate) fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(errno) = setrlimit(Resource::Nofile, limit) {
        log::warn!(
            "cannot raise the soft limit on descriptors (RLIMIT_NOFILE) to the hard one: {errno}"
        );
    }
}

/// Returns the soft limit on descriptors, or `None` if there is none.
pub(crate) fn max_descriptors() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Descriptors that the library opens later: the pipes of streams (see `EchoHandler`), and those of the
/// reactors.
const LIBRARY_DESCRIPTORS: u64 = 64 + 36;

/// Memory of a busy connection: its buffers in the kernel. An idle one takes 5 KiB.
const MEMORY_PER_CONNECTION: u64 = 64 * 1024;

/// Memory of the process without connections.
const MEMORY_BASE: u64 = 64 * 1024 * 1024;

/// Threads that carry no handler: listeners, reactors, the log, signals, the notification.
const THREADS_BASE: usize = 16;

/// Warns if the connections of each service need more descriptors, threads or memory than the system allows.
/// The warnings name the flag or the variable that gave the number of connections.
pub(crate) fn check(cli: &Cli, services: &[Service]) {
    let connections = cli.max_connections.get();
    let name = cli.given.name("max_connections");
    let name = name.unwrap_or("--max-connections");
    let (operators, services): (Vec<Service>, Vec<Service>) = services
        .iter()
        .partition(|service| service.is_for_operators());
    // The services for operators have a small limit of their own.
    let limit_of = |service: &Service| service.max_connections(connections);
    let operators = operators.iter().map(limit_of).sum();
    check_descriptors(name, connections, services.len(), operators);
    let with_threads: Vec<_> = services
        .iter()
        .filter(|service| service.needs_threads())
        .map(ToString::to_string)
        .collect();
    check_threads(name, connections, &with_threads, operators);
    check_memory(
        name,
        connections
            .saturating_mul(services.len())
            .saturating_add(operators),
    );
}

fn check_descriptors(name: &str, connections: usize, services: usize, operators: usize) {
    let Some(limit) = max_descriptors() else {
        return;
    };
    let room = limit.saturating_sub((open() + operators) as u64 + LIBRARY_DESCRIPTORS);
    if connections.saturating_mul(services) as u64 > room {
        let each = match services {
            1 => String::new(),
            _ => format!(" for each of {services} services"),
        };
        let rest = match room {
            0 => "none is left for connections".to_owned(),
            _ => format!("beyond {room} connections new ones will wait"),
        };
        log::warn!(
            connections, limit, room;
            "{name} {connections}{each} does not fit under the descriptor limit of {limit}: \
             {rest}; raise the limit (ulimit -Hn, LimitNOFILE=)"
        );
    }
}

fn check_threads(name: &str, connections: usize, services: &[String], operators: usize) {
    let tasks = cgroup_limit("pids.max").and_then(|limit| usize::try_from(limit).ok());
    let tasks = tasks.map_or(usize::MAX, |limit| limit.saturating_sub(THREADS_BASE));
    let limit = TcpServer::max_threads().min(tasks);
    let limit = limit.saturating_sub(operators);
    if connections.saturating_mul(services.len()) > limit {
        let names = services.join(", ");
        log::warn!(
            connections, limit;
            "{name} {connections} does not fit under the limit of {limit} threads, one for \
             each connection of {names}: beyond it new ones will wait; raise the limit (TasksMax=, \
             vm.max_map_count, kernel.threads-max)"
        );
    }
}

fn check_memory(name: &str, connections: usize) {
    let Some(limit) = cgroup_limit("memory.max") else {
        return;
    };
    let needed =
        MEMORY_BASE.saturating_add((connections as u64).saturating_mul(MEMORY_PER_CONNECTION));
    if needed > limit {
        let [needed_mib, limit_mib] = [needed, limit].map(|bytes| bytes / (1024 * 1024));
        log::warn!(
            connections, limit, needed;
            "{connections} busy connections may take {needed_mib} MiB, and the memory limit is \
             {limit_mib} MiB (memory.max, MemoryMax=): raise it, or lower {name}"
        );
    }
}

/// Returns the lowest limit `name` of the control groups around this process (`cgroups(7)`, version 2).
fn cgroup_limit(name: &str) -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    lowest_limit(Path::new("/sys/fs/cgroup"), &groups, name)
}

/// Returns the lowest limit `name` of a group and its ancestors. `groups` is the text of `/proc/self/cgroup`.
fn lowest_limit(root: &Path, groups: &str, name: &str) -> Option<u64> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let limits = Path::new(group).ancestors().filter_map(|group| {
        // The file of a group without a limit has `max`, which is not a number.
        let path = root.join(group).join(name);
        fs::read_to_string(path).ok()?.trim().parse().ok()
    });
    limits.min()
}

/// Returns how many descriptors are open.
fn open() -> usize {
    // Listing the directory takes a descriptor itself. Without `/proc`, 10 is close enough: the standard
    // streams, the listener and the wake-up pipes.
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
