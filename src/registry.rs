//! The live connections: how many there may be, how many there are, and how they are ended.
//!
//! A [`Slot`] is the permission to hold one connection. It is taken before `accept(2)`, so that
//! the limit is never exceeded, and given back when it is dropped, after the descriptor was
//! closed. The lock is held for a few instructions at the start and at the end of a connection,
//! and never per message.

use std::collections::HashMap;
use std::io;
use std::net::{self, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::shutdown::Shutdown;

/// What a server has done, from its start to its end.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), socketserver::Error> {
/// use socketserver::{EchoHandler, TcpServer};
///
/// let server = TcpServer::bind("127.0.0.1:0")?;
/// server.handle().shutdown();
/// let totals = server.serve_forever(EchoHandler::new)?;
/// assert_eq!((totals.connections(), totals.cut()), (0, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    connections: u64,
    bytes_in: u64,
    bytes_out: u64,
    cut: u64,
}

impl Totals {
    /// Returns how many connections were accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections
    }

    /// Returns how many bytes were received over all connections that have ended.
    #[must_use]
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in
    }

    /// Returns how many bytes were sent over all connections that have ended.
    #[must_use]
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out
    }

    /// Returns how many connections a shutdown had to cut. Zero means that it was clean.
    #[must_use]
    pub fn cut(&self) -> u64 {
        self.cut
    }
}

/// How far a connection is, as far as a shutdown is concerned. It only goes forward.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Its thread may be blocked in a read, not knowing of the shutdown.
    Open,
    /// Its thread knows of the shutdown, or was woken for it: no read blocks any more.
    Draining,
    /// Its handler is done.
    Closing,
}

/// The part of a connection that a shutdown reaches from outside: the stream, and where its
/// thread stands. Nobody else duplicates the descriptor.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) stream: TcpStream,
    stage: AtomicU8,
    /// Whether the thread is in the middle of a write. It will learn of a shutdown by itself.
    pub(crate) writing: AtomicBool,
}

impl Link {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            stage: AtomicU8::new(Stage::Open as u8),
            writing: AtomicBool::new(false),
        }
    }

    // Relaxed is enough for both: the stage publishes nothing but itself.
    pub(crate) fn advance(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::Relaxed);
    }

    pub(crate) fn reached(&self, stage: Stage) -> bool {
        self.stage.load(Ordering::Relaxed) >= stage as u8
    }
}

/// The live connections of one server.
#[derive(Debug)]
pub(crate) struct Registry {
    shutdown: Shutdown,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: usize,
    live: usize,
    /// The loop sleeps until fewer connections than this are live; 0 if it need not be woken.
    wake_below: usize,
    next_id: u64,
    /// Weak, so that a connection's own thread is who closes its descriptor.
    links: HashMap<u64, Weak<Link>>,
    totals: Totals,
}

impl Registry {
    pub(crate) fn new(limit: usize) -> io::Result<Self> {
        Ok(Self {
            shutdown: Shutdown::new()?,
            state: Mutex::new(State {
                limit,
                live: 0,
                wake_below: 0,
                next_id: 0,
                links: HashMap::new(),
                totals: Totals::default(),
            }),
        })
    }

    pub(crate) fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    pub(crate) fn live(&self) -> usize {
        self.lock().live
    }

    pub(crate) fn limit(&self) -> usize {
        self.lock().limit
    }

    pub(crate) fn totals(&self) -> Totals {
        self.lock().totals
    }

    /// Takes a slot, if one is free.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Slot> {
        let mut state = self.lock();
        if state.live >= state.limit {
            return None;
        }
        state.live += 1;
        state.next_id += 1;
        Some(Slot {
            registry: Arc::clone(self),
            id: state.next_id,
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        })
    }

    /// Returns whether a slot is free. If not, the loop will be woken when one is.
    pub(crate) fn has_room(&self) -> bool {
        let mut state = self.lock();
        let room = state.live < state.limit;
        state.wake_below = if room { 0 } else { state.limit };
        room
    }

    /// Returns whether no connection is live. If one is, the loop will be woken when none is.
    pub(crate) fn is_empty(&self) -> bool {
        let mut state = self.lock();
        let empty = state.live == 0;
        state.wake_below = usize::from(!empty);
        empty
    }

    /// Ends the blocked reads of connections whose threads don't know of the shutdown yet.
    /// Returns whether some are left, in the middle of a write.
    ///
    /// A woken read still returns what is queued, then end of file. But once the peer has been
    /// sent a FIN as well, its next byte is answered by a reset (Linux, `tcp_rcv_state_process`),
    /// which can overtake the echo. So a thread that will see the shutdown by itself is left
    /// alone, and only those that sleep are woken.
    pub(crate) fn wake_readers(&self) -> bool {
        let mut left = false;
        for link in self.links() {
            if link.reached(Stage::Draining) {
                continue;
            }
            if link.writing.load(Ordering::Relaxed) {
                left = true;
                continue;
            }
            link.advance(Stage::Draining);
            // It fails if the peer has reset the connection, and then no read blocks either.
            let _ = link.stream.shutdown(net::Shutdown::Read);
        }
        left
    }

    /// Disconnects whoever is left. Returns how many handlers were not done.
    pub(crate) fn cut(&self) -> u64 {
        let mut cut = 0;
        for link in self.links() {
            cut += u64::from(!link.reached(Stage::Closing));
            link.advance(Stage::Draining);
            let _ = link.stream.shutdown(net::Shutdown::Both);
        }
        self.lock().totals.cut += cut;
        cut
    }

    /// Snapshots the live links, so that no system call is made under the lock.
    fn links(&self) -> Vec<Arc<Link>> {
        self.lock()
            .links
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; if it did, the counts would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The permission to hold one connection, and the count of what went over it.
#[derive(Debug)]
pub(crate) struct Slot {
    registry: Arc<Registry>,
    id: u64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
}

impl Slot {
    /// Enters the connection that took this slot, so that a shutdown finds it.
    pub(crate) fn attach(&self, link: &Arc<Link>) {
        let mut state = self.registry.lock();
        state.totals.connections += 1;
        state.links.insert(self.id, Arc::downgrade(link));
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        state.links.remove(&self.id);
        state.totals.bytes_in += *self.bytes_in.get_mut();
        state.totals.bytes_out += *self.bytes_out.get_mut();
        state.live -= 1;
        let wake = state.live < state.wake_below;
        if wake {
            state.wake_below = 0;
        }
        drop(state);
        if wake {
            self.registry.shutdown.waker().wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_hard_and_a_dropped_slot_is_free_again() {
        let registry = Arc::new(Registry::new(2).unwrap());
        let first = registry.admit().unwrap();
        let _second = registry.admit().unwrap();
        assert!(registry.admit().is_none());
        assert!(!registry.has_room());
        drop(first);
        assert!(registry.has_room());
        assert!(registry.admit().is_some());
    }

    #[test]
    fn totals_add_up_what_ended_connections_counted() {
        let registry = Arc::new(Registry::new(9).unwrap());
        for _ in 0..3 {
            let slot = registry.admit().unwrap();
            slot.bytes_in.store(5, Ordering::Relaxed);
            slot.bytes_out.store(7, Ordering::Relaxed);
        }
        let totals = registry.totals();
        assert_eq!((totals.bytes_in(), totals.bytes_out()), (15, 21));
        assert!(registry.is_empty());
    }
}
