//! The timeouts of a server, and the fixed times by which it waits.

use std::time::Duration;

/// The timeouts of a server and of its connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// The time after which a read without input fails.
    pub(crate) idle: Option<Duration>,
    /// Whether output restarts the idle timeout, too.
    pub(crate) output_is_activity: bool,
    /// The time after which a write fails whose peer reads nothing.
    pub(crate) write: Option<Duration>,
    /// The maximum age of a connection.
    pub(crate) lifetime: Option<Duration>,
    /// The time for which the server waits for the peer's FIN after its own.
    pub(crate) lingering: Duration,
    /// The time for which a read or a reactor busy-polls before it sleeps.
    pub(crate) busy_poll: Duration,
    /// The time for which a stop waits for all connections to end, before it aborts them.
    pub(crate) drain: Duration,
}

/// The time for which a read or a write blocks in its own system call before it waits in `poll(2)`.
///
/// Only `poll(2)` ends at a shutdown or at the other timeouts. While messages follow each other within this
/// time, each costs one system call instead of two. A connection that falls silent costs one wake-up.
pub(crate) const BLOCKING_SLICE: Duration = Duration::from_millis(20);

/// The time for which the server waits for input in flight to a connection that must end. It is a few
/// round trips on a local network, and too short for a person to notice.
pub(crate) const DRAIN_GRACE: Duration = Duration::from_millis(10);

/// The time after which a write to a full send buffer is tried again.
///
/// The kernel reports room only once a third of the send buffer is free. A peer that reads slowly may have
/// freed less than that, and must not count as stalled.
pub(crate) const WRITE_RETRY: Duration = Duration::from_secs(1);

impl Timeouts {
    /// Returns the time for which a write may block in its system call (`SO_SNDTIMEO`). There is no limit
    /// unless a write timeout or a lifetime must be kept.
    pub(crate) fn send_timeout(&self) -> Option<Duration> {
        self.write.or(self.lifetime).map(|_| BLOCKING_SLICE)
    }

    /// Returns the age at which writes of a connection fail: the lifetime plus the lingering time.
    pub(crate) fn write_deadline(&self) -> Option<Duration> {
        Some(self.lifetime?.saturating_add(self.lingering))
    }
}
