//! The state of a server, shared by its threads: live connections, limits, totals and phase.
//!
//! A [`Slot`] is the permission to hold one connection. The leader takes a slot before `accept(2)`, so that
//! the limit is never exceeded. The slot is free again when it is dropped, after the descriptor was closed.
//! The lock is held for a few instructions at the start and at the end of a connection, and never for each
//! message.

pub(crate) mod close_reason;
pub(crate) mod closed;
pub(crate) mod connection_handle;
pub(crate) mod control;
mod counter;
pub(crate) mod handle;
pub(crate) mod log_prefix;
pub(crate) mod record;
pub(crate) mod resource;
pub(crate) mod shared_stream;
pub(crate) mod shutdown;
mod slot;
mod sources;
pub(crate) mod stage;
pub(crate) mod status;
mod threads;
pub(crate) mod timeouts;
pub(crate) mod totals;

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown as ShutDirection, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::catch::catch;
use crate::hand_over::hand_over_point;
#[cfg(feature = "proxy-protocol")]
use crate::proxy_protocol::ProxyProtocol;
use crate::state::close_reason::{CloseReason, log_close};
use crate::state::closed::{CloseHook, ClosedConnection};
use crate::wake::Waker;
use crate::warn_once::WarnOnce;
use connection_handle::ConnectionHandle;
use log_prefix::LogPrefix;
use record::Record;
use resource::Resource;
use shared_stream::SharedStream;
use shutdown::Shutdown;
pub(crate) use slot::Slot;
pub(crate) use sources::Source;
use sources::Sources;
use stage::Stage;
use status::ServerStatus;
use timeouts::Timeouts;
use totals::Totals;

/// The state of one server.
#[derive(Debug)]
pub(crate) struct ServerState {
    pub(crate) prefix: LogPrefix,
    pub(crate) timeouts: Timeouts,
    pub(crate) shutdown: Shutdown,
    max_per_source: Option<usize>,
    /// The episode of the limit per source, over all sources.
    source_limit_warned: Mutex<WarnOnce>,
    #[cfg(feature = "proxy-protocol")]
    pub(crate) proxy_protocol: ProxyProtocol,
    close_hook: Option<CloseHook>,
    live: Mutex<Live>,
    /// The wakers of the running reactors.
    reactors: Mutex<Vec<Arc<Waker>>>,
    /// The number of threads for handlers, idle ones included.
    threads: AtomicUsize,
    /// The number of requests to close a single connection.
    close_requests: AtomicUsize,
}

#[derive(Debug)]
struct Live {
    max_connections: usize,
    /// Slots in use.
    slots: usize,
    /// A slot that becomes free wakes the leader if then fewer than this are in use. 0: no slot does.
    lead_waits_below: usize,
    /// Whether the last slot that becomes free wakes the supervisor.
    supervisor_waits: bool,
    next_id: u64,
    /// The live connections by number. The streams are weak, so that only the owner of a connection closes
    /// its descriptor. An abort holds a strong reference only during its system call.
    connections: HashMap<u64, (Weak<SharedStream>, Arc<Record>)>,
    /// The connections of each source. Empty unless there is a limit per source.
    sources: Sources,
    totals: Totals,
}

impl ServerState {
    pub(crate) fn new(
        prefix: LogPrefix,
        timeouts: Timeouts,
        max_connections: usize,
        max_per_source: Option<usize>,
        close_hook: Option<CloseHook>,
    ) -> io::Result<Self> {
        Ok(Self {
            prefix,
            timeouts,
            shutdown: Shutdown::new()?,
            max_per_source,
            source_limit_warned: Mutex::default(),
            #[cfg(feature = "proxy-protocol")]
            proxy_protocol: ProxyProtocol::default(),
            close_hook,
            live: Mutex::new(Live {
                max_connections,
                slots: 0,
                lead_waits_below: 0,
                supervisor_waits: false,
                next_id: 0,
                connections: HashMap::new(),
                sources: Sources::default(),
                totals: Totals::default(),
            }),
            reactors: Mutex::default(),
            threads: AtomicUsize::new(0),
            close_requests: AtomicUsize::new(0),
        })
    }

    #[cfg(feature = "proxy-protocol")]
    pub(crate) fn with_proxy_protocol(self, proxy_protocol: ProxyProtocol) -> Self {
        Self {
            proxy_protocol,
            ..self
        }
    }

    /// Returns the number of live connections.
    pub(crate) fn connection_count(&self) -> usize {
        self.live().connections.len()
    }

    /// Returns the live connections, the oldest first.
    pub(crate) fn connections(self: &Arc<Self>) -> Vec<ConnectionHandle> {
        let mut connections: Vec<_> = self
            .live()
            .connections
            .values()
            .map(|(stream, record)| {
                ConnectionHandle::new(self, Weak::clone(stream), Arc::clone(record))
            })
            .collect();
        connections.sort_unstable_by_key(ConnectionHandle::id);
        connections
    }

    /// Requests the close of one connection, and wakes the thread or the reactor that has the connection.
    pub(crate) fn close(&self, stream: &SharedStream, record: &Record) {
        if !record.control.close() {
            return;
        }
        hand_over_point();
        // Release pairs with the acquire in `close_requests`.
        self.close_requests.fetch_add(1, Ordering::Release);
        for reactor in self.reactors().iter() {
            reactor.wake();
        }
        hand_over_point();
        if self.shutdown.sleepers().wake_once().is_err() {
            // The process is out of descriptors, so wake the connection's thread by `shutdown(2)` of the
            // receiving side instead. After that, once a FIN is sent, Linux answers further data of the peer
            // with a reset, so this is only the second choice.
            let _ = stream.stream.shutdown(ShutDirection::Read);
        }
    }

    /// Returns the number of requests to close a single connection. When the number has changed, a reactor
    /// looks for the request among its connections.
    pub(crate) fn close_requests(&self) -> usize {
        self.close_requests.load(Ordering::Acquire)
    }

    pub(crate) fn has_close_hook(&self) -> bool {
        self.close_hook.is_some()
    }

    /// Logs the line of a connection that has ended, and calls the hook. Catches and logs a panic of the
    /// hook.
    pub(crate) fn report_closed(&self, closed: &ClosedConnection) {
        log_close(&self.prefix, closed);
        if let Some(CloseHook(hook)) = &self.close_hook
            && let Err(message) = catch(|| hook(closed))
        {
            let (prefix, peer) = (&self.prefix, closed.peer_addr());
            log::error!(
                service = prefix, peer:%;
                "{prefix}peer={peer} on_close: panicked: {}", message.escape_debug()
            );
        }
    }

    pub(crate) fn max_connections(&self) -> usize {
        self.live().max_connections
    }

    pub(crate) fn max_per_source(&self) -> Option<usize> {
        self.max_per_source
    }

    pub(crate) fn source_limit_warned(&self) -> MutexGuard<'_, WarnOnce> {
        self.source_limit_warned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether this peer is a trusted proxy, whose connections begin with a PROXY header.
    #[cfg_attr(
        not(feature = "proxy-protocol"),
        expect(
            clippy::unused_self,
            reason = "without the feature the result is always `false`"
        )
    )]
    pub(crate) fn expects_proxy_header(&self, peer: SocketAddr) -> bool {
        #[cfg(feature = "proxy-protocol")]
        return self.proxy_protocol.trusts(peer.ip());
        #[cfg(not(feature = "proxy-protocol"))]
        {
            let _ = peer;
            false
        }
    }

    /// Returns whether a step of a connection outside of its handler may block: a hook, or the wait for a
    /// PROXY header.
    pub(crate) fn may_block(&self) -> bool {
        #[cfg(feature = "proxy-protocol")]
        if !self.proxy_protocol.trusted.is_empty() {
            return true;
        }
        self.has_close_hook()
    }

    /// Returns the sources that have the most connections, as text. This looks at all connections, so call
    /// it rarely.
    pub(crate) fn name_largest_sources(&self) -> String {
        // Copy the peers, so that the lock is not held while they are counted.
        let peers: Vec<_> = self
            .live()
            .connections
            .values()
            .map(|(_, record)| record.peer())
            .collect();
        sources::name_largest(&peers)
    }

    pub(crate) fn totals(&self) -> Totals {
        self.live().totals
    }

    /// Returns the totals including the bytes of live connections, and the number of connections in each
    /// stage.
    pub(crate) fn status(&self) -> ServerStatus {
        let reactors = self.reactors().len();
        let live = self.live();
        let mut status = ServerStatus {
            totals: live.totals,
            live: [0; Stage::ALL.len()],
            max_connections: live.max_connections,
            max_per_source: self.max_per_source,
            threads: self.threads.load(Ordering::Relaxed),
            reactors,
        };
        // A record is finished and added to the totals under the same lock. So each connection counts once,
        // here or in the totals, and the sum never decreases.
        for (_, record) in live.connections.values() {
            if !record.is_finished() {
                status.live[record.stage() as usize] += 1;
                status.totals.bytes_in += record.bytes_in();
                status.totals.bytes_out += record.bytes_out();
            }
        }
        status
    }

    /// Changes the limit of connections, and wakes the leader, which may now accept or must now wait.
    pub(crate) fn set_max_connections(&self, limit: usize) {
        self.live().max_connections = limit;
        self.shutdown.lead().wake();
    }

    /// Takes a slot, if one is free.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Slot> {
        let mut live = self.live();
        if live.slots >= live.max_connections {
            return None;
        }
        live.slots += 1;
        live.next_id += 1;
        Some(Slot::new(self, live.next_id))
    }

    /// Returns whether a slot is free. If none is, the next slot that becomes free wakes the leader.
    pub(crate) fn has_room_or_wakes_lead(&self) -> bool {
        let mut live = self.live();
        let room = live.slots < live.max_connections;
        live.lead_waits_below = if room { 0 } else { live.max_connections };
        room
    }

    /// Returns whether no slot is in use. If one is, the last slot that becomes free wakes the supervisor.
    pub(crate) fn is_empty_or_wakes_supervisor(&self) -> bool {
        let mut live = self.live();
        let empty = live.slots == 0;
        live.supervisor_waits = !empty;
        empty
    }

    /// Counts a connection that was rejected, at the limit per source or at the limit of all connections.
    pub(crate) fn count_rejected(&self, is_per_source: bool) {
        let totals = &mut self.live().totals;
        totals.rejected += 1;
        totals.rejected_per_source += u64::from(is_per_source);
    }

    /// Counts a pause of the server because the system is short of a resource.
    pub(crate) fn count_shortage(&self, of: Resource) {
        self.live().totals.shortages[of as usize] += 1;
    }

    /// Aborts every live connection. Counts those whose peers may have lost data by it, and returns these
    /// peers, the oldest connection first.
    pub(crate) fn abort(&self) -> Vec<SocketAddr> {
        // Copy the connections, so that no system call is made under the lock.
        let mut left: Vec<_> = self
            .live()
            .connections
            .iter()
            .filter_map(|(&id, (stream, record))| Some((id, stream.upgrade()?, Arc::clone(record))))
            .collect();
        left.sort_unstable_by_key(|&(id, ..)| id);
        let aborted: Vec<_> = left
            .iter()
            .filter(|(_, stream, record)| stream.abort(record))
            .map(|(.., record)| record.peer())
            .collect();
        self.live().totals.aborted += aborted.len() as u64;
        aborted
    }

    /// Finishes the records of the connections that are still live, because their handlers ignore the
    /// abort. Returns the records.
    pub(crate) fn finish_all(&self) -> Vec<Arc<Record>> {
        let mut live = self.live();
        let Live {
            connections,
            totals,
            ..
        } = &mut *live;
        connections
            .values()
            .filter(|(_, record)| totals.add(record, CloseReason::Shutdown))
            .map(|(_, record)| Arc::clone(record))
            .collect()
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        // No code panics while it holds the lock. Even if it did, every count would be complete, so go on.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
