//! The reactors of a server, which carry connections whose handlers are done.
//!
//! A thread is for the handler; the reactor is for the rest. A connection moves here, without a thread
//! of its own, if its handler has left it to the server, if its close has to wait for the peer, or if
//! it was rejected. Each reactor is one thread with one `epoll(7)` set. A reactor runs no code of users
//! and moves no streams. Threads of the server run the hooks and move the streams.

pub(crate) mod carried;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod entrance;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod epoll;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod event_loop;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod lending;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod mailbox;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod pipe;
pub(crate) mod poll_loop;
pub(crate) mod remainder;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod slab;
pub(crate) mod step;

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use crate::connection::Connection;
use crate::connection::busy_poll::BusyPoll;
use crate::state::ServerState;
use carried::{Carried, Next};
#[cfg(any(target_os = "linux", target_os = "android"))]
use entrance::Reactor;
use step::{Ready, Wait};

/// The most that is received at once. A stream in buffers of 64 KiB moves about five times as
/// fast as in 4 KiB.
pub(crate) const BUFFER: usize = 64 * 1024;

/// The most reactors of a server.
pub(crate) const MAX_REACTORS: usize = 1024;

/// The busy-polls that a thread makes on a connection before a reactor gets the connection: one for
/// the first message, and one for the FIN.
const EARLY_POLLS: u32 = 2;

/// A function to run on a thread of the server.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Reports an error that has ended a connection, to the error hook or to the log.
pub(crate) type ReportError<'r> = &'r dyn Fn(&Connection, io::Error);

/// The threads of the server, as its reactors use them.
pub(crate) trait Threads: Send + Sync {
    /// Runs `job` on an idle or a new thread, now. If there is no such thread, drops the job and
    /// returns false.
    fn try_run(&self, job: Job) -> bool;

    /// Runs `job` on a thread, as soon as there is one.
    fn run(&self, job: Job);

    /// Returns whether [`report`](Self::report) runs code of users.
    fn has_error_hook(&self) -> bool;

    /// Reports an error that has ended a connection, to the error hook or to the log.
    fn report(&self, conn: &Connection, error: io::Error);
}

/// The reactors of one server. A reactor starts with its first connection. Connections go to the
/// reactors in turn.
pub(crate) struct Reactors {
    state: Arc<ServerState>,
    threads: Weak<dyn Threads>,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    started: Box<[Mutex<Option<Arc<Reactor>>>]>,
    turn: AtomicUsize,
    /// Learns from the last connections whether peers send soon after they connect.
    busy_poll: BusyPoll,
}

impl Reactors {
    pub(crate) fn new(state: Arc<ServerState>, threads: Weak<dyn Threads>, count: usize) -> Self {
        let busy_poll = BusyPoll::new(state.timeouts.busy_poll);
        Self {
            state,
            threads,
            #[cfg(any(target_os = "linux", target_os = "android"))]
            started: (0..count.clamp(1, MAX_REACTORS))
                .map(|_| Mutex::default())
                .collect(),
            turn: AtomicUsize::new(0),
            busy_poll,
        }
    }

    /// Takes a connection whose handler is done, and returns once the connection is closed or
    /// with a reactor. If no reactor can take the connection, returns it, and the caller must
    /// [carry](poll_loop::carry) it.
    ///
    /// The peer's first message has often arrived by now, and its FIN often follows the echo
    /// closely. So this thread takes the first steps itself, which saves waking a reactor for each.
    /// If `may_poll`, it busy-polls for both. The leader does not, because other clients may wait for it.
    pub(crate) fn take(
        &self,
        mut carried: Carried,
        may_poll: bool,
        report: ReportError<'_>,
    ) -> Option<Carried> {
        // The buffer is small, because its stack pages stay with a thread that may be idle afterwards.
        let mut scratch = [0; 1024];
        let mut step = |carried: &mut Carried, input| {
            let ready = Ready { input, room: false };
            carried.advance(&mut scratch, Instant::now(), ready)
        };
        let mut next = step(&mut carried, true);
        let mut polls_left = if may_poll { EARLY_POLLS } else { 0 };
        loop {
            next = match next {
                Next::Wait(wait) if wait.input && !wait.room && polls_left > 0 => {
                    polls_left -= 1;
                    let before = carried.conn.bytes_in();
                    let polled = self.busy_poll.wait(|| match step(&mut carried, true) {
                        Next::Wait(_) if carried.conn.bytes_in() == before => {
                            Err(io::ErrorKind::WouldBlock.into())
                        }
                        next => Ok(next),
                    });
                    match polled {
                        Some(Ok(next)) => next,
                        _ => return self.enter_or_return(carried, wait),
                    }
                }
                Next::Wait(wait) => return self.enter_or_return(carried, wait),
                Next::Close => {
                    carried.close();
                    return None;
                }
                Next::Lend => {
                    carried.keep();
                    step(&mut carried, false)
                }
                Next::Report(error) => {
                    carried.report(|conn| report(conn, error));
                    step(&mut carried, false)
                }
            }
        }
    }

    fn enter_or_return(&self, carried: Carried, wait: Wait) -> Option<Carried> {
        let entered = self.enter(Box::new(carried), wait);
        entered.err().map(|carried| *carried)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Reactors {
    /// Hands a connection to a reactor, or returns it if no reactor can take it.
    fn enter(&self, carried: Box<Carried>, wait: Wait) -> Result<(), Box<Carried>> {
        match self.next() {
            Some(reactor) => reactor.enter(carried, wait),
            None => Err(carried),
        }
    }

    /// Closes a connection that was accepted only to be rejected. Sends a FIN, and drops what the peer
    /// still sends, so that no reset overtakes the FIN.
    pub(crate) fn reject(&self, stream: TcpStream) {
        if stream.shutdown(Shutdown::Write).is_ok()
            && let Some(reactor) = self.next()
        {
            reactor.linger(stream);
        }
    }

    /// Asks the reactors to close the rejected connections that linger, because their descriptors are
    /// needed. Returns whether there are any.
    pub(crate) fn release_rejected(&self) -> bool {
        let mut any = false;
        for reactor in &self.started {
            let reactor = reactor.lock().unwrap_or_else(PoisonError::into_inner);
            any |= reactor
                .as_ref()
                .is_some_and(|reactor| reactor.release_rejected());
        }
        any
    }

    /// Asks each reactor to close the rejected connections, and to end once its last connection has ended.
    pub(crate) fn end(&self) {
        for reactor in &self.started {
            let reactor = reactor
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(reactor) = reactor {
                reactor.end();
            }
        }
    }

    /// Returns the reactor whose turn it is, after starting it if this is its first connection. Returns
    /// `None` if the reactor can't be started.
    fn next(&self) -> Option<Arc<Reactor>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.started.len();
        let mut reactor = self.started[turn]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if reactor.is_none() {
            *reactor = Reactor::start(&self.state, &self.threads).ok();
        }
        reactor.clone()
    }
}

/// On systems without `epoll(7)` each connection keeps its thread until its close.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Reactors {
    fn enter(&self, carried: Box<Carried>, _: Wait) -> Result<(), Box<Carried>> {
        Err(carried)
    }

    /// Closes a connection that was accepted only to be rejected.
    pub(crate) fn reject(&self, stream: TcpStream) {
        close_rejected(stream);
    }

    pub(crate) fn release_rejected(&self) -> bool {
        false
    }

    pub(crate) fn end(&self) {}
}

/// Closes a rejected connection at once. Reads what has arrived first, because the kernel resets the peer
/// if input is unread at `close(2)`.
pub(crate) fn close_rejected(mut stream: TcpStream) {
    use std::io::Read;
    let _ = stream.shutdown(Shutdown::Write);
    if stream.set_nonblocking(true).is_ok() {
        let _ = stream.read(&mut [0; 16 * 1024]);
    }
}
