//! The live connections: how many there may be, how many there are, and how they are ended.
//!
//! A [`Slot`] is the permission to hold one connection. It is taken before `accept(2)`, so that
//! the limit is never exceeded, and given back when it is dropped, after the descriptor was
//! closed. The lock is held for a few instructions at the start and at the end of a connection,
//! and never per message.

pub(crate) mod handle;
pub(crate) mod log_prefix;
pub(crate) mod shared_stream;
pub(crate) mod shutdown;
mod sources;
pub(crate) mod timeouts;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::state::log_prefix::Tag;
use crate::state::shared_stream::Link;
use crate::state::shutdown::Shutdown;
use crate::state::sources::{Source, Sources};

/// What a server has done, from its start to its end, or [so far](crate::ServerHandle::totals).
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
    refused: u64,
    cut: u64,
}

impl Totals {
    /// Returns how many connections were accepted and had a thread, those that the
    /// [verify hook](crate::Builder::verify_request) has rejected among them.
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

    /// Returns how many connections were accepted only to be closed, at a limit.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Returns how many connections a shutdown had to cut. Zero means that it was clean.
    #[must_use]
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// Logs them, at the end.
    pub(crate) fn log(&self, tag: &Tag) {
        let Self {
            connections,
            bytes_in,
            bytes_out,
            refused,
            cut,
        } = *self;
        log::info!(
            service = tag, connections, refused, "in" = bytes_in, out = bytes_out, cut;
            "{tag}stopped: connections={connections} refused={refused} in={bytes_in} \
             out={bytes_out} cut={cut}"
        );
    }
}

/// The live connections of one server.
#[derive(Debug)]
pub(crate) struct Registry {
    tag: Tag,
    shutdown: Shutdown,
    per_source: Option<usize>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: usize,
    /// How many are taken.
    slots: usize,
    /// The loop sleeps until fewer slots than this are taken; 0 if it need not be woken.
    wake_below: usize,
    next_id: u64,
    /// Weak, so that a connection's own thread is who closes its descriptor, but for the moment
    /// of a cut.
    links: HashMap<u64, Weak<Link>>,
    /// Empty unless they are limited.
    sources: Sources,
    totals: Totals,
}

impl Registry {
    pub(crate) fn new(tag: Tag, limit: usize, per_source: Option<usize>) -> io::Result<Self> {
        Ok(Self {
            tag,
            shutdown: Shutdown::new()?,
            per_source,
            state: Mutex::new(State {
                limit,
                slots: 0,
                wake_below: 0,
                next_id: 0,
                links: HashMap::new(),
                sources: Sources::default(),
                totals: Totals::default(),
            }),
        })
    }

    pub(crate) fn tag(&self) -> &Tag {
        &self.tag
    }

    pub(crate) fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Returns how many connections there are. There may be more slots, taken for those to come.
    pub(crate) fn live(&self) -> usize {
        self.lock().links.len()
    }

    pub(crate) fn limits_sources(&self) -> bool {
        self.per_source.is_some()
    }

    pub(crate) fn limit(&self) -> usize {
        self.lock().limit
    }

    pub(crate) fn totals(&self) -> Totals {
        self.lock().totals
    }

    /// Changes the limit of connections, and lets the loop look again.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.lock().limit = limit;
        self.shutdown.waker().wake();
    }

    /// Takes a slot, if one is free.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Slot> {
        self.admit_and_leave(0)
    }

    /// Takes a slot, if another one is free, too.
    pub(crate) fn admit_unless_last(self: &Arc<Self>) -> Option<Slot> {
        self.admit_and_leave(1)
    }

    fn admit_and_leave(self: &Arc<Self>, free: usize) -> Option<Slot> {
        let mut state = self.lock();
        if state.slots + free >= state.limit {
            return None;
        }
        state.slots += 1;
        state.next_id += 1;
        Some(Slot {
            registry: Arc::clone(self),
            id: state.next_id,
            source: None,
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        })
    }

    /// Returns whether a slot is free. If not, it arms the wake-up for when one is.
    pub(crate) fn room_or_wake_up(&self) -> bool {
        let mut state = self.lock();
        let room = state.slots < state.limit;
        state.wake_below = if room { 0 } else { state.limit };
        room
    }

    /// Returns whether no slot is taken. If one is, it arms the wake-up for when none is.
    pub(crate) fn empty_or_wake_up(&self) -> bool {
        let mut state = self.lock();
        let empty = state.slots == 0;
        state.wake_below = usize::from(!empty);
        empty
    }

    pub(crate) fn count_refused(&self) {
        self.lock().totals.refused += 1;
    }

    /// Disconnects whoever is left, and counts those that lost something by it.
    pub(crate) fn cut(&self) {
        let cut = self
            .links()
            .iter()
            .map(|link| u64::from(link.cut()))
            .sum::<u64>();
        self.lock().totals.cut += cut;
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
    source: Option<Source>,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
}

impl Slot {
    /// Counts the connection as one of its source's. Returns whether that one may have it.
    pub(crate) fn claim_source(&mut self, peer: IpAddr) -> bool {
        let Some(limit) = self.registry.per_source else {
            return true;
        };
        let source = Source::from(peer);
        let claimed = self.registry.lock().sources.claim(source, limit);
        self.source = claimed.then_some(source);
        claimed
    }

    /// Enters the connection that took this slot, so that it can be cut.
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
        if let Some(source) = self.source {
            state.sources.release(source);
        }
        state.totals.bytes_in += *self.bytes_in.get_mut();
        state.totals.bytes_out += *self.bytes_out.get_mut();
        state.slots -= 1;
        let wake = state.slots < state.wake_below;
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
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn the_limit_is_hard_and_a_dropped_slot_is_free_again() {
        let registry = Arc::new(Registry::new(Tag::default(), 2, None).unwrap());
        let first = registry.admit().unwrap();
        let _second = registry.admit().unwrap();
        assert!(registry.admit().is_none());
        assert!(!registry.room_or_wake_up());
        drop(first);
        assert!(registry.room_or_wake_up());
        assert!(registry.admit_unless_last().is_none());
        assert!(registry.admit().is_some());
        assert_eq!(registry.live(), 0, "no slot has a connection");
    }

    #[test]
    fn totals_add_up_what_ended_connections_counted() {
        let registry = Arc::new(Registry::new(Tag::default(), 9, None).unwrap());
        for _ in 0..3 {
            let slot = registry.admit().unwrap();
            slot.bytes_in.store(5, Ordering::Relaxed);
            slot.bytes_out.store(7, Ordering::Relaxed);
        }
        let totals = registry.totals();
        assert_eq!((totals.bytes_in(), totals.bytes_out()), (15, 21));
        assert!(registry.empty_or_wake_up());
    }
}
