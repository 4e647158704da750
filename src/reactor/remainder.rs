//! The remainder of a connection, from the end of its handler to its close: a state machine
//! without I/O.
//!
//! A driver asks for the [`next`](Remainder::next) step, takes the step, and tells the machine
//! what came of it, until the step is to wait. Then the driver sleeps until the connection is
//! ready or the time is over, says so, and asks again. Two drivers do this: the
//! [event loop](super::event_loop), for thousands of connections, and the
//! [poll loop](super::poll_loop), for one.
//!
//! ```text
//!            ┌───────── Carry ──────────┐  a stop, or the lifetime is over
//!            │ read, write back (or drop)├────────► Grace ──► Arrived
//!            └────────────┬─────────────┘           10 ms    read what had arrived
//!   the peer's FIN: close │ an error, a timeout       │         │
//!                         ▼                           ▼         ▼
//!  a handler that is ► Unsent ──► InFlight ──► Fin ──► Linger ──► Closed
//!  done              wait until the peer has      drop input until the
//!                    what is due to it            peer's FIN
//! ```

mod told;

use std::time::{Duration, Instant};

use super::step::{Moment, Ready, Step, Wait};
use crate::connection::rest::Rest;
use crate::state::close_reason::CloseReason;
use crate::state::timeouts::{DRAIN_GRACE, Timeouts, WRITE_RETRY};

/// A read of at least this many bytes may be part of a stream.
pub(crate) const STREAM_MIN_READ: usize = 16 * 1024;

/// This many large reads in a row make a stream, and this many small ones end it.
pub(crate) const STREAM_READS: u32 = 8;

/// The state of one connection without a handler.
#[derive(Debug)]
pub(crate) struct Remainder {
    stage: Stage,
    rest: Rest,
    /// Bytes that were received and that the socket has not taken back yet.
    owed: usize,
    ready: Ready,
    /// When the peer last sent something, or took the last of what was owed.
    quiet_since: Instant,
    /// Since when the socket has taken nothing, and when it was last tried.
    blocked: Option<Blocked>,
    large_reads: u32,
    reason: CloseReason,
    /// When the connection must be closed, whatever it still waits for.
    deadline: Option<Instant>,
    /// Until when a stop waits for a lingering peer to send more.
    quiet_until: Option<Instant>,
    /// Whether the peer had sent nothing when the server ended the connection.
    silent: bool,
    delivered: bool,
}

#[derive(Clone, Copy, Debug)]
struct Blocked {
    since: Instant,
    tried: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Bytes are echoed or dropped.
    Carry,
    /// The server ends the connection, and waits until then for input that is under way.
    Grace {
        until: Option<Instant>,
    },
    /// The stream is readable and empty: an end of file or an error is next, or nothing has made it
    /// readable and the grace goes on.
    LastRead {
        until: Option<Instant>,
    },
    /// The server ends the connection once this much of the input has been carried.
    Arrived {
        left: u64,
    },
    /// The server waits until everything has left this machine.
    Unsent {
        until: Option<Instant>,
        marked: bool,
    },
    /// The server waits until the peer has acknowledged everything.
    InFlight {
        until: Option<Instant>,
        marked: bool,
    },
    /// A FIN is to be sent.
    Fin,
    /// The FIN is out. Input is dropped until the peer's own FIN.
    Linger {
        until: Option<Instant>,
    },
    Closed,
}

impl Remainder {
    /// Begins with a connection that its handler has left to the server with `owed` bytes to
    /// send back first.
    pub(crate) fn carry(rest: Rest, owed: usize, now: Instant) -> Self {
        Self {
            stage: Stage::Carry,
            rest,
            owed: match rest {
                Rest::Echo => owed,
                Rest::Discard => 0,
            },
            ready: Ready {
                input: false,
                room: true,
            },
            quiet_since: now,
            blocked: None,
            large_reads: 0,
            reason: CloseReason::Done,
            deadline: None,
            quiet_until: None,
            silent: false,
            delivered: false,
        }
    }

    /// Begins with a connection whose handler has noticed that the server ends it. This much of the
    /// input that had arrived is still unread. `silent`: nothing had.
    pub(crate) fn with_arrived(mut self, left: u64, silent: bool) -> Self {
        self.stage = Stage::Arrived { left };
        self.silent = silent;
        self
    }

    /// Begins with a connection that has ended. `silent`: when the server ended it, the peer had
    /// sent nothing.
    pub(crate) fn close(reason: CloseReason, silent: bool, moment: &Moment<'_>) -> Self {
        let mut remainder = Self::carry(Rest::Discard, 0, moment.now);
        remainder.silent = silent;
        remainder.end(reason, moment);
        remainder
    }

    /// Returns why the connection has ended.
    pub(crate) fn reason(&self) -> CloseReason {
        self.reason
    }

    /// Replaces the reason: a hook that was told of the end has failed itself.
    pub(crate) fn adopt(&mut self, reason: CloseReason) {
        self.reason = reason;
    }

    /// Returns whether the peer loses nothing if the connection is aborted now.
    pub(crate) fn is_delivered(&self) -> bool {
        self.delivered
    }

    /// Takes note of what the connection is ready for.
    pub(crate) fn ready(&mut self, ready: Ready) {
        self.ready.input |= ready.input;
        self.ready.room |= ready.room;
    }

    /// Returns the next step.
    pub(crate) fn next(&mut self, moment: &Moment<'_>) -> Step {
        loop {
            match self.stage {
                Stage::Carry
                | Stage::Grace { .. }
                | Stage::LastRead { .. }
                | Stage::Arrived { .. }
                    if self.owed > 0 =>
                {
                    return self.next_send(moment);
                }
                Stage::Carry if is_over(moment) => {
                    let until = moment.now.checked_add(DRAIN_GRACE);
                    self.stage = Stage::Grace { until };
                }
                Stage::Carry => return self.next_carry(moment),
                Stage::Grace { .. } if self.ready.input => return Step::CountArrived,
                Stage::Grace { until } if is_past(until, moment) => {
                    self.silent = true;
                    self.end(why(moment), moment);
                }
                Stage::LastRead { .. } => return receive(usize::MAX),
                Stage::Arrived { left: 0 } => self.end(why(moment), moment),
                Stage::Arrived { left } => {
                    return receive(usize::try_from(left).unwrap_or(usize::MAX));
                }
                Stage::Unsent { marked: false, .. } => return Step::MarkUnsent,
                Stage::InFlight { marked: false, .. } => return Step::MarkInFlight,
                Stage::Unsent { until, .. } | Stage::InFlight { until, .. } => {
                    if self.ready.room {
                        return Step::CheckRoom;
                    }
                    if is_past(until, moment) {
                        self.stage = Stage::Fin;
                    } else if self.ready.input {
                        return Step::Discard;
                    } else {
                        return wait(true, true, until);
                    }
                }
                Stage::Fin => return Step::SendFin,
                Stage::Grace { until } => return wait(true, false, until),
                Stage::Linger { until } => {
                    let end = self.linger_end(until, moment);
                    if is_past(end, moment) {
                        self.stage = Stage::Closed;
                    } else if self.ready.input {
                        return Step::Discard;
                    } else {
                        return wait(true, false, end);
                    }
                }
                Stage::Closed => return Step::Close,
            }
        }
    }

    /// Returns when a lingering close ends. If the close began before a stop, the stop does not wait
    /// for a peer that has everything and sends nothing. A close that the stop itself began lingers
    /// on, because what the peer sends before it hears of the FIN may still be under way.
    fn linger_end(&mut self, until: Option<Instant>, moment: &Moment<'_>) -> Option<Instant> {
        let is_older = moment.stopping && self.reason != CloseReason::Shutdown;
        if is_older && self.delivered && self.quiet_until.is_none() {
            self.quiet_until = moment.now.checked_add(DRAIN_GRACE);
        }
        earlier(until, self.quiet_until)
    }

    fn next_carry(&mut self, moment: &Moment<'_>) -> Step {
        if self.large_reads >= STREAM_READS {
            return Step::Lend;
        }
        if self.ready.input {
            return receive(usize::MAX);
        }
        let idle_end = add(self.quiet_since, moment.timeouts.idle);
        if idle_end.is_some_and(|end| moment.now >= end) {
            self.end(CloseReason::Idle, moment);
            return Step::TimedOut(CloseReason::Idle);
        }
        let lifetime_end = add(moment.accepted, moment.timeouts.lifetime);
        wait(true, false, earlier(idle_end, lifetime_end))
    }

    fn next_send(&mut self, moment: &Moment<'_>) -> Step {
        let deadline = add(moment.accepted, moment.timeouts.write_deadline());
        if deadline.is_some_and(|end| moment.now >= end) {
            return self.give_up(CloseReason::Lifetime, moment);
        }
        if is_past(moment.close_end, moment) {
            return self.give_up(CloseReason::Closed, moment);
        }
        let deadline = earlier(deadline, moment.close_end);
        let Some(Blocked { since, tried }) = self.blocked else {
            return Step::Send;
        };
        let stalled = add(since, moment.timeouts.write);
        // Room is reported only where much has become free, and a timeout counts what was taken.
        let retry = stalled.and(tried.checked_add(WRITE_RETRY));
        let attempt = earlier(stalled, retry);
        let is_due = attempt.is_some_and(|at| moment.now >= at) && moment.now > tried;
        if self.ready.room || is_due {
            self.ready.room = false;
            return Step::Send;
        }
        if stalled.is_some_and(|end| moment.now >= end) {
            return self.give_up(CloseReason::Stalled, moment);
        }
        wait(false, true, earlier(attempt, deadline))
    }

    /// Ends a connection whose peer takes nothing.
    fn give_up(&mut self, reason: CloseReason, moment: &Moment<'_>) -> Step {
        self.owed = 0;
        self.end(reason, moment);
        Step::TimedOut(reason)
    }

    /// Returns whether the peer's input is still echoed or dropped.
    pub(crate) fn is_carrying(&self) -> bool {
        matches!(
            self.stage,
            Stage::Carry | Stage::Grace { .. } | Stage::LastRead { .. } | Stage::Arrived { .. }
        )
    }

    fn end(&mut self, reason: CloseReason, moment: &Moment<'_>) {
        self.reason = reason;
        let Timeouts {
            drain, lingering, ..
        } = *moment.timeouts;
        let patience = match reason {
            CloseReason::Reset | CloseReason::Aborted => {
                self.stage = Stage::Closed;
                return;
            }
            // The peer sends nothing more, so that the close can't reset the connection.
            CloseReason::Eof => {
                self.delivered = true;
                self.stage = Stage::Closed;
                return;
            }
            // The drain timeout is the bound. What is not delivered by then is aborted, and
            // counted.
            CloseReason::Shutdown => drain.max(lingering),
            // The same time, but from the request on, and for all waits together.
            CloseReason::Closed => {
                self.deadline = moment.close_end;
                drain.max(lingering)
            }
            // All waits after the lifetime together take no longer than the lingering time.
            CloseReason::Lifetime => {
                self.deadline = add(moment.accepted, moment.timeouts.write_deadline());
                lingering
            }
            _ => Duration::ZERO,
        };
        let until = moment.now.checked_add(patience);
        self.stage = Stage::Unsent {
            until: earlier(until, self.deadline),
            marked: false,
        };
    }
}

/// Returns whether the server ends a connection now.
fn is_over(moment: &Moment<'_>) -> bool {
    let lifetime_end = add(moment.accepted, moment.timeouts.lifetime);
    moment.asked_to_close || is_past_some(lifetime_end, moment)
}

/// Returns why the server ends a connection now.
fn why(moment: &Moment<'_>) -> CloseReason {
    if moment.stopping {
        CloseReason::Shutdown
    } else if moment.asked_to_close {
        CloseReason::Closed
    } else {
        CloseReason::Lifetime
    }
}

fn receive(at_most: usize) -> Step {
    Step::Receive { at_most }
}

fn wait(input: bool, room: bool, until: Option<Instant>) -> Step {
    Step::Wait(Wait { input, room, until })
}

fn add(at: Instant, duration: Option<Duration>) -> Option<Instant> {
    at.checked_add(duration?)
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// Returns whether a deadline is over. `None` never is.
fn is_past_some(deadline: Option<Instant>, moment: &Moment<'_>) -> bool {
    deadline.is_some_and(|deadline| moment.now >= deadline)
}

fn is_past(until: Option<Instant>, moment: &Moment<'_>) -> bool {
    is_past_some(until, moment)
}

#[cfg(test)]
mod tests;
