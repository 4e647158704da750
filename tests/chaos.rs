//! Runs a thousand short-lived servers whose threads pause at random points of a hand-over.
//!
//! A seed decides the plan of a round: limits, timeouts, handlers, clients, and the time of the stop. The
//! threads run in any order, so a seed repeats the plan but not the schedule. To repeat a failed round:
//! `CHAOS_SEED=N CHAOS_ROUNDS=1 cargo test --features chaos --test chaos`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "chaos/client.rs"]
mod client;
#[path = "chaos/round.rs"]
mod round;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socketserver::{EchoHandler, TcpServer};

/// Time limit for every step. Even on a busy machine no step takes that long, unless it hangs.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The number of rounds at the same time. Each mostly waits.
const PLAYERS: usize = 6;

/// After this many rounds, nothing may be left of them.
const BATCH: u64 = 100;

/// The message of an intended panic, which the panic hook does not print.
const PANIC: &str = "as the client wished";

/// Waits for the other test, which also counts the threads of the process.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_thousand_rounds_lose_no_byte_and_leave_no_thread_and_no_descriptor() {
    const ROUNDS: u64 = 1000;
    let _turn = turn();
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref() != Some(&PANIC) {
            hook(info);
        }
    }));
    let given = std::env::var("CHAOS_SEED").ok();
    let first = given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    // The first server opens what stays open, such as descriptors of the standard library.
    check(round::play(first), first);
    let descriptors = count_descriptors();
    let given = std::env::var("CHAOS_ROUNDS").ok();
    let rounds = given.map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    for batch in 0..rounds.div_ceil(BATCH) {
        let next = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..PLAYERS {
                scope.spawn(|| {
                    loop {
                        let round = next.fetch_add(1, Ordering::Relaxed);
                        if round >= BATCH {
                            break;
                        }
                        let seed = first.wrapping_add(batch * BATCH + round);
                        check(round::play(seed), seed);
                    }
                });
            }
        });
        let seeds = format!("a seed from {} on", first.wrapping_add(batch * BATCH));
        eventually(&format!("the end of all threads, {seeds}"), || {
            count_threads(&["connection", "reactor"]) == 0
        });
        eventually(&format!("the close of all descriptors, {seeds}"), || {
            count_descriptors() <= descriptors
        });
    }
}

#[test]
fn a_listener_that_fails_leaves_no_thread() {
    let _turn = turn();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = TcpServer::from_listener(listener.try_clone().unwrap()).unwrap();
    let serving = thread::spawn(move || server.serve_forever(EchoHandler::new));
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    // This acts as another process that shares the listener and shuts it down.
    let socket = socket2::SockRef::from(&listener);
    socket.shutdown(Shutdown::Read).unwrap();
    drop(client);
    serving.join().unwrap().unwrap_err();
    eventually("the end of all threads", || {
        count_threads(&["connection"]) == 0
    });
}

fn check(round: Result<(), String>, seed: u64) {
    if let Err(error) = round {
        panic!("CHAOS_SEED={seed}: {error}");
    }
}

/// Counts the threads of servers with one of these names.
fn count_threads(names: &[&str]) -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names_of_all =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names_of_all
        .filter(|name| names.contains(&name.trim()))
        .count()
}

fn count_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "not in time: {what}; there are {} threads and {} reactors",
            count_threads(&["connection"]),
            count_threads(&["reactor"]),
        );
        thread::park_timeout(Duration::from_millis(5));
    }
}
