//! The log is exact, and clients can't forge or flood it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};

use crate::support::{
    Daemon, available, connect, eventually, example, exchange, finish, noise, ping, read_to_end,
};

/// Returns the `name=value` pairs of a line.
fn fields(line: &str) -> BTreeMap<&str, &str> {
    line.split_whitespace()
        .filter_map(|word| word.split_once('='))
        .collect()
}

fn number(line: &BTreeMap<&str, &str>, name: &str) -> u64 {
    line[name].parse().unwrap()
}

#[test]
fn lines_and_totals_add_up_over_every_ending() {
    let daemon = Daemon::start(&[
        "--max-connections=8",
        "--at-limit=reject",
        "--idle-timeout=1s",
        "--write-timeout=1s",
    ]);
    let mut sent = 0;
    for seed in 0..20 {
        let message = noise(seed, 1000 * usize::try_from(seed).unwrap());
        assert!(exchange(daemon.addr, &message) == message);
        sent += message.len() as u64;
    }
    let served = |count| {
        let ended = || daemon.log().matches("reason=").count();
        eventually("the lines so far", || ended() == count);
    };
    served(20);
    // The client has read the whole echo, and then resets the connection.
    let client = connect(daemon.addr);
    ping(&client, b"to be reset");
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    sent += 11;
    served(21);
    // Connect as many clients as the limit allows, and two that are rejected. Then all are silent until the
    // idle timeout.
    let inside: Vec<_> = (0..8).map(|_| connect(daemon.addr)).collect();
    for client in &inside {
        ping(client, b"inside");
        sent += 6;
    }
    for _ in 0..2 {
        assert_eq!(read_to_end(&connect(daemon.addr)).unwrap(), b"");
    }
    for client in &inside {
        assert_eq!(read_to_end(client).unwrap(), b"");
    }
    drop(inside);
    served(31);
    // This client is connected at the stop.
    let client = connect(daemon.addr);
    ping(&client, b"at the stop");
    sent += 11;
    let output = daemon.stop();
    assert_eq!(output.code, Some(0));

    assert!(
        !output.log.contains("handler:"),
        "one line for each: {}",
        output.log
    );
    let lines: Vec<_> = output
        .log
        .lines()
        .filter(|line| line.contains("reason="))
        .map(fields)
        .collect();
    let mut reasons = BTreeMap::new();
    for line in &lines {
        assert_eq!(line["bytes_in"], line["bytes_out"], "an echo: {line:?}");
        *reasons.entry(line["reason"]).or_insert(0) += 1;
    }
    let expected = [
        ("eof", 20),
        ("idle", 8),
        ("limit", 2),
        ("reset", 1),
        ("shutdown", 1),
    ];
    assert_eq!(reasons, expected.into());
    let stopped = output.log.lines().last().unwrap();
    let totals = fields(stopped);
    assert!(stopped.contains("stopped: "), "{stopped}");
    let sum = |name| lines.iter().map(|line| number(line, name)).sum::<u64>();
    assert_eq!((sum("bytes_in"), sum("bytes_out")), (sent, sent));
    assert_eq!(
        (number(&totals, "bytes_in"), number(&totals, "bytes_out")),
        (sent, sent)
    );
    assert_eq!(number(&totals, "connections"), 30);
    assert_eq!(number(&totals, "rejected"), 2);
    assert_eq!(number(&totals, "aborted"), 0);
}

#[test]
fn a_log_in_json_has_a_field_for_all_that_is_counted() {
    let daemon = Daemon::start(&["--log-format", "json"]);
    assert_eq!(exchange(daemon.addr, b"hello"), b"hello");
    daemon.wait_for_log("reason");
    let addr = daemon.addr.to_string();
    let log = daemon.stop().log;
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        lines
            .iter()
            .all(|line| line["time"].is_string() && line.get("service").is_none())
    );
    let mut of_connection = lines.iter().filter(|line| line["level"] == "DEBUG");
    let [accepted, ended] = [of_connection.next(), of_connection.next()].map(Option::unwrap);
    for line in [accepted, ended] {
        assert_eq!(line["id"], 1);
        assert_eq!(line["local"], addr);
        assert_eq!(line["peer"], ended["peer"]);
    }
    assert_eq!(accepted["reason"], serde_json::Value::Null);
    assert_eq!(
        (&ended["bytes_in"], &ended["bytes_out"]),
        (&5.into(), &5.into())
    );
    assert_eq!(ended["reason"], "eof");
    assert!(ended["duration"].as_f64().unwrap() > 0.0);
    assert!(ended["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    let stopped = lines.last().unwrap();
    assert_eq!(
        (&stopped["connections"], &stopped["aborted"]),
        (&1.into(), &0.into())
    );
}

#[test]
fn by_default_nothing_that_a_client_does_is_logged() {
    let daemon = Daemon::spawn(Daemon::command().args(["--listen", "127.0.0.1:0"]));
    let suite = example("conformance").arg(daemon.addr.to_string()).output();
    assert_eq!(suite.unwrap().status.code(), Some(0));
    // These bytes would make a line of their own in the log, or change the colour of a terminal.
    exchange(
        daemon.addr,
        b"\x1b[31m\n[2026-01-01T00:00:00Z ERROR] forged\n",
    );
    let log = daemon.stop().log;
    let lines = without_draining(&log);
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines[0].contains("INFO ] listening on "), "{log}");
    assert!(lines[1].contains("INFO ] stopped: "), "{log}");
}

#[test]
fn nothing_that_a_client_sends_is_logged_at_all() {
    let daemon = Daemon::spawn(Daemon::command().args(["-vv", "--listen", "127.0.0.1:0"]));
    let client = connect(daemon.addr);
    for _ in 0..100 {
        ping(&client, b"needle\n\x1b[31m");
    }
    (&client).write_all(b"needle").unwrap();
    client.shutdown(Shutdown::Both).unwrap();
    daemon.wait_for_log("reason=");
    let log = daemon.stop().log;
    assert!(!log.contains("needle") && !log.contains('\x1b'), "{log}");
    assert_eq!(without_draining(&log).len(), 4, "nothing per read: {log}");
}

/// Returns the lines of a log, except the line that says whether the stop found the last connection.
fn without_draining(log: &str) -> Vec<&str> {
    log.lines()
        .filter(|line| !line.contains("INFO ] draining: "))
        .collect()
}

/// Connects clients that don't read their echo: a megabyte for each, and a receive buffer of a few kilobytes.
fn connect_stalled(addr: SocketAddr, count: usize) -> Vec<TcpStream> {
    let message = noise(1, 1 << 20);
    let connect = |_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&addr.into()).unwrap();
        let mut client = TcpStream::from(socket);
        client.write_all(&message).unwrap();
        // After the first byte of its echo, the client has been served.
        client.read_exact(&mut [0]).unwrap();
        client
    };
    (0..count).map(connect).collect()
}

#[test]
fn a_stop_that_aborts_clients_says_how_many_and_names_some() {
    let daemon = Daemon::start(&["--drain-timeout", "100ms"]);
    let stalled = connect_stalled(daemon.addr, 10);
    let log = daemon.stop().log;
    let line = log.lines().find(|line| line.contains("WARN")).unwrap();
    let expected = "drain timeout of 100ms is over: connections=10 aborted=10: 127.0.0.1:";
    assert!(line.contains(expected), "{line}");
    assert!(line.ends_with(", and 2 more"), "{line}");
    let is_named = |client: &&TcpStream| {
        let addr = client.local_addr().unwrap();
        line.contains(&format!(" {addr},"))
    };
    // The log names the oldest connections first.
    assert_eq!(stalled.iter().take_while(is_named).count(), 8);
    assert_eq!(stalled.iter().filter(is_named).count(), 8);
    assert_eq!(log.matches("WARN").count(), 1, "{log}");
}

#[test]
fn a_second_request_to_stop_names_the_clients_that_it_aborts() {
    let daemon = Daemon::start(&["--drain-timeout", "1h"]);
    let stalled = connect_stalled(daemon.addr, 1);
    daemon.signal(Signal::INT);
    daemon.wait_for_log("draining: connections=1");
    let log = daemon.stop().log;
    let addr = stalled[0].local_addr().unwrap();
    let expected = format!("asked to stop at once: connections=1 aborted=1: {addr}\n");
    assert!(log.contains(&expected), "{log}");
}

#[test]
fn a_wrong_rust_log_is_a_warning_and_the_level_that_of_the_flags() {
    for (value, cause) in [
        ("echod=loud", "invalid logging spec 'loud'"),
        ("a/b/c", "too many '/'s"),
    ] {
        let mut command = Daemon::command();
        command.args(["-v", "--listen", "127.0.0.1:0"]);
        let daemon = Daemon::spawn(command.env("RUST_LOG", value));
        assert_eq!(exchange(daemon.addr, b"hello"), b"hello");
        daemon.wait_for_log("DEBUG] id=");
        let log = daemon.stop().log;
        let warning = log.lines().next().unwrap();
        assert!(
            warning.contains(&format!(" WARN ] RUST_LOG={value:?} is ignored: ")),
            "{log}"
        );
        assert!(warning.contains(cause), "{log}");
    }
}

#[test]
fn a_wrong_rust_log_does_not_end_it_where_nothing_can_be_written() {
    let mut command = Daemon::command();
    command
        .args(["--listen", "127.0.0.1:0", "--print-addr"])
        .env("RUST_LOG", "echod=loud")
        .stdout(Stdio::piped())
        .stderr(File::options().write(true).open("/dev/full").unwrap());
    let mut child = command.spawn().unwrap();
    let mut printed = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut printed)
        .unwrap();
    let echo = exchange(printed.trim().parse().unwrap(), b"hello");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(finish(&mut child).code(), Some(0));
    assert_eq!(echo, b"hello");
}

#[test]
fn a_clock_outside_of_any_calendar_does_not_stop_the_daemon() {
    if !available(&["faketime"]) {
        return;
    }
    // Take the variables of the program `faketime`, so that the daemon is a child of this test and not of
    // `faketime`.
    let show = Command::new("faketime")
        .args(["-f", "+0", "sh", "-c", "echo $LD_PRELOAD"])
        .output();
    let library = String::from_utf8(show.unwrap().stdout).unwrap();
    for (offset, format, has_time) in [
        ("+8000y", "text", false),
        ("+8000y", "json", false),
        ("-100y", "text", true),
        ("-100y", "json", true),
    ] {
        let mut command = Daemon::command();
        command
            .args(["--listen", "127.0.0.1:0", "--log-format", format])
            .args(["--service", "daytime=127.0.0.1:0,time=127.0.0.1:0"])
            .env("LD_PRELOAD", library.trim())
            .env("FAKETIME", offset)
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let daemon = Daemon::spawn(&mut command);
        assert_eq!(exchange(daemon.addr, b"hello"), b"hello");
        // The daytime service can't format this year, and the seconds of the time service wrap around.
        assert_eq!(exchange(daemon.addrs[1], b""), b"");
        assert_eq!(exchange(daemon.addrs[2], b"").len(), 4);
        let output = daemon.stop();
        assert_eq!(output.code, Some(0), "{}", output.log);
        for line in output.log.lines() {
            let dated = line.starts_with("[19") || line.contains("\"time\":\"19");
            assert_eq!(dated, has_time, "{line}");
        }
    }
}
