//! Output that cannot be written: to a full disk, or to a closed pipe.

use std::fs::OpenOptions;
use std::io::{self, pipe};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;

use socketserver::{DaytimeHandler, EchoHandler};

use crate::support::{TestServer, example};

/// Runs `check` on every example that prints, with arguments that make it print soon.
fn each(check: impl Fn(&str, &mut Command) + Sync) {
    let echo = TestServer::start(EchoHandler::new);
    let daytime = TestServer::start(DaytimeHandler::new);
    let [echo, daytime] = [&echo, &daytime].map(|server| server.addr.to_string());
    thread::scope(|scope| {
        for (name, args) in [
            ("client", vec![&*echo]),
            ("echo_client", vec![&echo]),
            ("daytime", vec![&daytime]),
            ("url", vec!["http://127.0.0.1:80/"]),
            ("ports", vec!["--all"]),
            ("peer", vec!["ann", "127.0.0.1:0"]),
            ("conformance", vec!["--only", "nothing", &echo]),
            ("conformance", vec!["--help"]),
            ("hold", vec!["--connections", "1", "--for", "0s"]),
            ("hold", vec!["--help"]),
            // `soak` itself prints its report only after 11 s of waiting.
            ("soak", vec!["--serve"]),
            ("soak", vec!["--help"]),
        ] {
            let check = &check;
            scope.spawn(move || {
                let mut command = example(name);
                // `echo_client` gets a line to send, so that an echo comes back.
                let (input, mut typed) = pipe().unwrap();
                io::Write::write_all(&mut typed, b"hello\n").unwrap();
                drop(typed);
                check(name, command.args(args).stdin(input));
            });
        }
    });
}

/// Returns a socket without a reader: writing to it fails with EPIPE.
///
/// Dropping the reader of a pipe is not enough, because another thread may just start a child. The child has
/// a copy of the reader until it executes its program.
fn closed_pipe() -> OwnedFd {
    let (writer, _) = UnixStream::pair().unwrap();
    writer.shutdown(Shutdown::Write).unwrap();
    writer.into()
}

#[test]
fn a_closed_pipe_ends_every_example_without_a_word() {
    each(|name, command| {
        let writer = closed_pipe();
        let output = command
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}: {stderr}");
        let said = stderr
            .lines()
            .filter(|line| !line.starts_with("connected to"));
        assert_eq!(said.count(), 0, "{name}: {stderr}");
    });
}

#[test]
fn a_full_disk_is_named_in_one_line_by_every_example() {
    each(|name, command| {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = command.stdout(full).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}: {stderr}");
        let last = stderr.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("cannot print: No space left"),
            "{name}: {stderr}"
        );
        assert!(!stderr.contains("panicked"), "{name}: {stderr}");
    });
}

#[test]
fn an_example_that_can_print_nowhere_does_not_panic() {
    each(|name, command| {
        let writer = closed_pipe();
        let status = command
            .stdout(writer.try_clone().unwrap())
            .stderr(writer)
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(1), "{name}");
    });
}
