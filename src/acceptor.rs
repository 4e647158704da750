//! The listener loop's one question: which connection is served next?
//!
//! It waits for room, for a client, and for what the system is short of, and takes a connection
//! from the backlog only once there is a slot for it and something to serve it with.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::accept::{Backoff, Episode, Verdict, classify};
use crate::connection::Connection;
use crate::error::Error;
use crate::registry::{Registry, Slot};
use crate::shutdown::Phase;

/// Takes connections from a server's listeners, one after another.
pub(crate) struct Acceptor<'s> {
    listeners: &'s [TcpListener],
    registry: &'s Arc<Registry>,
    /// The waker first, then the listeners in their order.
    fds: Vec<PollFd<'s>>,
    /// The listener that was served last. The next one has the next turn.
    last: usize,
    backoff: Backoff,
    shortage: Episode,
    limit: Episode,
}

/// Why no connection came of a listener that was ready.
enum Setback {
    /// It is gone, or someone else has it.
    Nothing,
    /// The system is out of something, so this could not be done.
    Shortage(&'static str, io::Error),
    /// This listener is at its end.
    Unusable(io::Error),
}

impl<'s> Acceptor<'s> {
    pub(crate) fn new(listeners: &'s [TcpListener], registry: &'s Arc<Registry>) -> Self {
        let waker = PollFd::new(registry.shutdown().waker(), PollFlags::IN);
        let sockets = listeners
            .iter()
            .map(|listener| PollFd::new(listener, PollFlags::IN));
        Self {
            listeners,
            registry,
            fds: std::iter::once(waker).chain(sockets).collect(),
            last: 0,
            backoff: Backoff::default(),
            shortage: Episode::default(),
            limit: Episode::default(),
        }
    }

    /// Waits for the next connection, and for what `reserve` provides to serve it with, which is
    /// asked for first. Returns `None` when a shutdown is requested or the deadline is over.
    pub(crate) fn next<R>(
        &mut self,
        deadline: Option<Instant>,
        mut reserve: impl FnMut() -> io::Result<R>,
    ) -> Result<Option<(Connection, R)>, Error> {
        loop {
            if self.registry.shutdown().phase() != Phase::Serving {
                return Ok(None);
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let ready = if self.registry.has_room() {
                self.wait_for_client(left)?
            } else {
                self.report_limit();
                self.wait_for_wake_up(left)?;
                None
            };
            if let (Some(index), Some(slot)) = (ready, self.registry.admit()) {
                match self.take(index, slot, &mut reserve) {
                    Ok(taken) => {
                        self.backoff.reset();
                        return Ok(Some(taken));
                    }
                    Err(Setback::Nothing) => {}
                    Err(Setback::Shortage(what, error)) => self.back_off(what, &error, left)?,
                    Err(Setback::Unusable(error)) => {
                        let listener = self.name_of(index);
                        return Err(Error::new(format!("cannot accept on {listener}"), error));
                    }
                }
            }
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
        }
    }

    fn take<R>(
        &self,
        index: usize,
        slot: Slot,
        reserve: &mut impl FnMut() -> io::Result<R>,
    ) -> Result<(Connection, R), Setback> {
        let reserved = reserve().map_err(|error| Setback::Shortage("start a thread", error))?;
        let (stream, peer) = self.accept(index)?;
        Ok((Connection::new(stream, peer, slot), reserved))
    }

    fn accept(&self, index: usize) -> Result<(TcpStream, SocketAddr), Setback> {
        let accepted = self.listeners[index].accept().and_then(|(stream, peer)| {
            // Where it does not start out blocking, as on Linux, it is like its listener.
            if !cfg!(any(target_os = "linux", target_os = "android")) {
                stream.set_nonblocking(false)?;
            }
            Ok((stream, peer))
        });
        accepted.map_err(|error| match classify(&error) {
            Verdict::NextOne => Setback::Nothing,
            Verdict::Shortage => Setback::Shortage("accept", error),
            Verdict::Unusable => Setback::Unusable(error),
        })
    }

    /// Returns the index of a listener with something pending, each in its turn.
    fn wait_for_client(&mut self, timeout: Option<Duration>) -> Result<Option<usize>, Error> {
        self.poll(self.fds.len(), timeout)?;
        let count = self.listeners.len();
        let ready = (1..=count)
            .map(|step| (self.last + step) % count)
            .find(|&index| !self.fds[1 + index].revents().is_empty());
        self.last = ready.unwrap_or(self.last);
        Ok(ready)
    }

    /// Leaves the clients where they are, in the backlog, and sleeps.
    fn wait_for_wake_up(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        self.poll(1, timeout)
    }

    fn poll(&mut self, watched: usize, timeout: Option<Duration>) -> Result<(), Error> {
        self.fds.iter_mut().for_each(PollFd::clear_revents);
        wait(&mut self.fds[..watched], timeout)?;
        if !self.fds[0].revents().is_empty() {
            let shutdown = self.registry.shutdown();
            shutdown.waker().clear();
            // `handle_request` may be waiting on several threads, and all must see the end.
            if shutdown.phase() != Phase::Serving {
                shutdown.waker().wake();
            }
        }
        Ok(())
    }

    fn back_off(
        &mut self,
        what: &str,
        error: &io::Error,
        left: Option<Duration>,
    ) -> Result<(), Error> {
        if self.shortage.begins(Instant::now()) {
            log::warn!("cannot {what}: {error}; new connections wait in the backlog");
        }
        let delay = self.backoff.next_delay();
        self.wait_for_wake_up(Some(left.map_or(delay, |left| left.min(delay))))
    }

    fn report_limit(&mut self) {
        if self.limit.begins(Instant::now()) {
            log::warn!(
                "limit of {} connections reached; new ones wait in the backlog",
                self.registry.limit()
            );
        }
    }

    fn name_of(&self, index: usize) -> String {
        self.listeners[index]
            .local_addr()
            .map_or_else(|error| error.to_string(), |addr| addr.to_string())
    }
}

/// Sleeps in `poll(2)` until one of `fds` is ready, the timeout is over, or a signal arrives.
pub(crate) fn wait(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> Result<(), Error> {
    // A timeout that the kernel's type can't hold is one that never comes.
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match poll(fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(Error::new("cannot wait for connections", errno.into())),
    }
}
