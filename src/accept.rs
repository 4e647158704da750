//! The listener loop's one question: which connection is served next?
//!
//! It waits for room, for a client, and for what the system is short of, and takes a connection
//! from the backlog only once there is a slot for it and something to serve it with.

mod outcome;
pub(crate) mod socket_options;
pub(crate) mod standby;
mod turned_away;

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, iter, mem};

use rustix::event::{PollFd, PollFlags};

use crate::accept::outcome::{Backoff, Episode, Verdict, classify};
use crate::accept::socket_options::Options;
use crate::accept::standby::Standby;
use crate::accept::turned_away::TurnedAway;
use crate::connection::Connection;
use crate::connection::close_reason::Ending;
use crate::error::Error;
use crate::server::at_limit::AtLimit;
use crate::state::log_prefix::Tag;
use crate::state::shutdown::Phase;
use crate::state::timeouts::Times;
use crate::state::{Registry, Slot};
use crate::wake::wait;

/// Takes connections from a server's listeners, one after another.
pub(crate) struct Acceptor<'s> {
    listeners: &'s [TcpListener],
    registry: &'s Arc<Registry>,
    standby: Option<&'s Standby>,
    /// The waker first, then the listeners in their order.
    fds: Vec<PollFd<'s>>,
    options: Options,
    at_limit: AtLimit,
    times: Times,
    turned_away: TurnedAway,
    /// Whether the last question was answered by a connection: there may be more.
    in_burst: bool,
    past: &'s mut Past,
}

/// How many connections are accepted ahead of each that is served. To start a thread takes several
/// times as long as to accept, and a backlog that overflows meanwhile costs a client a second.
const AHEAD: usize = 16;

/// What the next connection depends on of those before.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// Accepted, and to be served next.
    pub(crate) ahead: VecDeque<Box<Connection>>,
    /// The listener that was served last. The next one has the next turn.
    last: usize,
    backoff: Backoff,
    shortage: Episode,
    limit: Episode,
    source_limit: Episode,
}

/// What can't be done without a thread, for the log.
const NO_THREAD: &str = "start a thread";

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
    pub(crate) fn new(
        listeners: &'s [TcpListener],
        registry: &'s Arc<Registry>,
        standby: Option<&'s Standby>,
        options: Options,
        at_limit: AtLimit,
        times: Times,
        past: &'s mut Past,
    ) -> Self {
        let waker = PollFd::new(registry.shutdown().waker(), PollFlags::IN);
        let sockets = listeners
            .iter()
            .map(|listener| PollFd::new(listener, PollFlags::IN));
        Self {
            listeners,
            registry,
            standby,
            fds: iter::once(waker).chain(sockets).collect(),
            options,
            at_limit,
            times,
            turned_away: TurnedAway::new(times.linger),
            in_burst: false,
            past,
        }
    }

    /// Waits for the next connection, and for what `reserve` provides to serve it with, which is
    /// asked for first. Returns `None` when a shutdown is requested, the deadline is over, or there is
    /// no listener that one could come from.
    pub(crate) fn next<R>(
        &mut self,
        deadline: Option<Instant>,
        mut reserve: impl FnMut() -> io::Result<R>,
    ) -> Result<Option<(Box<Connection>, R)>, Error> {
        loop {
            if self.registry.shutdown().phase() != Phase::Serving {
                return Ok(self.rest(&mut reserve));
            }
            if mem::take(&mut self.in_burst) {
                self.accept_ahead();
                // It may have taken back the wake-up of a shutdown.
                continue;
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if let Some(conn) = self.past.ahead.pop_front() {
                match reserve() {
                    Ok(reserved) => {
                        self.past.backoff.reset();
                        self.in_burst = true;
                        return Ok(Some((conn, reserved)));
                    }
                    Err(error) => {
                        self.past.ahead.push_front(conn);
                        self.back_off(NO_THREAD, &error, left)?;
                        continue;
                    }
                }
            }
            if self.listeners.is_empty() {
                return Ok(None);
            }
            let may_accept = self.at_limit == AtLimit::Refuse
                || self.is_relieved()
                || self.registry.room_or_wake_up();
            let ready = if may_accept {
                self.wait_for_client(left)?
            } else {
                self.report_limit("wait in the backlog");
                self.wait_for_wake_up(left)?;
                None
            };
            if let Some(index) = ready {
                match self.take(index, &mut reserve) {
                    Ok(taken) => {
                        self.past.backoff.reset();
                        self.in_burst = true;
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
        &mut self,
        index: usize,
        reserve: &mut impl FnMut() -> io::Result<R>,
    ) -> Result<(Box<Connection>, R), Setback> {
        let Some(slot) = self.registry.admit() else {
            return Err(self.refuse_one(index));
        };
        let reserved = reserve().map_err(|error| Setback::Shortage(NO_THREAD, error))?;
        Ok((self.accept_into(slot, index)?, reserved))
    }

    fn accept_into(&mut self, mut slot: Slot, index: usize) -> Result<Box<Connection>, Setback> {
        let (stream, peer) = self.accept(index)?;
        if !slot.claim_source(peer.ip()) {
            if self.past.source_limit.begins(Instant::now()) {
                let (tag, source) = (self.tag(), peer.ip());
                log::warn!(
                    service = tag, source:%;
                    "{tag}{source} has all the connections one source may have"
                );
            }
            self.turn_away(stream, peer);
            return Err(Setback::Nothing);
        }
        Ok(Connection::new(stream, peer, slot, self.times))
    }

    /// Takes what waits at the listeners already, as long as there are slots. What goes wrong will
    /// be met again.
    fn accept_ahead(&mut self) {
        for _ in 0..AHEAD {
            if self.is_relieved() {
                return;
            }
            let Ok(Some(index)) = self.wait_for_client(Some(Duration::ZERO)) else {
                return;
            };
            let accepted = self
                .registry
                .admit()
                .and_then(|slot| self.accept_into(slot, index).ok());
            let Some(conn) = accepted else {
                return;
            };
            self.past.ahead.push_back(conn);
        }
    }

    /// Returns the next of those that were accepted before a shutdown. Who can't be served now, for
    /// want of a thread, is let go.
    fn rest<R>(
        &mut self,
        reserve: &mut impl FnMut() -> io::Result<R>,
    ) -> Option<(Box<Connection>, R)> {
        iter::from_fn(|| self.past.ahead.pop_front()).find_map(|conn| Some((conn, reserve().ok()?)))
    }

    /// Does at the limit what is to be done there.
    fn refuse_one(&mut self, index: usize) -> Setback {
        if self.at_limit == AtLimit::Wait {
            return Setback::Nothing;
        }
        self.report_limit("are refused");
        match self.accept(index) {
            Ok((stream, peer)) => {
                self.turn_away(stream, peer);
                Setback::Nothing
            }
            Err(setback) => setback,
        }
    }

    fn turn_away(&mut self, stream: TcpStream, peer: SocketAddr) {
        self.registry.count_refused();
        Ending::Limit.log(self.tag(), peer, (0, 0), Duration::ZERO);
        self.turned_away.add(stream);
        self.past.backoff.reset();
    }

    fn accept(&self, index: usize) -> Result<(TcpStream, SocketAddr), Setback> {
        let accepted = self.options.accept(&self.listeners[index]);
        accepted.map_err(|error| match classify(&error) {
            Verdict::NextOne => Setback::Nothing,
            Verdict::Shortage => Setback::Shortage("accept", error),
            Verdict::Unusable => Setback::Unusable(error),
        })
    }

    /// Returns the index of a listener with something pending, each in its turn.
    fn wait_for_client(&mut self, timeout: Option<Duration>) -> Result<Option<usize>, Error> {
        if self.is_relieved() {
            self.wait_for_wake_up(timeout)?;
            return Ok(None);
        }
        self.poll(self.fds.len(), timeout)?;
        if self.is_relieved() {
            // It has woken one of them, too.
            return Ok(None);
        }
        let count = self.listeners.len();
        let ready = (1..=count)
            .map(|step| (self.past.last + step) % count)
            .find(|&index| !self.fds[1 + index].revents().is_empty());
        self.past.last = ready.unwrap_or(self.past.last);
        Ok(ready)
    }

    /// Returns whether threads on standby take the clients that come.
    fn is_relieved(&self) -> bool {
        self.standby.is_some_and(Standby::is_manned)
    }

    /// Leaves the clients where they are, in the backlog, and sleeps.
    fn wait_for_wake_up(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        self.poll(1, timeout)
    }

    fn poll(&mut self, watched: usize, timeout: Option<Duration>) -> Result<(), Error> {
        let next = self.turned_away.next_deadline();
        let until_next = next.map(|at| at.saturating_duration_since(Instant::now()));
        self.fds.iter_mut().for_each(PollFd::clear_revents);
        wait(
            &mut self.fds[..watched],
            timeout.into_iter().chain(until_next).min(),
        )
        .map_err(|error| Error::new("cannot wait for connections", error))?;
        if next.is_some() {
            self.turned_away.expire(Instant::now());
        }
        if !self.fds[0].revents().is_empty() {
            self.registry.shutdown().waker().clear();
        }
        Ok(())
    }

    fn back_off(
        &mut self,
        what: &str,
        error: &io::Error,
        left: Option<Duration>,
    ) -> Result<(), Error> {
        if self.turned_away.close_all() {
            // That may be all it takes.
            return Ok(());
        }
        if self.past.shortage.begins(Instant::now()) {
            let tag = self.tag();
            log::warn!(
                service = tag, error:%;
                "{tag}cannot {what}: {error}; new connections wait in the backlog"
            );
        }
        let delay = self.past.backoff.next_delay();
        self.wait_for_wake_up(Some(left.map_or(delay, |left| left.min(delay))))
    }

    fn report_limit(&mut self, consequence: &str) {
        if self.past.limit.begins(Instant::now()) {
            let (tag, limit) = (self.tag(), self.registry.limit());
            log::warn!(
                service = tag, limit;
                "{tag}limit of {limit} connections reached; new ones {consequence}"
            );
        }
    }

    fn tag(&self) -> &Tag {
        self.registry.tag()
    }

    fn name_of(&self, index: usize) -> String {
        self.listeners[index]
            .local_addr()
            .map_or_else(|error| error.to_string(), |addr| addr.to_string())
    }
}
