//! What the service manager is told: ready, how it goes, alive, stopping (`sd_notify(3)`).
//!
//! One thread sends. The manager may have stopped reading, and its socket then blocks the sender
//! once the queue of the socket is full. No other thread waits for that, except at the end of the
//! process, for a bounded time.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use std::{env, io, process, thread};

use socket2::{Domain, SockAddr, Socket, Type};
use socketserver::ServerHandle;

use crate::run::Handles;

/// How often the status is brought up to date, if no watchdog asks for more.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// The shortest interval at which the watchdog is fed: a smaller `WATCHDOG_USEC` would keep a
/// processor busy.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// How long the end of the process waits for a manager that does not read.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// To the thread that sends, once it has started.
static QUEUE: OnceLock<Sender<Event>> = OnceLock::new();

enum Event {
    Send(String),
    /// Drops the sender once everything before this event has been sent.
    End(#[expect(dead_code, reason = "only its drop matters")] Sender<()>),
}

/// Says that all servers listen, and from now on how they do. Does nothing without a service
/// manager.
pub(crate) fn ready(handles: &Arc<Handles>) -> io::Result<()> {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(());
    }
    let (queue, events) = mpsc::channel();
    let handles = Arc::clone(handles);
    thread::Builder::new()
        .name("notify".to_owned())
        .spawn(move || keep_informed(&events, &handles))?;
    QUEUE.get_or_init(|| queue);
    Ok(())
}

/// Says that the servers stop, and may take as long as `drain` for it. Never blocks.
pub(crate) fn stopping(drain: Duration) {
    // Above what an abort takes. The manager would kill what needs longer than it was told of. A
    // larger number than this stands for "infinity", which the manager ignores.
    let longest = drain.saturating_add(Duration::from_secs(10)).as_micros();
    let longest = longest.min(u128::from(u64::MAX / 2));
    if let Some(queue) = QUEUE.get() {
        let _ = queue.send(Event::Send(format!(
            "STOPPING=1\nEXTEND_TIMEOUT_USEC={longest}"
        )));
    }
}

/// Says why the daemon ends: the journal may not get to know in time which unit's line it had.
pub(crate) fn failed(reason: &str) {
    // Each line is an assignment.
    let message = format!("STATUS={}", reason.replace('\n', " "));
    // Nothing is left to tell if the manager is gone.
    let _ = match QUEUE.get() {
        Some(queue) => queue.send(Event::Send(message)).map_err(io::Error::other),
        // The start has failed before there was a thread. This one has nothing else to do.
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

/// Sends what is queued, feeds the watchdog for as long as every listener loop turns, and reports the
/// status.
fn keep_informed(events: &Receiver<Event>, handles: &Handles) {
    let watchdog = watchdog();
    // Twice as often as it must be (`sd_watchdog_enabled(3)`).
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

/// Adds up over all servers, except those that only operators use: scrapes are not what the daemon is for.
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

/// Returns how often the manager expects a sign of life, if it expects any of this process.
fn watchdog() -> Option<Duration> {
    // The watchdog of another process, such as a parent that has passed on its environment.
    if env::var("WATCHDOG_PID").is_ok_and(|pid| pid.parse() != Ok(process::id())) {
        return None;
    }
    let limit = env::var_os("WATCHDOG_USEC")?;
    let micros = limit.to_str().and_then(|limit| limit.parse().ok());
    match micros {
        None | Some(0) => {
            let limit = limit.to_string_lossy();
            log::warn!("WATCHDOG_USEC={limit:?} is ignored: expected a number above 0");
            None
        }
        Some(micros) => Some(Duration::from_micros(micros)),
    }
}

/// Sends a message, and waits for at most `timeout` if the manager does not read. Does nothing
/// without a manager.
fn send(message: &str, timeout: Option<Duration>) -> io::Result<()> {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let mut path = path.into_vec();
    // An abstract socket (`unix(7)`).
    if let Some(first @ b'@') = path.first_mut() {
        *first = 0;
    }
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    socket.set_write_timeout(timeout)?;
    let manager = SockAddr::unix(OsString::from_vec(path))?;
    socket.send_to(message.as_bytes(), &manager).map(drop)
}
