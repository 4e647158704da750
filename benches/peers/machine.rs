//! Describes the machine in one line.

use std::fs;

use procfs::{CpuInfo, Current};

/// Returns the processor model, the number of cores, and the kernel version.
pub(crate) fn describe() -> String {
    let cpus = CpuInfo::current().ok();
    let model = cpus.as_ref().and_then(|cpus| cpus.model_name(0));
    let cores = cpus.as_ref().map_or(0, CpuInfo::num_cores);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{}, {cores} {}, Linux {}",
        model.unwrap_or("unknown processor"),
        if cores == 1 { "core" } else { "cores" },
        kernel.trim()
    )
}
