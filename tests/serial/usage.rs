//! The resources that a daemon uses.

use std::fs;

use crate::support::Daemon;

/// Returns a number from the status of the daemon's process (`proc(5)`).
pub(crate) fn status(daemon: &Daemon, name: &str) -> u64 {
    number(
        &format!("/proc/{}/status", daemon.pid().as_raw_nonzero()),
        name,
    )
}

/// Returns a number from the status of this process.
pub(crate) fn own_status(name: &str) -> u64 {
    number("/proc/self/status", name)
}

fn number(path: &str, name: &str) -> u64 {
    let status = fs::read_to_string(path).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Returns the CPU time of the daemon, in hundredths of a second (`stat`, `proc(5)`).
pub(crate) fn ticks(daemon: &Daemon) -> u64 {
    let path = format!("/proc/{}/stat", daemon.pid().as_raw_nonzero());
    let stat = fs::read_to_string(path).unwrap();
    let fields: Vec<_> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Returns how many descriptors the daemon has open.
pub(crate) fn descriptors(daemon: &Daemon) -> usize {
    let path = format!("/proc/{}/fd", daemon.pid().as_raw_nonzero());
    fs::read_dir(path).unwrap().count()
}

/// Returns whether the daemon has a thread of this name.
pub(crate) fn has_thread(daemon: &Daemon, name: &str) -> bool {
    let path = format!("/proc/{}/task", daemon.pid().as_raw_nonzero());
    fs::read_dir(path).unwrap().any(|task| {
        // A thread may have ended in the meantime.
        let comm = task.map(|task| fs::read_to_string(task.path().join("comm")));
        comm.is_ok_and(|comm| comm.is_ok_and(|comm| comm.trim() == name))
    })
}
