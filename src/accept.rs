//! The lead: the right to wait for a client and to accept it, with the state that accepting needs.
//!
//! One thread of a server, the leader, holds the lead at a time. The leader waits for a free slot and
//! for a client, and finds a thread that will lead next. Then it accepts the client, hands the lead over,
//! and serves the connection itself (the pattern Leader/Followers in Schmidt's *POSA 2*). A leader whose
//! handlers never block keeps the lead instead. So the thread that accepts a connection also serves it,
//! and no accepted client waits in a queue of this process.
//!
//! The lead is a value that passes from thread to thread. No lock is held while the leader sleeps.

pub(crate) mod limit_reports;
pub(crate) mod outcome;
pub(crate) mod socket_options;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::connection::Connection;
use crate::error::Error;
use crate::hand_over::hand_over_point;
use crate::reactor::{Reactors, close_rejected};
use crate::state::ServerState;
use crate::state::close_reason::{CloseReason, log_close};
use crate::state::closed::ClosedConnection;
use crate::state::log_prefix::LogPrefix;
use crate::state::record::{Record, canonical};
use crate::state::shutdown::Phase;
use crate::wake::wait;
use limit_reports::{LimitReports, warn_of_source_limit};
use outcome::{AcceptOutcome, Shortage, classify, resource};
use socket_options::SocketOptions;

/// What happens to a client that connects at the limit of
/// [`max_connections`](crate::Builder::max_connections).
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use socketserver::{AtLimit, EchoHandler, TcpServer};
/// use std::io::Read;
/// use std::net::TcpStream;
///
/// let server = TcpServer::builder()
///     .at_limit(AtLimit::Reject)
///     .bind("127.0.0.1:0")?;
/// let (addr, handle) = (server.local_addr(), server.handle());
/// handle.set_max_connections(0);
/// let serving = std::thread::spawn(move || server.serve_forever(EchoHandler::new));
///
/// // The server sends a FIN, and nothing else.
/// assert_eq!(TcpStream::connect(addr)?.read(&mut [0; 8])?, 0);
///
/// handle.shutdown();
/// let totals = serving.join().expect("the server does not panic")?;
/// assert_eq!((totals.connections(), totals.rejected()), (0, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AtLimit {
    /// The client waits in the kernel's backlog until a connection ends.
    #[default]
    Wait,
    /// The connection is accepted, sent a FIN and nothing else, and counted as
    /// [rejected](crate::Totals::rejected).
    Reject,
}

/// The lead of a server.
pub(crate) struct Lead {
    state: Arc<ServerState>,
    /// The listeners, each with whether its connections inherit the options.
    listeners: Vec<(TcpListener, bool)>,
    options: SocketOptions,
    at_limit: AtLimit,
    /// Where rejected connections linger. If `None`, they are closed at once.
    reactors: Option<Arc<Reactors>>,
    /// The listener whose client was accepted last. The listeners take turns, so the next has precedence.
    last_listener: usize,
    shortage: Shortage,
    reports: LimitReports,
}

/// A connection that was just taken from a backlog.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    /// Whether the options could be set on the connection.
    options: io::Result<()>,
}

/// What the leader waits for, besides a wake-up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    /// Whether the leader can accept clients to serve them. It accepts clients to reject in any case.
    pub(crate) clients: bool,
    pub(crate) until: Option<Instant>,
    /// Whether the leader is the supervisor, which has its own waker as well.
    pub(crate) is_supervisor: bool,
}

/// What has ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// A client waits at this listener, and a slot is free.
    Client(usize),
    /// Another thread woke the leader, because there may be other work.
    Woken,
    TimedOut,
    /// A stop was requested.
    Stopped,
}

impl Lead {
    pub(crate) fn new(
        state: &Arc<ServerState>,
        listeners: Vec<(TcpListener, bool)>,
        options: SocketOptions,
        at_limit: AtLimit,
    ) -> Self {
        Self {
            state: Arc::clone(state),
            listeners,
            options,
            at_limit,
            reactors: None,
            last_listener: 0,
            shortage: Shortage::default(),
            reports: LimitReports::default(),
        }
    }

    /// Makes rejected connections linger in `reactors`.
    pub(crate) fn reject_into(&mut self, reactors: Arc<Reactors>) {
        self.reactors = Some(reactors);
    }

    pub(crate) fn has_listeners(&self) -> bool {
        !self.listeners.is_empty()
    }

    /// Waits for a free slot and a client, and meanwhile rejects clients if the settings say so.
    ///
    /// # Errors
    ///
    /// A listener has become unusable, or `poll(2)` has failed.
    pub(crate) fn wait(&mut self, watch: Watch) -> Result<Waited, Error> {
        loop {
            if self.state.shutdown.phase() != Phase::Serving {
                return Ok(Waited::Stopped);
            }
            let now = Instant::now();
            let pause_end = self.shortage.pause_end(now);
            let has_room = self.state.has_room_or_wakes_lead();
            let episode_end = self.reports.note_room(&self.state, has_room, now);
            let accepts = if has_room {
                watch.clients
            } else {
                self.at_limit == AtLimit::Reject
            };
            if !has_room && self.at_limit == AtLimit::Wait {
                self.reports.warn(&self.state, "wait in the backlog");
            }
            let wakes = [pause_end, watch.until, episode_end];
            let wake_at = wakes.into_iter().flatten().min();
            let timeout = wake_at.map(|at| at.saturating_duration_since(now));
            let listens = accepts && pause_end.is_none();
            let (woken, ready) = self.poll(listens, watch.is_supervisor, timeout)?;
            if woken {
                return Ok(Waited::Woken);
            }
            match ready {
                // A slot may have become free since, and then the client need not be rejected.
                Some(index) if has_room || self.state.has_room_or_wakes_lead() => {
                    return Ok(Waited::Client(index));
                }
                Some(index) => self.reject_one(index)?,
                None if watch.until.is_some_and(|until| Instant::now() >= until) => {
                    return Ok(Waited::TimedOut);
                }
                None => {}
            }
        }
    }

    /// Accepts the client that waits at a listener.
    ///
    /// Returns `None` if there is no connection to serve, because the client has gone or was rejected. The
    /// same holds if no slot is free, the system is short of something, or a stop was requested.
    ///
    /// # Errors
    ///
    /// The listener has become unusable.
    pub(crate) fn accept(&mut self, index: usize) -> Result<Option<Box<Connection>>, Error> {
        hand_over_point();
        let Some(mut slot) = self.state.admit() else {
            return Ok(None);
        };
        let Some(Accepted {
            stream,
            peer,
            options,
        }) = self.take(index)?
        else {
            return Ok(None);
        };
        // Before the header has been read, the client behind a proxy is not known. So the connection is
        // counted for its source only after that, by the thread that serves it.
        if !self.state.expects_proxy_header(peer)
            && let Err(exceeded) = slot.claim_source(peer)
        {
            warn_of_source_limit(&self.state, exceeded);
            self.reject(stream, peer, true);
            return Ok(None);
        }
        let conn = Connection::new(stream, peer, slot);
        // On some systems setting an option fails once the peer has gone. Then close the connection, and
        // report the reason in its line of the log.
        if let Err(error) = options {
            let reason = conn.reason_of(&error);
            conn.close(reason);
            return Ok(None);
        }
        Ok(Some(conn))
    }

    /// Accepts and rejects the client that waits at a listener.
    fn reject_one(&mut self, index: usize) -> Result<(), Error> {
        self.reports.warn(&self.state, "are rejected");
        if let Some(Accepted { stream, peer, .. }) = self.take(index)? {
            self.reject(stream, peer, false);
        }
        Ok(())
    }

    fn reject(&self, stream: TcpStream, peer: SocketAddr, is_per_source: bool) {
        self.state.count_rejected(is_per_source);
        if log::log_enabled!(log::Level::Debug) {
            let record = Record::new(0, peer);
            if let Ok(local) = stream.local_addr() {
                record.set_local(canonical(local));
            }
            let closed = ClosedConnection::new(&record, CloseReason::Limit);
            log_close(self.prefix(), &closed);
        }
        match &self.reactors {
            Some(reactors) => reactors.reject(stream),
            None => close_rejected(stream),
        }
    }

    /// Takes a connection from a listener's backlog, or returns `None` if that is not possible now.
    fn take(&mut self, index: usize) -> Result<Option<Accepted>, Error> {
        hand_over_point();
        let (listener, inherits) = &self.listeners[index];
        let Some(accepted) = self.state.shutdown.unless_stopped(|| listener.accept()) else {
            return Ok(None);
        };
        match accepted {
            Ok((stream, peer)) => {
                self.shortage.end();
                let options = if *inherits {
                    Ok(())
                } else {
                    self.options.apply_to_stream(&stream)
                };
                Ok(Some(Accepted {
                    stream,
                    peer: canonical(peer),
                    options,
                }))
            }
            Err(error) => match classify(&error) {
                AcceptOutcome::Retry => Ok(None),
                AcceptOutcome::Shortage => {
                    self.pause_after_shortage(&error);
                    Ok(None)
                }
                AcceptOutcome::Unusable => {
                    let addr = listener
                        .local_addr()
                        .map_or_else(|error| error.to_string(), |addr| addr.to_string());
                    Err(Error::new(format!("cannot accept on {addr}"), error))
                }
            },
        }
    }

    /// Begins a pause after an `accept(2)` that failed because the system is short of something.
    fn pause_after_shortage(&mut self, error: &io::Error) {
        let now = Instant::now();
        if let Some(reactors) = &self.reactors
            && reactors.release_rejected()
        {
            // The reactors now close rejected connections, whose descriptors may be enough. So try again
            // soon, and don't warn yet.
            self.shortage.pause_briefly(now);
            return;
        }
        self.state.count_shortage(resource(error));
        if self.shortage.begin_pause(now) {
            warn_of_shortage(self.prefix(), "accept", error);
        }
    }

    /// Sleeps until a wake-up, a client or the timeout. Returns whether there was a wake-up, and the ready
    /// listener whose turn it is.
    fn poll(
        &mut self,
        listens: bool,
        is_supervisor: bool,
        timeout: Option<Duration>,
    ) -> Result<(bool, Option<usize>), Error> {
        let shutdown = &self.state.shutdown;
        let wakers = [shutdown.lead(), shutdown.supervisor()];
        let wakers = &wakers[..=usize::from(is_supervisor)];
        let listeners = if listens { &self.listeners[..] } else { &[] };
        // The pipe of a stop stays readable. The leader's waker does not, if the supervisor drains already.
        let stop = shutdown.stop();
        let mut fds: Vec<_> = wakers
            .iter()
            .map(|waker| PollFd::new(*waker, PollFlags::IN))
            .chain(
                listeners
                    .iter()
                    .map(|(listener, _)| PollFd::new(listener, PollFlags::IN)),
            )
            .chain([PollFd::new(&stop, PollFlags::IN)])
            .collect();
        wait(&mut fds, timeout)
            .map_err(|error| Error::new("cannot wait for connections", error))?;
        let is_ready = |index: usize| !fds[index].revents().is_empty();
        let mut woken = is_ready(fds.len() - 1);
        for (index, waker) in wakers.iter().enumerate() {
            if is_ready(index) {
                waker.clear();
                woken = true;
            }
        }
        let count = listeners.len();
        let ready = (1..=count)
            .map(|step| (self.last_listener + step) % count)
            .find(|index| is_ready(wakers.len() + index));
        if !woken {
            self.last_listener = ready.unwrap_or(self.last_listener);
        }
        Ok((woken, ready))
    }

    fn prefix(&self) -> &LogPrefix {
        &self.state.prefix
    }
}

/// Warns that new connections have to wait, because the system is short of something.
pub(crate) fn warn_of_shortage(prefix: &LogPrefix, what: &str, error: &io::Error) {
    log::warn!(
        service = prefix, error:%;
        "{prefix}cannot {what}: {error}; new connections wait in the backlog"
    );
}
