//! A connection without a handler: its state machine, and the I/O for the steps of the machine.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use super::remainder::Remainder;
use super::step::{Moment, Ready, Step, Wait};
use crate::connection::Connection;
use crate::connection::limits::timed_out;
use crate::connection::progress::Progress;
use crate::connection::rest::{Rest, Wish};
use crate::state::close_reason::CloseReason;
use crate::state::closed::ClosedConnection;
use crate::state::shutdown::Phase;
use crate::state::stage::Stage;
use crate::state::timeouts::Timeouts;

/// A connection on its way to its close. It moves between the thread of its handler, a reactor,
/// and a thread that moves streams.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) conn: Box<Connection>,
    remainder: Remainder,
    /// Received bytes that are to be echoed. Empty unless the socket had no room for them.
    owed: Vec<u8>,
    /// The number of bytes of `owed` that have been sent.
    taken: usize,
}

/// The next thing that the driver does with a connection.
#[derive(Debug)]
pub(crate) enum Next {
    /// Wait, then [advance](Carried::advance) the connection with what it is ready for.
    Wait(Wait),
    /// Lend the connection to a thread that moves streams, or [keep](Carried::keep) it. Then advance.
    Lend,
    /// [Report](Carried::report) this error, then advance the connection.
    Report(io::Error),
    /// [Close](Carried::close) the connection.
    Close,
}

impl Carried {
    /// Takes over a connection whose handler is done.
    pub(crate) fn new(mut conn: Box<Connection>, wish: Option<Wish>, now: Instant) -> Self {
        conn.leave_handler();
        let progress = conn.progress();
        // The outer option: whether the server may go on with the connection. The inner option: how much of
        // the input that had arrived is unread, if a read has noticed that the server ends the connection.
        let left = match progress {
            Progress::Open | Progress::HandlerInformed => Some(None),
            Progress::Draining { unread, .. } => Some(Some(unread)),
            Progress::Ended { reason, .. } => match reason {
                CloseReason::Eof
                | CloseReason::Idle
                | CloseReason::Stalled
                | CloseReason::Deadline => Some(None),
                reason if reason.is_by_server() => Some(Some(0)),
                _ => None,
            },
        };
        // A handler that knew of the end and only wrote has not looked for input. If none arrives within the
        // drain grace, the close need not linger. So drop input for that long.
        let wish = match progress {
            Progress::HandlerInformed => wish.or(Some(Wish {
                rest: Rest::Discard,
                unread: Vec::new(),
            })),
            _ => wish,
        };
        let (remainder, owed) = if let (Some(Wish { rest, unread }), Some(left)) = (wish, left) {
            let remainder = Remainder::carry(rest, unread.len(), now);
            let remainder = match left {
                Some(left) => remainder.with_arrived(left, progress.is_silent()),
                None => remainder,
            };
            (remainder, unread)
        } else {
            // There is no wish, or an error or the peer has ended the connection.
            let timeouts = conn.own_timeouts();
            let moment = moment(&conn, &timeouts, now);
            let silent = progress.is_silent();
            let remainder = Remainder::close(conn.reason(), silent, &moment);
            (remainder, Vec::new())
        };
        Self {
            conn,
            remainder,
            owed,
            taken: 0,
        }
    }

    /// Takes all steps that can be taken without waiting. `buffer` is scratch space.
    pub(crate) fn advance(&mut self, buffer: &mut [u8], now: Instant, ready: Ready) -> Next {
        if self.conn.record().is_aborted() {
            self.remainder.abort(self.conn.reason_to_close());
        }
        self.remainder.ready(ready);
        let next = self.take_steps(buffer, now);
        self.conn.record().reach(if self.remainder.is_carrying() {
            Stage::Reactor
        } else {
            Stage::Closing
        });
        if self.remainder.is_delivered() {
            self.conn.shared_stream().mark_delivered();
        }
        next
    }

    fn take_steps(&mut self, buffer: &mut [u8], now: Instant) -> Next {
        let Self {
            conn,
            remainder,
            owed,
            taken,
        } = self;
        let timeouts = conn.own_timeouts();
        let moment = &moment(conn, &timeouts, now);
        // The part of `buffer` that was just received and is to be echoed. Only what the socket does not take
        // at once is copied into `owed`.
        let mut fresh = 0..0;
        let next = loop {
            match remainder.next(moment) {
                Step::Receive { at_most } => {
                    let most = buffer.len().min(at_most);
                    match conn.try_receive(&mut buffer[..most]) {
                        Ok(0) => remainder.eof(moment),
                        Ok(n) => {
                            fresh = 0..n;
                            remainder.received(n, now);
                        }
                        Err(error) if is_transient(&error) => remainder.nothing_came(),
                        Err(error) => {
                            remainder.fail(conn.reason_of(&error), moment);
                            break Next::Report(error);
                        }
                    }
                }
                Step::Send => {
                    let bytes = if fresh.is_empty() {
                        &owed[*taken..]
                    } else {
                        &buffer[fresh.clone()]
                    };
                    match conn.try_send(bytes) {
                        Ok(n) => {
                            remainder.sent(n, now);
                            if fresh.is_empty() {
                                *taken += n;
                            } else {
                                fresh.start += n;
                            }
                        }
                        Err(error) if is_transient(&error) => remainder.no_room(now),
                        Err(error) => {
                            remainder.fail(conn.reason_of(&error), moment);
                            fresh = 0..0;
                            break Next::Report(error);
                        }
                    }
                }
                // If the system call fails, count nothing: the next read reports the error of the stream.
                Step::CountArrived => remainder.arrived(conn.arrived().unwrap_or(0)),
                Step::MarkUnsent => remainder.marked(conn.mark_unsent()),
                Step::MarkInFlight => remainder.marked(conn.mark_in_flight()),
                Step::CheckRoom => remainder.writable(conn.is_writable()),
                Step::Discard => match conn.try_discard(buffer) {
                    Ok(0) => remainder.eof(moment),
                    Ok(n) => remainder.received(n, now),
                    Err(error) if is_transient(&error) => remainder.nothing_came(),
                    Err(_) => remainder.gone(),
                },
                Step::SendFin => remainder.fin_sent(conn.send_fin(), moment),
                Step::TimedOut(reason) => break Next::Report(timed_out(reason)),
                Step::Lend => break Next::Lend,
                Step::Wait(wait) => break Next::Wait(wait),
                Step::Close => break Next::Close,
            }
        };
        if !fresh.is_empty() {
            *owed = buffer[fresh].to_vec();
            *taken = 0;
        } else if *taken == owed.len() {
            // Free the memory, so that an idle connection holds none for messages.
            *owed = Vec::new();
            *taken = 0;
        }
        next
    }

    /// Keeps the connection here, because there is no thread or no pipe for its stream.
    pub(crate) fn keep(&mut self) {
        self.remainder.keep();
    }

    /// Takes the connection back from a thread that moved its stream. `moved` is the time when the peer
    /// last sent something, or the error that ended the stream. Returns this error, to be reported.
    pub(crate) fn resume(&mut self, moved: io::Result<Instant>) -> Option<io::Error> {
        match moved {
            Ok(last) => {
                self.remainder.resume(last);
                None
            }
            Err(error) => {
                let reason = self.conn.reason();
                let timeouts = self.conn.own_timeouts();
                let moment = moment(&self.conn, &timeouts, Instant::now());
                self.remainder.fail(reason, &moment);
                Some(error)
            }
        }
    }

    /// Calls `report` for an error that has ended the connection. If a hook in `report` fails as well,
    /// the hook's failure becomes the reason for the end.
    pub(crate) fn report(&mut self, report: impl FnOnce(&Connection)) {
        self.conn.end(self.remainder.reason());
        report(&self.conn);
        self.remainder.adopt(self.conn.reason());
    }

    /// Closes the descriptor, logs the connection's line, and frees its slot.
    pub(crate) fn close(self) -> ClosedConnection {
        self.conn.close(self.remainder.reason())
    }

    /// Closes a connection over which a reactor has panicked, which is a bug of this crate.
    pub(crate) fn close_after_panic(self) {
        self.conn.close(CloseReason::Panic);
    }
}

impl AsFd for Carried {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.conn.stream().as_fd()
    }
}

fn moment<'t>(conn: &Connection, timeouts: &'t Timeouts, now: Instant) -> Moment<'t> {
    let stopping = conn.server().phase() != Phase::Serving;
    Moment {
        now,
        accepted: conn.accepted(),
        stopping,
        // During a shutdown the drain timeout is the bound instead.
        close_end: conn.close_end().filter(|_| !stopping),
        asked_to_close: conn.is_asked_to_close(),
        timeouts,
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
