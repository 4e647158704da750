//! Signals: those that stop the daemon, SIGUSR1, which logs the connections, and those that must not stop it.
//!
//! A process inherits from its parent which signals are blocked and which are ignored (`execve(2)`).

use std::fs;
use std::sync::Arc;
use std::time::Duration;
use std::{io, process, thread};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};

use crate::run::Handles;
use crate::systat;

/// Makes SIGINT, SIGTERM and SIGHUP stop the servers after this delay, and SIGUSR1 log the connections.
///
/// Another stop signal takes the next step at once: it ends the delay, or aborts the connections.
///
/// The daemon calls this first, so that a signal during the start has the same effect: while no server
/// runs, the process just exits. The process must have only one thread, because threads that start later
/// inherit the signal mask.
pub(crate) fn handle(handles: &Arc<Handles>, delay: Duration) -> Result<(), String> {
    set_mask().map_err(|error| format!("cannot set the signal mask: {error}"))?;
    stop_servers(Arc::clone(handles), delay)?;
    log_connections(Arc::clone(handles)).map_err(|error| no_thread(&error))
}

fn no_thread(error: &io::Error) -> String {
    format!("cannot start the thread for signals: {error}")
}

/// The step that the last signal began.
#[derive(Clone, Copy)]
enum Step {
    Serve,
    /// The servers keep accepting until the delay is over.
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
        // The crate's own message lacks the system's error.
        ctrlc::Error::System(cause) => no_thread(&cause),
        other => format!("cannot handle signals: {other}"),
    })
}

/// Logs the live connections at each SIGUSR1.
///
/// Every thread blocks the signal, and one thread waits for it with `sigwait(3)`. So the signal interrupts no
/// system call.
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

/// Sets the signal mask, whatever the parent has blocked.
fn set_mask() -> Result<(), Errno> {
    let mut unblocked = SigSet::empty();
    unblocked.extend([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    let mut blocked = SigSet::empty();
    // A log file that reaches `RLIMIT_FSIZE` would kill the daemon. With SIGXFSZ blocked the write fails, as
    // on a full disk.
    blocked.add(Signal::SIGXFSZ);
    // One thread waits for SIGUSR1. The kernel keeps a blocked signal pending even if the parent ignored it.
    blocked.add(Signal::SIGUSR1);
    if ignores(Signal::SIGHUP) {
        // `nohup(1)` ignores SIGHUP. The handler replaces "ignored", so block the signal instead. An ignored
        // SIGINT does stop the daemon, because shells ignore SIGINT in every background job.
        unblocked.remove(Signal::SIGHUP);
        blocked.add(Signal::SIGHUP);
    }
    unblocked.thread_unblock()?;
    blocked.thread_block()
}

/// Returns whether the parent ignored a signal (`SigIgn`, `proc_pid_status(5)`). Without `/proc`, returns no.
fn ignores(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << (signal as u32 - 1) != 0)
}
