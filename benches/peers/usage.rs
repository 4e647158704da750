//! Measures a server's CPU time and memory, by `/proc`.

use std::time::Duration;

use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use procfs::process::{Process, Stat, all_processes};
use procfs::{page_size, ticks_per_second};

use crate::failure::{Failure, Result};

const NANOSECONDS: u64 = 1_000_000_000;

/// Measures a process and its process group, because some servers fork.
#[derive(Clone, Copy)]
pub(crate) struct Meter {
    pid: i32,
}

impl Meter {
    pub(crate) fn new(pid: i32) -> Self {
        Self { pid }
    }

    /// Returns the processor time that the server has used so far, including children that have ended.
    pub(crate) fn cpu(self) -> Result<Duration> {
        self.sum(|stat| {
            // The CPU clock is finer than the ticks of /proc, and hundreds of processes may each use less
            // than a tick. The clock also includes threads that have ended.
            let now = clock_getcpuclockid(Pid::from_raw(stat.pid)).and_then(ClockId::now);
            let ended = u64::try_from(stat.cutime + stat.cstime).ok()?;
            let ended = ended * NANOSECONDS / ticks_per_second();
            Some(u64::try_from(now.ok()?.num_nanoseconds()).ok()? + ended)
        })
        .map(Duration::from_nanos)
    }

    /// Returns the resident memory in bytes.
    ///
    /// A page that several processes share counts once. Otherwise a server that forks often would seem to
    /// take more memory than the machine has.
    pub(crate) fn resident(self) -> Result<u64> {
        self.sum(|stat| {
            let parts = Process::new(stat.pid).and_then(|process| process.smaps_rollup());
            let parts = parts.ok().and_then(|maps| {
                let map = maps.memory_map_rollup.into_iter().next()?;
                map.extension.map.get("Pss").copied()
            });
            // The kernel hides the shares (`Pss`) of another user's process.
            Some(parts.unwrap_or(stat.rss * page_size()))
        })
    }

    /// Returns how often the server's threads have gone to sleep.
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
            // A process that has ended meanwhile no longer counts.
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
