//! The world of a script: what the peer, the socket and the server do, and when.

use std::collections::VecDeque;
use std::ops::Range;

use super::script::{Begin, End, Ms, Script};
use crate::reactor::step::{Ready, Wait};

#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct World<'s> {
    script: &'s Script,
    now: Ms,
    /// The events to come, the next first.
    events: VecDeque<(Ms, Event)>,
    /// The times at which bytes arrived, with the position reached in the stream.
    arrivals: Vec<(Ms, usize)>,
    /// The position up to which the peer's bytes have arrived.
    arrived: usize,
    /// The position up to which the server has received.
    received: usize,
    /// The position up to which the server has sent.
    sent: usize,
    /// The position up to which the peer has got its echo.
    taken: usize,
    /// Bytes on their way to the peer, with the times of their arrival. The bytes between these and
    /// `sent` are unsent.
    in_flight: VecDeque<(Ms, usize)>,
    /// The number of bytes that the peer has room for.
    room: usize,
    mark: Mark,
    peer_end: Option<End>,
    /// When the peer answers the server's FIN.
    answer: Option<Ms>,
    has_fin: bool,
    is_stopped: bool,
    is_aborted: bool,
    is_closed: bool,
    is_lost: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive(usize),
    Take(usize),
    TakeAll,
    End(End),
    Stop,
    Abort,
    WakeUp { input: bool, room: bool },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    None,
    Unsent,
    InFlight,
}

/// The result of receiving.
pub(super) enum Received {
    Bytes(Range<usize>),
    Nothing,
    Fin,
    Reset,
}

/// The result of sending.
pub(super) enum Sent {
    Bytes(usize),
    NoRoom,
    Gone,
}

impl<'s> World<'s> {
    pub(super) fn new(script: &'s Script) -> Self {
        let peer = &script.peer;
        let mut events = Vec::new();
        events.extend(peer.sends.iter().map(|&(at, n)| (at, Event::Arrive(n))));
        events.extend(peer.takes.iter().map(|&(at, n)| (at, Event::Take(n))));
        events.extend(peer.takes_all.map(|at| (at, Event::TakeAll)));
        events.extend(peer.end.map(|(at, end)| (at, Event::End(end))));
        events.extend(script.stop.map(|at| (at, Event::Stop)));
        let abort = script.stop.zip(script.abort);
        events.extend(abort.map(|(stop, later)| (stop + later, Event::Abort)));
        events.extend(
            script
                .wake_ups
                .iter()
                .map(|&(at, input, room)| (at, Event::WakeUp { input, room })),
        );
        // At the same time, bytes come before an end, and an end before a stop.
        events.sort_unstable();
        let (sent, received, arrived) = match script.begin {
            Begin::Carry { unread } => (0, unread, unread),
            Begin::Arrived { unread, there, .. } => (0, unread, unread + there),
            Begin::Close { reply, .. } => (reply, reply, reply),
        };
        Self {
            script,
            now: 0,
            events: events.into(),
            arrivals: vec![(0, arrived)],
            arrived,
            received,
            sent,
            taken: 0,
            in_flight: VecDeque::new(),
            room: 0,
            mark: Mark::None,
            peer_end: None,
            answer: None,
            has_fin: false,
            is_stopped: false,
            is_aborted: false,
            is_closed: false,
            is_lost: false,
        }
    }

    pub(super) fn now(&self) -> Ms {
        self.now
    }

    /// Returns when the next event comes from outside the server.
    pub(super) fn next_event(&self) -> Option<Ms> {
        let event = self.events.front().map(|&(at, _)| at);
        let arrives = self.in_flight.front().map(|&(at, _)| at);
        event.into_iter().chain(arrives).chain(self.answer).min()
    }

    /// Plays all events up to this time. If one is a wake-up without a cause, returns what it claims.
    pub(super) fn advance_to(&mut self, to: Ms) -> Option<Ready> {
        let mut claim = None;
        while let Some(at) = self.next_event().filter(|&at| at <= to) {
            self.now = at;
            if self.answer.is_some_and(|answer| answer <= at) {
                self.answer = None;
                self.peer_end.get_or_insert(End::Fin);
            }
            while let Some(&(due, event)) = self.events.front()
                && due <= at
            {
                self.events.pop_front();
                match event {
                    Event::Arrive(n) => self.arrive(n),
                    Event::Take(n) => self.room = self.room.saturating_add(n),
                    Event::TakeAll => self.room = usize::MAX,
                    Event::End(end) => self.end(end),
                    Event::Stop => self.is_stopped = true,
                    Event::Abort => self.is_aborted |= !self.is_closed,
                    Event::WakeUp { input, room } => {
                        let claim = claim.get_or_insert(Ready::default());
                        claim.input |= input;
                        claim.room |= room;
                    }
                }
            }
            self.transport();
        }
        self.now = to;
        claim
    }

    fn arrive(&mut self, n: usize) {
        if self.peer_end.is_some() {
            return;
        }
        // If bytes arrive after the close, the kernel resets the connection.
        self.is_lost |= self.is_closed;
        self.arrived += n;
        self.arrivals.push((self.now, self.arrived));
    }

    fn end(&mut self, end: End) {
        if self.peer_end.is_none() {
            self.peer_end = Some(end);
            self.is_lost |= end == End::Reset;
        }
    }

    /// Moves bytes from the send buffer to the peer.
    fn transport(&mut self) {
        if self.is_lost {
            self.in_flight.clear();
            return;
        }
        let n = self.unsent().min(self.room);
        if n > 0 {
            if self.room != usize::MAX {
                self.room -= n;
            }
            self.in_flight
                .push_back((self.now + self.script.socket.flight, n));
        }
        while let Some(&(at, n)) = self.in_flight.front()
            && at <= self.now
        {
            self.in_flight.pop_front();
            self.taken += n;
        }
        let has_fin = self.has_fin && self.is_all_taken() && self.peer_end.is_none();
        if has_fin && self.answer.is_none() {
            self.answer = self.script.peer.answers.map(|later| self.now + later);
        }
    }

    fn unsent(&self) -> usize {
        let in_flight: usize = self.in_flight.iter().map(|&(_, n)| n).sum();
        self.sent - self.taken - in_flight
    }

    fn free(&self) -> usize {
        let used = self.sent - self.taken;
        self.script.socket.capacity.saturating_sub(used)
    }

    pub(super) fn receive(&mut self, at_most: usize) -> Received {
        let start = self.received;
        let n = self.arrived().min(at_most);
        if n > 0 {
            self.received += n;
            return Received::Bytes(start..self.received);
        }
        match self.peer_end {
            Some(End::Reset) => Received::Reset,
            Some(End::Fin) => Received::Fin,
            None if self.is_aborted => Received::Fin,
            None => Received::Nothing,
        }
    }

    /// Sends the bytes at these positions, which must follow the last byte that was sent.
    pub(super) fn send(&mut self, bytes: Range<usize>) -> Sent {
        assert_eq!(bytes.start, self.sent, "a byte is missing, or sent twice");
        assert!(bytes.end <= self.received, "a byte is made up");
        assert!(!self.has_fin, "bytes follow the FIN");
        if self.is_reset() || self.is_aborted {
            return Sent::Gone;
        }
        match bytes.len().min(self.free()) {
            0 => Sent::NoRoom,
            n => {
                self.sent += n;
                self.transport();
                Sent::Bytes(n)
            }
        }
    }

    /// Echoes all that can be received and sent now.
    pub(super) fn relay(&mut self) {
        while let n @ 1.. = self.arrived().min(self.free())
            && !self.is_reset()
        {
            self.received += n;
            self.sent += n;
            self.transport();
        }
    }

    pub(super) fn mark_unsent(&mut self) -> bool {
        self.mark = Mark::Unsent;
        self.script.socket.can_mark
    }

    pub(super) fn mark_in_flight(&mut self) -> bool {
        assert!(
            self.unsent() == 0 || self.is_lost,
            "shrinks the buffer while bytes are unsent"
        );
        self.mark = Mark::InFlight;
        self.script.socket.can_mark
    }

    /// Sends a FIN. Returns false if the peer has reset the connection.
    pub(super) fn send_fin(&mut self) -> bool {
        assert!(!self.has_fin, "a second FIN");
        self.has_fin = true;
        self.transport();
        !self.is_reset()
    }

    /// Closes the descriptor. If input is unread, this resets the connection, and the rest is lost.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        self.is_lost |= self.arrived() > 0;
        self.transport();
    }

    /// Returns what `epoll(7)` would report for the connection.
    pub(super) fn ready(&self, wait: Wait) -> Ready {
        let is_broken =
            self.is_reset() || self.is_aborted || (self.has_fin && self.peer_end == Some(End::Fin));
        Ready {
            input: is_broken || (wait.input && self.is_readable()),
            room: is_broken || (wait.room && self.is_writable()),
        }
    }

    pub(super) fn is_readable(&self) -> bool {
        self.arrived() > 0 || self.peer_end.is_some() || self.is_aborted
    }

    pub(super) fn is_writable(&self) -> bool {
        let has_room = self.free() > 0 && self.free() * 3 >= self.script.socket.capacity;
        let is_sent = match self.mark {
            Mark::None => true,
            Mark::Unsent => self.unsent() == 0,
            Mark::InFlight => self.is_all_taken(),
        };
        self.is_reset() || self.is_aborted || self.has_fin || (has_room && is_sent)
    }

    pub(super) fn is_full(&self) -> bool {
        self.free() == 0
    }

    pub(super) fn is_all_taken(&self) -> bool {
        self.taken == self.sent
    }

    pub(super) fn is_reset(&self) -> bool {
        self.peer_end == Some(End::Reset)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.is_aborted
    }

    /// Returns how many bytes have arrived and are unread.
    pub(super) fn arrived(&self) -> usize {
        self.arrived - self.received
    }

    /// Returns the position in the stream up to which bytes had arrived at this time.
    pub(super) fn arrived_by(&self, at: Ms) -> usize {
        let (_, arrived) = self
            .arrivals
            .iter()
            .rfind(|&&(when, _)| when <= at)
            .unwrap();
        *arrived
    }

    pub(super) fn received(&self) -> usize {
        self.received
    }

    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// Returns a value that changes whenever the server receives or sends bytes or sends a FIN.
    pub(super) fn moved(&self) -> (usize, usize, bool) {
        (self.received, self.sent, self.has_fin)
    }
}
