//! Connections that were accepted only to be closed, because a limit was reached.
//!
//! They get a FIN at once, and no thread. A client that has sent something before it reads would
//! be reset by a close, and might never see the FIN, so each is kept for the linger, its input
//! unread, and closed then. There are never more than a few: a crowd is closed early rather than
//! allowed to use up descriptors.

use std::collections::VecDeque;
use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// A year.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[derive(Debug)]
pub(crate) struct TurnedAway {
    linger: Duration,
    /// In the order of their times.
    waiting: VecDeque<(Instant, TcpStream)>,
}

impl TurnedAway {
    /// How many are kept at most.
    const MOST: usize = 64;

    pub(crate) fn new(linger: Duration) -> Self {
        Self {
            linger,
            waiting: VecDeque::new(),
        }
    }

    /// Sends a FIN, and keeps the connection for a while.
    pub(crate) fn add(&mut self, stream: TcpStream) {
        if stream.shutdown(Shutdown::Write).is_err() || stream.set_nonblocking(true).is_err() {
            return;
        }
        while self.waiting.len() >= Self::MOST {
            self.close_first();
        }
        // A linger beyond the end of time ends in the crowd.
        let now = Instant::now();
        let until = now.checked_add(self.linger).unwrap_or(now + FOR_EVER);
        self.waiting.push_back((until, stream));
    }

    /// Returns when [`expire`](Self::expire) will have something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|&(at, _)| at)
    }

    /// Closes those whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.next_deadline().is_some_and(|at| at <= now) {
            self.close_first();
        }
    }

    /// Closes all, for the sake of their descriptors. Returns whether there were any.
    pub(crate) fn close_all(&mut self) -> bool {
        let any = !self.waiting.is_empty();
        while !self.waiting.is_empty() {
            self.close_first();
        }
        any
    }

    fn close_first(&mut self) {
        if let Some((_, mut stream)) = self.waiting.pop_front() {
            // With nothing unread the kernel need not reset. What a client sends beyond this, it
            // sends to a connection that it knows to be closed.
            let _ = stream.read(&mut [0; 16 * 1024]);
        }
    }
}

impl Drop for TurnedAway {
    fn drop(&mut self) {
        self.close_all();
    }
}
