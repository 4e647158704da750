//! The queue of log lines on their way to standard error, so that logging never blocks the echo.
//!
//! A terminal that is stopped (Ctrl-S), or a full pipe, blocks a thread that writes to it. So only one thread
//! writes. If too many lines wait for that thread, further ones are dropped and counted.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{mem, thread};

use rustix::event::{PollFd, PollFlags, poll};

/// Maximum size of the waiting lines, in bytes: about 10,000 lines.
const MAX_WAITING: usize = 1024 * 1024;

/// Time limit for writing the remaining lines when the process ends.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Lines dropped since the process began.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Returns how many log lines were dropped so far.
pub(super) fn lost() -> u64 {
    // Relaxed is enough, because the count orders no other memory.
    LOST.load(Ordering::Relaxed)
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Notified when a line is added, and when all lines have been written.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    is_writing: bool,
    /// Lines dropped since the last warning about it.
    lost: u64,
    /// Whether the warning about dropped lines is being logged. It is added even to a full queue. Otherwise
    /// the warning itself would be dropped.
    is_reporting: bool,
}

impl Queue {
    /// Makes the queue and starts the thread that writes. Both live until the process ends.
    pub(super) fn start() -> io::Result<&'static Self> {
        let queue: &'static Self = Box::leak(Box::default());
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || queue.write_all_to(&mut io::stderr()))?;
        Ok(queue)
    }

    /// Writes lines as they come, for ever.
    fn write_all_to(&self, stderr: &mut (impl Write + std::os::fd::AsFd)) {
        loop {
            let mut state = self.lock();
            state.is_writing = false;
            self.changed.notify_all();
            while state.waiting.is_empty() {
                state = self.wait(state);
            }
            state.is_writing = true;
            let lines = mem::take(&mut state.waiting);
            let lost = mem::take(&mut state.lost);
            drop(state);
            write_whole(stderr, &lines);
            if lost > 0 {
                self.lock().is_reporting = true;
                log::warn!(lost; "{lost} log lines dropped: standard error was not read in time");
                self.lock().is_reporting = false;
            }
        }
    }

    /// Waits until everything is written, at most [`TIMEOUT`].
    pub(super) fn flush(&self) {
        let state = self.lock();
        // On timeout the remaining lines are lost; there is no one left to report to.
        let _ = self.changed.wait_timeout_while(state, TIMEOUT, |state| {
            state.is_writing || !state.waiting.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds one line to the queue with each write.
impl Write for &'static Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.lock();
        if state.waiting.len() + line.len() > MAX_WAITING && !state.is_reporting {
            state.lost += 1;
            LOST.fetch_add(1, Ordering::Relaxed);
        } else {
            state.waiting.extend_from_slice(line);
            self.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes all lines, or gives up if standard error is closed or broken.
fn write_whole(stderr: &mut (impl Write + std::os::fd::AsFd), mut lines: &[u8]) {
    while !lines.is_empty() {
        match stderr.write(lines) {
            Ok(n) => lines = &lines[n..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process that shares standard error made it non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let _ = poll(&mut [PollFd::new(stderr, PollFlags::OUT)], None);
            }
            Err(_) => return,
        }
    }
}
