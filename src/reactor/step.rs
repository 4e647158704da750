//! What the state machine of a connection and its driver tell each other.

use std::time::Instant;

use crate::state::close_reason::CloseReason;
use crate::state::timeouts::Timeouts;

/// What the driver does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Receive at most this much without blocking. Then one of [`received`](super::remainder::Remainder::received),
    /// [`nothing_came`](super::remainder::Remainder::nothing_came), [`eof`](super::remainder::Remainder::eof) and
    /// [`fail`](super::remainder::Remainder::fail).
    Receive { at_most: usize },
    /// Send what is owed without blocking. Then one of [`sent`](super::remainder::Remainder::sent),
    /// [`no_room`](super::remainder::Remainder::no_room) and [`fail`](super::remainder::Remainder::fail).
    Send,
    /// Count the input that has arrived (`FIONREAD`). Then [`arrived`](super::remainder::Remainder::arrived).
    CountArrived,
    /// Make the stream writable only once nothing is unsent. Then [`marked`](super::remainder::Remainder::marked).
    MarkUnsent,
    /// Make the stream writable only once nothing is in flight. Then
    /// [`marked`](super::remainder::Remainder::marked).
    MarkInFlight,
    /// See whether the stream is writable now. Then [`writable`](super::remainder::Remainder::writable).
    CheckRoom,
    /// Receive and drop, without blocking. Then one of [`nothing_came`](super::remainder::Remainder::nothing_came),
    /// [`eof`](super::remainder::Remainder::eof), [`gone`](super::remainder::Remainder::gone) and
    /// [`received`](super::remainder::Remainder::received).
    Discard,
    /// Send a FIN. Then [`fin_sent`](super::remainder::Remainder::fin_sent).
    SendFin,
    /// Report that the connection timed out, and go on.
    TimedOut(CloseReason),
    /// Hand the connection to a thread that moves streams, if there is one; otherwise
    /// [`keep`](super::remainder::Remainder::keep).
    Lend,
    /// Wait.
    Wait(Wait),
    /// Close the descriptor. There are no more steps.
    Close,
}

/// What to wait for: the first of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) input: bool,
    pub(crate) room: bool,
    pub(crate) until: Option<Instant>,
}

/// What a connection is ready for, after a wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) input: bool,
    pub(crate) room: bool,
}

/// What a driver knows when it asks for a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment<'t> {
    pub(crate) now: Instant,
    /// When the connection was accepted.
    pub(crate) accepted: Instant,
    /// Whether a stop of the server has been requested.
    pub(crate) stopping: bool,
    /// Whether that, or the close of this connection alone, has been requested.
    pub(crate) asked_to_close: bool,
    /// When the server gives up what is due to the peer, if the close of this connection alone was
    /// requested.
    pub(crate) close_end: Option<Instant>,
    pub(crate) timeouts: &'t Timeouts,
}
