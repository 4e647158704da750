//! One round: a server with random settings, its clients, and its stop.

use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use socketserver::{
    AtLimit, Connection, EchoHandler, Error, RequestHandler, Rest, ServerHandle, TcpServer, Totals,
    Wait,
};

use crate::client::{Client, GREETING, Report, Wish};
use crate::{PANIC, TIMEOUT};

/// The next address of 127.0.0.0/8. Each round takes one.
static ADDRESSES: AtomicU32 = AtomicU32::new(1);

/// Does what the first byte of the client asks for.
struct Wishes;

impl RequestHandler for Wishes {
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        let mut wish = [0];
        if conn.read(&mut wish)? == 0 {
            return Ok(());
        }
        let is = |other: Wish| other.byte() == Some(wish[0]);
        if is(Wish::Echo) {
            conn.continue_with(Rest::Echo, &[]);
        } else if is(Wish::GreetedEcho) {
            conn.write_all(GREETING)?;
            conn.continue_with(Rest::Echo, &[]);
        } else if is(Wish::BlockingEcho) {
            let mut buffer = [0; 4096];
            loop {
                let n = conn.read(&mut buffer)?;
                if n == 0 {
                    break;
                }
                conn.write_all(&buffer[..n])?;
            }
        } else if is(Wish::WaitingEcho) {
            echo_by_waits(conn)?;
        } else if is(Wish::Panic) {
            std::panic::panic_any(PANIC);
        }
        Ok(())
    }
}

/// Echoes the input that waits report, and what had arrived at the end.
fn echo_by_waits(conn: &mut Connection) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        if conn.wait(TIMEOUT * 6)? == Wait::Woken {
            continue;
        }
        let n = conn.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        conn.write_all(&buffer[..n])?;
    }
}

/// Closes, aborts and wakes live connections at random, until the clients are done.
fn interfere(handle: &ServerHandle, rng: &mut Rng, are_done: &AtomicBool) {
    while !are_done.load(Ordering::Relaxed) {
        for conn in handle.connections() {
            match rng.u8(0..12) {
                0 => conn.close(),
                1 => conn.abort(),
                2..6 => conn.wake(),
                _ => thread::yield_now(),
            }
        }
        thread::sleep(Duration::from_micros(rng.u64(0..2000)));
    }
}

/// How a round ends its server.
#[derive(Clone, Copy)]
enum Stop {
    Graceful,
    Twice,
    Now,
    GracefulThenNow,
}

const STOPS: [Stop; 5] = [
    Stop::Graceful,
    Stop::Graceful,
    Stop::Twice,
    Stop::Now,
    Stop::GracefulThenNow,
];

/// Runs a round.
pub(crate) fn play(seed: u64) -> Result<(), String> {
    let mut rng = Rng::with_seed(seed);
    let rejects = rng.bool();
    let max_connections = rng.usize(1..=8);
    let mut may_end = [false; 3];
    let mut short = |index: usize| {
        may_end[index] = rng.u8(0..4) == 0;
        may_end[index].then(|| Duration::from_millis(rng.u64(20..200)))
    };
    let (idle, write, lifetime) = (short(0), short(1), short(2));
    // Interference can end connections early, as limits can.
    let are_done = AtomicBool::new(rng.u8(0..4) > 0);
    let is_cut_short = !are_done.load(Ordering::Relaxed) || may_end.contains(&true);
    // No client needs a longer drain timeout than `TIMEOUT`, unless a wake-up is lost.
    let drain = if rng.bool() {
        Duration::from_millis(rng.u64(50..500))
    } else {
        TIMEOUT * 6
    };
    let accepted = Arc::new(AtomicU64::new(0));
    let mut builder = TcpServer::builder()
        .max_connections(max_connections)
        .idle_timeout(idle)
        .write_timeout(write)
        .max_lifetime(lifetime)
        .drain_timeout(drain)
        .lingering_time(Duration::from_millis(rng.u64(0..100)))
        .busy_poll(Duration::from_micros(rng.u64(0..60)))
        .reactors(rng.usize(1..=2))
        .verify_request({
            let accepted = Arc::clone(&accepted);
            move |_| {
                accepted.fetch_add(1, Ordering::Relaxed);
                true
            }
        });
    if rejects {
        builder = builder
            .at_limit(AtLimit::Reject)
            .max_per_source(rng.bool().then_some(max_connections.div_ceil(2)));
    }
    if rng.bool() {
        builder = builder.handle_error(|conn, _| assert!(conn.peer_addr().ip().is_loopback()));
    }
    let wishes = rng.u8(0..4) > 0;
    // Sometimes the stop comes after the last client, and every client must be served.
    let stops_late = rng.u8(0..4) == 0;
    let clients: Vec<_> = (0..rng.usize(0..12))
        .map(|_| Client::new(&mut rng, wishes, stops_late))
        .collect();
    let stops = Duration::from_micros(rng.u64(0..60_000));
    let stop = *rng.choice(&STOPS).unwrap();

    // Each round has an address of its own. Otherwise a client that connects after the stop could reach the
    // server of another round, which got the same port.
    let [_, high, middle, low] = ADDRESSES.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let server = builder
        .bind((Ipv4Addr::new(127, high, middle, low), 0))
        .map_err(|error| error.to_string())?;
    let (addr, handle) = (server.local_addr(), server.handle());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let outcome = if wishes {
            server.serve_forever(|| Wishes)
        } else {
            server.serve_forever(EchoHandler::new)
        };
        let _ = sender.send(outcome);
    });
    let stopped = AtomicBool::new(false);
    let (reports, totals) = thread::scope(|scope| {
        let playing: Vec<_> = clients
            .iter()
            .map(|client| scope.spawn(|| client.play(addr, &stopped, is_cut_short, rejects)))
            .collect();
        scope.spawn(|| interfere(&handle, &mut rng, &are_done));
        let stop_now = || {
            stopped.store(true, Ordering::SeqCst);
            request(&handle, stop);
        };
        if !stops_late {
            scope.spawn(move || {
                thread::sleep(stops);
                stop_now();
            });
        }
        let reports: Result<Vec<_>, _> = playing
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect();
        are_done.store(true, Ordering::Relaxed);
        if stops_late {
            stop_now();
        }
        // This thread is the watchdog.
        (reports, wait(&receiver, stops))
    });
    check(
        &totals?,
        &reports?,
        accepted.load(Ordering::Relaxed),
        rejects,
    )
}

fn request(handle: &ServerHandle, stop: Stop) {
    match stop {
        Stop::Graceful => handle.shutdown(),
        Stop::Twice => {
            handle.shutdown();
            handle.shutdown();
        }
        Stop::Now => handle.shutdown_now(),
        Stop::GracefulThenNow => {
            handle.shutdown();
            handle.shutdown_now();
        }
    }
}

/// Waits for the end of `serve_forever`.
fn wait(
    receiver: &mpsc::Receiver<Result<Totals, Error>>,
    stops: Duration,
) -> Result<Totals, String> {
    let outcome = receiver
        .recv_timeout(stops + TIMEOUT)
        .map_err(|_| "serve_forever does not return".to_owned())?;
    outcome.map_err(|error| error.to_string())
}

fn check(totals: &Totals, reports: &[Report], accepted: u64, rejects: bool) -> Result<(), String> {
    let sent: u64 = reports.iter().map(|report| report.sent).sum();
    let received: u64 = reports.iter().map(|report| report.received).sum();
    let holds = totals.connections() == accepted
        && totals.connections() + totals.rejected() <= reports.len() as u64
        && (rejects || totals.rejected() == 0)
        && totals.bytes_in() <= sent
        && totals.bytes_out() >= received;
    holds.then_some(()).ok_or_else(|| {
        format!("{totals:?}: {accepted} accepted, {sent} bytes sent, {received} received")
    })
}
