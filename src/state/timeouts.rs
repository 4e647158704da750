//! How long a connection may take: to send, to take, to live, to leave.

use std::time::Duration;

/// The times of every connection of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) idle: Option<Duration>,
    pub(crate) write: Option<Duration>,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) linger: Duration,
    /// How long a read waits awake before it sleeps.
    pub(crate) spin: Duration,
    /// How long all may take to leave at a shutdown.
    pub(crate) drain: Duration,
}

/// How long a read, a write or an accept blocks in its own system call before it waits in `poll(2)`,
/// where a shutdown and the timeouts reach it. While messages, or clients, follow each other faster
/// than this, each costs one system call and not two; falling silent costs one wake-up.
pub(crate) const BRIEFLY: Duration = Duration::from_millis(20);

impl Times {
    /// Returns how long a write blocks in its system call (`SO_SNDTIMEO`): for ever, unless a time
    /// is to be kept.
    pub(crate) fn send_timeout(&self) -> Option<Duration> {
        self.write.or(self.lifetime).map(|_| BRIEFLY)
    }

    /// Returns the age at which writes of a connection fail: its lifetime and the linger.
    pub(crate) fn leave_after(&self) -> Option<Duration> {
        Some(self.lifetime?.saturating_add(self.linger))
    }
}
