//! The examples of the lecture, on the project's own servers, typed into as a student does.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process;

use rustix::process::Signal;
use socketserver::from_fn;

use crate::support::{Daemon, Session, TestServer, example, noise};

/// Runs an example that asks for nothing.
fn run(name: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let ended = Session::start(example(name).args(args)).leaves();
    let stdout = String::from_utf8(ended.stdout).unwrap();
    (ended.code, stdout, ended.stderr)
}

/// An address on a part of the loopback network that this process has for itself.
fn private_addr(port: u16) -> String {
    let ip = Ipv4Addr::from(0x7f00_0000 | process::id());
    format!("{ip}:{port}")
}

fn echo_client(addr: SocketAddr) -> Session {
    let client = Session::start(example("echo_client").arg(addr.to_string()));
    client.stderr.wait_for(&format!("connected to {addr}\n"));
    client
}

#[test]
fn the_echo_client_shows_each_line_and_how_long_it_took() {
    let daemon = Daemon::start(&[]);
    let mut client = echo_client(daemon.addr);
    for line in ["hello\n", "\n", "world, for the second time\n"] {
        client.types(line);
        client.stdout.wait_for(line);
        client
            .stderr
            .wait_for(&format!("    {} bytes, ", line.len()));
    }
    let ended = client.leaves();
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.stdout, b"hello\n\nworld, for the second time\n");
    assert_eq!(ended.stderr.matches(" ms\n").count(), 3);
    let output = daemon.stop();
    assert!(output.log.contains("reason=eof"), "{}", output.log);
}

#[test]
fn the_echo_client_is_exact_with_any_bytes_and_any_length() {
    let daemon = Daemon::start(&[]);
    // More than the kernel holds on the way, and no newline at its end.
    let line: Vec<u8> = noise(1, 48 << 20);
    let line: Vec<u8> = line.into_iter().filter(|byte| *byte != b'\n').collect();
    let lines: Vec<u8> = (0..20_000)
        .flat_map(|n| format!("{n}\n").into_bytes())
        .collect();
    for input in [b"\xff\xfe\x00\n\x80".to_vec(), Vec::new(), lines, line] {
        let mut client = echo_client(daemon.addr);
        client.types(&input);
        let ended = client.leaves();
        assert_eq!((ended.code, ended.stdout.len()), (Some(0), input.len()));
        assert!(ended.stdout == input, "it showed something else");
    }
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn the_echo_client_says_at_once_that_the_server_is_gone() {
    for signal in [Signal::INT, Signal::KILL] {
        let daemon = Daemon::start(&[]);
        let mut client = echo_client(daemon.addr);
        client.types("hello\n");
        client.stderr.wait_for("    6 bytes, ");
        daemon.signal(signal);
        // Nobody types.
        let addr = daemon.addr;
        let ended = client.ends();
        assert_eq!(ended.code, Some(1));
        let last = ended.stderr.lines().last().unwrap().to_owned();
        assert_eq!(last, format!("{addr}: the server hung up"));
        daemon.wait();
    }
}

#[test]
fn the_echo_client_says_what_is_no_echo() {
    let greeter = TestServer::start(from_fn(|conn| conn.write_all(b"hello\n")));
    let client = Session::start(example("echo_client").arg(greeter.addr.to_string()));
    let ended = client.ends();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("no echo server"), "{}", ended.stderr);

    let half = TestServer::start(from_fn(|conn| {
        let mut some = [0; 3];
        conn.read_exact(&mut some)?;
        conn.write_all(&some)
    }));
    let mut client = echo_client(half.addr);
    client.types("hello\n");
    let ended = client.ends();
    assert_eq!((ended.code, &*ended.stdout), (Some(1), &b"hel"[..]));
    assert!(ended.stderr.contains("hung up"), "{}", ended.stderr);

    let (code, stdout, stderr) = run("echo_client", &[&private_addr(9)]);
    assert_eq!((code, &*stdout), (Some(1), ""));
    assert!(stderr.contains("refused"), "{stderr}");
    assert_eq!(run("echo_client", &["localhost"]).0, Some(1));
}
