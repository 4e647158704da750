//! Servers that send too much, too slowly, or control characters for a terminal.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use socketserver::{ChargenHandler, Connection, EchoHandler, from_fn};

use super::{run, shared};
use crate::support::{Session, TIMEOUT, TestServer, available, example};

#[test]
fn control_characters_are_escaped_and_text_is_kept() {
    for (bytes, shown) in [
        (
            &b"two\tcells\nand a line\r\n"[..],
            "two\tcells\nand a line\n",
        ),
        (
            "Grüße, 世界, 'quoted\\'".as_bytes(),
            "Grüße, 世界, 'quoted\\'",
        ),
        (b"\x1b[2J\x07\0\r\x7f", r"\x1b[2J\x07\x00\r\x7f"),
        // CSI as one character, and Latin-1.
        (b"\xc2\x9b31m Gr\xfc\xdfe", r"\xc2\x9b31m Gr\xfc\xdfe"),
    ] {
        assert_eq!(shared::printable(bytes), shown);
    }
}

#[test]
fn the_client_shows_control_characters_escaped() {
    let server = TestServer::start(from_fn(|conn| conn.write_all(b"\x1b[2Jh\xe9llo\r\nyou")));
    let (code, stdout, stderr) = run("client", &[&server.addr.to_string()]);
    assert_eq!((code, &*stderr), (Some(0), ""));
    assert_eq!(stdout, "\\x1b[2Jh\\xe9llo\nyou\n");
}

#[test]
fn the_client_gives_up_on_a_server_that_never_stops() {
    let server = TestServer::start(ChargenHandler::new);
    let (code, stdout, stderr) = run("client", &[&server.addr.to_string()]);
    assert_eq!((code, &*stdout), (Some(1), ""));
    let expected = format!(
        "{}: the server sends more than 1048576 bytes\n",
        server.addr
    );
    assert_eq!(stderr, expected);
}

/// A server that sends a byte now and then, so that no single read takes long.
fn dripping() -> TestServer {
    TestServer::start(from_fn(|conn: &mut Connection| {
        conn.read_exact(&mut [0])?;
        loop {
            conn.write_all(b"x")?;
            thread::park_timeout(Duration::from_millis(100));
        }
    }))
}

#[test]
fn clients_give_up_on_a_server_that_drips() {
    let server = dripping();
    let addr = server.addr.to_string();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (code, stdout, stderr) = run("client", &[&addr, "hello"]);
            assert_eq!((code, &*stdout), (Some(1), ""));
            assert_eq!(
                stderr,
                format!("{addr}: the answer did not end within 5s\n")
            );
        });
        scope.spawn(|| {
            let mut client = Session::start(example("echo_client").arg(&addr));
            // The bytes that the server sends are the echo of this one line.
            client.types("x".repeat(60_000) + "\n");
            let ended = client.ends();
            assert_eq!(ended.code, Some(1));
            assert!(
                ended.stderr.ends_with("not done within 5s\n"),
                "{}",
                ended.stderr
            );
            assert!(!ended.stdout.is_empty());
        });
    });
}

#[test]
fn a_case_ends_at_its_time_limit_even_if_the_echo_drips() {
    let server = TestServer::start(from_fn(|conn| {
        let mut byte = [0];
        while conn.read(&mut byte)? > 0 {
            conn.write_all(&byte)?;
            thread::park_timeout(Duration::from_millis(100));
        }
        Ok(())
    }));
    let start = Instant::now();
    let output = example("conformance")
        .args(["--only", "one byte", "--limit", "1s"])
        .arg(server.addr.to_string())
        .output()
        .unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{table}");
    assert!(table.contains("FAIL: not done within 1s"), "{table}");
    assert!(start.elapsed() < TIMEOUT);
}

#[test]
fn the_echo_client_gives_up_on_a_server_that_is_silent() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap().to_string();
    thread::scope(|scope| {
        // The server owes an echo, or end of file.
        for input in ["hello\n", ""] {
            let addr = &addr;
            scope.spawn(move || {
                let mut client = Session::start(example("echo_client").arg(addr));
                client.types(input);
                let ended = client.leaves();
                assert_eq!(ended.code, Some(1));
                assert!(
                    ended.stderr.ends_with("not done within 5s\n"),
                    "{}",
                    ended.stderr
                );
            });
        }
    });
}

#[test]
fn the_echo_client_shows_no_control_characters_on_a_terminal() {
    if !available(&["script"]) {
        return;
    }
    let server = TestServer::start(EchoHandler::new);
    let client = example("echo_client").get_program().to_owned();
    // `script` runs the client on a terminal.
    let command = format!(
        "printf '\\033[2Jhello\\n' | {} {}",
        client.display(),
        server.addr
    );
    let output = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains(r"\x1b[2Jhello"), "{shown:?}");
    assert!(!shown.contains('\x1b'), "{shown:?}");
}
