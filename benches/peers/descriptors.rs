//! The limit on open descriptors: raises it as far as allowed, and checks it for each workload.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::workloads::Workload;

/// Descriptors beside the connections: the standard three, the poller, `/proc`, and a server's own.
const OTHERS: usize = 100;

/// Raises the soft limit to the hard limit. The servers inherit it.
pub(crate) fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // An error is ignored: if the limit is too low for a workload, `check` says so.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Checks that the limit is high enough for `workload`. The error says which limit it needs.
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
