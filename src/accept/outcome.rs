//! What a failed `accept(2)` means, and how long to pause after a shortage.
//!
//! Nothing here makes a system call: the leader passes errors and times, and acts on the decisions.

use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::state::resource::Resource;
use crate::warn_once::WarnOnce;

/// What an error of `accept(2)` means for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptOutcome {
    /// The pending connection was aborted, or another thread or process accepted it. Wait for
    /// the next one.
    Retry,
    /// The system ran out of something. Pause, then try again.
    Shortage,
    /// The socket will never accept again.
    Unusable,
}

/// Sorts an error of `accept(2)`.
///
/// Linux hands errors of the new connection to the caller of `accept` (see `accept(2)`, "Error
/// handling"), so most of them say nothing about the listener. An errno that is not listed here
/// counts as a shortage. Then the server pauses before it tries again, so the error neither keeps a
/// processor busy nor ends the service.
pub(crate) fn classify(error: &io::Error) -> AcceptOutcome {
    match Errno::from_io_error(error) {
        Some(
            // `EWOULDBLOCK` is the same number as `EAGAIN` wherever this builds.
            Errno::AGAIN
            | Errno::INTR
            | Errno::CONNABORTED
            | Errno::CONNRESET
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::TIMEDOUT
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH,
        ) => AcceptOutcome::Retry,
        Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::FAULT) => AcceptOutcome::Unusable,
        _ => AcceptOutcome::Shortage,
    }
}

/// Returns the resource behind an error that [is a shortage](AcceptOutcome::Shortage).
pub(crate) fn resource(error: &io::Error) -> Resource {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE) => Resource::Descriptors,
        Some(Errno::NOBUFS | Errno::NOMEM) => Resource::Memory,
        _ => Resource::Other,
    }
}

/// A shortage of something that the server needs for the next connection.
///
/// After the first failure the server pauses for 5 ms. Each further failure doubles the pause, up to a
/// second, until an attempt succeeds. The end of the pause is stored as a time, so that a wake-up of the
/// thread does not shorten the pause.
#[derive(Debug, Default)]
pub(crate) struct Shortage {
    last_delay: Option<Duration>,
    pause_end: Option<Instant>,
    warned: WarnOnce,
}

impl Shortage {
    /// The first pause. A person does not notice it, yet a connection may end during it.
    pub(crate) const FIRST_DELAY: Duration = Duration::from_millis(5);
    /// The longest pause. The server accepts new clients at most this long after the shortage is over.
    const LONGEST_DELAY: Duration = Duration::from_secs(1);

    /// Begins the pause after a failure at `now`. Returns whether to warn of the shortage.
    pub(crate) fn begin_pause(&mut self, now: Instant) -> bool {
        let delay = self.last_delay.map_or(Self::FIRST_DELAY, |last| {
            (last * 2).min(Self::LONGEST_DELAY)
        });
        self.last_delay = Some(delay);
        self.pause_end = Some(now + delay);
        self.warned.should_report(now)
    }

    /// Begins the shortest pause. The caller has just freed resources, so there is nothing to warn of yet.
    pub(crate) fn pause_briefly(&mut self, now: Instant) {
        self.pause_end = Some(now + Self::FIRST_DELAY);
    }

    /// Returns when the pause ends, or `None` if there is no pause at `now`.
    pub(crate) fn pause_end(&self, now: Instant) -> Option<Instant> {
        self.pause_end.filter(|&end| now < end)
    }

    /// Ends the pause after a success. The next failure begins with the first pause again.
    pub(crate) fn end(&mut self) {
        self.last_delay = None;
        self.pause_end = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_listed_errno_has_its_outcome() {
        let table = [
            (Errno::AGAIN, AcceptOutcome::Retry),
            (Errno::INTR, AcceptOutcome::Retry),
            (Errno::CONNABORTED, AcceptOutcome::Retry),
            (Errno::CONNRESET, AcceptOutcome::Retry),
            (Errno::PROTO, AcceptOutcome::Retry),
            (Errno::MFILE, AcceptOutcome::Shortage),
            (Errno::NFILE, AcceptOutcome::Shortage),
            (Errno::NOBUFS, AcceptOutcome::Shortage),
            (Errno::NOMEM, AcceptOutcome::Shortage),
            (Errno::NOSPC, AcceptOutcome::Shortage),
            // If a filter of system calls (seccomp) denies `accept`, the connection stays in the backlog.
            // Without a pause the server would try again in an endless loop.
            (Errno::PERM, AcceptOutcome::Shortage),
            (Errno::BADF, AcceptOutcome::Unusable),
            (Errno::INVAL, AcceptOutcome::Unusable),
            (Errno::NOTSOCK, AcceptOutcome::Unusable),
        ];
        for (errno, outcome) in table {
            assert_eq!(classify(&errno.into()), outcome, "{errno:?}");
        }
    }

    #[test]
    fn the_errno_names_the_resource_that_is_short() {
        for (errno, short_of) in [
            (Errno::MFILE, Resource::Descriptors),
            (Errno::NFILE, Resource::Descriptors),
            (Errno::NOBUFS, Resource::Memory),
            (Errno::NOMEM, Resource::Memory),
            (Errno::PERM, Resource::Other),
        ] {
            assert_eq!(resource(&errno.into()), short_of, "{errno:?}");
        }
    }

    #[test]
    fn an_error_without_errno_is_a_shortage() {
        assert_eq!(classify(&io::Error::other("?")), AcceptOutcome::Shortage);
    }

    #[test]
    fn a_pause_doubles_from_5_ms_to_a_second_and_starts_over() {
        let mut shortage = Shortage::default();
        let now = Instant::now();
        let mut pause = || {
            shortage.begin_pause(now);
            shortage
                .pause_end(now)
                .unwrap()
                .duration_since(now)
                .as_millis()
        };
        let pauses: Vec<_> = (0..10).map(|_| pause()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        shortage.end();
        assert_eq!(shortage.pause_end(now), None);
        shortage.begin_pause(now);
        assert_eq!(shortage.pause_end(now + Shortage::FIRST_DELAY), None);
        assert!(shortage.pause_end(now).is_some());
    }

    proptest! {
        /// Only four errnos end the service, whatever else a system returns.
        #[test]
        fn an_unknown_errno_never_ends_the_service(raw in 1..4096_i32) {
            let ends = [Errno::BADF, Errno::INVAL, Errno::NOTSOCK, Errno::FAULT];
            let outcome = classify(&io::Error::from_raw_os_error(raw));
            let is_end = ends.map(Errno::raw_os_error).contains(&raw);
            prop_assert_eq!(outcome == AcceptOutcome::Unusable, is_end);
        }
    }
}
