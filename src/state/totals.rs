//! What a server has done, in numbers.

use crate::state::close_reason::CloseReason;
use crate::state::log_prefix::LogPrefix;
use crate::state::record::Record;
use crate::state::resource::Resource;

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
    /// Returns how many connections were accepted to be served, including those that the
    /// [verify hook](crate::Builder::verify_request) denied, and those of trusted proxies
    /// (`Builder::proxy_protocol`) without a header or whose client exceeded its limit.
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

    /// Returns how many connections were accepted only to be closed, because of a limit.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Returns how many of the [rejected](Self::rejected) connections exceeded the limit
    /// [per source](crate::Builder::max_per_source). The others exceeded the limit of all connections.
    #[must_use]
    pub fn rejected_per_source(&self) -> u64 {
        self.rejected_per_source
    }

    /// Returns how often the server was short of something and paused, for 5 ms up to a second, before it
    /// tried again. So the number grows at least once a second while a shortage lasts and clients wait. The
    /// log has one warning for all of it.
    #[must_use]
    pub fn shortages(&self, of: Resource) -> u64 {
        self.shortages[of as usize]
    }

    /// Returns how many connections were aborted: by a stop, if they lost something by it, and, among
    /// those that have ended, by [`Connection::abort`](crate::Connection::abort) and
    /// [`ConnectionHandle::abort`](crate::ConnectionHandle::abort). Without the latter, zero means that
    /// the stop was clean.
    #[must_use]
    pub fn aborted(&self) -> u64 {
        self.aborted
    }

    /// Returns how many connections have ended for this reason. Connections that were rejected at a
    /// limit are [`rejected`](Self::rejected), and only those of clients behind a trusted proxy
    /// (`Builder::proxy_protocol`) are among these, too: for [`CloseReason::Limit`].
    ///
    /// The errors of handlers are those that ended for [`CloseReason::Error`], and the panics those for
    /// [`CloseReason::Panic`].
    #[must_use]
    pub fn closed_by(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize]
    }

    /// Adds a connection that has ended, unless its record was finished before. Returns whether it was
    /// not.
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
