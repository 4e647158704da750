//! The driver for one connection: `poll(2)`, on the calling thread, until the connection is
//! closed.
//!
//! It carries the connection of `handle_request`, and any connection for which no reactor can be
//! had.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::carried::{Carried, Next};
#[cfg(any(target_os = "linux", target_os = "android"))]
use super::pipe::Pipe;
use super::step::{Ready, Wait};
use super::{BUFFER, ReportError};
use crate::connection::busy_poll::BusyPoll;
use crate::state::closed::ClosedConnection;
use crate::state::timeouts::BLOCKING_SLICE;
use crate::wake::wait;

/// Carries a connection to its close.
pub(crate) fn carry(mut carried: Carried, report: ReportError<'_>) -> ClosedConnection {
    let busy_poll = BusyPoll::new(carried.conn.timeouts().busy_poll);
    let mut buffer = vec![0; BUFFER];
    let mut ready = Ready::default();
    loop {
        let asked_to_close = carried.conn.is_asked_to_close();
        match carried.advance(&mut buffer, Instant::now(), ready) {
            Next::Wait(wait) => ready = sleep(&carried, wait, asked_to_close, &busy_poll),
            Next::Lend => {
                ready = Ready::default();
                move_stream(&mut carried, report);
            }
            Next::Report(error) => {
                ready = Ready::default();
                carried.report(|conn| report(conn, error));
            }
            Next::Close => return carried.close(),
        }
    }
}

/// Moves the stream on this thread, if there is a pipe for it.
fn move_stream(carried: &mut Carried, report: ReportError<'_>) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(pipe) = Pipe::new() {
        let moved = pipe.relay(&carried.conn);
        if let Some(error) = carried.resume(moved) {
            carried.report(|conn| report(conn, error));
        }
        return;
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = report;
    carried.keep();
}

/// Busy-polls, then sleeps, until the connection is ready, the time is over, or the connection is asked
/// to close. `knows`: the connection was asked before, and knows.
fn sleep(carried: &Carried, what: Wait, knows: bool, busy_poll: &BusyPoll) -> Ready {
    if what.input && !what.room {
        let found = busy_poll.wait(|| match look(carried, what, knows, Some(Duration::ZERO)) {
            Ready {
                input: false,
                room: false,
            } => Err(ErrorKind::WouldBlock.into()),
            ready => Ok(ready),
        });
        if let Some(Ok(ready)) = found {
            return ready;
        }
    }
    let start = Instant::now();
    let timeout = what.until.map(|at| at.saturating_duration_since(start));
    let ready = look(carried, what, knows, timeout);
    if start.elapsed() >= BLOCKING_SLICE {
        busy_poll.silence();
    }
    ready
}

fn look(carried: &Carried, what: Wait, knows: bool, timeout: Option<Duration>) -> Ready {
    let mut events = PollFlags::empty();
    events.set(PollFlags::IN, what.input);
    events.set(PollFlags::OUT, what.room);
    let sleepers = carried.conn.server().state().shutdown.sleepers().current();
    if !knows && carried.conn.is_asked_to_close() {
        return Ready::default();
    }
    let mut fds = [
        PollFd::new(carried, events),
        PollFd::new(&*sleepers, PollFlags::IN),
    ];
    // At a stop the pipe stays readable, and would end every wait of a connection that knows.
    let watched = if knows { 1 } else { 2 };
    // If `poll` fails, the next receive or send meets what is wrong.
    let failed = wait(&mut fds[..watched], timeout).is_err();
    let found = fds[0].revents();
    let broken = failed || found.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
    Ready {
        input: broken || found.contains(PollFlags::IN),
        room: broken || found.contains(PollFlags::OUT),
    }
}
