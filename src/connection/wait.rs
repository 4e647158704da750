//! Waiting for input, for wake-ups from other threads, for a shutdown and for a time, all at once.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::Connection;
use crate::wake::wait;

/// What ended a [wait](Connection::wait).
///
/// # Examples
///
/// ```
/// use socketserver::{Connection, Wait};
/// use std::io::{self, Write};
/// use std::time::Duration;
///
/// /// Counts the seconds until the client sends something or the server stops.
/// fn count(conn: &mut Connection) -> io::Result<()> {
///     for second in 1.. {
///         match conn.wait(Duration::from_secs(1))? {
///             Wait::TimedOut => writeln!(conn, "{second}")?,
///             Wait::Input | Wait::Closing => break,
///             _ => {}
///         }
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// A read will not block: there is input, an end of file, or an error.
    Input,
    /// Another thread has called [`ConnectionHandle::wake`](crate::ConnectionHandle::wake).
    Woken,
    /// The server is ending the connection: see [`Connection::is_closing`].
    Closing,
    /// The timeout of the wait is over, and nothing else has happened.
    TimedOut,
}

impl Connection {
    /// Waits for input, for a [wake-up](crate::ConnectionHandle::wake) from another thread, or for the server
    /// to end the connection, but at most for `timeout` (`poll(2)`). `None` means no limit.
    ///
    /// So one handler, on one thread, can react to its client, to other threads, to a shutdown and to a
    /// timer. Once the server ends the connection, every wait returns [`Closing`](Wait::Closing) at once.
    /// Reads then return the input that had arrived, and end of file after it.
    ///
    /// If both input and wake-ups keep coming, waits return them in turn. A wait first checks the deadline
    /// and, if there is no input, the idle timeout, so that wake-ups can't delay either. If a wait fails,
    /// a wake-up is kept for the next wait.
    ///
    /// Several threads of a handler may wait at the same time. A wake-up makes one of them return. Input, or
    /// the end of the connection, makes all of them return.
    ///
    /// A wait looks only at the socket, which matters to a handler that reads lines. If a
    /// [`BufReader`](std::io::BufReader) already holds the next line, the wait does not see it, so check the
    /// [`buffer`](std::io::BufReader::buffer) first. Input may also be half a line, and
    /// [`read_line`](std::io::BufRead::read_line) would wait for the other half and notice no wake-up. Call
    /// [`fill_buf`](std::io::BufRead::fill_buf) instead, once after each wait. `examples/chat.rs` does both.
    ///
    /// The first wait of a connection opens two descriptors (a pipe, for the wake-ups). They are closed when
    /// the handler is done. A connection whose handler never waits has none.
    ///
    /// # Errors
    ///
    /// - [`TimedOut`](io::ErrorKind::TimedOut), as from a read: the [idle
    ///   timeout](Self::set_idle_timeout) or the [deadline](Self::set_deadline) is over.
    /// - The process is out of descriptors (`pipe(2)`). The handler may wait again, and no wake-up is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// use socketserver::{Connection, Wait};
    /// use std::io::{self, Read, Write};
    /// use std::time::Duration;
    ///
    /// /// An echo that says something after each minute of silence, and goodbye at a shutdown.
    /// fn serve(conn: &mut Connection) -> io::Result<()> {
    ///     let mut buffer = [0; 1024];
    ///     loop {
    ///         match conn.wait(Duration::from_secs(60))? {
    ///             Wait::Input => match conn.read(&mut buffer)? {
    ///                 0 => return Ok(()),
    ///                 n => conn.write_all(&buffer[..n])?,
    ///             },
    ///             Wait::Closing => return conn.write_all(b"goodbye\n"),
    ///             _ => conn.write_all(b"still there?\n")?,
    ///         }
    ///     }
    /// }
    /// ```
    #[doc(alias("poll", "select"))]
    pub fn wait(&self, timeout: impl Into<Option<Duration>>) -> io::Result<Wait> {
        let control = &self.record.control;
        let waker = control.waker()?;
        let until = timeout
            .into()
            .and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            // Take the pipe before the check. A request that comes after the check then wakes this thread.
            let sleepers = self.slot.state().shutdown.sleepers().current();
            if self.is_closing() {
                return Ok(Wait::Closing);
            }
            // Otherwise input and wake-ups that keep coming would delay the deadline.
            self.check_deadline()?;
            let mut fds = [
                PollFd::new(self.stream(), PollFlags::IN),
                PollFd::new(&*waker, PollFlags::IN),
                PollFd::new(&*sleepers, PollFlags::IN),
            ];
            let ends = [until, self.begin_to_wait(), self.lifetime_end()];
            let end = ends.into_iter().flatten().min();
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            wait(&mut fds, left)?;
            let has_input = !fds[0].revents().is_empty();
            // Check the limits first, because wake-ups that keep coming, and waits with a short timeout,
            // must not delay them.
            if !has_input {
                self.check_wait()?;
            }
            if control.take_wake_up(has_input) {
                return Ok(Wait::Woken);
            }
            if has_input {
                return Ok(Wait::Input);
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(Wait::TimedOut);
            }
        }
    }
}
