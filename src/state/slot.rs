//! The permission to hold one connection, taken before `accept(2)` and given back after the close.

use std::net::SocketAddr;
use std::sync::Arc;

use super::ServerState;
use super::close_reason::CloseReason;
use super::handle::ServerHandle;
use super::record::Record;
use super::shared_stream::SharedStream;
use super::shutdown::Phase;
use super::sources::Source;
use crate::hand_over::hand_over_point;

/// The permission to hold one connection.
#[derive(Debug)]
pub(crate) struct Slot {
    server: ServerHandle,
    id: u64,
    source: Option<Source>,
}

impl Slot {
    pub(super) fn new(state: &Arc<ServerState>, id: u64) -> Self {
        Self {
            server: ServerHandle::new(Arc::clone(state)),
            id,
            source: None,
        }
    }

    /// Counts the connection for its source, unless it was counted before.
    ///
    /// # Errors
    ///
    /// The source is at the limit. The error has the source and the limit.
    pub(crate) fn claim_source(&mut self, peer: SocketAddr) -> Result<(), (Source, usize)> {
        let (Some(limit), None) = (self.state().max_per_source, self.source) else {
            return Ok(());
        };
        let source = Source::from(peer);
        if !self.state().live().sources.claim(source, limit) {
            return Err((source, limit));
        }
        self.source = Some(source);
        Ok(())
    }

    /// Enters the connection of this slot in the table of live connections, so that a shutdown can abort it.
    pub(crate) fn attach(&self, stream: &Arc<SharedStream>, record: &Arc<Record>) {
        let mut live = self.state().live();
        live.totals.connections += 1;
        let connection = (Arc::downgrade(stream), Arc::clone(record));
        live.connections.insert(self.id, connection);
        drop(live);
        // An aborting thread sets the phase before it reads the table. So either that thread finds this
        // connection in the table, or this thread finds the phase here. If both happen, `abort` counts once.
        if self.state().shutdown.phase() == Phase::Aborting && stream.abort(record) {
            self.state().live().totals.aborted += 1;
        }
    }

    /// Adds the connection that has ended to the totals. Returns `false` if it was added before.
    pub(crate) fn finish(&self, record: &Record, reason: CloseReason) -> bool {
        self.state().live().totals.add(record, reason)
    }

    pub(crate) fn state(&self) -> &Arc<ServerState> {
        self.server.state()
    }

    pub(crate) fn server(&self) -> &ServerHandle {
        &self.server
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        hand_over_point();
        let mut live = self.state().live();
        if let Some((_, record)) = live.connections.remove(&self.id) {
            live.totals.add(&record, CloseReason::Done);
        }
        if let Some(source) = self.source {
            live.sources.release(source);
        }
        live.slots -= 1;
        let wake_lead = live.slots < live.lead_waits_below;
        if wake_lead {
            live.lead_waits_below = 0;
        }
        let wake_supervisor = live.slots == 0 && live.supervisor_waits;
        if wake_supervisor {
            live.supervisor_waits = false;
        }
        drop(live);
        hand_over_point();
        if wake_lead {
            self.state().shutdown.lead().wake();
        }
        if wake_supervisor {
            self.state().shutdown.supervisor().wake();
        }
    }
}
