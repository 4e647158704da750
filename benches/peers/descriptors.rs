//! The limit on open descriptors: raised as far as allowed, and held against what a workload needs.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::workloads::Workload;

/// Besides the connections: the standard three, the poller, `/proc`, and a server's own.
const OTHERS: usize = 100;

/// Raises the soft limit to the hard one, which the servers inherit.
pub(crate) fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If not, it is too low for some workload, and `check` says so.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Says what is wrong if the limit is too low for `workload`.
pub(crate) fn check(workload: Workload) -> Result<(), String> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let needed = workload.descriptors() + OTHERS;
    if needed as u64 > limit {
        return Err(format!(
            "{workload} needs {needed} descriptors, and the limit is {limit}"
        ));
    }
    Ok(())
}
