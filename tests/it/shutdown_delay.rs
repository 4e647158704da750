//! `--shutdown-delay`: after SIGTERM, the daemon accepts clients until the delay is over, or until another
//! signal.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Daemon, connect, exchange, ping, read_to_end};

#[test]
fn until_the_delay_is_over_new_clients_are_served() {
    let daemon = Daemon::start(&["--shutdown-delay=1s"]);
    let inside = connect(daemon.addr);
    ping(&inside, b"before");
    let start = Instant::now();
    daemon.signal(Signal::TERM);
    daemon.wait_for_log("stopping in 1s; until then new clients are served");
    assert_eq!(exchange(daemon.addr, b"new"), b"new");
    ping(&inside, b"during");
    assert_eq!(read_to_end(&inside).unwrap(), b"", "the end of the drain");
    let output = daemon.wait();
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(output.code, Some(0), "{}", output.log);
    assert!(
        output.log.contains("stopped: connections=2 "),
        "{}",
        output.log
    );
}

/// Returns the status of the response to `GET /ready`.
fn ready(addr: SocketAddr) -> String {
    let request = b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let response = String::from_utf8(exchange(addr, request)).unwrap();
    response.lines().next().unwrap().to_owned()
}

#[test]
fn a_load_balancer_sees_the_stop_before_clients_are_refused() {
    let daemon = Daemon::start(&["--shutdown-delay=1h", "--service=metrics=127.0.0.1:0"]);
    let metrics = daemon.addrs[1];
    assert_eq!(ready(metrics), "HTTP/1.1 200 OK");
    daemon.signal(Signal::TERM);
    daemon.wait_for_log("stopping in 3600s");
    assert_eq!(ready(metrics), "HTTP/1.1 503 Service Unavailable");
    assert_eq!(exchange(daemon.addr, b"still"), b"still");
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_second_signal_ends_the_delay_and_a_third_the_drain() {
    let daemon = Daemon::start(&["--shutdown-delay=1h", "--drain-timeout=1h"]);
    // This client never reads the rest of its echo, so draining takes long.
    let stalled = connect(daemon.addr);
    let filled = crate::support::noise(1, 64 << 20);
    std::thread::scope(|scope| {
        scope.spawn(|| std::io::Write::write_all(&mut &stalled, &filled));
        crate::support::eventually("bytes on their way", || {
            stalled.peek(&mut [0; 1]).is_ok_and(|n| n > 0)
        });
        daemon.signal(Signal::TERM);
        daemon.wait_for_log("stopping in 3600s");
        daemon.signal(Signal::INT);
        daemon.wait_for_log("draining");
        daemon.signal(Signal::TERM);
        let output = daemon.wait();
        assert_eq!(output.code, Some(8), "{}", output.log);
        assert!(output.log.contains("aborted=1"), "{}", output.log);
    });
}

#[test]
fn without_a_delay_the_first_signal_stops() {
    let daemon = Daemon::start(&["--shutdown-delay=0"]);
    let output = daemon.stop();
    assert_eq!(output.code, Some(0));
    assert!(!output.log.contains("stopping in"), "{}", output.log);
}
