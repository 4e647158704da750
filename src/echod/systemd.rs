//! What the service manager is told: ready, how it goes, alive, stopping (`sd_notify(3)`).

use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, io, thread};

use sd_notify::{NotifyState, notify, watchdog_enabled};
use socketserver::ServerHandle;

use crate::run::Handles;

/// How often the status is brought up to date, if no watchdog asks for more.
const STATUS: Duration = Duration::from_secs(5);

/// Says that all servers listen, and from now on how they do. Does nothing without a service
/// manager.
pub(crate) fn ready(handles: &Arc<Handles>) -> io::Result<()> {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(());
    }
    if let Err(error) = notify(&[NotifyState::Ready, NotifyState::Status(&status(handles))]) {
        log::warn!("cannot notify the service manager: {error}");
        return Ok(());
    }
    let handles = Arc::clone(handles);
    thread::Builder::new()
        .name("notify".to_owned())
        .spawn(move || keep_informed(&handles))?;
    Ok(())
}

/// Says that the servers stop, and may take as long as `drain` for it.
pub(crate) fn stopping(drain: Duration) {
    // Above what a cut takes. The manager would kill what needs longer than it was told of.
    let longest = drain.saturating_add(Duration::from_secs(10)).as_micros();
    let _ = notify(&[
        NotifyState::Stopping,
        NotifyState::Custom(&format!("EXTEND_TIMEOUT_USEC={longest}")),
    ]);
}

/// Says why the daemon ends: the journal may not get to know in time which unit's line it had.
pub(crate) fn failed(reason: &str) {
    let _ = notify(&[NotifyState::Status(reason)]);
}

/// Feeds the watchdog for as long as every listener loop turns, and reports the status.
fn keep_informed(handles: &Handles) {
    let watchdog = watchdog_enabled();
    // Twice as often as it must be (`sd_watchdog_enabled(3)`).
    let interval = watchdog.map_or(STATUS, |limit| STATUS.min(limit / 2));
    let mut last = String::new();
    loop {
        let next = Instant::now() + interval;
        let responds = |server: &ServerHandle| server.responds_within(interval);
        if watchdog.is_some() && handles.all().iter().all(responds) {
            let _ = notify(&[NotifyState::Watchdog]);
        }
        let status = status(handles);
        if status != last {
            let _ = notify(&[NotifyState::Status(&status)]);
            last = status;
        }
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// Adds up over all servers.
fn status(handles: &Handles) -> String {
    let (mut now, mut served, mut refused) = (0, 0, 0);
    for server in handles.all() {
        now += server.connection_count();
        served += server.totals().connections();
        refused += server.totals().refused();
    }
    format!("connections: {now} now, {served} served, {refused} refused")
}
