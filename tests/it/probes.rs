//! `echod probe` with `--count` and many connections: what it counts, measures and prints.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use socketserver::from_fn;

use crate::support::{Daemon, TestServer, available, finish, private_addr, reserve_addr};

fn probe(target: SocketAddr, args: &[&str]) -> Command {
    let mut command = Daemon::command();
    command.arg("probe").arg(target.to_string()).args(args);
    command
}

/// Returns the exit code and the lines of standard output. Standard error must be empty.
fn run(target: SocketAddr, args: &[&str]) -> (Option<i32>, Vec<String>) {
    let output = probe(target, args).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "");
    let stdout = String::from_utf8(output.stdout).unwrap();
    (
        output.status.code(),
        stdout.lines().map(ToOwned::to_owned).collect(),
    )
}

fn json(lines: &[String]) -> Vec<Value> {
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn each_probe_leaves_a_line_and_all_of_them_a_summary() {
    let daemon = Daemon::start(&[]);
    let (code, lines) = run(daemon.addr, &["--count=3", "--interval=0"]);
    assert_eq!(code, Some(0), "{lines:?}");
    assert_eq!(lines.len(), 6, "{lines:?}");
    for (number, line) in (1..=3).zip(&lines) {
        let start = format!(
            "probe {number}: {} echoes 1024 bytes: connect ",
            daemon.addr
        );
        assert!(line.starts_with(&start), "{line}");
    }
    assert_eq!(lines[3], "3 probes: 3 sent, 3 right, 0 wrong, 0 lost");
    for (line, name) in lines[4..].iter().zip(["connect least", "echo    least"]) {
        let quantiles: Vec<f64> = line
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .collect();
        assert!(
            line.starts_with(name) && quantiles.len() == 4 && quantiles.is_sorted(),
            "{line}"
        );
    }
    let log = daemon.stop().log;
    assert_eq!(
        log.matches("bytes_in=1024 bytes_out=1024").count(),
        3,
        "{log}"
    );
}

#[test]
fn json_has_the_same_with_times_in_seconds() {
    let daemon = Daemon::start(&[]);
    let args = ["--count=2", "--interval=0", "--format=json", "--size=9"];
    let (code, lines) = run(daemon.addr, &args);
    assert_eq!(code, Some(0));
    let [first, second, summary] = &json(&lines)[..] else {
        panic!("{lines:?}");
    };
    for (number, probe) in [(1, first), (2, second)] {
        assert_eq!(probe["probe"], number);
        assert_eq!(probe["addr"], daemon.addr.to_string());
        assert_eq!(probe["bytes"], 9);
        assert_eq!(probe["right"], 1);
    }
    assert_eq!(summary["probes"], 2);
    assert_eq!(summary["sent"], 2);
    assert_eq!(summary["failures"], Value::Object([].into_iter().collect()));
    for name in ["connect", "echo"] {
        for quantile in ["least", "median", "p99", "most"] {
            let seconds = summary[name][quantile].as_f64().unwrap();
            assert!((0.0..10.0).contains(&seconds) && seconds > 0.0, "{summary}");
        }
    }
}

#[test]
fn the_exit_code_is_that_of_the_worst_probe() {
    // The answers are right, wrong, too short, and right.
    let served = AtomicUsize::new(0);
    let server = TestServer::start(from_fn(move |conn| {
        let number = served.fetch_add(1, Ordering::Relaxed);
        let mut bytes = vec![0; 1024];
        conn.read_exact(&mut bytes)?;
        match number {
            1 => bytes[7] ^= 1,
            2 => {
                conn.abort();
                return Ok(());
            }
            _ => {}
        }
        conn.write_all(&bytes)
    }));
    let (code, lines) = run(server.addr, &["--count=4", "--interval=0"]);
    assert_eq!(code, Some(7), "{lines:?}");
    let no_echo = format!("no echo from {}", server.addr);
    assert_eq!(
        lines[1],
        format!("probe 2: {no_echo}: other bytes came back")
    );
    assert_eq!(lines[2], format!("probe 3: {no_echo}: connection reset"));
    assert_eq!(lines[4], "4 probes: 4 sent, 2 right, 1 wrong, 1 lost");
}

#[test]
fn probes_without_an_answer_are_lost_and_have_no_times() {
    let (_reserved, addr) = reserve_addr();
    let (code, lines) = run(addr, &["--count=2", "--interval=0", "--format=json"]);
    assert_eq!(code, Some(4), "{lines:?}");
    let summary = &json(&lines)[2];
    assert_eq!(summary["lost"], 2);
    assert_eq!(summary["connect"], Value::Null);
    let failure = format!("cannot connect to {addr}: connection refused");
    assert_eq!(summary["failures"][failure], 2, "{summary}");
}

#[test]
fn an_interrupt_ends_probing_with_the_summary() {
    let daemon = Daemon::start(&[]);
    for signal in [Signal::INT, Signal::TERM] {
        let mut probing = probe(daemon.addr, &["--count=0", "--interval=1ms"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(probing.stdout.take().unwrap());
        let mut line = String::new();
        for _ in 0..3 {
            stdout.read_line(&mut line).unwrap();
        }
        kill_process(Pid::from_child(&probing), signal).unwrap();
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(finish(&mut probing).code(), Some(0));
        assert!(rest.contains(" right, 0 wrong, 0 lost\nconnect"), "{rest}");
    }
}

#[test]
fn an_interrupt_before_the_first_answer_is_a_failure() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut probing = probe(silent.local_addr().unwrap(), &["--count=0", "--timeout=1h"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let _client = silent.accept().unwrap();
    kill_process(Pid::from_child(&probing), Signal::INT).unwrap();
    assert_eq!(finish(&mut probing).code(), Some(1));
}

#[test]
fn a_second_interrupt_ends_a_probe_whose_output_is_not_read() {
    let daemon = Daemon::start(&[]);
    // The test never reads the pipe, so printing blocks.
    let mut probing = probe(daemon.addr, &["--count=0", "--interval=0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&probing);
    let is_blocked = || {
        let stack = std::fs::read_to_string(format!("/proc/{}/wchan", pid.as_raw_nonzero()));
        stack.is_ok_and(|stack| stack.contains("pipe"))
    };
    crate::support::eventually("the pipe is full", is_blocked);
    // A second signal counts only after the first has been handled, so send it until the probe ends.
    crate::support::eventually("it has ended", || {
        let _ = kill_process(pid, Signal::INT);
        probing.try_wait().unwrap().is_some()
    });
    assert_eq!(finish(&mut probing).code(), Some(1));
}

#[test]
fn more_bytes_than_all_buffers_hold_are_compared() {
    let daemon = Daemon::start(&[]);
    let (code, lines) = run(daemon.addr, &["--size=64MiB", "--timeout=30s"]);
    assert_eq!(code, Some(0), "{lines:?}");
    assert!(lines[0].contains(" echoes 67108864 bytes: "), "{lines:?}");
}

#[test]
fn all_connections_are_open_while_each_is_tested() {
    let (inside, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    // Each handler waits for end of file, so a connection counts until the client closes it.
    let server = TestServer::start(from_fn(move |conn| {
        let live = inside.fetch_add(1, Ordering::Relaxed) + 1;
        seen.fetch_max(live, Ordering::Relaxed);
        std::io::copy(&mut &*conn, &mut &*conn)?;
        inside.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }));
    let (code, lines) = run(server.addr, &["--connections=200"]);
    assert_eq!(code, Some(0), "{lines:?}");
    assert_eq!(lines[0], "probe 1: 200 sent, 200 right, 0 wrong, 0 lost");
    assert_eq!(lines[1], "1 probe: 200 sent, 200 right, 0 wrong, 0 lost");
    assert_eq!(most.load(Ordering::Relaxed), 200);
}

#[test]
fn connections_beyond_a_limit_are_reported_with_the_cause() {
    let daemon = Daemon::start(&["--max-connections=30", "--at-limit=reject"]);
    let (code, lines) = run(daemon.addr, &["--connections=100"]);
    assert_eq!(code, Some(7), "{lines:?}");
    assert_eq!(lines[0], "probe 1: 100 sent, 30 right, 70 wrong, 0 lost");
    let cause = "the connection ended after 0 of 1024 bytes";
    let failure = format!("  70 × no echo from {}: {cause}", daemon.addr);
    assert_eq!(lines[1], failure);
}

/// Serves two clients. Each gets the bytes of the other.
fn mixed_up(listener: &TcpListener) {
    let clients = [listener.accept().unwrap().0, listener.accept().unwrap().0];
    let both = Barrier::new(2);
    thread::scope(|scope| {
        for (mut from, mut to) in [(&clients[0], &clients[1]), (&clients[1], &clients[0])] {
            let both = &both;
            scope.spawn(move || {
                let mut bytes = [0; 1024];
                from.read_exact(&mut bytes).unwrap();
                both.wait();
                let _ = to.write_all(&bytes);
            });
        }
    });
}

#[test]
fn connections_that_are_mixed_up_are_wrong() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| mixed_up(&listener));
        let (code, lines) = run(addr, &["--connections=2"]);
        assert_eq!(code, Some(7), "{lines:?}");
        assert_eq!(lines[0], "probe 1: 2 sent, 0 right, 2 wrong, 0 lost");
    });
}

#[test]
fn a_thousand_probes_of_another_echo_server_are_right() {
    if !available(&["ncat"]) {
        return;
    }
    let addr = private_addr(7007);
    let mut ncat = Command::new("ncat")
        .args(["-4", "-l", "-k", "-m", "100", "-e", "/bin/cat"])
        .args([addr.ip().to_string(), addr.port().to_string()])
        .spawn()
        .unwrap();
    crate::support::eventually("ncat listens", || {
        std::net::TcpStream::connect(addr).is_ok()
    });
    let (code, lines) = run(addr, &["--count=1000", "--interval=0"]);
    ncat.kill().unwrap();
    ncat.wait().unwrap();
    assert_eq!(code, Some(0), "{:?}", lines.last());
    let summary = "1000 probes: 1000 sent, 1000 right, 0 wrong, 0 lost";
    assert_eq!(lines[1000], summary);
}

#[test]
fn an_interval_may_be_longer_than_the_clock_counts() {
    let daemon = Daemon::start(&[]);
    let longest = format!("--interval={}s", i64::MAX);
    let (code, lines) = run(daemon.addr, &["--count=1", &longest]);
    assert_eq!(code, Some(0), "{lines:?}");
}

#[test]
fn more_connections_than_descriptors_are_refused_at_once() {
    let daemon = Daemon::start(&[]);
    let output = probe(daemon.addr, &["--connections=4294967296"])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let what = "cannot hold 4294967296 connections: the limit on descriptors is ";
    assert!(stderr.contains(what), "{stderr}");
}

#[test]
fn wrong_options_are_named_and_exit_with_2() {
    for (arg, cause) in [
        ("--size=0", "greater than 0"),
        ("--connections=0", "1 or more"),
        ("--timeout=0", "greater than 0"),
        ("--count=many", "expected a number"),
        ("--interval=often", "such as"),
        ("--listen=:7", "unexpected argument"),
    ] {
        let output = probe("127.0.0.1:7".parse().unwrap(), &[arg])
            // The variables are for the daemon alone.
            .env("ECHOD_LOG_FORMAT", "json")
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.starts_with("error: "), "{stderr}");
        let flag = arg.split('=').next().unwrap();
        assert!(stderr.contains(flag) && stderr.contains(cause), "{stderr}");
    }
}

#[test]
fn a_probe_ignores_the_variables_of_the_daemon() {
    let daemon = Daemon::start(&[]);
    let output = probe(daemon.addr, &[])
        .env("ECHOD_LISTEN", "nonsense")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
