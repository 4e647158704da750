//! The remainder of a connection, from the end of its handler to its close: a state machine
//! without I/O.
//!
//! A driver asks for the [`next`](Remainder::next) step, takes the step, and tells the machine the
//! result. It goes on until the step is to wait. Then the driver sleeps until the connection is
//! ready or the time is over, tells the machine, and asks again. There are two drivers: the
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

mod outcomes;

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
    /// The number of received bytes that are to be echoed and that the socket has not taken yet.
    owed: usize,
    ready: Ready,
    /// When the peer last sent something, or when the socket took the last owed byte.
    quiet_since: Instant,
    /// Set while the socket takes no more owed bytes.
    blocked: Option<Blocked>,
    /// The number of last reads in a row that may be part of a stream.
    large_reads: u32,
    reason: CloseReason,
    /// When the connection must be closed, even if it still waits for the peer.
    deadline: Option<Instant>,
    /// When a shutdown stops waiting for a lingering peer that sends nothing.
    quiet_until: Option<Instant>,
    /// Whether the server ended the connection, and the peer sent nothing within the drain grace.
    silent: bool,
    /// Whether a close can no longer take bytes from the peer.
    delivered: bool,
}

/// A socket that takes no more bytes, because the peer reads too slowly.
#[derive(Clone, Copy, Debug)]
struct Blocked {
    /// When a send first found no room.
    since: Instant,
    /// When a send last found no room.
    tried: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The server echoes or drops what arrives.
    Carry,
    /// The server ends the connection, and waits until `until` for input that is under way.
    Grace {
        until: Option<Instant>,
    },
    /// The stream is readable but has no bytes. The next read returns an end of file or an error. Or
    /// it finds nothing, because the wake-up had no cause, and then the grace goes on.
    LastRead {
        until: Option<Instant>,
    },
    /// The server ends the connection once it has carried `left` more bytes of input.
    Arrived {
        left: u64,
    },
    /// The server waits until everything has left this machine.
    Unsent {
        until: Option<Instant>,
        marked: bool,
    },
    /// The server waits until the peer has acknowledged everything except about 3 kB.
    InFlight {
        until: Option<Instant>,
        marked: bool,
    },
    /// The server sends its FIN next.
    Fin,
    /// The server has sent its FIN, and drops input until the peer's FIN.
    Linger {
        until: Option<Instant>,
    },
    Closed,
}

impl Remainder {
    /// Makes the machine for a connection that its handler has left to the server, with `owed` bytes
    /// to carry first.
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

    /// Ends the connection once `left` more bytes of input have been carried, because its handler has
    /// noticed that the server ends it. `silent`: the peer had sent nothing.
    pub(crate) fn with_arrived(mut self, left: u64, silent: bool) -> Self {
        self.stage = Stage::Arrived { left };
        self.silent = silent;
        self
    }

    /// Makes the machine for a connection that has ended and is to be closed. `silent`: the server ended
    /// the connection, and the peer had sent nothing.
    pub(crate) fn close(reason: CloseReason, silent: bool, moment: &Moment<'_>) -> Self {
        let mut remainder = Self::carry(Rest::Discard, 0, moment.now);
        remainder.silent = silent;
        remainder.end(reason, moment);
        remainder
    }

    /// Returns why the connection has ended, or `Done` while it has not.
    pub(crate) fn reason(&self) -> CloseReason {
        self.reason
    }

    /// Replaces the reason, because a hook that was called for the old one has failed.
    pub(crate) fn adopt(&mut self, reason: CloseReason) {
        self.reason = reason;
    }

    /// Returns whether the peer loses nothing if the connection is aborted now.
    pub(crate) fn is_delivered(&self) -> bool {
        self.delivered
    }

    /// Notes the events that the connection is ready for.
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
                    self.end(servers_reason(moment), moment);
                }
                Stage::LastRead { .. } => return receive(usize::MAX),
                Stage::Arrived { left: 0 } => self.end(servers_reason(moment), moment),
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

    /// Returns when a lingering close ends.
    ///
    /// If the close began before a shutdown, the shutdown does not wait for a peer that has everything
    /// and sends nothing. A close that the shutdown itself began lingers on, because bytes that the
    /// peer sent before it received the FIN may still be under way.
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
        // The kernel reports room only once a third of the send buffer is free, but the write timeout must
        // start over when the peer reads anything. So with a write timeout try again in between.
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

    /// Ends a connection whose peer has not read the owed bytes in time.
    fn give_up(&mut self, reason: CloseReason, moment: &Moment<'_>) -> Step {
        self.owed = 0;
        self.end(reason, moment);
        Step::TimedOut(reason)
    }

    /// Returns whether the connection has not ended yet, so that its input is still echoed or dropped.
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
            // The peer sends nothing more, so no input can be unread and the close can't reset the
            // connection.
            CloseReason::Eof => {
                self.delivered = true;
                self.stage = Stage::Closed;
                return;
            }
            // The drain timeout is the bound. If the output is not delivered by then, the server aborts
            // the connection and counts the abort.
            CloseReason::Shutdown => drain.max(lingering),
            // The time is the same, but all waits together must end this long after the request.
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

/// Returns whether the server is ending the connection.
fn is_over(moment: &Moment<'_>) -> bool {
    let lifetime_end = add(moment.accepted, moment.timeouts.lifetime);
    moment.asked_to_close || is_past(lifetime_end, moment)
}

/// Returns the server's reason for ending the connection.
fn servers_reason(moment: &Moment<'_>) -> CloseReason {
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
fn is_past(deadline: Option<Instant>, moment: &Moment<'_>) -> bool {
    deadline.is_some_and(|deadline| moment.now >= deadline)
}

#[cfg(test)]
mod tests;
