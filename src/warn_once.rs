//! Decides when to warn of a condition that comes and goes.
//!
//! Nothing here reads a clock or logs: callers pass the time, and act on the decision.

use std::time::{Duration, Instant};

/// A condition that comes and goes, and is reported once per episode.
///
/// At a limit, every connection that ends makes room for a moment, so the condition ends and begins
/// again with each client. If the server reported each beginning, clients could flood the log. So an
/// episode lasts until the condition has not been seen for [`QUIET`](Self::QUIET).
#[derive(Debug, Default)]
pub(crate) struct WarnOnce {
    last_seen: Option<Instant>,
}

impl WarnOnce {
    /// The episode ends when the condition has not been seen for this long.
    pub(crate) const QUIET: Duration = Duration::from_secs(10);

    /// Notes that the condition holds at `now`, and returns whether to report it.
    pub(crate) fn should_report(&mut self, now: Instant) -> bool {
        let before = self.last_seen.replace(now);
        before.is_none_or(|before| now.saturating_duration_since(before) > Self::QUIET)
    }

    /// Extends the episode to `now`, because the condition has held since it was last seen.
    pub(crate) fn held_until(&mut self, now: Instant) {
        if let Some(last_seen) = &mut self.last_seen {
            *last_seen = now;
        }
    }

    /// Returns when the episode ends unless the condition is seen again, or `None` without an episode.
    pub(crate) fn end(&self) -> Option<Instant> {
        Some(self.last_seen? + Self::QUIET)
    }

    /// Returns `true` once for each episode: at the first call after its end.
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
        // A server at its limit for an hour notes the end of that hour only when a slot is free again.
        condition.held_until(at(3700));
        assert!(!condition.should_report_end(at(3709)));
        assert!(!condition.should_report(at(3709)));
        assert_eq!(condition.end(), Some(at(3719)));
        assert!(condition.should_report_end(at(3719)));
        assert!(!condition.should_report_end(at(3719)));
        assert!(condition.should_report(at(3719)));
    }

    proptest! {
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
