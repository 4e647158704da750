//! The bound on the threads of this process, and the one place where they are started.
//!
//! The system refuses a thread beyond most of its limits with an error, which is a shortage like
//! any other. One limit is different: a thread takes four memory mappings (its stack, the stack
//! of its signal handler, and the guard page of each), and when the thread's own start-up can't
//! map the second pair, the standard library aborts the process (rust-lang/rust#78497). So the
//! process keeps its distance to that limit, and to the others as far as it can know them.

use std::fs;
use std::io;
use std::sync::LazyLock;

use crate::semaphore::Semaphore;
use crate::sync::thread::{self, JoinHandle};

/// How many memory mappings a thread takes.
const MAPPINGS: usize = 4;

/// `vm.max_map_count` where it can't be read: the default of the kernel.
const MAX_MAP_COUNT: usize = 65_530;

/// The threads of the process that serve connections.
static THREADS: Semaphore = Semaphore::new(usize::MAX);

/// A bound, and where it comes from.
#[derive(Clone)]
struct Bound {
    threads: usize,
    reason: String,
}

/// The bound by the settings of the kernel, which are read once.
static KERNEL: LazyLock<Option<Bound>> = LazyLock::new(|| {
    let read = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<usize>().ok();
    let mut bounds = Vec::new();
    if cfg!(any(target_os = "linux", target_os = "android")) {
        let count = read("/proc/sys/vm/max_map_count").unwrap_or(MAX_MAP_COUNT);
        let used = fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count());
        bounds.push(Bound {
            threads: less_a_margin(count).saturating_sub(used) / MAPPINGS,
            reason: format!("vm.max_map_count is {count}, and a thread takes {MAPPINGS}"),
        });
    }
    for name in ["threads-max", "pid_max"] {
        bounds.extend(
            read(&format!("/proc/sys/kernel/{name}")).map(|count| Bound {
                threads: less_a_margin(count),
                reason: format!("kernel.{name} is {count}"),
            }),
        );
    }
    bounds.into_iter().min_by_key(|bound| bound.threads)
});

/// Returns how many threads the process may have for connections.
pub(crate) fn max_threads() -> usize {
    bound().map_or(usize::MAX, |bound| bound.threads)
}

/// Starts a thread, within the bound.
///
/// # Errors
///
/// The bound is reached, and the error names it; or that of `pthread_create(3)`.
pub(crate) fn spawn(
    name: &str,
    stack_size: Option<usize>,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let bound = bound();
    let max = bound.as_ref().map_or(usize::MAX, |bound| bound.threads);
    let permit = THREADS.try_acquire_of(max).ok_or_else(|| {
        let reason = bound.map_or_else(String::new, |bound| bound.reason);
        io::Error::other(format!("the limit of {max} threads is reached ({reason})"))
    })?;
    let mut builder = thread::Builder::new().name(name.to_owned());
    if let Some(size) = stack_size {
        builder = builder.stack_size(size);
    }
    builder.spawn(move || {
        let _permit = permit;
        run();
    })
}

/// Returns the lowest bound that is known.
fn bound() -> Option<Bound> {
    let processes = max_processes().map(|count| Bound {
        threads: less_a_margin(count),
        reason: format!("RLIMIT_NPROC is {count}"),
    });
    let bounds = processes.into_iter().chain(KERNEL.clone());
    bounds.min_by_key(|bound| bound.threads)
}

/// Returns how many processes and threads the user of this process may have. The limit may change
/// while the process runs. It does not hold for root.
#[cfg(not(any(
    target_os = "illumos",
    target_os = "solaris",
    target_os = "cygwin",
    target_os = "haiku"
)))]
fn max_processes() -> Option<usize> {
    use rustix::process::{Resource, geteuid, getrlimit};
    let count = getrlimit(Resource::Nproc).current;
    let count = count.filter(|_| !geteuid().is_root())?;
    usize::try_from(count).ok()
}

/// These systems have no `RLIMIT_NPROC`.
#[cfg(any(
    target_os = "illumos",
    target_os = "solaris",
    target_os = "cygwin",
    target_os = "haiku"
))]
fn max_processes() -> Option<usize> {
    None
}

/// An eighth is for what else the process and its neighbours need.
fn less_a_margin(count: usize) -> usize {
    count - count / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn threads_take_fewer_mappings_than_there_may_be() {
        let count = fs::read_to_string("/proc/sys/vm/max_map_count")
            .map_or(MAX_MAP_COUNT, |text| text.trim().parse().unwrap());
        assert!(max_threads() > 0);
        assert!(max_threads() * MAPPINGS < count);
    }

    #[test]
    fn a_thread_has_its_name_and_runs() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let handle = spawn("thread", None, move || {
            sender
                .send(thread::current().name().map(str::to_owned))
                .unwrap();
        });
        handle.unwrap().join().unwrap();
        assert_eq!(receiver.recv().unwrap().as_deref(), Some("thread"));
    }
}
