//! The request to stop, and what carries it to those that sleep.
//!
//! The listener loop sleeps in `poll(2)` on its listeners and on a [`Waker`]; a connection's thread
//! on its stream and on the stop, which becomes readable once and for all. A request only ever
//! goes forward: from serving to draining to cutting.
//!
//! Signals are not relied upon, because system calls may be restarted after one. A listening
//! socket is never shut down: that would also kill it in the hands of whoever shares it. Nor is
//! the receiving side of a connection: once a FIN is sent as well, Linux answers the peer's next
//! byte with a reset (`tcp_rcv_state_process`), and drops what was still queued for it.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How far the shutdown has been asked to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Connections are accepted and served.
    Serving,
    /// No more are accepted; those that live come to their own end.
    Draining,
    /// Those that still live are disconnected.
    Cutting,
}

/// The phase a server is in, and the wake-up for the thread that must act on it.
#[derive(Debug)]
pub(crate) struct Shutdown {
    phase: AtomicU8,
    waker: Waker,
    stop: Waker,
}

impl Shutdown {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            phase: AtomicU8::new(Phase::Serving as u8),
            waker: Waker::new()?,
            stop: Waker::new()?,
        })
    }

    /// Moves on to `phase`, never back, and wakes everyone.
    pub(crate) fn request(&self, phase: Phase) {
        // Release pairs with the acquire in `phase`: who sees the new phase sees what was done
        // before it was requested.
        self.phase.fetch_max(phase as u8, Ordering::Release);
        self.stop.wake();
        self.waker.wake();
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Cutting,
        }
    }

    /// Returns what the loop waits on.
    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Returns what connections wait on. Once ready, it stays ready.
    pub(crate) fn stop(&self) -> BorrowedFd<'_> {
        self.stop.as_fd()
    }
}

/// A pipe whose readable end is in a `poll` set.
///
/// A pipe and not an `eventfd(2)`, which only some systems have: it is written to when a shutdown is
/// requested, or when a connection ends or begins that the loop waits for, never per message.
#[derive(Debug)]
pub(crate) struct Waker {
    reader: PipeReader,
    writer: PipeWriter,
    /// How often wake-ups have been taken back, for those who wait for it.
    cleared: Mutex<u64>,
    changed: Condvar,
}

impl Waker {
    fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        rustix::io::ioctl_fionbio(&writer, true)?;
        Ok(Self {
            reader,
            writer,
            cleared: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Makes the next, or the current, `poll` return.
    pub(crate) fn wake(&self) {
        // The only failure that can happen is a full pipe, and then a wake-up is pending.
        let _ = (&self.writer).write(&[1]);
    }

    /// Takes back all wake-ups so far. What they announce must be looked at afterwards.
    pub(crate) fn clear(&self) {
        let mut scratch = [0; 64];
        while matches!((&self.reader).read(&mut scratch), Ok(64)) {}
        *self.cleared() += 1;
        self.changed.notify_all();
    }

    /// Wakes up who waits, and returns whether it comes to [`clear`](Self::clear) in time.
    pub(crate) fn answers_within(&self, timeout: Duration) -> bool {
        let cleared = self.cleared();
        let before = *cleared;
        self.wake();
        let (cleared, _) = self
            .changed
            .wait_timeout_while(cleared, timeout, |cleared| *cleared == before)
            .unwrap_or_else(PoisonError::into_inner);
        *cleared != before
    }

    fn cleared(&self) -> MutexGuard<'_, u64> {
        self.cleared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phase_never_goes_back() {
        let shutdown = Shutdown::new().unwrap();
        assert_eq!(shutdown.phase(), Phase::Serving);
        shutdown.request(Phase::Cutting);
        shutdown.request(Phase::Draining);
        assert_eq!(shutdown.phase(), Phase::Cutting);
    }

    #[test]
    fn a_hundred_thousand_wake_ups_neither_block_nor_outlive_a_clear() {
        let waker = Waker::new().unwrap();
        for _ in 0..100_000 {
            waker.wake();
        }
        waker.clear();
        let error = (&waker.reader).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
