//! Threads that have served a connection, and wait a moment for the next one themselves.
//!
//! The loop needs to be woken for a client, and to wake a thread for it. A thread that waits in
//! `accept(2)` is woken by the client, and the kernel wakes only one of them. So while there is one,
//! the loop leaves the listener alone, and a client that comes right after another has left costs
//! neither wake-up. The last one to go hands the listener back to the loop.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use crate::connection::{Connection, canonical};
use crate::registry::Registry;
use crate::shutdown::Phase;
use crate::times::Times;

/// Who waits at the listener of a server.
#[derive(Debug)]
pub(crate) struct Standby {
    registry: Arc<Registry>,
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
        times: Times,
    ) -> Self {
        // To turn away those who are too many of one source is the loop's work.
        let may = suits(listeners) && !registry.limits_sources();
        Self {
            registry: Arc::clone(registry),
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

    /// Waits a moment for the next connection.
    pub(crate) fn next(&self) -> Option<Connection> {
        // Not the last one: the loop needs it for what is the loop's work.
        let slot = self.registry.admit_unless_last()?;
        let (stream, peer) = self.accept(&self.listener.upgrade()?[0]).ok()?;
        // Otherwise it shares the fate of those in the backlog.
        let serving = self.registry.shutdown().phase() == Phase::Serving;
        serving.then(|| Connection::new(stream, canonical(peer), slot, self.times))
    }

    /// Takes a connection that is there within the timeout of the socket. An error is for the loop
    /// to meet.
    fn accept(&self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let accepted = listener.accept();
        if self.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.registry.shutdown().waker().wake();
        }
        accepted
    }
}
