//! The driver for one connection, which uses `poll(2)` on the calling thread until the connection is
//! closed.
//!
//! The poll loop carries the connection of `handle_request`, and connections that no reactor can take.

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

/// Moves the stream on this thread, if the process can have a pipe for it.
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
/// to close. `has_noticed`: the connection has noticed the request before.
fn sleep(carried: &Carried, what: Wait, has_noticed: bool, busy_poll: &BusyPoll) -> Ready {
    if what.input && !what.room {
        let now = Some(Duration::ZERO);
        let found = busy_poll.wait(|| match poll(carried, what, has_noticed, now) {
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
    let ready = poll(carried, what, has_noticed, timeout);
    if start.elapsed() >= BLOCKING_SLICE {
        busy_poll.silence();
    }
    ready
}

/// Waits up to `timeout` until the connection is ready or asked to close.
fn poll(carried: &Carried, what: Wait, has_noticed: bool, timeout: Option<Duration>) -> Ready {
    let mut events = PollFlags::empty();
    events.set(PollFlags::IN, what.input);
    events.set(PollFlags::OUT, what.room);
    // Take the pipe before the check. A request that comes after the check then wakes this thread.
    let sleepers = carried.conn.server().state().shutdown.sleepers().current();
    if !has_noticed && carried.conn.is_asked_to_close() {
        return Ready::default();
    }
    let mut fds = [
        PollFd::new(carried, events),
        PollFd::new(&*sleepers, PollFlags::IN),
    ];
    // After a shutdown request the pipe stays readable. A connection that has noticed the request leaves
    // the pipe out, because the pipe would end every wait at once.
    let watched = if has_noticed { 1 } else { 2 };
    // If `poll(2)` fails, the connection counts as ready, and the next receive or send reports the error.
    let failed = wait(&mut fds[..watched], timeout).is_err();
    let found = fds[0].revents();
    let broken = failed || found.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
    Ready {
        input: broken || found.contains(PollFlags::IN),
        room: broken || found.contains(PollFlags::OUT),
    }
}
