//! The examples, run as a student runs them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use socketserver::EchoHandler;

use crate::support::{
    Daemon, TestServer, connect, eventually, example, exchange, finish, noise, reserve_addr, skip,
};

/// The documented address of the examples and of the daemon.
const ADDR: &str = "127.0.0.1:7007";

struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("a server on port 7007", || TcpStream::connect(ADDR).is_ok());
        Self(child)
    }

    /// Stop by SIGTERM, because some shells start background jobs with SIGINT ignored.
    fn end(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        finish(&mut self.0);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the servers that use the documented address, one after another.
#[test]
fn servers_at_the_documented_address_do_what_they_say() {
    if let Err(error) = TcpListener::bind(ADDR) {
        return skip(&format!("{ADDR} is not free: {error}"));
    }
    let addr: SocketAddr = ADDR.parse().unwrap();

    let daemon = Running::start(Daemon::command());
    assert_eq!(exchange(addr, b"hello\n"), b"hello\n");
    daemon.end();

    let server = Running::start(example("echo"));
    assert_eq!(exchange(addr, b"hello\n"), b"hello\n");
    server.end();

    let server = Running::start(example("echo_by_hand"));
    let more_than_its_buffer = noise(7, 5000);
    assert_eq!(exchange(addr, &more_than_its_buffer), more_than_its_buffer);
    server.end();

    let server = Running::start(example("greeter"));
    assert_eq!(exchange(addr, b"ann\n"), b"Hello, ann!\n");
    let endless = String::from_utf8(exchange(addr, &[b'a'; 1000])).unwrap();
    assert_eq!(endless, format!("Hello, {}!\n", "a".repeat(100)));
    server.end();

    let server = Running::start(example("custom_handler"));
    let mut adder = BufReader::new(connect(addr));
    let greeting = format!(
        "Hello {}, type numbers.\n",
        adder.get_ref().local_addr().unwrap()
    );
    assert_eq!(line(&mut adder), greeting);
    adder.get_mut().write_all(b"40\n2\n").unwrap();
    assert_eq!(line(&mut adder), "= 40\n");
    assert_eq!(line(&mut adder), "= 42\n");
    adder.get_mut().write_all(b"two\n\n").unwrap();
    let mut rest = String::new();
    adder.read_to_string(&mut rest).unwrap();
    assert_eq!(
        rest,
        "invalid digit found in string\n= 42\nYour sum is 42. Bye!\n"
    );
    let all = adds_up(b"caf\xe9\n40\n\n", addr);
    assert!(all.ends_with("Your sum is 40. Bye!\n"), "{all}");
    // This is as long as a line may be, and leaves no input unread, which would cause a reset.
    let all = adds_up(&[b'1'; 1000], addr);
    assert!(all.ends_with("numbers.\nYour sum is 0. Bye!\n"), "{all}");
    server.end();

    let server = Running::start(example("shared_state"));
    let empty = "--- guest book ---\n\n--- your turn ---\n";
    let first = connect(addr);
    let from = first.local_addr().unwrap();
    (&first).write_all("nice place\n".as_bytes()).unwrap();
    first.shutdown(Shutdown::Write).unwrap();
    let mut seen = String::new();
    (&first).read_to_string(&mut seen).unwrap();
    assert_eq!(seen, empty);
    let seen = String::from_utf8(exchange(addr, b"")).unwrap();
    assert_eq!(
        seen,
        empty.replace("\n\n", &format!("\n{from}: nice place\n"))
    );
    exchange(addr, &b"\x1b[2JGr\xfc\xdfe\r\n".repeat(200));
    let seen = String::from_utf8(exchange(addr, b"")).unwrap();
    assert_eq!(seen.matches(r": \x1b[2JGr\xfc\xdfe").count(), 100, "{seen}");
    assert!(!seen.contains(['\x1b', '\r']), "{seen}");
    server.end();
}

fn adds_up(lines: &[u8], addr: SocketAddr) -> String {
    String::from_utf8(exchange(addr, lines)).unwrap()
}

fn line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line
}

#[test]
fn the_readme_shows_the_example_as_it_is() {
    let example = include_str!("../../examples/greeter.rs");
    let code = &example[example.find("use ").unwrap()..];
    assert!(include_str!("../../README.md").contains(code));
}

fn client(args: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = example("client").args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn the_client_prints_the_reply() {
    let server = TestServer::start(EchoHandler::new);
    let name = format!("localhost:{}", server.addr.port());
    let (code, stdout, stderr) = client(&[&name, "hello, world"]);
    assert_eq!((code, &*stdout, &*stderr), (Some(0), "hello, world\n", ""));
}

#[test]
fn the_client_says_what_is_wrong() {
    let (_reserved, addr) = reserve_addr();
    for (server, words) in [
        (&*addr.to_string(), "is the server running?"),
        ("no-such-host.invalid:7", "failed to lookup address"),
        ("localhost", "HOST:PORT"),
    ] {
        let (code, stdout, stderr) = client(&[server]);
        assert_eq!((code, &*stdout), (Some(1), ""));
        assert!(
            stderr.starts_with(server) && stderr.contains(words),
            "{stderr}"
        );
        assert_eq!(stderr.lines().count(), 1);
    }
}

#[test]
fn two_hundred_held_connections_echo_and_end_cleanly() {
    let output = example("hold")
        .args(["--connections", "200", "--for", "100ms"])
        .output()
        .unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{table}{:?}", output.stderr);
    let value = |name: &str| {
        let row = table
            .lines()
            .find(|row| row.starts_with(&format!("| {name}")));
        let row = row.unwrap_or_else(|| panic!("no {name} in {table}"));
        row.split('|').nth(2).unwrap().trim()
    };
    for number in [
        "connected, s",
        "echoed at start, s",
        "resident before, kB",
        "resident while held, kB",
        "CPU while held, s",
        "threads at rest",
        "threads at peak",
        "echoed at end, s",
        "stopped while connected, s",
    ] {
        assert!(value(number).parse::<f64>().is_ok(), "{number}: {table}");
    }
    let total = |name: &str| value(&format!("server's total: {name}"));
    assert_eq!(total("connections"), "200");
    assert_eq!(total("bytes_in"), total("bytes_out"));
}

#[test]
fn more_connections_than_descriptors_are_not_tried() {
    let output = example("hold")
        .args(["--connections", &u32::MAX.to_string()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("connections do not fit"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1);
}
