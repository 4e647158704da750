//! How long a stop takes.

use std::time::{Duration, Instant};

use crate::support::{Daemon, connect, ping, read_to_end};
use crate::turn;

/// What a person takes for immediate.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Fails unless a stop is immediate within a minute's tries. A busy machine can only make one
/// slower, so the quickest says what the daemon itself needs.
fn assert_at_once(stop: impl Fn() -> Duration) {
    let _turn = turn();
    let start = Instant::now();
    let mut times = Vec::new();
    while start.elapsed() < Duration::from_secs(60) {
        times.push(stop());
        if times.last() < Some(&AT_ONCE) {
            return;
        }
    }
    panic!("no stop took less than {AT_ONCE:?}: {times:?}");
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
