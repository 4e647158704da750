//! `echod probe`: its output and its exit code for servers of every kind.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use socket2::SockRef;
use socketserver::from_fn;

use crate::support::{
    Daemon, TIMEOUT, TestServer, available, connect, finish, ping, read_to_end, reserve_addr, skip,
};

/// Runs a probe. Returns the exit code, standard output and standard error.
fn probe(target: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Daemon::command();
    let Output {
        status,
        stdout,
        stderr,
    } = command.args(["probe", target]).args(args).output().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
    (status.code(), stdout, stderr)
}

/// Expects the exit code `code`, and one line with the cause.
fn fails(target: &str, args: &[&str], code: i32, what: &str, cause: &str) {
    let (status, stdout, stderr) = probe(target, args);
    assert_eq!(status, Some(code), "{target}: {stderr}");
    assert_eq!(stdout, "");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with(&format!("echod: {what}: ")), "{stderr}");
    assert!(stderr.contains(cause), "{stderr}");
}

/// Expects that the probe finds the echo from `addr` wrong.
fn is_wrong(addr: SocketAddr, cause: &str) {
    fails(
        &addr.to_string(),
        &[],
        7,
        &format!("no echo from {addr}"),
        cause,
    );
}

#[test]
fn an_echo_is_found_by_every_form_of_its_address() {
    let daemon = Daemon::start(&[]);
    let port = daemon.addr.port();
    // If IPv6 comes first, nothing listens there, and the probe must try the next address.
    for host in ["127.0.0.1", "localhost", "", "0.0.0.0"] {
        let (code, stdout, stderr) = probe(&format!("{host}:{port}"), &[]);
        assert_eq!(code, Some(0), "{host}: {stderr}");
        assert_eq!(stderr, "");
        let found = format!(":{port} echoes 1024 bytes: connect ");
        assert!(stdout.contains(&found), "{stdout}");
        assert!(stdout.ends_with(" ms\n"), "{stdout}");
        assert_eq!(stdout.lines().count(), 1);
    }
    let log = daemon.stop().log;
    assert_eq!(
        log.matches("bytes_in=1024 bytes_out=1024").count(),
        4,
        "{log}"
    );
}

#[test]
fn an_echo_on_ipv6_is_found() {
    let daemon = Daemon::spawn(Daemon::command().args(["--listen", "[::1]:0"]));
    let port = daemon.addr.port();
    for host in ["[::1]", ""] {
        let (code, stdout, stderr) = probe(&format!("{host}:{port}"), &[]);
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stdout.starts_with(&format!("[::1]:{port} echoes 1024 bytes: ")));
    }
}

#[test]
fn an_unknown_name_or_service_exits_with_3() {
    let what = "cannot resolve does-not-exist.invalid:7";
    fails("does-not-exist.invalid:7", &[], 3, what, "");
    let what = "cannot resolve :no-such-service";
    fails(":no-such-service", &[], 3, what, "no TCP service");
}

#[test]
fn a_closed_port_exits_with_4() {
    let (_reserved, addr) = reserve_addr();
    let what = format!("cannot connect to {addr}");
    fails(&addr.to_string(), &[], 4, &what, "connection refused");
}

#[test]
fn a_listener_that_never_answers_exits_with_5() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let what = format!("no echo from {addr}");
    fails(
        &addr.to_string(),
        &["--timeout=500ms"],
        5,
        &what,
        "timed out",
    );
}

#[test]
fn an_address_that_drops_syns_exits_with_5() {
    // The kernel drops SYNs to a listener whose backlog is full.
    let (listener, addr) = reserve_addr();
    listener.listen(0).unwrap();
    let mut queued = Vec::new();
    while let Ok(client) = TcpStream::connect_timeout(&addr, Duration::from_millis(200)) {
        queued.push(client);
        assert!(queued.len() < 100, "it takes any number");
    }
    let what = format!("cannot connect to {addr}");
    fails(
        &addr.to_string(),
        &["--timeout=200ms"],
        5,
        &what,
        "timed out",
    );
}

#[test]
fn the_timeout_is_for_all_bytes_together() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (over, is_over) = mpsc::channel::<()>();
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            // The server sends a byte at a time until the probe ends. The whole echo would take minutes.
            let pace = Duration::from_millis(200);
            while is_over.recv_timeout(pace) == Err(RecvTimeoutError::Timeout) {
                let mut byte = [0];
                // These fail after the probe has given up.
                let _ = client.read_exact(&mut byte);
                let _ = client.write_all(&byte);
            }
        });
        let what = format!("no echo from {addr}");
        let args = ["--timeout=1s"];
        fails(&addr.to_string(), &args, 5, &what, "timed out");
        drop(over);
    });
    assert!(start.elapsed() < TIMEOUT);
}

#[test]
fn a_reset_exits_with_6() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut client, _) = listener.accept().unwrap();
            client.read_exact(&mut [0; 100]).unwrap();
            SockRef::from(&client).set_linger(Some(Duration::ZERO))
        });
        let what = format!("no echo from {addr}");
        fails(&addr.to_string(), &[], 6, &what, "connection reset");
    });
}

/// Expects this error for a server whose answer is not the echo.
fn answer_is_wrong(answer: fn(&mut Vec<u8>), cause: &str) {
    let server = TestServer::start(from_fn(move |conn| {
        let mut bytes = vec![0; 1024];
        conn.read_exact(&mut bytes)?;
        answer(&mut bytes);
        conn.write_all(&bytes)
    }));
    is_wrong(server.addr, cause);
}

#[test]
fn wrong_extra_or_missing_bytes_exit_with_7() {
    answer_is_wrong(|bytes| bytes[1023] ^= 1, "other bytes came back");
    answer_is_wrong(|bytes| bytes.push(0), "more than 1024 bytes came back");
    answer_is_wrong(|bytes| bytes.truncate(1023), "ended after 1023 of 1024");
}

#[test]
fn a_server_that_sends_first_exits_with_7_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let greeter = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.write_all(b"220 ready\r\n").unwrap();
        client
    });
    is_wrong(addr, "other bytes came back");
    // The connection is open until here.
    drop(greeter.join().unwrap());
}

#[test]
fn a_server_that_rejects_at_its_limit_exits_with_7() {
    let daemon = Daemon::start(&["--max-connections=1", "--at-limit=reject"]);
    let inside = connect(daemon.addr);
    ping(&inside, b"x");
    is_wrong(daemon.addr, "ended after 0 of 1024 bytes");
}

#[test]
fn an_echo_behind_a_forwarder_that_takes_a_half_close_for_a_close_is_found() {
    let daemon = Daemon::start(&[]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (client, _) = listener.accept().unwrap();
            let echo = connect(daemon.addr);
            thread::scope(|scope| {
                scope.spawn(|| io::copy(&mut &echo, &mut &client));
                // On a half-close, this forwarder drops what the server has not sent yet, as some forwarders
                // do.
                io::copy(&mut &client, &mut &echo).unwrap();
                echo.shutdown(Shutdown::Both).unwrap();
            });
        });
        let (code, stdout, stderr) = probe(&addr, &[]);
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stdout.contains(" echoes 1024 bytes: "), "{stdout}");
    });
}

#[test]
fn a_refusal_is_reported_rather_than_an_address_that_this_machine_cannot_use() {
    if !available(&["unshare", "ip"]) {
        return;
    }
    if !geteuid().is_root() {
        return skip("it takes root to make a network without IPv6");
    }
    // The name has two addresses. The one that can't be used comes last.
    let script = "ip link set lo up && \
                  echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 && \
                  printf '127.0.0.1 both\n::1 both\n' >\"$1\" && \
                  mount --bind \"$1\" /etc/hosts && \
                  exec \"$0\" probe both:7007";
    let hosts = std::env::temp_dir().join(format!("hosts-{}", std::process::id()));
    let output = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", script])
        .arg(env!("CARGO_BIN_EXE_echod"))
        .arg(&hosts)
        .output()
        .unwrap();
    let _ = std::fs::remove_file(&hosts);
    let stderr = String::from_utf8(output.stderr).unwrap();
    let expected = "echod: cannot connect to 127.0.0.1:7007: connection refused\n";
    assert_eq!(stderr, expected);
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn a_malformed_address_exits_with_2() {
    for args in [["7007"], ["::1:7007"]] {
        let (code, _, stderr) = probe(args[0], &[]);
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains("<ADDR>"), "{stderr}");
    }
    let (code, _, stderr) = probe(":7", &["--timeout=0"]);
    assert_eq!(code, Some(2), "{stderr}");
}

#[test]
fn a_probe_ignores_the_settings_of_the_daemon() {
    let daemon = Daemon::start(&[]);
    // The health check of a container has the environment variables of the daemon.
    let output = Daemon::command()
        .env("ECHOD_LISTEN", daemon.addr.to_string())
        .env("ECHOD_PRINT_ADDR", "true")
        .env("ECHOD_VERBOSE", "2")
        .args(["probe", &daemon.addr.to_string()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
}

#[test]
fn a_probe_answers_the_connection_it_is_started_on() {
    let daemon = Daemon::start(&[]);
    // xinetd starts the probe like this for a load balancer that checks by connecting.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = connect(listener.local_addr().unwrap());
    let (server, _) = listener.accept().unwrap();
    let mut probing = Daemon::command()
        .args(["probe", &daemon.addr.to_string()])
        .stdin(OwnedFd::from(server.try_clone().unwrap()))
        .stdout(OwnedFd::from(server))
        .spawn()
        .unwrap();
    assert!(finish(&mut probing).success());
    let answer = String::from_utf8(read_to_end(&client).unwrap()).unwrap();
    assert!(answer.contains(" echoes 1024 bytes: "), "{answer:?}");
}

#[test]
fn a_probe_that_is_stopped_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let mut probing = Daemon::command()
        .args(["probe", &addr, "--timeout=1h"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    // The probe has connected.
    let _client = listener.accept().unwrap();
    kill_process(Pid::from_child(&probing), Signal::TERM).unwrap();
    assert!(!finish(&mut probing).success());
}

#[test]
fn a_probe_whose_result_can_not_be_printed_fails() {
    let daemon = Daemon::start(&[]);
    let output = Command::new("sh")
        .args(["-c", "exec \"$0\" probe \"$1\" >/dev/full"])
        .args([env!("CARGO_BIN_EXE_echod"), &daemon.addr.to_string()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot print"));
}

#[test]
fn a_socket_that_is_connected_to_itself_is_no_echo() {
    if !available(&["unshare", "ip"]) {
        return;
    }
    if !geteuid().is_root() {
        return skip("it takes root to make a network in which it must happen");
    }
    // The only free port for the client is the port that it connects to.
    let script = "ip link set lo up && \
                  echo 7007 7007 >/proc/sys/net/ipv4/ip_local_port_range && \
                  exec \"$0\" probe 127.0.0.1:7007";
    let output = Command::new("unshare")
        .args(["--net", "sh", "-c", script, env!("CARGO_BIN_EXE_echod")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
}
