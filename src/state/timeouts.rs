//! How long each thing that a server waits for may take.

use std::time::Duration;

/// The timeouts of a server and of its connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// How long a peer may send nothing.
    pub(crate) idle: Option<Duration>,
    /// Whether what is sent counts as activity, too.
    pub(crate) output_is_activity: bool,
    /// How long a peer may take nothing of what is sent.
    pub(crate) write: Option<Duration>,
    /// How long a connection may live.
    pub(crate) lifetime: Option<Duration>,
    /// How long a peer may go on sending after the server's FIN.
    pub(crate) lingering: Duration,
    /// How long a read or a reactor busy-polls before it sleeps.
    pub(crate) busy_poll: Duration,
    /// How long all connections together may take to end after a stop.
    pub(crate) drain: Duration,
}

/// How long a read or a write blocks in its own system call before it waits in `poll(2)`, where a
/// shutdown and the other timeouts reach it. While messages follow each other faster than this,
/// each costs one system call instead of two. A connection that falls silent costs one wake-up.
pub(crate) const BLOCKING_SLICE: Duration = Duration::from_millis(20);

/// How long the server waits for input that is under way to a connection that must end: a few
/// round trips on a local network, and no time for a person.
pub(crate) const DRAIN_GRACE: Duration = Duration::from_millis(10);

/// How long a write without room waits before it tries again. The kernel reports room once a
/// third of the send buffer is free; a peer that is slow, not stalled, may have made less.
pub(crate) const WRITE_RETRY: Duration = Duration::from_secs(1);

impl Timeouts {
    /// Returns how long a write blocks in its system call (`SO_SNDTIMEO`): without limit, unless
    /// there is a deadline to keep.
    pub(crate) fn send_timeout(&self) -> Option<Duration> {
        self.write.or(self.lifetime).map(|_| BLOCKING_SLICE)
    }

    /// Returns the age at which writes of a connection fail: its lifetime and the lingering time.
    pub(crate) fn write_deadline(&self) -> Option<Duration> {
        Some(self.lifetime?.saturating_add(self.lingering))
    }
}
