//! The end of a server: live connections drain, and those left at the deadline are aborted.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::error::Error;
use crate::state::ServerState;
use crate::state::close_reason::CloseReason;
use crate::state::closed::ClosedConnection;
use crate::state::log_prefix::LogPrefix;
use crate::state::shutdown::Phase;
use crate::wake::wait;
use crate::worker::Crew;

/// The time that threads have to close their connections after an abort. An abort makes every read and
/// write of a connection fail, so a thread that needs longer is busy with something else.
const ABORT_GRACE: Duration = Duration::from_millis(500);

/// Waits for live connections to end by themselves, and aborts them at the deadline.
pub(super) fn drain(state: &ServerState, crew: &Crew) -> Result<(), Error> {
    let shutdown = &state.shutdown;
    // If a listener became unusable, no stop was requested yet, and the connections would not drain.
    shutdown.request(Phase::Draining);
    let timeout = state.timeouts.drain;
    let deadline = shutdown.deadline(timeout);
    let prefix = &state.prefix;
    let connections = state.connection_count();
    if connections > 0 {
        log::info!(service = prefix, connections; "{prefix}draining: connections={connections}");
    }
    let mut cause = "asked to stop at once".to_owned();
    while !state.is_empty_or_wakes_supervisor() && shutdown.phase() == Phase::Draining {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            cause = format!("drain timeout of {timeout:?} is over");
            shutdown.request(Phase::Aborting);
        } else {
            crew.run_jobs();
            sleep_until(state, deadline)?;
        }
    }
    if state.is_empty_or_wakes_supervisor() {
        return Ok(());
    }
    let connections = state.connection_count();
    log_abort(prefix, &cause, connections, &state.abort());
    let deadline = Instant::now() + ABORT_GRACE;
    while !state.is_empty_or_wakes_supervisor() && Instant::now() < deadline {
        crew.run_jobs();
        sleep_until(state, Some(deadline))?;
    }
    // Log and count every connection now, because the handlers that are left may never return.
    for record in state.finish_all() {
        let reason = CloseReason::Shutdown.unless_aborted(&record);
        state.report_closed(&ClosedConnection::new(&record, reason));
    }
    Ok(())
}

/// The maximum number of peers in one line of the log.
const MAX_PEERS: usize = 8;

/// Logs an abort of `connections`: as a warning with `peers`, those that may have lost data by it, or as
/// information if there are none.
fn log_abort(prefix: &LogPrefix, cause: &str, connections: usize, peers: &[SocketAddr]) {
    let aborted = peers.len();
    let mut names: Vec<_> = peers
        .iter()
        .take(MAX_PEERS)
        .map(ToString::to_string)
        .collect();
    if aborted > MAX_PEERS {
        names.push(format!("and {} more", aborted - MAX_PEERS));
    }
    let peers = names.join(", ");
    if aborted > 0 {
        log::warn!(
            service = prefix, connections, aborted, peers;
            "{prefix}{cause}: connections={connections} aborted={aborted}: {peers}"
        );
    } else {
        log::info!(
            service = prefix, connections, aborted;
            "{prefix}{cause}: connections={connections} aborted=0"
        );
    }
}

/// Waits until the only connection of the server has ended, or until a stop is requested.
pub(super) fn wait_for_end(state: &ServerState, crew: &Crew) -> Result<(), Error> {
    while state.shutdown.phase() == Phase::Serving && !state.is_empty_or_wakes_supervisor() {
        crew.run_jobs();
        sleep_until(state, None)?;
    }
    Ok(())
}

/// Sleeps until the last connection ends, the shutdown's phase advances, or `until`.
///
/// No thread waits with the lead any more, so this thread also clears the leader's waker. Otherwise a
/// watchdog would find a draining server unresponsive.
fn sleep_until(state: &ServerState, until: Option<Instant>) -> Result<(), Error> {
    let wakers = [state.shutdown.supervisor(), state.shutdown.lead()];
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    let mut fds = wakers.map(|waker| PollFd::new(waker, PollFlags::IN));
    wait(&mut fds, left)
        .map_err(|error| Error::new("cannot wait for connections to end", error))?;
    for (waker, fd) in wakers.iter().zip(&fds) {
        if !fd.revents().is_empty() {
            waker.clear();
        }
    }
    Ok(())
}
