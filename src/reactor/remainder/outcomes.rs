//! What a driver tells the state machine: the result of each step.

use std::time::Instant;

use super::{Blocked, Remainder, STREAM_MIN_READ, Stage, earlier};
use crate::connection::rest::Rest;
use crate::reactor::step::Moment;
use crate::state::close_reason::CloseReason;

impl Remainder {
    /// Notes that the driver has received `n` bytes.
    pub(crate) fn received(&mut self, n: usize, now: Instant) {
        // Receive once per event, so that one stream can't hold up the others. What is left makes the
        // stream ready again.
        self.ready.input = false;
        match &mut self.stage {
            Stage::Carry => {
                self.quiet_since = now;
                let is_large = n >= STREAM_MIN_READ && self.rest == Rest::Echo;
                self.large_reads = if is_large { self.large_reads + 1 } else { 0 };
            }
            Stage::LastRead { .. } => self.stage = Stage::Arrived { left: 0 },
            Stage::Arrived { left } => *left = left.saturating_sub(n as u64),
            _ => {
                self.quiet_until = None;
                return;
            }
        }
        if self.rest == Rest::Echo {
            self.owed = n;
            self.blocked = None;
        }
    }

    /// Notes that there was nothing to receive.
    pub(crate) fn nothing_came(&mut self) {
        self.ready.input = false;
        match self.stage {
            Stage::LastRead { until } => self.stage = Stage::Grace { until },
            Stage::Arrived { .. } => self.stage = Stage::Arrived { left: 0 },
            _ => {}
        }
    }

    /// Notes that the driver has received the peer's FIN.
    pub(crate) fn eof(&mut self, moment: &Moment<'_>) {
        self.ready.input = false;
        match self.stage {
            Stage::Unsent { .. } | Stage::InFlight { .. } => {
                // After the peer's FIN no input can arrive, so a close can't reset the connection and
                // destroy output that is under way.
                self.delivered = true;
                self.stage = Stage::Fin;
            }
            Stage::Linger { .. } => self.stage = Stage::Closed,
            _ => self.end(CloseReason::Eof, moment),
        }
    }

    /// Notes that the driver has found the connection broken while it dropped input.
    pub(crate) fn gone(&mut self) {
        self.stage = match self.stage {
            Stage::Linger { .. } => Stage::Closed,
            _ => Stage::Fin,
        };
    }

    /// Notes that receiving or sending has failed for `reason`.
    pub(crate) fn fail(&mut self, reason: CloseReason, moment: &Moment<'_>) {
        self.owed = 0;
        self.end(reason, moment);
    }

    /// Notes that the socket has taken `n` of the owed bytes.
    pub(crate) fn sent(&mut self, n: usize, now: Instant) {
        self.owed = self.owed.saturating_sub(n);
        self.blocked = None;
        if self.owed == 0 {
            self.quiet_since = now;
        }
    }

    /// Notes that the socket has no room for owed bytes.
    pub(crate) fn no_room(&mut self, now: Instant) {
        self.ready.room = false;
        let since = self.blocked.map_or(now, |blocked| blocked.since);
        self.blocked = Some(Blocked { since, tried: now });
    }

    /// Notes that `n` bytes of input have arrived and are unread.
    pub(crate) fn arrived(&mut self, n: u64) {
        self.stage = match (n, self.stage) {
            (0, Stage::Grace { until }) => Stage::LastRead { until },
            (left, _) => Stage::Arrived { left },
        };
    }

    /// Notes whether the driver could make the stream writable only once nothing is unsent or in flight.
    pub(crate) fn marked(&mut self, done: bool) {
        // Check at once, because the stream may be writable already.
        self.ready.room = true;
        match &mut self.stage {
            Stage::Unsent { marked, .. } | Stage::InFlight { marked, .. } if done => *marked = true,
            // The system can't tell what is delivered, so don't wait, and count nothing as delivered.
            _ => self.stage = Stage::Fin,
        }
    }

    /// Notes whether the stream is writable, in the sense of the last mark.
    pub(crate) fn writable(&mut self, writable: bool) {
        self.ready.room = false;
        match self.stage {
            Stage::Unsent { until, .. } if writable => {
                let marked = false;
                self.stage = Stage::InFlight { until, marked };
            }
            Stage::InFlight { .. } if writable => {
                self.delivered = true;
                self.stage = Stage::Fin;
            }
            _ => {}
        }
    }

    /// Notes whether the FIN could be sent.
    pub(crate) fn fin_sent(&mut self, sent: bool, moment: &Moment<'_>) {
        self.ready.input = false;
        // Don't linger if the server ends the connection of a silent peer. The peer may stay silent for
        // ever, and what it sends from now on comes too late.
        self.stage = if !sent || (self.silent && self.delivered) {
            Stage::Closed
        } else {
            let until = moment.now.checked_add(moment.timeouts.lingering);
            Stage::Linger {
                until: earlier(until, self.deadline),
            }
        };
    }

    /// Notes that there is no thread or no pipe for the stream.
    pub(crate) fn keep(&mut self) {
        // Ask again only after as many more large reads.
        self.large_reads = 0;
    }

    /// Notes that the thread that moved the stream has given the connection back. The peer last sent
    /// something at `last`.
    pub(crate) fn resume(&mut self, last: Instant) {
        self.large_reads = 0;
        self.quiet_since = last;
    }

    /// Notes that the connection was aborted. `why` is the reason if it had not ended before.
    pub(crate) fn abort(&mut self, why: CloseReason) {
        if self.is_carrying() {
            self.reason = why;
        }
        self.stage = Stage::Closed;
    }
}
