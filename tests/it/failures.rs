//! What happens if a handler or a hook fails, and what must not happen.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};

use socketserver::{Connection, EchoHandler, RequestHandler, TcpServer};

use crate::support::{TestServer, exchange};

/// Reports its steps, and fails in the step that the client names: `error` or `panic`, and where.
struct Scripted {
    script: String,
    steps: Sender<String>,
}

impl Scripted {
    fn step(&self, step: &str) -> io::Result<()> {
        self.steps.send(step.to_owned()).unwrap();
        match self.script.strip_suffix(step) {
            Some("error ") => Err(io::Error::other("scripted")),
            Some("panic ") => panic!("scripted"),
            _ => Ok(()),
        }
    }
}

impl RequestHandler for Scripted {
    fn setup(&mut self, conn: &mut Connection) -> io::Result<()> {
        conn.read_to_string(&mut self.script)?;
        self.step("setup")
    }

    fn handle(&mut self, _conn: &mut Connection) -> io::Result<()> {
        self.step("handle")
    }

    fn finish(&mut self, conn: &mut Connection) -> io::Result<()> {
        self.step("finish")?;
        conn.write_all(b"finished")
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.steps.send("drop".to_owned()).unwrap();
    }
}

/// Serves a client that sends `script`. Returns the reply, the steps and the failures.
fn play(script: &str) -> (String, Vec<String>, Vec<String>) {
    let (steps, seen_steps) = mpsc::channel();
    let (failures, seen_failures) = mpsc::channel();
    let server = TestServer::with(
        TcpServer::builder().handle_error(move |_, failure| {
            failures.send(failure.to_string()).unwrap();
        }),
        move || Scripted {
            script: String::new(),
            steps: steps.clone(),
        },
    );
    let reply = String::from_utf8(exchange(server.addr, script.as_bytes())).unwrap();
    // Whatever happened, the server still serves the next client.
    exchange(server.addr, b"");
    server.stop();
    let mut steps: Vec<_> = seen_steps.iter().collect();
    assert_eq!(
        steps.split_off(steps.len() - 4),
        ["setup", "handle", "finish", "drop"]
    );
    (reply, steps, seen_failures.iter().collect())
}

#[test]
fn a_handler_goes_through_setup_handle_and_finish() {
    let (reply, steps, failures) = play("");
    assert_eq!(reply, "finished");
    assert_eq!(steps, ["setup", "handle", "finish", "drop"]);
    assert!(failures.is_empty());
}

#[test]
fn finish_runs_after_an_error_or_a_panic_in_handle() {
    for (script, failure) in [
        ("error handle", "scripted"),
        ("panic handle", "panicked: scripted"),
    ] {
        let (reply, steps, failures) = play(script);
        assert_eq!(reply, "finished");
        assert_eq!(steps, ["setup", "handle", "finish", "drop"]);
        assert_eq!(failures, [failure]);
    }
}

#[test]
fn neither_handle_nor_finish_runs_when_setup_fails() {
    for (script, failure) in [
        ("error setup", "scripted"),
        ("panic setup", "panicked: scripted"),
    ] {
        let (reply, steps, failures) = play(script);
        assert_eq!(reply, "");
        assert_eq!(steps, ["setup", "drop"]);
        assert_eq!(failures, [failure]);
    }
}

#[test]
fn a_failing_finish_reaches_the_error_hook() {
    for (script, failure) in [
        ("error finish", "scripted"),
        ("panic finish", "panicked: scripted"),
    ] {
        let (reply, steps, failures) = play(script);
        assert_eq!(reply, "");
        assert_eq!(steps, ["setup", "handle", "finish", "drop"]);
        assert_eq!(failures, [failure]);
    }
}

#[test]
fn a_factory_that_panics_ends_its_connection_only() {
    let made = AtomicUsize::new(0);
    let server = TestServer::start(move || {
        assert!(
            made.fetch_add(1, Ordering::Relaxed) > 0,
            "the first one fails"
        );
        EchoHandler::new()
    });
    assert_eq!(exchange(server.addr, b""), b"");
    assert_eq!(exchange(server.addr, b"second"), b"second");
}

#[test]
fn a_handler_that_panics_when_dropped_ends_its_connection_only() {
    struct Bomb;
    impl RequestHandler for Bomb {
        fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
            conn.write_all(b"tick")
        }
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("boom");
        }
    }
    let server = TestServer::start(|| Bomb);
    for _ in 0..3 {
        assert_eq!(exchange(server.addr, b""), b"tick");
    }
    assert_eq!(server.stop().connections(), 3);
}

/// An error that panics when it is dropped.
#[derive(Debug)]
struct FragileError;

impl std::fmt::Display for FragileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("fragile")
    }
}

impl std::error::Error for FragileError {}

impl Drop for FragileError {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

/// Fails in every step that can fail.
struct FailsFragilely;

impl RequestHandler for FailsFragilely {
    fn handle(&mut self, _conn: &mut Connection) -> io::Result<()> {
        Err(io::Error::other(FragileError))
    }

    fn finish(&mut self, conn: &mut Connection) -> io::Result<()> {
        conn.write_all(b"finished")?;
        Err(io::Error::other(FragileError))
    }
}

#[test]
fn finish_runs_when_an_error_of_handle_panics_as_it_is_dropped() {
    let (failures, seen_failures) = mpsc::channel();
    let builder = || {
        let failures = failures.clone();
        TcpServer::builder().handle_error(move |_, failure| {
            failures.send(failure.to_string()).unwrap();
        })
    };
    let server = TestServer::with(builder(), || FailsFragilely);
    assert_eq!(exchange(server.addr, b""), b"finished");
    server.stop();

    let mut server = builder().bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr();
    let client = std::thread::spawn(move || exchange(addr, b""));
    let served = server.handle_request(|| FailsFragilely).unwrap();
    assert!(served.is_some());
    assert_eq!(client.join().unwrap(), b"finished");

    drop((server, failures));
    let each = ["fragile", "panicked: dropped"];
    assert_eq!(seen_failures.iter().collect::<Vec<_>>(), each.repeat(2 * 2));
}

#[test]
fn a_hook_that_panics_closes_its_connection_only() {
    let calls = AtomicUsize::new(0);
    let server = TestServer::with(
        TcpServer::builder()
            .verify_request(move |_| {
                assert!(
                    calls.fetch_add(1, Ordering::Relaxed) != 0,
                    "the first one fails"
                );
                true
            })
            .handle_error(|_, _| panic!("so does this")),
        EchoHandler::new,
    );
    assert_eq!(exchange(server.addr, b""), b"");
    assert_eq!(exchange(server.addr, b"second"), b"second");
}
