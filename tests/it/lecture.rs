//! The examples of the lecture, run against the project's own servers, with input as a student types it.

mod addresses;
mod hostile;
mod output;
mod peer;
/// The functions that the examples share, to test them without a process.
#[path = "../../examples/support/mod.rs"]
mod shared;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;

use rustix::process::Signal;
use socketserver::from_fn;

use crate::support::{Daemon, Session, TestServer, example, noise, private_addr, skip};

/// Runs an example without input. Returns the exit code and the output.
fn run(name: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let ended = Session::start(example(name).args(args)).leaves();
    let stdout = String::from_utf8(ended.stdout).unwrap();
    (ended.code, stdout, ended.stderr)
}

fn no_services() -> bool {
    let missing = !Path::new("/etc/services").exists();
    if missing {
        skip("/etc/services does not exist");
    }
    missing
}

#[test]
fn every_example_is_on_the_page_of_the_lecture() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let page = fs::read_to_string(folder.join("README.md")).unwrap();
    let mut examples = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() || path.extension().is_some_and(|end| end == "rs") {
            assert!(page.contains(&format!("]({name})")), "no link to {name}");
            examples += 1;
        }
    }
    assert!(examples > 8);
}

#[test]
fn a_url_is_taken_apart_and_its_port_looked_up() {
    if no_services() {
        return;
    }
    for (url, shown) in [
        ("http://127.0.0.1/", "http 127.0.0.1 80* 127.0.0.1:80"),
        ("HTTPS://127.0.0.1", "https 127.0.0.1 443* 127.0.0.1:443"),
        ("echo://127.0.0.1:/", "echo 127.0.0.1 7* 127.0.0.1:7"),
        ("any://127.0.0.1:9", "any 127.0.0.1 9 127.0.0.1:9"),
        ("ssh://me@[::1]:2022/", "ssh [::1] 2022 [::1]:2022"),
    ] {
        let (code, stdout, stderr) = run("url", &[url]);
        assert_eq!((code, &*stderr), (Some(0), ""));
        let values: Vec<_> = stdout.lines().map(|line| &line[9..]).collect();
        let values = values.join(" ").replace(", the well-known one", "*");
        assert_eq!(values, shown);
    }
}

#[test]
fn the_page_shows_what_the_url_example_prints() {
    if no_services() {
        return;
    }
    let page = include_str!("../../examples/README.md");
    for url in ["echo://127.0.0.1", "http://[::1]:8080/"] {
        let (_, stdout, _) = run("url", &[url]);
        let transcript = format!("$ cargo run --example url -- {url}\n{stdout}```\n");
        assert!(page.contains(&transcript), "{transcript}");
    }
}

#[test]
fn the_addresses_of_a_name_come_in_the_resolvers_order() {
    let (code, stdout, _) = run("url", &["http://localhost:7007/"]);
    assert_eq!(code, Some(0));
    let shown: Vec<SocketAddr> = stdout
        .lines()
        .filter_map(|line| line.strip_prefix("address  "))
        .map(|addr| addr.parse().unwrap())
        .collect();
    let mut resolved: Vec<_> = "localhost:7007".to_socket_addrs().unwrap().collect();
    resolved.dedup();
    assert_eq!(shown, resolved);
}

#[test]
fn what_is_wrong_with_a_url_is_said_in_one_line() {
    for (url, words) in [
        ("www.example.org", "not a URL of the form SCHEME://HOST"),
        ("http://two words/", "not a URL of the form SCHEME://HOST"),
        ("", "not a URL of the form SCHEME://HOST"),
        ("localhost:7007", "names no host"),
        ("mailto:somebody@example.org", "names no host"),
        ("file:///etc/hosts", "names no host"),
        ("nonsense://127.0.0.1/", "no TCP service is named"),
        ("http://127.0.0.1:65536/", "up to 65535"),
        ("http://no-such-host.invalid:80/", "failed to lookup"),
        ("http://[v7.x]:80/", "not supported"),
        ("http://*:80/", "neither a name nor an IP address"),
        ("http://%2A:80/", "neither a name nor an IP address"),
        ("http://0x7f.1:80/", "neither a name nor an IP address"),
    ] {
        let (code, stdout, stderr) = run("url", &[url]);
        assert_eq!(code, Some(1), "{url}");
        assert!(!stdout.contains("address"), "{stdout}");
        assert!(
            stderr.starts_with(&format!("{url}: ")) && stderr.contains(words),
            "{stderr}"
        );
        assert_eq!(stderr.lines().count(), 1);
    }
    let (code, stdout, stderr) = run("url", &[]);
    assert_eq!((code, &*stdout), (Some(2), ""));
    assert!(stderr.starts_with("usage: "));
}

#[test]
fn the_ports_that_are_listened_on_are_listed() {
    let daemon = Daemon::start(&[]);
    let port = daemon.addr.port();
    let ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0));
    let (code, stdout, stderr) = run("ports", &["--all"]);
    assert_eq!((code, &*stderr), (Some(0), ""));
    assert!(has_row(&stdout, port, "127.0.0.1"), "{stdout}");
    if let Ok(ipv6) = ipv6 {
        let port = ipv6.local_addr().unwrap().port();
        assert!(has_row(&stdout, port, "::1"), "{stdout}");
    }
    assert_eq!(daemon.stop().code, Some(0));
}

fn has_row(table: &str, port: u16, host: &str) -> bool {
    table.lines().any(|row| {
        let cells: Vec<_> = row.split_whitespace().collect();
        cells[0] == port.to_string() && cells[2] == host
    })
}

#[test]
fn well_known_ports_are_listed_with_what_they_are_for() {
    let addr = private_addr(7).to_string();
    if no_services() {
        return;
    }
    if let Err(error) = TcpListener::bind(&addr) {
        return skip(&format!("cannot listen on {addr}: {error}"));
    }
    let other = Daemon::start(&[]);
    let daemon = Daemon::start(&["--listen", &addr]);
    let (code, stdout, stderr) = run("ports", &[]);
    assert_eq!((code, &*stderr), (Some(0), ""));
    let host = addr.trim_end_matches(":7");
    let row = format!("7      echo          {host:<16} sends back what it receives");
    assert!(stdout.lines().any(|line| line == row), "{stdout}");
    assert!(!stdout.contains(&other.addr.port().to_string()));
    assert_eq!(daemon.stop().code, Some(0));
    assert_eq!(other.stop().code, Some(0));
    assert_eq!(run("ports", &["--every"]).0, Some(2));
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
    // This is more than the socket buffers on the way can hold, and has no newline at its end.
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
        assert!(ended.stdout == input, "the output differs");
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
        // The client must notice it without more input.
        let addr = daemon.addr;
        let ended = client.ends();
        assert_eq!(ended.code, Some(1));
        let last = ended.stderr.lines().last().unwrap().to_owned();
        assert_eq!(last, format!("{addr}: the server hung up"));
        daemon.wait();
    }
}

#[test]
fn the_echo_client_reports_a_server_that_does_not_echo() {
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

    let (code, stdout, stderr) = run("echo_client", &[&private_addr(9).to_string()]);
    assert_eq!((code, &*stdout), (Some(1), ""));
    assert!(stderr.contains("refused"), "{stderr}");
    assert_eq!(run("echo_client", &["localhost"]).0, Some(1));
}
