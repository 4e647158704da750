//! What a server takes of the machine, by `/proc`.

use std::time::Duration;

use procfs::process::{Process, Stat, all_processes};
use procfs::{ProcResult, page_size, ticks_per_second};

use crate::load::{Failure, Result};

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
        let ticks = self.sum(|_, stat| {
            let ended = u64::try_from(stat.cutime + stat.cstime).unwrap_or(0);
            Ok(stat.utime + stat.stime + ended)
        })?;
        Ok(Duration::from_nanos(
            ticks * 1_000_000_000 / ticks_per_second(),
        ))
    }

    /// Returns its resident memory in bytes.
    pub(crate) fn resident(self) -> Result<u64> {
        self.sum(|_, stat| Ok(stat.rss * page_size()))
    }

    /// Returns how often its threads have gone to sleep.
    pub(crate) fn switches(self) -> Result<u64> {
        self.sum(|process, _| {
            let tasks = process.tasks()?.flatten();
            let switches = tasks.filter_map(|task| task.status().ok()?.voluntary_ctxt_switches);
            Ok(switches.sum())
        })
    }

    fn sum(self, value: impl Fn(&Process, &Stat) -> ProcResult<u64>) -> Result<u64> {
        let failed = |error| Failure::new(format!("cannot read /proc: {error}"));
        let mut found = None;
        for process in all_processes().map_err(failed)?.flatten() {
            // A process that ends meanwhile is none of them any more.
            let Ok(stat) = process.stat() else { continue };
            if (stat.pid == self.pid || stat.pgrp == self.pid)
                && let Ok(value) = value(&process, &stat)
            {
                *found.get_or_insert(0) += value;
            }
        }
        found.ok_or_else(|| Failure::new(format!("there is no process {}", self.pid)))
    }
}
