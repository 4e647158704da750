//! Sleeping in `poll(2)`: with a timeout, and with a pipe by which another thread ends the sleep.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::hand_over::hand_over_point;

/// Sleeps until one of `fds` is ready or `timeout` is over. Returns whether one of `fds` is ready.
pub(crate) fn wait(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<bool> {
    let start = Instant::now();
    loop {
        // A timeout that the kernel's type can't hold counts as no timeout.
        let left = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(fds, left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            // The kernel may run a signal's handler on any thread, so a signal must not end the sleep.
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A pipe whose readable end is in the `poll` or `epoll` set of one loop.
///
/// It is a pipe because only some systems have `eventfd(2)`. A wake-up costs two system calls, so the
/// server sends wake-ups for events such as a shutdown or a free slot, and never for each message.
#[derive(Debug)]
pub(crate) struct Waker {
    reader: PipeReader,
    writer: PipeWriter,
    /// The number of times that the loop has cleared the pipe.
    cleared: Mutex<u64>,
    changed: Condvar,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
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

    /// Makes the loop's current or next wait return.
    pub(crate) fn wake(&self) {
        // The write fails only if the pipe is full. Then a wake-up is pending already.
        let _ = (&self.writer).write(&[1]);
    }

    /// Empties the pipe, and with it all wake-ups so far.
    ///
    /// The loop must look for work afterwards, not before. Otherwise it could miss work whose wake-up it
    /// has just cleared.
    pub(crate) fn clear(&self) {
        let mut scratch = [0; 64];
        while matches!((&self.reader).read(&mut scratch), Ok(64)) {}
        *self.cleared() += 1;
        self.changed.notify_all();
    }

    /// Sleeps until a wake-up or the end of `timeout`, and clears the wake-up.
    pub(crate) fn sleep(&self, timeout: Option<Duration>) -> io::Result<()> {
        if wait(&mut [PollFd::new(self, PollFlags::IN)], timeout)? {
            self.clear();
        }
        Ok(())
    }

    /// Wakes the loop, and returns whether the loop clears the pipe before `deadline`.
    pub(crate) fn is_cleared_by(&self, deadline: Instant) -> bool {
        let cleared = self.cleared();
        let before = *cleared;
        self.wake();
        let left = deadline.saturating_duration_since(Instant::now());
        let (cleared, _) = self
            .changed
            .wait_timeout_while(cleared, left, |cleared| *cleared == before)
            .unwrap_or_else(PoisonError::into_inner);
        *cleared != before
    }

    fn cleared(&self) -> MutexGuard<'_, u64> {
        self.cleared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A waker for any number of threads.
///
/// A thread sleeps on the pipe that was current when it fell asleep. A wake-up makes that pipe readable
/// for good, and makes a new pipe current. So each sleeping thread wakes once, and no list of sleeping
/// threads is needed.
#[derive(Debug)]
pub(crate) struct Broadcast(RwLock<Arc<Waker>>);

impl Broadcast {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(RwLock::new(Arc::new(Waker::new()?))))
    }

    /// Returns the waker to sleep on.
    ///
    /// A thread must check its condition between this call and its sleep, and a waking thread must
    /// change the condition before it wakes. Otherwise a wake-up could be lost.
    pub(crate) fn current(&self) -> Arc<Waker> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Wakes the threads that sleep now.
    ///
    /// # Errors
    ///
    /// The process is out of descriptors. No thread was woken.
    pub(crate) fn wake_once(&self) -> io::Result<()> {
        let next = Arc::new(Waker::new()?);
        let before = mem::replace(
            &mut *self.0.write().unwrap_or_else(PoisonError::into_inner),
            next,
        );
        hand_over_point();
        before.wake();
        Ok(())
    }

    /// Wakes the threads that sleep now, and all that try to sleep later.
    pub(crate) fn wake_for_good(&self) {
        self.0.read().unwrap_or_else(PoisonError::into_inner).wake();
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
