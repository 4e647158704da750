//! Signals: those that stop the daemon, one that asks what it does, and those that must not stop it.
//!
//! A process inherits which signals are blocked and which are ignored (`execve(2)`).

use std::fs;
use std::sync::Arc;
use std::time::Duration;
use std::{io, process, thread};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};

use crate::run::Handles;
use crate::systat;

/// Lets SIGINT, SIGTERM and SIGHUP stop the servers after this delay, and another one do the next step at
/// once: stop accepting, or abort the connections. Lets SIGUSR1 log the live connections.
///
/// The daemon does this early, so that there is no moment in which a signal has another effect: as
/// long as nothing is served, there is nothing to end. There must be one thread only, because the
/// threads that start later inherit its mask.
pub(crate) fn handle(handles: &Arc<Handles>, delay: Duration) -> Result<(), String> {
    set_mask().map_err(|error| format!("cannot set the signal mask: {error}"))?;
    stop_servers(Arc::clone(handles), delay)?;
    log_connections(Arc::clone(handles)).map_err(|error| no_thread(&error))
}

fn no_thread(error: &io::Error) -> String {
    format!("cannot start the thread for signals: {error}")
}

/// What the last signal has begun.
#[derive(Clone, Copy)]
enum Step {
    Serve,
    /// Goes on to accept until a time is over.
    Delay,
    Drain,
}

fn stop_servers(handles: Arc<Handles>, delay: Duration) -> Result<(), String> {
    let mut step = Step::Serve;
    ctrlc::set_handler(move || {
        if handles.all().is_empty() {
            process::exit(0);
        }
        step = match step {
            Step::Serve if !delay.is_zero() && handles.shutdown_after(delay).is_ok() => Step::Delay,
            Step::Serve | Step::Delay => {
                handles.shutdown();
                Step::Drain
            }
            Step::Drain => {
                handles.shutdown_now();
                Step::Drain
            }
        };
    })
    .map_err(|error| match error {
        // Its own text does not say what the error was.
        ctrlc::Error::System(cause) => no_thread(&cause),
        other => format!("cannot handle signals: {other}"),
    })
}

/// Logs the live connections at each SIGUSR1. The signal is blocked in every thread, and this one takes it
/// from the kernel (`sigwait(3)`), so that no handler runs and nothing is interrupted.
fn log_connections(handles: Arc<Handles>) -> io::Result<()> {
    let mut reports = SigSet::empty();
    reports.add(Signal::SIGUSR1);
    thread::Builder::new()
        .name("report".to_owned())
        .spawn(move || {
            while reports.wait().is_ok() {
                systat::log(&handles);
            }
        })
        .map(drop)
}

/// Blocks and unblocks signals, whatever the parent has left blocked.
fn set_mask() -> Result<(), Errno> {
    let mut unblocked = SigSet::empty();
    unblocked.extend([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    let mut blocked = SigSet::empty();
    // A log file at the limit of `RLIMIT_FSIZE` would end the daemon. With the signal blocked the
    // write fails, as on a full disk.
    blocked.add(Signal::SIGXFSZ);
    // A thread waits for it. Even where it was ignored, the kernel keeps it for that thread.
    blocked.add(Signal::SIGUSR1);
    if ignores(Signal::SIGHUP) {
        // By `nohup(1)`. The handler of all three takes the place of "ignored", but not of "blocked".
        // An ignored SIGINT does stop the daemon, because shells ignore it for every background job.
        unblocked.remove(Signal::SIGHUP);
        blocked.add(Signal::SIGHUP);
    }
    unblocked.thread_unblock()?;
    blocked.thread_block()
}

/// Returns whether a signal is ignored (`SigIgn`, `proc_pid_status(5)`), as far as the system says.
fn ignores(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << (signal as u32 - 1) != 0)
}
