//! What a server takes of the machine, by `/proc`.

use std::time::Duration;

use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use procfs::process::{Process, Stat, all_processes};
use procfs::{page_size, ticks_per_second};

use crate::failure::{Failure, Result};

const NANOSECONDS: u64 = 1_000_000_000;

/// Watches a server: a process, and those of the group that it leads, for some servers fork.
#[derive(Clone, Copy)]
pub(crate) struct Meter {
    pid: i32,
}

impl Meter {
    pub(crate) fn new(pid: i32) -> Self {
        Self { pid }
    }

    /// Returns the processor time it has used so far, with that of its children that have ended.
    pub(crate) fn cpu(self) -> Result<Duration> {
        self.sum(|stat| {
            // The clock is finer than the ticks of /proc: hundreds of processes may use less than a
            // tick each. It has the time of threads that have ended, too.
            let now = clock_getcpuclockid(Pid::from_raw(stat.pid)).and_then(ClockId::now);
            let ended = u64::try_from(stat.cutime + stat.cstime).ok()?;
            let ended = ended * NANOSECONDS / ticks_per_second();
            Some(u64::try_from(now.ok()?.num_nanoseconds()).ok()? + ended)
        })
        .map(Duration::from_nanos)
    }

    /// Returns its resident memory in bytes. A page that processes share counts once, in parts: or
    /// a server that forks a lot would seem to take more than the machine has.
    pub(crate) fn resident(self) -> Result<u64> {
        self.sum(|stat| {
            let parts = Process::new(stat.pid).and_then(|process| process.smaps_rollup());
            let parts = parts.ok().and_then(|maps| {
                let map = maps.memory_map_rollup.into_iter().next()?;
                map.extension.map.get("Pss").copied()
            });
            // Those of another user's process are not shown.
            Some(parts.unwrap_or(stat.rss * page_size()))
        })
    }

    /// Returns how often its threads have gone to sleep.
    pub(crate) fn switches(self) -> Result<u64> {
        self.sum(|stat| {
            let tasks = Process::new(stat.pid).ok()?.tasks().ok()?.flatten();
            let switches = tasks.filter_map(|task| task.status().ok()?.voluntary_ctxt_switches);
            Some(switches.sum())
        })
    }

    fn sum(self, value: impl Fn(&Stat) -> Option<u64>) -> Result<u64> {
        let failed = |error| Failure::new(format!("cannot read /proc: {error}"));
        let mut found = None;
        for process in all_processes().map_err(failed)?.flatten() {
            // A process that ends meanwhile is none of them any more.
            let Ok(stat) = process.stat() else { continue };
            if (stat.pid == self.pid || stat.pgrp == self.pid)
                && let Some(value) = value(&stat)
            {
                *found.get_or_insert(0) += value;
            }
        }
        found.ok_or_else(|| Failure::new(format!("there is no process {}", self.pid)))
    }
}
