//! The reads and writes of a handler: how they wait, notice a shutdown, and time out.
//!
//! The caller passes the system call (`recv`, `send` or `splice`) as the closure `attempt`.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::atomic::Ordering;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::net::{RecvFlags, SendFlags};
use socket2::SockRef;

use super::Connection;
use super::progress::Progress;
use crate::state::close_reason::CloseReason;
use crate::state::timeouts::{BLOCKING_SLICE, DRAIN_GRACE, WRITE_RETRY};
use crate::wake::wait;

/// Keeps the kernel from raising SIGPIPE (`send(2)`). Apple's systems have no such flag. They have an
/// option of the socket, which the standard library sets on every socket.
#[cfg(not(target_vendor = "apple"))]
pub(super) const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
pub(super) const NO_SIGNAL: SendFlags = SendFlags::empty();

impl Read for &Connection {
    /// Receives bytes (`recv(2)`), after waiting for at least one. Returns 0 at the end of file.
    ///
    /// # Errors
    ///
    /// - [`TimedOut`](io::ErrorKind::TimedOut): the [idle timeout](Connection::set_idle_timeout) or the
    ///   [deadline](Connection::set_deadline) is over.
    /// - [`ConnectionReset`](io::ErrorKind::ConnectionReset) and others of `recv(2)`: the peer has reset the
    ///   connection, or has become unreachable.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.receive(buf)
    }
}

impl Write for &Connection {
    /// Hands bytes to the kernel (`send(2)`), after waiting for room. Raises no SIGPIPE.
    ///
    /// # Errors
    ///
    /// - [`TimedOut`](io::ErrorKind::TimedOut): the peer has read nothing for the
    ///   [write timeout](crate::Builder::write_timeout), the [deadline](Connection::set_deadline) is over, or
    ///   the [lifetime](crate::Builder::max_lifetime) and one
    ///   [lingering time](crate::Builder::lingering_time) after it are over.
    /// - [`BrokenPipe`](io::ErrorKind::BrokenPipe), [`ConnectionReset`](io::ErrorKind::ConnectionReset) and
    ///   others of `send(2)`: the peer has reset the connection or has become unreachable, or the handler has
    ///   sent a [FIN](Connection::shutdown_write).
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.send(buf)
    }

    /// Formats first and writes once, so that a `write!` is one system call and one packet, instead of
    /// one for each fragment of its format string.
    fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> io::Result<()> {
        match args.as_str() {
            Some(text) => self.write_all(text.as_bytes()),
            None => self.write_all(args.to_string().as_bytes()),
        }
    }

    /// Does nothing, because a write has handed its bytes to the kernel already.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Connection {
    /// Receives bytes, as for `&Connection`.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
}

impl Write for Connection {
    /// Hands bytes to the kernel, as for `&Connection`.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    /// Formats first and writes once, as for `&Connection`.
    fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> io::Result<()> {
        (&*self).write_fmt(args)
    }

    /// Does nothing, because a write has handed its bytes to the kernel already.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Connection {
    /// Reads some input, after waiting for it within the limits of the connection.
    pub(super) fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let may_block = self.check_deadline()?;
            if let Some(n) = self.receive_soon(buf, may_block)? {
                return Ok(n);
            }
            self.wait_for_input()?;
        }
    }

    /// Reads input that arrives within the blocking slice. Returns `None` if there is none, and then the
    /// caller sleeps in [`wait_for_input`](Self::wait_for_input). Without `may_block` the read does not
    /// block, because the deadline may come before the end of the slice.
    fn receive_soon(&self, buf: &mut [u8], may_block: bool) -> io::Result<Option<usize>> {
        let mut receive = |most: usize, flags| {
            let most = buf.len().min(most);
            let (_, n) = rustix::net::recv(self.stream(), &mut buf[..most], flags)?;
            Ok(n)
        };
        if may_block && !self.should_close() {
            let mut try_once = || self.receive_once(|| receive(usize::MAX, RecvFlags::DONTWAIT));
            if let Some(received) = self.busy_poll.wait(&mut try_once) {
                return received.map(Some);
            }
        }
        // If messages are far apart, blocking here would only add a wake-up before `wait_for_input`.
        let flags = if may_block && !self.polls_first.load(Ordering::Relaxed) {
            RecvFlags::empty()
        } else {
            RecvFlags::DONTWAIT
        };
        self.receive_soon_by(|most| receive(most, flags))
    }

    /// Reads input that arrives within the blocking slice, by calling `attempt`. The closure gets the
    /// most bytes that it may read, and returns 0 only at the end of file.
    pub(crate) fn receive_soon_by(
        &self,
        mut attempt: impl FnMut(usize) -> io::Result<usize>,
    ) -> io::Result<Option<usize>> {
        self.prepare_to_block();
        let received = if self.should_close() {
            self.receive_arrived(attempt)
        } else {
            self.receive_once(|| attempt(usize::MAX))
        };
        match received {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.busy_poll.silence();
                self.polls_first.store(true, Ordering::Relaxed);
                Ok(None)
            }
            received => received.map(Some),
        }
    }

    /// Sets the stream's timeouts (`SO_RCVTIMEO`, `SO_SNDTIMEO`) to the blocking slice, before the first
    /// blocking call. A connection that goes straight to a reactor saves these system calls.
    fn prepare_to_block(&self) {
        if !self.has_slices.swap(true, Ordering::Relaxed) {
            let socket = SockRef::from(self.stream());
            // These calls fail only if the peer has gone, and then no call blocks.
            let _ = socket.set_read_timeout(Some(BLOCKING_SLICE));
            if self.sends_in_slices.load(Ordering::Relaxed) {
                let _ = socket.set_write_timeout(Some(BLOCKING_SLICE));
            }
        }
    }

    /// Sleeps until the stream is readable, or the server ends the connection.
    ///
    /// # Errors
    ///
    /// The peer has sent nothing for the idle timeout, or the deadline is over.
    fn wait_for_input(&self) -> io::Result<()> {
        // Take the pipe before the check. A request that comes after the check then wakes this thread.
        let sleepers = self.slot.state().shutdown.sleepers().current();
        if self.should_close() {
            return Ok(());
        }
        let mut fds = [
            PollFd::new(self.stream(), PollFlags::IN),
            PollFd::new(&*sleepers, PollFlags::IN),
        ];
        let start = Instant::now();
        let ends = [self.begin_to_wait(), self.lifetime_end()];
        let end = ends.into_iter().flatten().min();
        let woken = wait(
            &mut fds,
            end.map(|end| end.saturating_duration_since(start)),
        )?;
        if start.elapsed() < BLOCKING_SLICE {
            self.polls_first.store(false, Ordering::Relaxed);
        }
        if woken || self.should_close() {
            return Ok(());
        }
        self.check_wait()
    }

    /// Reads while the server ends the connection.
    ///
    /// The first read that notices the end waits for input up to [`DRAIN_GRACE`], and counts what has
    /// arrived. Only these bytes are read, however fast the peer goes on sending.
    fn receive_arrived(
        &self,
        mut attempt: impl FnMut(usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            match self.progress() {
                Progress::Ended { reason, .. } if reason.is_by_server() => return Ok(0),
                Progress::Draining { unread: 0, .. } => {
                    self.end(self.reason_to_close());
                    return Ok(0);
                }
                Progress::Draining { unread, .. } => {
                    let most = usize::try_from(unread).unwrap_or(usize::MAX);
                    match self.receive_once(|| attempt(most)) {
                        // Another thread had received these bytes already when this one counted them as
                        // unread, so they will never come.
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            self.end(self.reason_to_close());
                            return Ok(0);
                        }
                        received => return received,
                    }
                }
                Progress::Open | Progress::HandlerInformed | Progress::Ended { .. } => {}
            }
            if !self.wait_for(PollFlags::IN, DRAIN_GRACE) {
                let why = self.reason_to_close();
                self.update_progress(|progress| progress.end_silent(why));
                return Ok(0);
            }
            let arrived = self.arrived()?;
            if arrived == 0 {
                // The stream is readable but empty: the peer has sent a FIN or a reset.
                match self.receive_once(|| attempt(usize::MAX)) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    received => return received,
                }
            }
            self.update_progress(|progress| progress.drain(arrived));
        }
    }

    /// Calls `attempt` once, and notes the received bytes, the end of file or the error.
    fn receive_once(&self, attempt: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        match attempt() {
            // A signal interrupts a read with a timeout even under `SA_RESTART`, and so do SIGSTOP
            // and SIGCONT (`signal(7)`). Don't block again here, because signals that come faster
            // than the slice ends would keep the thread from its deadlines.
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                Err(ErrorKind::WouldBlock.into())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(error),
            Err(error) => Err(self.failed(error)),
            Ok(0) => {
                self.end(if self.record.is_aborted() {
                    self.reason_to_close()
                } else {
                    CloseReason::Eof
                });
                Ok(0)
            }
            Ok(n) => {
                self.update_progress(|progress| progress.received(n as u64));
                self.lock_limits().quiet_since = None;
                self.record.received(n);
                Ok(n)
            }
        }
    }

    /// Writes some bytes, after waiting for room within the limits of the connection.
    pub(super) fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.send_by(|may_block| {
            let flags = if may_block {
                NO_SIGNAL
            } else {
                NO_SIGNAL | SendFlags::DONTWAIT
            };
            Ok(rustix::net::send(self.stream(), buf, flags)?)
        })
    }

    /// Writes some bytes by calling `attempt`, after waiting for room within the limits of the
    /// connection. The argument of the closure says whether there is time for a blocking slice.
    pub(crate) fn send_by(
        &self,
        mut attempt: impl FnMut(bool) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.prepare_to_block();
        let mut blocked_since = None;
        loop {
            if let Some((end, reason)) = self.write_end()
                && Instant::now() >= end
            {
                return Err(self.time_out(reason));
            }
            let may_block = self.check_deadline()?;
            match attempt(may_block) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let since = *blocked_since.get_or_insert_with(Instant::now);
                    self.wait_for_room(since, error)?;
                }
                // Retry here: if the caller retried, its write timeout would start over. Check the
                // limits first, because signals that keep coming must not suspend them.
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    let since = *blocked_since.get_or_insert_with(Instant::now);
                    self.check_write_timeout(since)?;
                }
                Err(error) => return Err(self.failed(error)),
                Ok(n) => {
                    let mut limits = self.lock_limits();
                    if limits.output_is_activity {
                        limits.put_off(Instant::now());
                    }
                    drop(limits);
                    self.record.sent(n);
                    return Ok(n);
                }
            }
        }
    }

    /// Sleeps until there is room, a limit is over, or it is time to try again ([`WRITE_RETRY`]).
    fn wait_for_room(&self, blocked_since: Instant, would_block: io::Error) -> io::Result<()> {
        if !self.sends_in_slices.load(Ordering::Relaxed) {
            // The handler has made the stream non-blocking.
            return Err(would_block);
        }
        self.check_write_timeout(blocked_since)?;
        let ends = [
            self.timeouts()
                .write
                .and_then(|write| blocked_since.checked_add(write)),
            self.write_end().map(|(end, _)| end),
            self.lock_limits().deadline,
        ];
        let now = Instant::now();
        let left = ends
            .into_iter()
            .flatten()
            .map(|end| end.saturating_duration_since(now))
            .min();
        let timeout = left.map_or(WRITE_RETRY, |left| left.min(WRITE_RETRY));
        self.wait_for(PollFlags::OUT, timeout);
        Ok(())
    }

    /// Returns when writes fail even if the peer reads, and for which reason.
    fn write_end(&self) -> Option<(Instant, CloseReason)> {
        let lingering = self.timeouts().lingering;
        let lifetime_end = self
            .lifetime_end()
            .and_then(|end| end.checked_add(lingering));
        // A handler may go on writing after a close request. A connection without a handler may not.
        let close_end = self.is_handler_done.then(|| self.close_end()).flatten();
        let ends = [
            lifetime_end.map(|end| (end, CloseReason::Lifetime)),
            close_end.map(|end| (end, CloseReason::Closed)),
        ];
        ends.into_iter().flatten().min_by_key(|&(end, _)| end)
    }

    fn check_write_timeout(&self, blocked_since: Instant) -> io::Result<()> {
        let write = self.timeouts().write;
        if write.is_some_and(|write| blocked_since.elapsed() >= write) {
            return Err(self.time_out(CloseReason::Stalled));
        }
        Ok(())
    }

    /// Notes the reason for the end of a connection whose stream has failed, and returns the error.
    fn failed(&self, error: io::Error) -> io::Error {
        self.end(self.reason_of(&error));
        error
    }
}
