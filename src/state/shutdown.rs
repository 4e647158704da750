//! The request to stop, and how it reaches every thread that sleeps.
//!
//! A request only ever goes forward: from serving to draining to aborting. Three kinds of
//! sleepers hear of it. The holder of the lead, and the thread that called `serve_forever`, each
//! have a [`Waker`]. Every reactor waits on a third pipe as well, which becomes readable at the first
//! request and stays so. The threads of connections sleep on a [`Broadcast`], which also wakes them
//! when the close of one connection is requested.
//!
//! Signals would not do, because a system call may be restarted after one. Neither would
//! `shutdown(2)`. On a listening socket it also stops every other process that shares the
//! socket. On the receiving side of a connection it makes Linux answer the client's next byte
//! with a reset once a FIN is sent as well (`tcp_rcv_state_process`), which destroys what was
//! still queued for the client.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::hand_over::hand_over_point;
use crate::wake::{Broadcast, Waker};

/// How far the shutdown has been asked to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The server accepts and serves connections.
    Serving,
    /// The server accepts no more; live connections come to their own end.
    Draining,
    /// The server disconnects what is left.
    Aborting,
}

/// The phase of a server, and the wake-ups for those that act on it.
#[derive(Debug)]
pub(crate) struct Shutdown {
    phase: AtomicU8,
    /// Held during each `accept(2)` and while the phase changes, so that no connection is
    /// accepted once a request to stop has returned.
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
            gate: Mutex::default(),
            lead: Waker::new()?,
            supervisor: Waker::new()?,
            stop: Waker::new()?,
            sleepers: Broadcast::new()?,
        })
    }

    /// Moves on to `phase`, never back, and wakes everyone.
    pub(crate) fn request(&self, phase: Phase) {
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        // Release pairs with the acquire in `phase`: a thread that sees the new phase sees what
        // was done before the request.
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

    /// Runs `accept`, which must not block, unless a stop has been requested.
    pub(crate) fn unless_stopped<T>(&self, accept: impl FnOnce() -> T) -> Option<T> {
        let _gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        (self.phase() == Phase::Serving).then(accept)
    }

    /// Returns what the holder of the lead sleeps on.
    pub(crate) fn lead(&self) -> &Waker {
        &self.lead
    }

    /// Returns what the thread that called `serve_forever` sleeps on.
    pub(crate) fn supervisor(&self) -> &Waker {
        &self.supervisor
    }

    /// Returns what reactors wait on. Once it is readable, it stays so.
    pub(crate) fn stop(&self) -> BorrowedFd<'_> {
        self.stop.as_fd()
    }

    /// Returns what the threads of connections sleep on.
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
