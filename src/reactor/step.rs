//! The terms in which the state machine of a connection and its driver talk: steps, waits, readiness.

use std::time::Instant;

use crate::state::close_reason::CloseReason;
use crate::state::timeouts::Timeouts;

/// The next thing that the driver must do.
///
/// After a step that names methods, the driver calls the one that fits the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Receive at most `at_most` bytes without blocking. Then call
    /// [`received`](super::remainder::Remainder::received),
    /// [`nothing_came`](super::remainder::Remainder::nothing_came), [`eof`](super::remainder::Remainder::eof) or
    /// [`fail`](super::remainder::Remainder::fail).
    Receive { at_most: usize },
    /// Send the owed bytes without blocking. Then call [`sent`](super::remainder::Remainder::sent),
    /// [`no_room`](super::remainder::Remainder::no_room) or [`fail`](super::remainder::Remainder::fail).
    Send,
    /// Count the input that has arrived (`FIONREAD`). Then call
    /// [`arrived`](super::remainder::Remainder::arrived).
    CountArrived,
    /// Make the stream writable only once nothing is unsent. Then call
    /// [`marked`](super::remainder::Remainder::marked).
    MarkUnsent,
    /// Make the stream writable only once nothing is in flight. Then call
    /// [`marked`](super::remainder::Remainder::marked).
    MarkInFlight,
    /// Check whether the stream is writable now. Then call
    /// [`writable`](super::remainder::Remainder::writable).
    CheckRoom,
    /// Receive and drop input, without blocking. Then call
    /// [`received`](super::remainder::Remainder::received),
    /// [`nothing_came`](super::remainder::Remainder::nothing_came), [`eof`](super::remainder::Remainder::eof) or
    /// [`gone`](super::remainder::Remainder::gone).
    Discard,
    /// Send a FIN. Then call [`fin_sent`](super::remainder::Remainder::fin_sent).
    SendFin,
    /// Report that the connection has timed out. Then ask for the next step.
    TimedOut(CloseReason),
    /// Hand the connection to a thread that moves streams. If there is none, call
    /// [`keep`](super::remainder::Remainder::keep).
    Lend,
    /// Wait.
    Wait(Wait),
    /// Close the descriptor. There are no more steps.
    Close,
}

/// The events to wait for. The first of them ends the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// Something to receive: bytes, an end of file or an error.
    pub(crate) input: bool,
    /// Room in the send buffer, or what the last mark has made of it.
    pub(crate) room: bool,
    /// A time. `None` is never.
    pub(crate) until: Option<Instant>,
}

/// The events that a connection is ready for, after a wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) input: bool,
    pub(crate) room: bool,
}

/// The facts that a driver passes in when it asks for a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment<'t> {
    pub(crate) now: Instant,
    /// When the connection was accepted.
    pub(crate) accepted: Instant,
    /// Whether a shutdown of the server was requested.
    pub(crate) stopping: bool,
    /// Whether a shutdown, or the close of this connection alone, was requested.
    pub(crate) asked_to_close: bool,
    /// When the server stops delivering output to the peer, if the close of this connection alone was
    /// requested.
    pub(crate) close_end: Option<Instant>,
    pub(crate) timeouts: &'t Timeouts,
}
