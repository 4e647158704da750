//! Threads that have served a connection, and wait a moment for the next one themselves.
//!
//! The loop needs to be woken for a client, and to wake a thread for it. A thread that waits in
//! `accept(2)` is woken by the client, and the kernel wakes only one of them. So while there is one,
//! the loop leaves the listener alone, and a client that comes right after another has left waits
//! for neither. The last one to go hands the listener back to the loop.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use crate::accept::socket_options::Options;
use crate::connection::Connection;
use crate::server::at_limit::AtLimit;
use crate::state::Registry;
use crate::state::shutdown::Phase;
use crate::state::timeouts::Times;

/// Who waits at the listener of a server.
#[derive(Debug)]
pub(crate) struct Standby {
    registry: Arc<Registry>,
    options: Options,
    times: Times,
    /// Weak, so that a shutdown closes it, but for the moment of an `accept`.
    listener: Weak<Vec<TcpListener>>,
    waiting: AtomicUsize,
}

/// Returns whether threads may wait at one of `listeners`: it is the only one, and the system keeps
/// the socket's timeout in `accept(2)`.
pub(crate) fn suits(listeners: &[TcpListener]) -> bool {
    cfg!(any(target_os = "linux", target_os = "android")) && listeners.len() == 1
}

impl Standby {
    pub(crate) fn new(
        listeners: &Arc<Vec<TcpListener>>,
        registry: &Arc<Registry>,
        options: Options,
        at_limit: AtLimit,
        times: Times,
    ) -> Self {
        // To turn clients away is the loop's work. It goes by the slots that are taken, and those
        // of the threads that wait here are.
        let may = suits(listeners) && !registry.limits_sources() && at_limit == AtLimit::Wait;
        Self {
            registry: Arc::clone(registry),
            options,
            times,
            listener: if may {
                Arc::downgrade(listeners)
            } else {
                Weak::new()
            },
            waiting: AtomicUsize::new(0),
        }
    }

    /// Returns whether somebody waits. When that changes to nobody, the loop is woken.
    pub(crate) fn is_manned(&self) -> bool {
        // Acquire pairs with the release in `accept`.
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Waits for the next connection, for as long as the listener's read timeout says.
    ///
    /// At a shutdown the one that it gets is drained like those before. At a cut it comes too late.
    pub(crate) fn next(&self) -> Option<Box<Connection>> {
        if self.listener.strong_count() == 0 || self.phase() != Phase::Serving {
            return None;
        }
        // Not the last one: the loop needs it for what is the loop's work.
        let slot = self.registry.admit_unless_last()?;
        // The listener is let go of before the slot: who waits for the slots may then count on the
        // port being free.
        let (stream, peer) = self.accept(&self.listener.upgrade()?[0]).ok()?;
        (self.phase() < Phase::Cutting).then(|| Connection::new(stream, peer, slot, self.times))
    }

    fn phase(&self) -> Phase {
        self.registry.shutdown().phase()
    }

    /// Takes a connection, counted as waiting. An error is for the loop to meet.
    fn accept(&self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let accepted = self.options.accept(listener);
        if self.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.registry.shutdown().waker().wake();
        }
        accepted
    }
}
