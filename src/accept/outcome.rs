//! What a failed `accept(2)` means, how long to pause after a shortage, and when to warn.
//!
//! Everything here is pure: errors and times come in, decisions go out. The holder of the lead
//! acts on them.

use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;

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
/// counts as a shortage: it neither spins nor ends the service.
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

/// A shortage of something that the server needs for the next connection.
///
/// After each failure the server pauses for 5 ms, doubling up to a second, until something
/// succeeds. The end of the pause is a time, so that nothing that wakes the thread shortens it.
#[derive(Debug, Default)]
pub(crate) struct Shortage {
    last_delay: Option<Duration>,
    pause_end: Option<Instant>,
    warned: WarnOnce,
}

impl Shortage {
    /// Shorter than a person notices, long enough for a connection to end.
    pub(crate) const FIRST_DELAY: Duration = Duration::from_millis(5);
    /// New clients are accepted within a second of relief.
    const LONGEST_DELAY: Duration = Duration::from_secs(1);

    /// Notes a failure at `now`, begins a pause, and returns whether to warn.
    pub(crate) fn begin_pause(&mut self, now: Instant) -> bool {
        let delay = self.last_delay.map_or(Self::FIRST_DELAY, |last| {
            (last * 2).min(Self::LONGEST_DELAY)
        });
        self.last_delay = Some(delay);
        self.pause_end = Some(now + delay);
        self.warned.should_report(now)
    }

    /// Pauses for a moment, without a warning: relief is under way.
    pub(crate) fn pause_briefly(&mut self, now: Instant) {
        self.pause_end = Some(now + Self::FIRST_DELAY);
    }

    /// Returns when the pause ends, if there is one at `now`.
    pub(crate) fn pause_end(&self, now: Instant) -> Option<Instant> {
        self.pause_end.filter(|&end| now < end)
    }

    /// Starts over: something succeeded.
    pub(crate) fn end(&mut self) {
        self.last_delay = None;
        self.pause_end = None;
    }
}

/// A condition that comes and goes, and is reported once for the whole time: an episode.
///
/// At a limit every connection that ends makes room for a moment, so the condition ends and
/// begins again with each client. Reporting each time would let clients flood the log. So an episode
/// is only over once the condition has not been seen for a while.
#[derive(Debug, Default)]
pub(crate) struct WarnOnce {
    last_seen: Option<Instant>,
}

impl WarnOnce {
    /// An episode is over once the condition has not been seen for this long.
    pub(crate) const QUIET: Duration = Duration::from_secs(10);

    /// Notes that the condition holds at `now`, and returns whether to report it.
    pub(crate) fn should_report(&mut self, now: Instant) -> bool {
        let before = self.last_seen.replace(now);
        before.is_none_or(|before| now.saturating_duration_since(before) > Self::QUIET)
    }

    /// Notes that the condition has held until `now`, since it was last seen.
    pub(crate) fn held_until(&mut self, now: Instant) {
        if let Some(last_seen) = &mut self.last_seen {
            *last_seen = now;
        }
    }

    /// Returns when the episode will be over, if there is one.
    pub(crate) fn end(&self) -> Option<Instant> {
        Some(self.last_seen? + Self::QUIET)
    }

    /// Returns whether an episode has come to its end by `now`: once for each episode.
    pub(crate) fn should_report_end(&mut self, now: Instant) -> bool {
        let is_over = self.end().is_some_and(|end| end <= now);
        if is_over {
            self.last_seen = None;
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
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
            // A filter of system calls leaves the connection where it is: at once would be a spin.
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

    #[test]
    fn a_condition_is_reported_once_until_it_has_been_quiet() {
        let mut condition = WarnOnce::default();
        let start = Instant::now();
        assert!(condition.should_report(start));
        for seconds in 1..30 {
            assert!(!condition.should_report(start + Duration::from_secs(seconds)));
        }
        assert!(condition.should_report(start + Duration::from_secs(29 + 11)));
    }

    #[test]
    fn the_end_of_an_episode_is_reported_once_and_only_after_a_quiet_time() {
        let mut condition = WarnOnce::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        condition.held_until(at(0));
        assert_eq!(condition.end(), None);
        assert!(!condition.should_report_end(at(100)));

        assert!(condition.should_report(at(100)));
        assert!(!condition.should_report_end(at(109)));
        // A server that has been at its limit for an hour sees that only when there is room again.
        condition.held_until(at(3700));
        assert!(!condition.should_report_end(at(3709)));
        assert!(!condition.should_report(at(3709)));
        assert_eq!(condition.end(), Some(at(3719)));
        assert!(condition.should_report_end(at(3719)));
        assert!(!condition.should_report_end(at(3719)));
        assert!(condition.should_report(at(3719)));
    }

    proptest! {
        /// Whatever a system comes up with, only what is known to be the end is taken for it.
        #[test]
        fn an_unknown_errno_never_ends_the_service(raw in 1..4096_i32) {
            let ends = [Errno::BADF, Errno::INVAL, Errno::NOTSOCK, Errno::FAULT];
            let outcome = classify(&io::Error::from_raw_os_error(raw));
            let is_end = ends.map(Errno::raw_os_error).contains(&raw);
            prop_assert_eq!(outcome == AcceptOutcome::Unusable, is_end);
        }

        /// At whatever times a condition is seen, each report of it follows a quiet time.
        #[test]
        fn reports_are_at_least_a_quiet_time_apart(gaps in vec(0..30_u64, 1..100)) {
            let mut condition = WarnOnce::default();
            let mut now = Instant::now();
            let mut last_seen = None;
            for gap in gaps {
                now += Duration::from_secs(gap);
                let quiet = last_seen.is_none_or(|seen| now - seen > WarnOnce::QUIET);
                prop_assert_eq!(condition.should_report(now), quiet);
                last_seen = Some(now);
            }
        }
    }
}
