//! How a connection reads and writes: how it waits, what it notices, when it gives up.
//!
//! What is read or written, and by which system call, is the caller's: an attempt.

use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{RecvFlags, SendFlags};

use super::{Connection, NOT_NOTICED, NOTICE, SILENT};
use crate::connection::close_reason::Ending;
use crate::state::shutdown::Phase;
use crate::state::timeouts::BRIEFLY;
use crate::wake::wait;

/// Where there is no such flag, it is an option that the standard library sets on every socket.
#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: SendFlags = SendFlags::empty();

/// How long a write that has no room waits before it tries again.
const A_MOMENT: Duration = Duration::from_secs(1);

impl Connection {
    /// Reads, however long it takes for something to arrive.
    pub(super) fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(n) = self.receive_soon(buf)? {
                return Ok(n);
            }
            self.wait_for_input()?;
        }
    }

    /// Reads what arrives soon. Returns `None` if the peer is silent: then
    /// [`wait_for_input`](Self::wait_for_input) sleeps on.
    pub(crate) fn receive_soon(&self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        let mut receive = |most: usize, flags| {
            let most = buf.len().min(most);
            let (_, n) = rustix::net::recv(self.stream(), &mut buf[..most], flags)?;
            Ok(n)
        };
        if !self.shall_end() {
            let mut try_once = || self.receive_once(|| receive(usize::MAX, RecvFlags::DONTWAIT));
            if let Some(received) = self.spin.wait(&mut try_once) {
                return received.map(Some);
            }
        }
        // To sleep here first would be in vain once more, and cost another wake-up.
        let flags = if self.calm.load(Ordering::Relaxed) {
            RecvFlags::DONTWAIT
        } else {
            RecvFlags::empty()
        };
        self.receive_soon_by(|most| receive(most, flags))
    }

    /// Reads what arrives soon by `attempt`, which is told how many bytes it may take, and returns 0
    /// at the end of file only. It may sleep for as long as the socket's timeout says.
    pub(crate) fn receive_soon_by(
        &self,
        mut attempt: impl FnMut(usize) -> io::Result<usize>,
    ) -> io::Result<Option<usize>> {
        let received = if self.shall_end() {
            self.receive_rest(attempt)
        } else {
            self.receive_once(|| attempt(usize::MAX))
        };
        match received {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.spin.silence();
                self.calm.store(true, Ordering::Relaxed);
                Ok(None)
            }
            received => received.map(Some),
        }
    }

    /// Sleeps until there is something to read, or to notice.
    ///
    /// # Errors
    ///
    /// The peer has sent nothing for the idle timeout.
    pub(crate) fn wait_for_input(&self) -> io::Result<()> {
        let stop = self.server.stop();
        let mut fds = [
            PollFd::new(self.stream(), PollFlags::IN),
            PollFd::new(&stop, PollFlags::IN),
        ];
        let times = [self.times.idle, self.lifetime_left()];
        let start = Instant::now();
        let woken = wait(&mut fds, times.into_iter().flatten().min())?;
        if start.elapsed() < BRIEFLY {
            self.calm.store(false, Ordering::Relaxed);
        }
        if woken || self.shall_end() {
            return Ok(());
        }
        self.set_ending(Ending::Idle);
        let cause = "the peer sent nothing for too long";
        Err(io::Error::new(ErrorKind::TimedOut, cause))
    }

    /// Reads now that the connection is to come to its end: what had arrived when that was
    /// noticed, or arrives within a moment, and no more, however fast the peer goes on sending.
    fn receive_rest(
        &self,
        mut attempt: impl FnMut(usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut due = self.due.load(Ordering::Relaxed);
        if due == NOT_NOTICED {
            due = if self.wait_for(PollFlags::IN, NOTICE) {
                rustix::io::ioctl_fionread(self.stream())?
            } else {
                SILENT
            };
            // Unless another thread has noticed, too, and has perhaps read it.
            let _ =
                self.due
                    .compare_exchange(NOT_NOTICED, due, Ordering::Relaxed, Ordering::Relaxed);
            if due == 0 {
                // The peer's own end, by a FIN or a reset.
                match self.receive_once(|| attempt(usize::MAX)) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    received => return received,
                }
            }
        }
        if due == 0 || due == SILENT {
            self.note_end();
            return Ok(0);
        }
        let most = usize::try_from(due).unwrap_or(usize::MAX);
        let n = self.receive_once(|| attempt(most))?;
        // Two threads may have read at the same time.
        let _ = self
            .due
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| {
                Some(due.saturating_sub(n as u64))
            });
        Ok(n)
    }

    /// Makes one attempt, and notes what comes of it.
    fn receive_once(&self, mut attempt: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
        loop {
            match attempt() {
                // A read with a timeout is interrupted by signals even under `SA_RESTART`, and by
                // SIGSTOP and SIGCONT (see `signal(7)`).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error),
                Err(error) => return Err(self.failed(error)),
                Ok(0) => {
                    self.set_ending(if self.link.is_cut() {
                        self.reason_to_end()
                    } else {
                        Ending::Eof
                    });
                    return Ok(0);
                }
                Ok(n) => {
                    // A handler may go on after a timeout, and then it was not the end.
                    if self.ending() != Ending::Done {
                        self.set_ending(Ending::Done);
                    }
                    self.slot.bytes_in.fetch_add(n as u64, Ordering::Relaxed);
                    return Ok(n);
                }
            }
        }
    }

    /// Writes some, however long it takes for the peer to make room.
    pub(super) fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.send_by(|| Ok(rustix::net::send(self.stream(), buf, NO_SIGNAL)?))
    }

    /// Writes some by `attempt`, however long it takes for the peer to make room.
    pub(crate) fn send_by(
        &self,
        mut attempt: impl FnMut() -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut blocked_since = None;
        loop {
            if self
                .times
                .leave_after()
                .is_some_and(|end| self.accepted.elapsed() >= end)
            {
                return Err(self.not_taken(Ending::Lifetime));
            }
            match attempt() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let since = *blocked_since.get_or_insert_with(Instant::now);
                    self.wait_for_room(since, error)?;
                }
                // Not the caller's to repeat: its times would start again.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
                Ok(n) => {
                    self.slot.bytes_out.fetch_add(n as u64, Ordering::Relaxed);
                    return Ok(n);
                }
            }
        }
    }

    /// Sleeps until there may be room, or for a moment: the kernel reports room once a third of the
    /// send buffer is free, and a peer that is slow rather than stalled may have made less.
    fn wait_for_room(&self, blocked_since: Instant, would_block: io::Error) -> io::Result<()> {
        if self.times.send_timeout().is_none() {
            // The handler has made the stream non-blocking.
            return Err(would_block);
        }
        let blocked = blocked_since.elapsed();
        if self.times.write.is_some_and(|write| blocked >= write) {
            return Err(self.not_taken(Ending::Stalled));
        }
        let left = self.times.write.map(|write| write.saturating_sub(blocked));
        self.wait_for(
            PollFlags::OUT,
            left.map_or(A_MOMENT, |left| left.min(A_MOMENT)),
        );
        Ok(())
    }

    fn not_taken(&self, ending: Ending) -> io::Error {
        self.set_ending(ending);
        io::Error::new(ErrorKind::TimedOut, "the peer took nothing for too long")
    }

    /// Notes an error as the ending.
    fn failed(&self, error: io::Error) -> io::Error {
        self.set_ending(match error.kind() {
            // What came of a cut is not the peer's doing.
            _ if self.link.is_cut() => self.reason_to_end(),
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            // Keep-alive or retransmission gave up: the peer is gone.
            | ErrorKind::TimedOut => Ending::Reset,
            _ => Ending::Error,
        });
        error
    }

    /// Notes why the connection comes to its end, unless the peer had come to its own before.
    pub(super) fn note_end(&self) {
        if self.ending() != Ending::Eof {
            self.set_ending(self.reason_to_end());
        }
    }

    /// Returns whether the connection is to come to its end.
    pub(super) fn shall_end(&self) -> bool {
        self.server.phase() != Phase::Serving || self.lifetime_left() == Some(Duration::ZERO)
    }

    fn lifetime_left(&self) -> Option<Duration> {
        let lifetime = self.times.lifetime?;
        Some(lifetime.saturating_sub(self.accepted.elapsed()))
    }

    /// Returns why the connection is to come to its end.
    fn reason_to_end(&self) -> Ending {
        match self.server.phase() {
            Phase::Serving => Ending::Lifetime,
            Phase::Draining | Phase::Cutting => Ending::Shutdown,
        }
    }
}
