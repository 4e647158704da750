//! The time limits of one connection. They are the server's settings until the handler sets others.

use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::Connection;
use crate::state::close_reason::CloseReason;
use crate::state::timeouts::{BLOCKING_SLICE, Timeouts};

/// The limits that a handler can change, and the time from which the idle timeout runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) idle: Option<Duration>,
    pub(crate) deadline: Option<Instant>,
    /// Whether output counts as activity, too.
    pub(crate) output_is_activity: bool,
    /// When a read began to wait for input, or when output that counts was last sent since then.
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

    /// Notes at `now` that a read waits for input, unless this was noted before.
    pub(crate) fn begin_to_wait(&mut self, now: Instant) {
        self.quiet_since.get_or_insert(now);
    }

    /// Restarts the idle timeout at `now` because of output that counts, if a read waits for input.
    pub(crate) fn put_off(&mut self, now: Instant) {
        self.quiet_since = self.quiet_since.and(Some(now));
    }

    /// Returns when the idle timeout is over, if a read waits for input and there is a timeout.
    fn idle_end(&self) -> Option<Instant> {
        self.quiet_since?.checked_add(self.idle?)
    }

    /// Returns when a wait for input must end.
    pub(crate) fn end(&self) -> Option<Instant> {
        self.idle_end().into_iter().chain(self.deadline).min()
    }

    /// Returns the reason to fail a wait for input at `now`, if there is one. After an idle timeout the next
    /// read waits for the whole timeout again.
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

    /// Returns whether a call that blocks for a slice could miss the deadline.
    pub(crate) fn is_deadline_near(&self, now: Instant) -> bool {
        self.is_past_deadline(now + BLOCKING_SLICE)
    }

    pub(crate) fn is_past_deadline(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }
}

impl Connection {
    /// Sets how long a read waits for input before it fails with [`TimedOut`](io::ErrorKind::TimedOut),
    /// from the next read on. `None` means no limit. Defaults to the server's
    /// [`idle_timeout`](crate::Builder::idle_timeout).
    ///
    /// Only input counts, so a peer that only receives is idle. For proxies and downloads see
    /// [`set_output_is_activity`](Self::set_output_is_activity). The time runs from the first read or
    /// [`wait`](Self::wait) that finds no input, and starts over when input arrives. After a failure the
    /// handler may read again, and that read waits for the whole timeout. If two threads wait, the timeout
    /// may fail only one of them.
    ///
    /// The timeout also applies to a connection that [`continue_with`](Self::continue_with) leaves to the
    /// server.
    ///
    /// # Examples
    ///
    /// ```
    /// use socketserver::Connection;
    /// use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
    /// use std::time::Duration;
    ///
    /// /// Reminds a client that sends nothing, and gives up after a second timeout.
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

    /// Sets the time from which reads, writes and [waits](Self::wait) fail with
    /// [`TimedOut`](io::ErrorKind::TimedOut), even if bytes keep arriving. `None`, the default, means never.
    ///
    /// Set a deadline for a phase such as a TLS handshake or a login, and remove the deadline after it. A
    /// deadline in the past fails the next call, even if input has arrived. Calls fail until the handler
    /// moves or removes the deadline; then the handler may go on. If the handler does not read after such a
    /// failure, the reason in the log is `deadline`. A new deadline applies to calls that begin after it was
    /// set. A write that another thread has begun may miss it.
    ///
    /// A connection that [`continue_with`](Self::continue_with) leaves to the server ends at the deadline as
    /// it does at the end of its [lifetime](crate::Builder::max_lifetime). The server carries the input that
    /// had arrived, and the reason in the log is `lifetime`.
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

    /// Sets whether output counts as activity for the idle timeout, as input does. Defaults to the server's
    /// [`output_is_activity`](crate::Builder::output_is_activity).
    ///
    /// If output counts, the idle timeout runs only while no bytes move in either direction.
    pub fn set_output_is_activity(&self, counts: bool) {
        self.lock_limits().output_is_activity = counts;
    }

    /// Makes blocking writes return after the blocking slice, from the next write on (`SO_SNDTIMEO`).
    pub(crate) fn send_in_slices(&self) {
        if !self.sends_in_slices.swap(true, Ordering::Relaxed) {
            // This fails only if the peer has gone, and then no write blocks.
            let _ = SockRef::from(self.stream()).set_write_timeout(Some(BLOCKING_SLICE));
        }
    }

    /// Returns the timeouts that apply to this connection after its handler.
    pub(crate) fn own_timeouts(&self) -> Timeouts {
        Timeouts {
            idle: self.lock_limits().idle,
            lifetime: self.lifetime,
            ..*self.timeouts()
        }
    }

    /// Notes that a wait for input begins or goes on, and returns when the wait must end.
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
        // This runs for every message, so read the clock only if there is a deadline.
        if limits.deadline.is_none() {
            return Ok(true);
        }
        let now = Instant::now();
        if limits.is_past_deadline(now) {
            return Err(self.time_out(CloseReason::Deadline));
        }
        Ok(!limits.is_deadline_near(now))
    }

    /// Notes that a time limit ends the connection, and returns the error for it.
    pub(super) fn time_out(&self, reason: CloseReason) -> io::Error {
        self.end(reason);
        timed_out(reason)
    }

    pub(super) fn lock_limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the error of a read or a write that a time limit has ended.
pub(crate) fn timed_out(reason: CloseReason) -> io::Error {
    let text = match reason {
        CloseReason::Idle => "the peer sent nothing for the idle timeout",
        CloseReason::Deadline => "the deadline that the handler set is over",
        CloseReason::Stalled => "the peer read nothing for the write timeout",
        _ => "the peer did not read the rest of the output in time",
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
    fn a_wait_fails_at_the_earlier_limit_and_after_an_idle_timeout_a_read_waits_as_long_again() {
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
