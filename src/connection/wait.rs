//! Waiting for a client, for other threads, for the end of the server and for a time, all at once.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::Connection;
use crate::wake::wait;

/// What ended a [wait](Connection::wait).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// A read will not block: there is input, an end of file, or an error.
    Input,
    /// Another thread has called [`ConnectionHandle::wake`](crate::ConnectionHandle::wake).
    Woken,
    /// The connection is to come to its end: see [`Connection::is_closing`].
    Closing,
    /// The time is over.
    TimedOut,
}

impl Connection {
    /// Waits, for at most `timeout`, until there is input, another thread
    /// [wakes](crate::ConnectionHandle::wake) this handler, or the connection is to come to its end.
    /// With `None` it waits without limit.
    ///
    /// So one handler serves its client, others who have something for that client, a stop and a clock,
    /// without a second thread and without polling. Once the connection is to come to its end, every wait
    /// returns [`Closing`](Wait::Closing) at once; reads then return what had arrived, and end of file.
    /// Where input and wake-ups both keep coming, each has its turn. The deadline and, while there is no
    /// input, the idle timeout come before both, so that wake-ups can't hold them up. A wake-up that comes
    /// with a failure is for the next wait.
    ///
    /// Several threads of a handler may wait at the same time. A wake-up makes one of them return, input
    /// and the end of the connection all of them.
    ///
    /// It looks at the socket, which has two consequences for lines. A line that a
    /// [`BufReader`](std::io::BufReader) holds already is no input any more: ask its
    /// [`buffer`](std::io::BufReader::buffer) first. And input may be half a line:
    /// [`read_line`](std::io::BufRead::read_line) would wait for the other half, and notice no wake-up. Call
    /// [`fill_buf`](std::io::BufRead::fill_buf) instead, once after each wait. `examples/chat.rs` does both.
    ///
    /// The first wait of a connection takes two descriptors (a pipe, for the wake-ups), which are given back
    /// when the handler is done. A connection that is never waited on has none. If the process is out of
    /// descriptors, a wait may be tried again, and no wake-up is lost.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](io::ErrorKind::TimedOut), as from a read: the [idle
    /// timeout](Self::set_idle_timeout) or the [deadline](Self::set_deadline) is over. Or the process is out
    /// of descriptors.
    ///
    /// # Examples
    ///
    /// ```
    /// use socketserver::{Connection, Wait};
    /// use std::io::{self, Read, Write};
    /// use std::time::Duration;
    ///
    /// /// An echo that says something every minute of silence, and goodbye at a stop.
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
            let sleepers = self.slot.state().shutdown.sleepers().current();
            if self.is_closing() {
                return Ok(Wait::Closing);
            }
            // Input and wake-ups that keep coming must not hold up the deadline.
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
            // First the limits: wake-ups that keep coming, and waits without patience, must not hold
            // them up.
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
