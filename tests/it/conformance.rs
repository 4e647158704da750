//! The daemon passes the conformance suite, and servers that are not exact fail it.

use std::io::{self, Read, Write};
use std::process::Command;

use socketserver::{Connection, RequestHandler, from_fn};

use crate::support::{Daemon, TestServer, example, reserve_addr};

fn conformance(args: &[&str]) -> (Option<i32>, String) {
    let output = example("conformance").args(args).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), table)
}

#[test]
fn the_daemon_passes_every_case() {
    let daemon = Daemon::start(&[]);
    let (code, table) = conformance(&[&format!("echod={}", daemon.addr)]);
    assert!(table.contains("\n14 passed, 0 failed\n"), "{table}");
    assert!(table.starts_with("| case "), "{table}");
    assert_eq!(code, Some(0));
    assert_eq!(daemon.stop().code, Some(0));
}

/// Starts a server that sends back each piece of input after `damage` has changed it.
fn damaged(damage: fn(&mut Vec<u8>, u64)) -> TestServer {
    TestServer::start(from_fn(move |conn| {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let before = conn.bytes_in();
            let n = conn.read(&mut buffer)?;
            let mut piece = buffer[..n].to_vec();
            damage(&mut piece, before);
            conn.write_all(&piece)?;
            if n == 0 {
                return Ok(());
            }
        }
    }))
}

#[test]
fn a_server_that_loses_adds_or_changes_a_byte_fails() {
    let loses = damaged(|piece, before| {
        if before == 0 {
            piece.pop();
        }
    });
    let changes = damaged(|piece, _| piece.iter_mut().take(1).for_each(|byte| *byte ^= 1));
    let adds = damaged(|piece, _| {
        if piece.is_empty() {
            piece.push(b'!');
        }
    });
    for (server, case, verdict) in [
        // Which byte is missing depends on where the first piece ended.
        (loses, "half-close", "FAIL: "),
        (changes, "pipelined", "byte 0 is wrong"),
        (adds, "nothing", "more came back than was sent"),
    ] {
        let (code, table) = conformance(&["--only", case, &server.addr.to_string()]);
        assert_eq!(code, Some(1), "{table}");
        assert!(table.contains("\n0 passed, 1 failed\n"), "{table}");
        assert!(table.contains(verdict), "{table}");
    }
}

#[test]
fn a_server_that_ends_with_its_input_fails_the_half_close() {
    /// Some servers end their output as soon as their input ends, and lose what is still queued.
    struct Hasty;
    impl RequestHandler for Hasty {
        fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
            let mut all = Vec::new();
            conn.read_to_end(&mut all)?;
            conn.write_all(&all[..all.len() / 2])
        }
    }
    let server = TestServer::start(|| Hasty);
    let (code, table) = conformance(&["--only", "half-close", &server.addr.to_string()]);
    assert_eq!(code, Some(1));
    assert!(
        table.contains("FAIL: the end after 131072 bytes, 131072 missing"),
        "{table}"
    );
}

#[test]
fn a_missing_server_and_bad_usage_have_different_exit_codes() {
    let (_reserved, addr) = reserve_addr();
    let addr = addr.to_string();
    let (code, table) = conformance(&["--only", "nothing", &addr]);
    assert_eq!(code, Some(1));
    assert!(
        table.contains("FAIL: connect: Connection refused"),
        "{table}"
    );
    // If no case runs, nothing is proven, so this is an error.
    assert_eq!(conformance(&["--only", "no such case", &addr]).0, Some(2));
    assert_eq!(conformance(&[]).0, Some(2));
    assert_eq!(conformance(&["nowhere"]).0, Some(2));
}

#[test]
fn a_short_soak_finds_no_leak() {
    let mut soak: Command = example("soak");
    let output = soak
        .args(["--for", "5s", "--clients", "8"])
        .output()
        .unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert!(report.contains("cases run, none failed"), "{report}");
}
