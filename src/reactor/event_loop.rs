//! The driver for thousands of connections: one thread, one `epoll(7)` set.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::BUFFER;
use super::carried::{Carried, Next};
use super::entrance::{Entry, MAX_REJECTED, Reactor, STOP, WAKER, What};
use super::epoll::{Events, interest};
use super::mailbox::Opened;
use super::slab::{Slab, Token};
use super::step::{Ready, Wait};
use crate::connection::busy_poll::BusyPoll;
use crate::hand_over::hand_over_point;
use crate::state::timeouts::BLOCKING_SLICE;

/// The thread of a reactor.
pub(super) struct EventLoop {
    pub(super) reactor: Arc<Reactor>,
    entries: Slab<Entry>,
    /// The alarms of all entries, at most one for each.
    alarms: BTreeSet<(Instant, Token)>,
    /// The rejected connections, the oldest first.
    rejected: VecDeque<Token>,
    /// Tokens to be given back to the mailbox.
    freed: Vec<Token>,
    buffer: Vec<u8>,
    busy_poll: BusyPoll,
    /// The server's count of requests to close a single connection, when the loop last looked.
    close_requests: usize,
}

impl EventLoop {
    pub(super) fn new(reactor: Arc<Reactor>) -> Self {
        let busy_poll = BusyPoll::new(reactor.state.timeouts.busy_poll);
        Self {
            reactor,
            entries: Slab::new(),
            alarms: BTreeSet::new(),
            rejected: VecDeque::new(),
            freed: Vec::new(),
            buffer: vec![0; BUFFER],
            busy_poll,
            close_requests: 0,
        }
    }

    pub(super) fn run(mut self) {
        let mut events = Events::new();
        loop {
            self.wait_for_events(&mut events);
            // Clear the waker before opening the mailbox. Otherwise this would clear the wake-up of an
            // arrival that comes in between.
            if events.has(WAKER) {
                self.reactor.waker.clear();
            }
            let now = Instant::now();
            if self.open_mailbox(now) {
                break;
            }
            self.close_requested(now);
            hand_over_point();
            for (number, ready) in events.drain() {
                match number {
                    WAKER => {}
                    STOP => self.stop(now),
                    bits => self.advance(Token::from_bits(bits), now, ready),
                }
            }
            self.ring_alarms(now);
        }
        self.reactor.state.remove_reactor(&self.reactor.waker);
    }

    /// Busy-polls, then sleeps, until there are events, an alarm is due, or the mailbox is not empty.
    fn wait_for_events(&mut self, events: &mut Events) {
        let epoll = &self.reactor.epoll;
        let found = self.busy_poll.wait(|| {
            epoll.wait(events, Some(Duration::ZERO));
            if events.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        if found.is_some() {
            return;
        }
        let alarm = self.alarms.first().map(|&(at, _)| at);
        let start = Instant::now();
        let timeout = if self
            .reactor
            .mailbox
            .fall_asleep(alarm, self.entries.is_empty())
        {
            alarm.map(|at| at.saturating_duration_since(start))
        } else {
            Some(Duration::ZERO)
        };
        epoll.wait(events, timeout);
        if start.elapsed() >= BLOCKING_SLICE {
            self.busy_poll.silence();
        }
    }

    /// Takes new entries from the mailbox. Returns whether the loop must end.
    fn open_mailbox(&mut self, now: Instant) -> bool {
        let freed = self.freed.drain(..);
        let opened = self.reactor.mailbox.open(freed, self.entries.is_empty());
        let Some(Opened { arrivals, stopped }) = opened else {
            return true;
        };
        for (token, entry) in arrivals {
            if let Some(alarm) = entry.alarm {
                self.alarms.insert((alarm, token));
            }
            let must_notice = match &entry.what {
                What::Rejected(_) => {
                    self.rejected.push_back(token);
                    false
                }
                What::Carried(carried) => stopped || carried.conn.is_asked_to_close(),
            };
            self.entries.insert(token, entry);
            if must_notice {
                self.advance(token, now, Ready::default());
            }
        }
        let releases = self.reactor.releases.swap(false, Ordering::Relaxed);
        let kept = if releases { 0 } else { MAX_REJECTED };
        while self.rejected.len() > kept {
            if let Some(token) = self.rejected.pop_front() {
                self.close_rejected(token);
            }
        }
        false
    }

    /// Advances the connections whose close was requested. Such requests are rare, so the loop searches
    /// all entries instead of keeping a list.
    fn close_requested(&mut self, now: Instant) {
        let requests = self.reactor.state.close_requests();
        if requests == self.close_requests {
            return;
        }
        self.close_requests = requests;
        for token in self.entries.tokens() {
            if self
                .carried(token)
                .is_some_and(|carried| carried.conn.is_asked_to_close())
            {
                self.advance(token, now, Ready::default());
            }
        }
    }

    /// Advances every connection at a shutdown request, so that each notices it.
    fn stop(&mut self, now: Instant) {
        // The pipe stays readable, and would wake the loop again and again.
        let reactor = &self.reactor;
        reactor.epoll.remove(reactor.state.shutdown.stop());
        self.reactor.mailbox.stop();
        for token in self.entries.tokens() {
            self.advance(token, now, Ready::default());
        }
    }

    /// Looks at every entry whose alarm is due.
    fn ring_alarms(&mut self, now: Instant) {
        while let Some(&(at, token)) = self.alarms.first()
            && at <= now
        {
            self.alarms.pop_first();
            if let Some(entry) = self.entries.get_mut(token) {
                entry.alarm = None;
                if matches!(entry.what, What::Rejected(_)) {
                    self.close_rejected(token);
                } else {
                    self.advance(token, now, Ready::default());
                }
            }
        }
    }

    /// Takes all steps of one connection that can be taken without waiting.
    fn advance(&mut self, token: Token, now: Instant, mut ready: Ready) {
        loop {
            let Some(entry) = self.entries.get_mut(token) else {
                return;
            };
            let carried = match &mut entry.what {
                What::Carried(carried) => carried,
                What::Rejected(stream) => {
                    if ready.input && !has_more_input(stream, &mut self.buffer) {
                        self.close_rejected(token);
                    }
                    return;
                }
            };
            let buffer = &mut self.buffer;
            // A panic here is a bug of this crate. It must end only this connection, not all of them.
            let step = catch_unwind(AssertUnwindSafe(|| carried.advance(buffer, now, ready)));
            ready = Ready::default();
            match step {
                Ok(Next::Wait(wait)) => return self.watch(token, wait),
                Ok(Next::Close) => {
                    self.close(token);
                    return;
                }
                Ok(Next::Lend) => {
                    if self.lend(token) {
                        return;
                    }
                }
                Ok(Next::Report(error)) => {
                    if self.report(token, error) {
                        return;
                    }
                }
                Err(_) => {
                    let prefix = &self.reactor.state.prefix;
                    log::error!(
                        service = prefix;
                        "{prefix}a reactor panicked on a connection, and closes the connection"
                    );
                    if let Some(carried) = self.remove(token) {
                        carried.close_after_panic();
                    }
                    return;
                }
            }
        }
    }

    /// Sets the events and the alarm that a connection waits for.
    fn watch(&mut self, token: Token, wait: Wait) {
        let Some(entry) = self.entries.get_mut(token) else {
            return;
        };
        let interest = interest(wait.input, wait.room);
        if entry.watched != interest {
            entry.watched = interest;
            let number = token.to_bits();
            self.reactor.epoll.modify(&*entry, number, interest);
        }
        // Keep an alarm that is earlier than the deadline: when it is due, the loop sets the next one. This
        // saves moving the alarm for every message.
        if let Some(until) = wait.until
            && entry.alarm.is_none_or(|alarm| until < alarm)
        {
            if let Some(alarm) = entry.alarm.replace(until) {
                self.alarms.remove(&(alarm, token));
            }
            self.alarms.insert((until, token));
        }
    }

    /// Returns the connection of an entry.
    pub(super) fn carried(&mut self, token: Token) -> Option<&mut Carried> {
        match &mut self.entries.get_mut(token)?.what {
            What::Carried(carried) => Some(carried),
            What::Rejected(_) => None,
        }
    }

    /// Takes a connection out of the loop and its set. The descriptor stays open.
    pub(super) fn take(&mut self, token: Token) -> Option<Box<Carried>> {
        let carried = self.remove(token)?;
        self.reactor.epoll.remove(&*carried);
        Some(carried)
    }

    /// Takes a connection out of the loop, but not out of the set. The caller must close the descriptor.
    pub(super) fn remove(&mut self, token: Token) -> Option<Box<Carried>> {
        match self.forget(token)?.what {
            What::Carried(carried) => Some(carried),
            What::Rejected(_) => None,
        }
    }

    fn close_rejected(&mut self, token: Token) {
        if let Some(Entry {
            what: What::Rejected(stream),
            ..
        }) = self.forget(token)
        {
            // Read what has arrived, because the kernel resets the peer if input is unread at `close(2)`.
            has_more_input(&stream, &mut self.buffer);
            self.rejected.retain(|&other| other != token);
            self.reactor.rejected.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn forget(&mut self, token: Token) -> Option<Entry> {
        let entry = self.entries.remove(token)?;
        if let Some(alarm) = entry.alarm {
            self.alarms.remove(&(alarm, token));
        }
        self.freed.push(token);
        Some(entry)
    }
}

impl Drop for EventLoop {
    /// Closes the mailbox. If the loop has panicked, its connections are closed with it, and the mailbox
    /// returns later ones to the threads that bring them.
    fn drop(&mut self) {
        self.reactor.mailbox.close();
    }
}

/// Drops what a rejected peer has sent. Returns false once the peer has closed or reset the connection.
fn has_more_input(stream: &TcpStream, scratch: &mut [u8]) -> bool {
    matches!(
        rustix::net::recv(stream, scratch, RecvFlags::DONTWAIT),
        Ok((_, 1..)) | Err(Errno::AGAIN | Errno::INTR)
    )
}
