//! Notifies the service manager: ready, status, watchdog, stopping (`sd_notify(3)`).
//!
//! One thread sends. If the manager stops reading and the queue of its socket is full, that thread blocks. No
//! other thread waits for it, except at the end of the process, for at most 1 s.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use std::{env, io, process, thread};

use socket2::{Domain, SockAddr, Socket, Type};
use socketserver::ServerHandle;

use crate::run::Handles;

/// How often the status is updated, unless the watchdog needs a shorter interval.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// The shortest watchdog interval. A tiny `WATCHDOG_USEC` would keep a processor busy.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// Time limit for the last messages to a manager that does not read.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// The queue to the thread that sends. Unset until that thread has started.
static QUEUE: OnceLock<Sender<Event>> = OnceLock::new();

enum Event {
    Send(String),
    /// Drops its `Sender` once all earlier events have been sent, which wakes [`finish`].
    End(#[expect(dead_code, reason = "only its drop matters")] Sender<()>),
}

/// Notifies the manager that all servers listen, and starts the thread that keeps it informed.
///
/// Does nothing without a service manager.
pub(crate) fn ready(handles: &Arc<Handles>) -> io::Result<()> {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(());
    }
    let (queue, events) = mpsc::channel();
    let handles = Arc::clone(handles);
    thread::Builder::new()
        .name("notify".to_owned())
        .spawn(move || notify(&events, &handles))?;
    QUEUE.get_or_init(|| queue);
    Ok(())
}

/// Notifies the manager that the servers stop within `drain`. Never blocks.
pub(crate) fn stopping(drain: Duration) {
    // The manager kills a service that needs longer than it announced. So add more than an abort takes. The
    // manager takes a number above this maximum for "infinity", and ignores it.
    let longest = drain.saturating_add(Duration::from_secs(10)).as_micros();
    let longest = longest.min(u128::from(u64::MAX / 2));
    if let Some(queue) = QUEUE.get() {
        let _ = queue.send(Event::Send(format!(
            "STOPPING=1\nEXTEND_TIMEOUT_USEC={longest}"
        )));
    }
}

/// Puts the error that ends the daemon into the status of the unit.
///
/// The journal alone is not enough: if the process ends too soon, the journal can't tell which unit wrote the
/// line.
pub(crate) fn failed(reason: &str) {
    // A newline would begin the next assignment.
    let message = format!("STATUS={}", reason.replace('\n', " "));
    // Ignore a failure: the manager may be gone.
    let _ = match QUEUE.get() {
        Some(queue) => queue.send(Event::Send(message)).map_err(io::Error::other),
        // The start failed before the thread was started, so this thread may wait for the manager.
        None => send(&message, Some(END_TIMEOUT)),
    };
}

/// Waits until everything has been sent, for at most [`END_TIMEOUT`].
pub(crate) fn finish() {
    let (sent, wait) = mpsc::channel();
    if let Some(queue) = QUEUE.get() {
        let _ = queue.send(Event::End(sent));
        let _ = wait.recv_timeout(END_TIMEOUT);
    }
}

/// Sends queued messages and the status, and feeds the watchdog while every server responds.
fn notify(events: &Receiver<Event>, handles: &Handles) {
    let watchdog = watchdog();
    // Feed the watchdog twice per timeout, as `sd_watchdog_enabled(3)` recommends.
    let interval = watchdog.map_or(STATUS_INTERVAL, |limit| {
        (limit / 2).clamp(MIN_INTERVAL, STATUS_INTERVAL)
    });
    let mut last = status(handles);
    if let Err(error) = send(&format!("READY=1\nSTATUS={last}"), None) {
        log::warn!("cannot notify the service manager: {error}");
        return;
    }
    loop {
        let next = Instant::now() + interval;
        let responds = |(_, server): &(_, ServerHandle)| server.is_responsive(interval);
        if watchdog.is_some() && handles.all().iter().all(responds) {
            let _ = send("WATCHDOG=1", None);
        }
        let status = status(handles);
        if status != last {
            let _ = send(&format!("STATUS={status}"), None);
            last = status;
        }
        while let Ok(event) = events.recv_timeout(next.saturating_duration_since(Instant::now())) {
            match event {
                Event::Send(message) => drop(send(&message, None)),
                Event::End(_) => return,
            }
        }
    }
}

/// Returns the status: connections of all services, except those for operators, whose scrapes would hide the
/// clients.
fn status(handles: &Handles) -> String {
    let (mut now, mut served, mut rejected) = (0, 0, 0);
    let servers = handles.all().iter();
    for (_, server) in servers.filter(|(service, _)| !service.is_for_operators()) {
        now += server.connection_count();
        served += server.totals().connections();
        rejected += server.totals().rejected();
    }
    format!("connections: {now} now, {served} served, {rejected} rejected")
}

/// Returns the watchdog timeout, if the manager expects this process to feed the watchdog.
fn watchdog() -> Option<Duration> {
    // The variables may be inherited from a parent whose watchdog they describe.
    if env::var("WATCHDOG_PID").is_ok_and(|pid| pid.parse() != Ok(process::id())) {
        return None;
    }
    let limit = env::var_os("WATCHDOG_USEC")?;
    let micros = limit.to_str().and_then(|limit| limit.parse().ok());
    match micros {
        None | Some(0) => {
            let limit = limit.to_string_lossy();
            log::warn!(
                "WATCHDOG_USEC={limit:?} is ignored: expected a number of microseconds above 0"
            );
            None
        }
        Some(micros) => Some(Duration::from_micros(micros)),
    }
}

/// Sends a message, and waits at most `timeout` if the manager does not read. Does nothing without a manager.
fn send(message: &str, timeout: Option<Duration>) -> io::Result<()> {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let mut path = path.into_vec();
    // `@` stands for the null byte that begins the name of an abstract socket (`unix(7)`).
    if let Some(first @ b'@') = path.first_mut() {
        *first = 0;
    }
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    socket.set_write_timeout(timeout)?;
    let manager = SockAddr::unix(OsString::from_vec(path))?;
    socket.send_to(message.as_bytes(), &manager).map(drop)
}
