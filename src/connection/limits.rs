//! The time limits of one connection: those of its server, until the handler sets others.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use crate::state::close_reason::CloseReason;
use crate::state::timeouts::{BLOCKING_SLICE, Timeouts};

/// The limits that a handler can change, and what they are measured from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) idle: Option<Duration>,
    pub(crate) deadline: Option<Instant>,
    /// Whether output counts as activity, too.
    pub(crate) output_is_activity: bool,
    /// Since when a read has waited for input, or has seen output that counts.
    pub(crate) quiet_since: Option<Instant>,
}

impl Limits {
    pub(crate) fn new(timeouts: &Timeouts) -> Self {
        Self {
            idle: timeouts.idle,
            deadline: None,
            output_is_activity: timeouts.output_is_activity,
            quiet_since: None,
        }
    }

    /// Begins to wait for input at `now`, or goes on with it.
    pub(crate) fn begin_to_wait(&mut self, now: Instant) {
        self.quiet_since.get_or_insert(now);
    }

    /// Lets a wait that has begun start again at `now`, because of output that counts.
    pub(crate) fn put_off(&mut self, now: Instant) {
        self.quiet_since = self.quiet_since.and(Some(now));
    }

    /// Returns when the idle timeout is over.
    fn idle_end(&self) -> Option<Instant> {
        self.quiet_since?.checked_add(self.idle?)
    }

    /// Returns when a wait for input must end.
    pub(crate) fn end(&self) -> Option<Instant> {
        self.idle_end().into_iter().chain(self.deadline).min()
    }

    /// Returns the reason to fail a wait for input at `now`, if there is one. A later read begins anew.
    pub(crate) fn fail_wait(&mut self, now: Instant) -> Option<CloseReason> {
        if self.is_past_deadline(now) {
            return Some(CloseReason::Deadline);
        }
        if self.idle_end().is_none_or(|end| now < end) {
            return None;
        }
        self.quiet_since = None;
        Some(CloseReason::Idle)
    }

    /// Returns whether a blocking slice could miss the deadline.
    pub(crate) fn is_deadline_near(&self, now: Instant) -> bool {
        self.is_past_deadline(now + BLOCKING_SLICE)
    }

    pub(crate) fn is_past_deadline(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }
}

/// Returns the error of a read or a write that a limit has ended.
pub(crate) fn timed_out(reason: CloseReason) -> io::Error {
    let text = match reason {
        CloseReason::Idle => "the peer sent nothing for too long",
        CloseReason::Deadline => "the deadline of the connection is over",
        _ => "the peer took nothing for too long",
    };
    io::Error::new(ErrorKind::TimedOut, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(idle: u64) -> Limits {
        Limits {
            idle: Some(Duration::from_secs(idle)),
            deadline: None,
            output_is_activity: false,
            quiet_since: None,
        }
    }

    #[test]
    fn a_wait_fails_at_the_earlier_limit_and_a_read_after_an_idle_timeout_begins_anew() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut limits = limits(10);
        limits.begin_to_wait(start);
        limits.begin_to_wait(after(5));
        assert_eq!(limits.end(), Some(after(10)));
        assert_eq!(limits.fail_wait(after(9)), None);
        assert_eq!(limits.fail_wait(after(10)), Some(CloseReason::Idle));
        limits.begin_to_wait(after(11));
        assert_eq!(limits.end(), Some(after(21)));
        limits.deadline = Some(after(12));
        assert_eq!(limits.end(), Some(after(12)));
        // A deadline stays over.
        for seconds in [12, 13] {
            assert_eq!(
                limits.fail_wait(after(seconds)),
                Some(CloseReason::Deadline)
            );
        }
    }

    #[test]
    fn output_that_counts_puts_the_idle_timeout_off() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut limits = limits(10);
        limits.put_off(start);
        assert_eq!(limits.end(), None, "no read waits");
        limits.begin_to_wait(start);
        limits.put_off(after(8));
        assert_eq!(limits.end(), Some(after(18)));
        assert_eq!(limits.fail_wait(after(10)), None);
    }
}
