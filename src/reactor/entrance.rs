//! The part of a reactor that other threads use: how connections enter its loop.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::Threads;
use super::carried::Carried;
use super::epoll::{EpollSet, Interest, interest};
use super::event_loop::EventLoop;
use super::mailbox::Mailbox;
use super::step::Wait;
use crate::hand_over::hand_over_point;
use crate::state::ServerState;
use crate::thread_limit;
use crate::wake::Waker;

/// The most rejected connections that linger in a reactor at the same time. If there are more, the
/// oldest are closed early, so that a crowd of clients can't use up the descriptors.
pub(super) const MAX_REJECTED: usize = 64;

/// The numbers of the two descriptors of the loop itself in events.
pub(super) const WAKER: u64 = u64::MAX;
pub(super) const STOP: u64 = u64::MAX - 1;

/// A reactor, as the other threads of a server use it.
pub(super) struct Reactor {
    pub(super) epoll: EpollSet,
    pub(super) waker: Arc<Waker>,
    pub(super) mailbox: Mailbox<Entry>,
    /// The number of rejected connections that linger.
    pub(super) rejected: AtomicUsize,
    /// Whether the loop must close all rejected connections now.
    pub(super) releases: AtomicBool,
    pub(super) state: Arc<ServerState>,
    pub(super) threads: Weak<dyn Threads>,
}

/// A connection in the set.
pub(super) struct Entry {
    pub(super) what: What,
    /// The events that the set reports for the descriptor.
    pub(super) watched: Interest,
    /// When the loop looks at this entry if no event comes before. An alarm may be earlier than the entry's
    /// real deadline, so that most messages need not move the alarm, but never later.
    pub(super) alarm: Option<Instant>,
}

pub(super) enum What {
    /// A connection whose handler is done. It is in a box, so that moving it copies only a pointer, and a
    /// free place in the slab takes little memory.
    Carried(Box<Carried>),
    /// A rejected connection, to which the server has sent a FIN.
    Rejected(TcpStream),
}

impl Reactor {
    /// Makes a reactor and starts its thread.
    pub(super) fn start(
        state: &Arc<ServerState>,
        threads: &Weak<dyn Threads>,
    ) -> io::Result<Arc<Self>> {
        let reactor = Arc::new(Self {
            epoll: EpollSet::new()?,
            waker: Arc::new(Waker::new()?),
            mailbox: Mailbox::new(),
            rejected: AtomicUsize::new(0),
            releases: AtomicBool::new(false),
            state: Arc::clone(state),
            threads: Weak::clone(threads),
        });
        reactor
            .epoll
            .add(&*reactor.waker, WAKER, interest(true, false))?;
        reactor
            .epoll
            .add(state.shutdown.stop(), STOP, interest(true, false))?;
        let event_loop = EventLoop::new(Arc::clone(&reactor));
        let name = state.prefix.thread_name("reactor");
        thread_limit::spawn(&name, None, move || event_loop.run())?;
        state.add_reactor(&reactor.waker);
        Ok(reactor)
    }

    /// Takes a connection that waits for `wait`. Returns the connection if the reactor has ended, or if
    /// the set can't hold the descriptor.
    pub(super) fn enter(&self, carried: Box<Carried>, wait: Wait) -> Result<(), Box<Carried>> {
        let record = Arc::clone(carried.conn.record());
        let entry = Entry {
            watched: interest(wait.input, wait.room),
            alarm: wait.until,
            what: What::Carried(carried),
        };
        if let Err(Entry {
            what: What::Carried(carried),
            ..
        }) = self.deliver(entry)
        {
            return Err(carried);
        }
        // A close request may have woken the loop before the connection was here. So wake the loop again.
        if record.control.is_closing() {
            self.waker.wake();
        }
        Ok(())
    }

    /// Takes a rejected connection, and drops its input until the peer's FIN or the end of the
    /// lingering time.
    pub(super) fn linger(&self, stream: TcpStream) {
        let until = Instant::now().checked_add(self.state.timeouts.lingering);
        let entry = Entry {
            watched: interest(true, false),
            alarm: until,
            what: What::Rejected(stream),
        };
        let before = self.rejected.fetch_add(1, Ordering::Relaxed);
        if self.deliver(entry).is_err() {
            // The reactor has not taken the connection, so the descriptor is closed by now.
            self.rejected.fetch_sub(1, Ordering::Relaxed);
        } else if before >= MAX_REJECTED {
            self.waker.wake();
        }
    }

    /// Asks the loop to close the rejected connections. Returns whether there are any.
    pub(super) fn release_rejected(&self) -> bool {
        let any = self.rejected.load(Ordering::Relaxed) > 0;
        if any {
            self.releases.store(true, Ordering::Relaxed);
            self.waker.wake();
        }
        any
    }

    /// Asks the loop to close the rejected connections, and to end once its last connection has ended.
    pub(super) fn end(&self) {
        self.releases.store(true, Ordering::Relaxed);
        self.mailbox.end();
        self.waker.wake();
    }

    /// Returns whether closing a connection runs code of users.
    pub(super) fn has_close_hook(&self) -> bool {
        self.state.has_close_hook()
    }

    fn deliver(&self, entry: Entry) -> Result<(), Entry> {
        let alarm = entry.alarm;
        let wakes = self.mailbox.deliver(entry, alarm, |token, entry| {
            hand_over_point();
            let added = self.epoll.add(entry, token.to_bits(), entry.watched);
            hand_over_point();
            added.is_ok()
        })?;
        if wakes {
            self.waker.wake();
        }
        Ok(())
    }
}

impl AsFd for Entry {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.what {
            What::Carried(carried) => carried.as_fd(),
            What::Rejected(stream) => stream.as_fd(),
        }
    }
}
