//! What a failed `accept(2)` means, and how long to wait after a shortage.
//!
//! Everything here is pure: errors and times come in, decisions go out. The listener loop
//! acts on them.

use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// What the listener loop does about an error of `accept(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing was pending after all, or what was pending is gone. Wait for the next one.
    NextOne,
    /// The system ran out of something. Wait a while, and try again.
    Shortage,
    /// The socket will never accept again.
    Unusable,
}

/// Sorts an error of `accept(2)`.
///
/// Linux hands errors of the new connection to whoever accepts it (see `accept(2)`, "Error
/// handling"), so most of them say nothing about the listener. An errno that is not listed here
/// counts as a shortage: it neither spins nor ends the service.
pub(crate) fn classify(error: &io::Error) -> Verdict {
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
        ) => Verdict::NextOne,
        Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::FAULT) => Verdict::Unusable,
        _ => Verdict::Shortage,
    }
}

/// The wait after a shortage: 5 ms, doubling up to a second, until something succeeds.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// Shorter than a person notices, long enough to let a connection end.
    const FIRST: Duration = Duration::from_millis(5);
    /// Clients are taken again within a second of relief.
    const LONGEST: Duration = Duration::from_secs(1);

    /// Returns how long to wait this time.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let delay = self
            .last
            .map_or(Self::FIRST, |last| (last * 2).min(Self::LONGEST));
        self.last = Some(delay);
        delay
    }

    /// Starts over: something succeeded.
    pub(crate) fn reset(&mut self) {
        self.last = None;
    }
}

/// A condition that comes and goes, and is reported once for the whole while.
///
/// At a limit every connection that ends makes room for a moment, so the condition ends and
/// begins again with each client. Reporting each time would let clients flood the log.
#[derive(Debug, Default)]
pub(crate) struct Episode {
    last_seen: Option<Instant>,
}

impl Episode {
    /// An episode is over once the condition has not been seen for this long.
    const QUIET: Duration = Duration::from_secs(10);

    /// Notes that the condition holds at `now`, and returns whether an episode begins.
    pub(crate) fn begins(&mut self, now: Instant) -> bool {
        let before = self.last_seen.replace(now);
        before.is_none_or(|before| now.saturating_duration_since(before) > Self::QUIET)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_listed_errno_has_its_verdict() {
        let table = [
            (Errno::AGAIN, Verdict::NextOne),
            (Errno::INTR, Verdict::NextOne),
            (Errno::CONNABORTED, Verdict::NextOne),
            (Errno::CONNRESET, Verdict::NextOne),
            (Errno::PROTO, Verdict::NextOne),
            (Errno::MFILE, Verdict::Shortage),
            (Errno::NFILE, Verdict::Shortage),
            (Errno::NOBUFS, Verdict::Shortage),
            (Errno::NOMEM, Verdict::Shortage),
            (Errno::NOSPC, Verdict::Shortage),
            // A filter of system calls leaves the connection where it is: at once would be a spin.
            (Errno::PERM, Verdict::Shortage),
            (Errno::BADF, Verdict::Unusable),
            (Errno::INVAL, Verdict::Unusable),
            (Errno::NOTSOCK, Verdict::Unusable),
        ];
        for (errno, verdict) in table {
            assert_eq!(classify(&errno.into()), verdict, "{errno:?}");
        }
    }

    #[test]
    fn an_error_without_errno_is_a_shortage() {
        assert_eq!(classify(&io::Error::other("?")), Verdict::Shortage);
    }

    #[test]
    fn back_off_doubles_from_5_ms_to_a_second_and_starts_over() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = (0..10).map(|_| backoff.next_delay().as_millis()).collect();
        assert_eq!(delays, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.next_delay().as_millis(), 5);
    }

    #[test]
    fn an_episode_is_reported_once_until_it_has_been_quiet() {
        let mut episode = Episode::default();
        let start = Instant::now();
        assert!(episode.begins(start));
        for seconds in 1..30 {
            assert!(!episode.begins(start + Duration::from_secs(seconds)));
        }
        assert!(episode.begins(start + Duration::from_secs(29 + 11)));
    }

    proptest! {
        /// Whatever a system comes up with, only what is known to be the end is taken for it.
        #[test]
        fn an_unknown_errno_never_ends_the_service(raw in 1..4096_i32) {
            let ends = [Errno::BADF, Errno::INVAL, Errno::NOTSOCK, Errno::FAULT];
            let verdict = classify(&io::Error::from_raw_os_error(raw));
            let is_end = ends.map(Errno::raw_os_error).contains(&raw);
            prop_assert_eq!(verdict == Verdict::Unusable, is_end);
        }

        /// At whatever times a condition is seen, each report of it follows a quiet time.
        #[test]
        fn reports_are_at_least_a_quiet_time_apart(gaps in vec(0..30_u64, 1..100)) {
            let mut episode = Episode::default();
            let mut now = Instant::now();
            let mut last_seen = None;
            for gap in gaps {
                now += Duration::from_secs(gap);
                let quiet = last_seen.is_none_or(|seen| now - seen > Episode::QUIET);
                prop_assert_eq!(episode.begins(now), quiet);
                last_seen = Some(now);
            }
        }
    }
}
