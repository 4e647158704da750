//! The request to stop, and how it wakes every sleeping thread of the server.
//!
//! The phase only advances: from serving to draining to aborting. A request wakes three kinds of threads:
//!
//! - The leader and the supervisor each have their own [`Waker`].
//! - Every reactor also waits on a pipe that becomes readable at the first request, and stays readable.
//! - The threads of connections sleep on a [`Broadcast`]. A request to close one connection wakes them, too.
//!
//! Signals would not do, because the kernel may restart a system call after a signal. Nor would
//! `shutdown(2)`. On a listening socket it also stops every other process that shares the socket. On the
//! receiving side of a connection it has another effect: once a FIN is sent, Linux answers the client's
//! next byte with a reset (`tcp_rcv_state_process`). The reset destroys the data still queued for the client.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::hand_over::hand_over_point;
use crate::wake::{Broadcast, Waker};

/// The phase of a server, from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The server accepts and serves connections.
    Serving,
    /// The server accepts no client, and waits for live connections to end by themselves.
    Draining,
    /// The server aborts the connections that are left.
    Aborting,
}

/// The current phase of a server, and the wakers of the threads that act on it.
#[derive(Debug)]
pub(crate) struct Shutdown {
    phase: AtomicU8,
    /// When a stop was first requested.
    requested: OnceLock<Instant>,
    /// Held during each `accept(2)` and while the phase changes, so that the server accepts no connection
    /// after a request to stop has returned.
    gate: Mutex<()>,
    lead: Waker,
    supervisor: Waker,
    stop: Waker,
    sleepers: Broadcast,
}

impl Shutdown {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            phase: AtomicU8::new(Phase::Serving as u8),
            requested: OnceLock::new(),
            gate: Mutex::default(),
            lead: Waker::new()?,
            supervisor: Waker::new()?,
            stop: Waker::new()?,
            sleepers: Broadcast::new()?,
        })
    }

    /// Advances to `phase`, unless the server has passed it, and wakes every sleeping thread.
    pub(crate) fn request(&self, phase: Phase) {
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        self.requested.get_or_init(Instant::now);
        // Release pairs with the acquire in `phase`: a thread that sees the new phase also sees all writes
        // before the request.
        self.phase.fetch_max(phase as u8, Ordering::Release);
        drop(gate);
        hand_over_point();
        self.stop.wake();
        hand_over_point();
        self.sleepers.wake_for_good();
        hand_over_point();
        self.lead.wake();
        hand_over_point();
        self.supervisor.wake();
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Aborting,
        }
    }

    /// Returns the time `timeout` after the request to stop. Returns `None` if no stop has been requested,
    /// or if the clock can't represent this time.
    pub(crate) fn deadline(&self, timeout: Duration) -> Option<Instant> {
        self.requested.get()?.checked_add(timeout)
    }

    /// Runs `accept`, which must not block, unless a stop has been requested.
    pub(crate) fn unless_stopped<T>(&self, accept: impl FnOnce() -> T) -> Option<T> {
        let _gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        (self.phase() == Phase::Serving).then(accept)
    }

    /// Returns the waker of the leader.
    pub(crate) fn lead(&self) -> &Waker {
        &self.lead
    }

    /// Returns the waker of the supervisor, the thread that called `serve_forever`.
    pub(crate) fn supervisor(&self) -> &Waker {
        &self.supervisor
    }

    /// Returns the pipe that reactors wait on. Once the pipe is readable, it stays readable.
    pub(crate) fn stop(&self) -> BorrowedFd<'_> {
        self.stop.as_fd()
    }

    /// Returns the waker of the threads of connections.
    pub(crate) fn sleepers(&self) -> &Broadcast {
        &self.sleepers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phase_never_goes_back() {
        let shutdown = Shutdown::new().unwrap();
        assert_eq!(shutdown.phase(), Phase::Serving);
        shutdown.request(Phase::Aborting);
        shutdown.request(Phase::Draining);
        assert_eq!(shutdown.phase(), Phase::Aborting);
    }

    #[test]
    fn nothing_is_accepted_after_a_request() {
        let shutdown = Shutdown::new().unwrap();
        assert_eq!(shutdown.unless_stopped(|| 7), Some(7));
        shutdown.request(Phase::Draining);
        assert_eq!(shutdown.unless_stopped(|| 7), None);
    }
}
