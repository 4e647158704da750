//! The time limits of one connection: those of its server, until the handler sets others.

use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::Connection;
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

impl Connection {
    /// Sets how long a read waits for input before it fails with
    /// [`TimedOut`](io::ErrorKind::TimedOut), or `None` for no limit, from the next read on. Until then it is
    /// the server's [`idle_timeout`](crate::Builder::idle_timeout).
    ///
    /// It is about input: a peer that only receives is idle. For proxies and downloads see
    /// [`set_output_is_activity`](Self::set_output_is_activity). The time runs from the first read or
    /// [`wait`](Self::wait) that finds no input, and begins again when input arrives. A read that has
    /// failed may be tried again, and then waits as long once more. If two threads wait, one of them may
    /// fail alone.
    ///
    /// It also holds after the handler, for what [`continue_with`](Self::continue_with) leaves to the server.
    ///
    /// # Examples
    ///
    /// ```
    /// use socketserver::Connection;
    /// use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
    /// use std::time::Duration;
    ///
    /// /// Reminds a client that says nothing, and gives up the second time.
    /// fn ask(mut conn: &Connection) -> io::Result<String> {
    ///     conn.set_idle_timeout(Duration::from_secs(30));
    ///     let mut name = String::new();
    ///     let mut input = BufReader::new(conn.take(1000));
    ///     writeln!(conn, "who are you?")?;
    ///     match input.read_line(&mut name) {
    ///         Err(error) if error.kind() == ErrorKind::TimedOut => {
    ///             writeln!(conn, "are you there?")?;
    ///             input.read_line(&mut name)?;
    ///         }
    ///         read => drop(read?),
    ///     }
    ///     Ok(name)
    /// }
    /// ```
    #[doc(alias("set_read_timeout", "set_timeout"))]
    pub fn set_idle_timeout(&self, timeout: impl Into<Option<Duration>>) {
        self.lock_limits().idle = timeout.into();
    }

    /// Sets when reads, writes and [waits](Self::wait) fail with [`TimedOut`](io::ErrorKind::TimedOut),
    /// however often bytes drip in, or `None` for never. Set a deadline for a phase, such as a TLS
    /// handshake or a login, and take it back after that.
    ///
    /// A deadline in the past fails the next call, even if input has arrived. Calls fail until the deadline
    /// is moved or taken back; then the handler may go on. If the handler reads no more after a failure,
    /// the reason in the log is `deadline`. A deadline holds for calls that begin afterwards: a write that
    /// another thread has begun may not notice.
    ///
    /// What [`continue_with`](Self::continue_with) leaves to the server ends at a deadline as at the
    /// [lifetime](crate::Builder::max_lifetime): what had arrived is echoed, and the reason is `lifetime`.
    ///
    /// # Examples
    ///
    /// ```
    /// use socketserver::Connection;
    /// use std::io::{self, Read};
    /// use std::time::{Duration, Instant};
    ///
    /// /// Reads a header of 4 bytes, which must be there within 5 s.
    /// fn header(conn: &mut Connection) -> io::Result<[u8; 4]> {
    ///     let mut header = [0; 4];
    ///     conn.set_deadline(Instant::now() + Duration::from_secs(5));
    ///     conn.read_exact(&mut header)?;
    ///     conn.set_deadline(None);
    ///     Ok(header)
    /// }
    /// ```
    #[doc(alias("handshake", "slowloris"))]
    pub fn set_deadline(&self, deadline: impl Into<Option<Instant>>) {
        let deadline = deadline.into();
        self.lock_limits().deadline = deadline;
        if deadline.is_some() {
            self.send_in_slices();
        }
    }

    /// Sets whether what is sent counts as activity, as what is received does: then the idle timeout runs
    /// only while nothing goes either way. Until then it is as
    /// [`output_is_activity`](crate::Builder::output_is_activity) says.
    pub fn set_output_is_activity(&self, counts: bool) {
        self.lock_limits().output_is_activity = counts;
    }

    /// Makes blocking writes return after the blocking slice, from the next one on.
    pub(crate) fn send_in_slices(&self) {
        if !self.sends_in_slices.swap(true, Ordering::Relaxed) {
            // It fails only where the peer has gone, and then no call blocks.
            let _ = SockRef::from(self.stream()).set_write_timeout(Some(BLOCKING_SLICE));
        }
    }

    /// Returns the timeouts of this connection, as they hold after the handler.
    pub(crate) fn own_timeouts(&self) -> Timeouts {
        Timeouts {
            idle: self.lock_limits().idle,
            lifetime: self.lifetime,
            ..*self.timeouts()
        }
    }

    /// Notes that a wait for input begins or goes on, and returns when it must end.
    pub(super) fn begin_to_wait(&self) -> Option<Instant> {
        let mut limits = self.lock_limits();
        limits.begin_to_wait(Instant::now());
        limits.end()
    }

    /// Fails if a limit of the wait for input is over.
    pub(super) fn check_wait(&self) -> io::Result<()> {
        let failed = self.lock_limits().fail_wait(Instant::now());
        failed.map_or(Ok(()), |reason| Err(self.time_out(reason)))
    }

    /// Fails if the deadline is over. Returns whether the deadline leaves time for a blocking slice.
    pub(super) fn check_deadline(&self) -> io::Result<bool> {
        let limits = *self.lock_limits();
        // Without a deadline there is no need for the time.
        if limits.deadline.is_none() {
            return Ok(true);
        }
        let now = Instant::now();
        if limits.is_past_deadline(now) {
            return Err(self.time_out(CloseReason::Deadline));
        }
        Ok(!limits.is_deadline_near(now))
    }

    /// Notes that a limit of time ends the connection, and returns the error that says so.
    pub(super) fn time_out(&self, reason: CloseReason) -> io::Error {
        self.end(reason);
        timed_out(reason)
    }

    pub(super) fn lock_limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
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
