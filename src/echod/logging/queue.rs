//! Lines on their way to standard error, so that who logs never waits for who reads.
//!
//! A terminal that is held, or a pipe that nobody empties, would stop a thread that writes to it.
//! Here only one thread writes, and when too much waits for it, lines are dropped, and counted.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{mem, thread};

use rustix::event::{PollFd, PollFlags, poll};

/// How much may wait: some ten thousand lines.
const MOST: usize = 1024 * 1024;

/// How long the end of the process may be held up by a reader that is slow.
const TIMEOUT: Duration = Duration::from_secs(1);

/// All lines that did not fit so far.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Returns how many lines of the log were lost so far.
pub(super) fn lost() -> u64 {
    // Relaxed is enough: the count publishes nothing else.
    LOST.load(Ordering::Relaxed)
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Told when there is something to write, and when all of it has been.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    is_writing: bool,
    /// Lines that did not fit.
    lost: u64,
    /// Whether that is being said: this fits always, or it would be lost itself, and the count.
    is_reporting: bool,
}

impl Queue {
    /// Starts the thread that writes. It lives as long as the process, and so does the queue.
    pub(super) fn start() -> io::Result<&'static Self> {
        let queue: &'static Self = Box::leak(Box::default());
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || queue.write_all_to(&mut io::stderr()))?;
        Ok(queue)
    }

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

    /// Waits until everything is written.
    pub(super) fn flush(&self) {
        let state = self.lock();
        // Late is lost: there is nobody to tell.
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

/// Takes a line at a time.
impl Write for &'static Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.lock();
        if state.waiting.len() + line.len() > MOST && !state.is_reporting {
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

/// Writes as much as can be written: with standard error closed there is nobody to tell.
fn write_whole(stderr: &mut (impl Write + std::os::fd::AsFd), mut lines: &[u8]) {
    while !lines.is_empty() {
        match stderr.write(lines) {
            Ok(n) => lines = &lines[n..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Whoever shares it has made it so.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let _ = poll(&mut [PollFd::new(stderr, PollFlags::OUT)], None);
            }
            Err(_) => return,
        }
    }
}
