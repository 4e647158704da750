//! How long a connection may take: to send, to take, to live, to leave.

use std::time::Duration;

/// The times of every connection of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) idle: Option<Duration>,
    pub(crate) write: Option<Duration>,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) linger: Duration,
}

impl Times {
    /// Returns how long a write may block before its thread looks at the times (`SO_SNDTIMEO`).
    pub(crate) fn write_tick(&self) -> Option<Duration> {
        let for_lifetime = self.lifetime.map(|_| Duration::from_secs(1));
        let tick = self.write.into_iter().chain(for_lifetime).min();
        // The kernel counts microseconds, and takes none for no timeout.
        tick.map(|tick| tick.max(Duration::from_millis(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_looks_at_the_times_as_often_as_they_need_and_never_spins() {
        let tick = |write, lifetime| {
            let times = Times {
                idle: None,
                write,
                lifetime,
                linger: Duration::ZERO,
            };
            times.write_tick()
        };
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        assert_eq!(tick(None, None), None);
        assert_eq!(tick(Some(hour), None), Some(hour));
        assert_eq!(tick(None, Some(hour)), Some(second));
        assert_eq!(tick(Some(second / 2), Some(hour)), Some(second / 2));
        assert_eq!(
            tick(Some(Duration::from_nanos(1)), None),
            Some(second / 1000)
        );
    }
}
