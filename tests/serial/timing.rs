//! The time that a stop takes.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Daemon, connect, ping, read_to_end};
use crate::turn;

/// The time that a person perceives as immediate.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Fails unless one of twenty stops is immediate.
///
/// On a busy machine, a stop also passes if it takes at most [`TIMES_AS_LONG`] the time in which this process
/// ends a thousand threads.
fn assert_at_once(stop: impl Fn() -> Duration) {
    let _turn = turn();
    let mut times = Vec::new();
    for _ in 0..20 {
        let time = stop();
        let bound = AT_ONCE.max(TIMES_AS_LONG * end_a_thousand_threads());
        if time < bound {
            return;
        }
        times.push((time, bound));
    }
    panic!("no stop was immediate: {times:?}");
}

/// How much longer a stop may take. On a quiet machine, a stop with a thousand clients takes about 50 ms, and
/// so does ending a thousand threads.
const TIMES_AS_LONG: u32 = 2;

/// Returns how long it takes to wake a thousand threads and to see them end.
fn end_a_thousand_threads() -> Duration {
    let barrier = Arc::new(Barrier::new(1001));
    let threads: Vec<_> = (0..1000)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || barrier.wait())
        })
        .collect();
    let start = Instant::now();
    barrier.wait();
    for thread in threads {
        thread.join().unwrap();
    }
    start.elapsed()
}

fn quiet_daemon() -> Daemon {
    Daemon::spawn(Daemon::command().args(["--listen", "127.0.0.1:0"]))
}

#[test]
fn an_idle_daemon_stops_at_once() {
    assert_at_once(|| {
        let daemon = quiet_daemon();
        let start = Instant::now();
        assert_eq!(daemon.stop().code, Some(0));
        start.elapsed()
    });
}

#[test]
fn a_daemon_with_a_thousand_idle_clients_stops_at_once_and_each_sees_end_of_file() {
    assert_at_once(|| {
        let daemon = quiet_daemon();
        let clients: Vec<_> = (0..1000).map(|_| connect(daemon.addr)).collect();
        for client in &clients {
            ping(client, b"x");
        }
        let start = Instant::now();
        let output = daemon.stop();
        let time = start.elapsed();
        assert_eq!(output.code, Some(0), "{}", output.log);
        for client in clients {
            assert_eq!(read_to_end(&client).unwrap(), b"");
        }
        time
    });
}
