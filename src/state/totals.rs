//! The totals of a server.

use crate::state::close_reason::CloseReason;
use crate::state::log_prefix::LogPrefix;
use crate::state::record::Record;
use crate::state::resource::Resource;

/// The totals of a server: its connections, bytes, reasons and shortages since its start.
///
/// [`TcpServer::serve_forever`](crate::TcpServer::serve_forever) returns them at the end, and
/// [`ServerHandle::totals`](crate::ServerHandle::totals) at any time.
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
/// assert_eq!((totals.connections(), totals.aborted()), (0, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub(super) connections: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) rejected: u64,
    pub(super) rejected_per_source: u64,
    pub(super) aborted: u64,
    pub(super) shortages: [u64; Resource::COUNT],
    closed: [u64; CloseReason::COUNT],
}

impl Totals {
    /// Returns the number of connections that were accepted to be served.
    ///
    /// These include connections that the [verify hook](crate::Builder::verify_request) denied. They also
    /// include those of trusted proxies (`Builder::proxy_protocol`) without a valid header, or whose client
    /// exceeded the limit per source.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections
    }

    /// Returns the number of bytes received on all connections that have ended. Those of live connections
    /// are in [`ServerStatus::totals`](crate::ServerStatus::totals).
    #[must_use]
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in
    }

    /// Returns the number of bytes sent on all connections that have ended. Those of live connections are in
    /// [`ServerStatus::totals`](crate::ServerStatus::totals).
    #[must_use]
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out
    }

    /// Returns the number of connections that were rejected at a limit.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Returns the number of [rejected](Self::rejected) connections that exceeded the limit
    /// [per source](crate::Builder::max_per_source). The others exceeded the limit of all connections.
    #[must_use]
    pub fn rejected_per_source(&self) -> u64 {
        self.rejected_per_source
    }

    /// Returns the number of pauses that the server made because this resource was short.
    ///
    /// A pause lasts from 5 ms up to a second, then the server tries again. So the number grows at least
    /// once a second while the shortage lasts and clients wait. The log has one warning for the whole
    /// episode.
    #[must_use]
    pub fn shortages(&self, of: Resource) -> u64 {
        self.shortages[of as usize]
    }

    /// Returns the number of connections that were aborted.
    ///
    /// These are the connections that a stop aborted and whose peers may have lost data by it. They also
    /// include the ended connections that [`Connection::abort`](crate::Connection::abort) or
    /// [`ConnectionHandle::abort`](crate::ConnectionHandle::abort) aborted. If the program calls neither,
    /// zero means that the stop lost no data.
    #[must_use]
    pub fn aborted(&self) -> u64 {
        self.aborted
    }

    /// Returns the number of connections that have ended for this reason.
    ///
    /// [`CloseReason::Limit`] counts only clients behind a trusted proxy (`Builder::proxy_protocol`). Other
    /// clients that were rejected at a limit are only in [`rejected`](Self::rejected).
    #[must_use]
    pub fn closed_by(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize]
    }

    /// Adds a connection that has ended, and finishes its record. Returns `false`, without adding, if the
    /// record was finished before.
    pub(super) fn add(&mut self, record: &Record, reason: CloseReason) -> bool {
        let is_first = record.finish();
        if is_first {
            self.closed[reason.unless_aborted(record) as usize] += 1;
            self.bytes_in += record.bytes_in();
            self.bytes_out += record.bytes_out();
            self.aborted += u64::from(record.is_aborted_alone());
        }
        is_first
    }

    /// Logs the totals, at the end of a server.
    pub(crate) fn log(&self, prefix: &LogPrefix) {
        let Self {
            connections,
            bytes_in,
            bytes_out,
            rejected,
            aborted,
            ..
        } = *self;
        log::info!(
            service = prefix, connections, rejected, bytes_in, bytes_out, aborted;
            "{prefix}stopped: connections={connections} rejected={rejected} bytes_in={bytes_in} \
             bytes_out={bytes_out} aborted={aborted}"
        );
    }
}
