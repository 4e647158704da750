//! What a driver tells the state machine: what came of each step.

use std::time::Instant;

use super::{Blocked, Remainder, STREAM_MIN_READ, Stage, earlier};
use crate::connection::rest::Rest;
use crate::reactor::step::Moment;
use crate::state::close_reason::CloseReason;

impl Remainder {
    /// The driver has received this many bytes.
    pub(crate) fn received(&mut self, n: usize, now: Instant) {
        // One read per event: what is left makes the stream ready again.
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

    /// There was nothing to receive.
    pub(crate) fn nothing_came(&mut self) {
        self.ready.input = false;
        match self.stage {
            Stage::LastRead { until } => self.stage = Stage::Grace { until },
            Stage::Arrived { .. } => self.stage = Stage::Arrived { left: 0 },
            _ => {}
        }
    }

    /// The driver has received the peer's FIN.
    pub(crate) fn eof(&mut self, moment: &Moment<'_>) {
        self.ready.input = false;
        match self.stage {
            Stage::Unsent { .. } | Stage::InFlight { .. } => {
                // After its own FIN no close can take back what is under way to the peer.
                self.delivered = true;
                self.stage = Stage::Fin;
            }
            Stage::Linger { .. } => self.stage = Stage::Closed,
            _ => self.end(CloseReason::Eof, moment),
        }
    }

    /// The driver has found the peer gone while it dropped input.
    pub(crate) fn gone(&mut self) {
        self.stage = match self.stage {
            Stage::Linger { .. } => Stage::Closed,
            _ => Stage::Fin,
        };
    }

    /// Receiving or sending has failed for this reason.
    pub(crate) fn fail(&mut self, reason: CloseReason, moment: &Moment<'_>) {
        self.owed = 0;
        self.end(reason, moment);
    }

    /// The socket has taken this many bytes of what is owed.
    pub(crate) fn sent(&mut self, n: usize, now: Instant) {
        self.owed = self.owed.saturating_sub(n);
        self.blocked = None;
        if self.owed == 0 {
            self.quiet_since = now;
        }
    }

    /// The socket has taken nothing of what is owed.
    pub(crate) fn no_room(&mut self, now: Instant) {
        self.ready.room = false;
        let since = self.blocked.map_or(now, |blocked| blocked.since);
        self.blocked = Some(Blocked { since, tried: now });
    }

    /// This much input has arrived and is unread.
    pub(crate) fn arrived(&mut self, n: u64) {
        self.stage = match (n, self.stage) {
            (0, Stage::Grace { until }) => Stage::LastRead { until },
            (left, _) => Stage::Arrived { left },
        };
    }

    /// Whether the stream has the mark that was asked for.
    pub(crate) fn marked(&mut self, done: bool) {
        // Look at once: what is writable already makes no event.
        self.ready.room = true;
        match &mut self.stage {
            Stage::Unsent { marked, .. } | Stage::InFlight { marked, .. } if done => *marked = true,
            // Where the system can't tell, nothing counts as delivered.
            _ => self.stage = Stage::Fin,
        }
    }

    /// Whether the stream is writable, by the mark that it has.
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

    /// Whether the FIN could be sent.
    pub(crate) fn fin_sent(&mut self, sent: bool, moment: &Moment<'_>) {
        self.ready.input = false;
        // A peer that was asked to end and is silent may stay silent for ever, and what it sends
        // from now on comes too late.
        self.stage = if !sent || (self.silent && self.delivered) {
            Stage::Closed
        } else {
            let until = moment.now.checked_add(moment.timeouts.lingering);
            Stage::Linger {
                until: earlier(until, self.deadline),
            }
        };
    }

    /// No thread or no pipe can be had for the stream.
    pub(crate) fn keep(&mut self) {
        // Ask again only after as many large reads.
        self.large_reads = 0;
    }

    /// The thread that moved the stream has given the connection back. The peer last sent something
    /// at `last`.
    pub(crate) fn resume(&mut self, last: Instant) {
        self.large_reads = 0;
        self.quiet_since = last;
    }

    /// A shutdown has aborted the connection.
    pub(crate) fn abort(&mut self, why: CloseReason) {
        if self.is_carrying() {
            self.reason = why;
        }
        self.stage = Stage::Closed;
    }
}
