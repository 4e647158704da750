//! The limit on this process's threads for connections, and the one place that starts them.
//!
//! At most of the system's limits, `pthread_create(3)` fails with an error, which the server handles
//! as a shortage. The limit on memory mappings is different. A thread takes four mappings: its stack,
//! the stack of its signal handler, and a guard page for each. The new thread itself maps the second
//! pair. If that fails, the standard library aborts the process (rust-lang/rust#78497). So this module
//! starts no thread near that limit, nor near the other limits that it can read.

use std::fs;
use std::io;
use std::sync::LazyLock;

use crate::semaphore::Semaphore;
use crate::sync::thread::{self, JoinHandle};

/// The memory mappings that one thread takes.
const MAPPINGS: usize = 4;

/// The kernel's default of `vm.max_map_count`, used if the setting can't be read.
const MAX_MAP_COUNT: usize = 65_530;

/// The threads of this process for connections. The limit varies, so `spawn` passes the current one.
static THREADS: Semaphore = Semaphore::new(usize::MAX);

/// A limit on threads, and the setting that causes it.
#[derive(Clone)]
struct Bound {
    threads: usize,
    reason: String,
}

/// The lowest limit by the kernel's settings, which are read once.
static KERNEL_BOUND: LazyLock<Option<Bound>> = LazyLock::new(|| {
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

/// Returns the maximum number of threads for connections in this process.
pub(crate) fn max_threads() -> usize {
    bound().map_or(usize::MAX, |bound| bound.threads)
}

/// Starts a thread, if the limit allows one more.
///
/// # Errors
///
/// The limit is reached (the error names the setting behind the limit), or `pthread_create(3)` failed.
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

/// Returns the lowest of the limits that this process can read.
fn bound() -> Option<Bound> {
    let processes = max_processes().map(|count| Bound {
        threads: less_a_margin(count),
        reason: format!("RLIMIT_NPROC is {count}"),
    });
    let bounds = processes.into_iter().chain(KERNEL_BOUND.clone());
    bounds.min_by_key(|bound| bound.threads)
}

/// Returns the maximum number of processes and threads of this process's user (`RLIMIT_NPROC`).
///
/// The limit may change while the process runs, so it is read each time. It does not apply to root.
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

/// Returns `None`, because these systems have no `RLIMIT_NPROC`.
#[cfg(any(
    target_os = "illumos",
    target_os = "solaris",
    target_os = "cygwin",
    target_os = "haiku"
))]
fn max_processes() -> Option<usize> {
    None
}

/// Returns `count` less an eighth, which stays free for the process's other needs and for other processes.
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
