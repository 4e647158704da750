//! The example `graceful`: it ends with Ctrl-C.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{connect, eventually, ping, read_to_end, serving};

#[test]
fn a_signal_ends_the_graceful_example_cleanly_and_the_totals_are_printed() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (server, addr) = serving("graceful", &["127.0.0.1:0"]);
        let client = connect(addr);
        ping(&client, b"hello\n");
        server.signal(signal);
        assert_eq!(read_to_end(&client).unwrap(), b"");
        drop(client);
        let ended = server.ends();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let totals = "1 connections, 6 bytes in, 6 bytes out, 0 aborted\n";
        assert_eq!(String::from_utf8_lossy(&ended.stdout), totals);
        assert!(ended.stderr.contains("reason=shutdown"), "{}", ended.stderr);
    }
}

#[test]
fn a_second_signal_ends_the_graceful_example_at_once() {
    let (server, addr) = serving("graceful", &["127.0.0.1:0"]);
    // A client that sends, and never reads its echo: the drain can't complete.
    let mut client = connect(addr);
    client
        .set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    while client.write_all(&[0; 8 * 1024]).is_ok() {}
    let start = Instant::now();
    server.signal(Signal::TERM);
    eventually("the listener is closed", || {
        TcpStream::connect(addr).is_err()
    });
    server.signal(Signal::TERM);
    let ended = server.ends();
    let stdout = String::from_utf8(ended.stdout).unwrap();
    assert!(stdout.ends_with(" 1 aborted\n"), "{stdout}");
    assert_eq!(ended.code, Some(0));
    // The drain timeout is 10 s.
    assert!(start.elapsed() < Duration::from_secs(8));
}
