//! `--banner`: the line that the daemon sends before the echo.

use std::io::{BufRead, BufReader};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::process::Command;

use crate::support::{Daemon, connect, finish, noise, ping, read_to_end};

#[test]
fn the_banner_names_the_host_and_both_addresses_and_the_echo_follows() {
    let daemon = Daemon::start(&["--banner=%h at %l for %p, 100%%"]);
    let client = connect(daemon.addr);
    let peer = client.local_addr().unwrap();
    let mut line = String::new();
    let mut reader = BufReader::with_capacity(200, &client);
    reader.read_line(&mut line).unwrap();
    let host = Command::new("uname").arg("-n").output().unwrap().stdout;
    let host = String::from_utf8(host).unwrap();
    let expected = format!(
        "{} at {} for {peer}, 100%\r\n",
        host.trim_end(),
        daemon.addr
    );
    assert_eq!(line, expected);
    assert_eq!(reader.buffer(), b"");
    ping(&client, &noise(1, 100_000));
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&client).unwrap(), b"");
    let log = daemon.stop().log;
    let counts = format!("bytes_in=100000 bytes_out={}", 100_000 + line.len());
    assert!(log.contains(&counts), "{log}");
}

#[test]
fn the_banner_comes_from_the_variable_too_and_only_before_the_echo() {
    let daemon = Daemon::spawn(
        Daemon::command()
            .env("ECHOD_BANNER", "hello")
            .args(["--listen=127.0.0.1:0", "--service=discard=127.0.0.1:0"]),
    );
    let ended = |addr| {
        let client = connect(addr);
        client.shutdown(Shutdown::Write).unwrap();
        read_to_end(&client).unwrap()
    };
    assert_eq!(ended(daemon.addrs[0]), b"hello\r\n");
    assert_eq!(ended(daemon.addrs[1]), b"");
}

#[test]
fn a_connection_on_standard_input_gets_the_banner_too() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = connect(listener.local_addr().unwrap());
    let (server, _) = listener.accept().unwrap();
    let mut serving = Daemon::command()
        .args(["--banner=hello", "-q"])
        .stdin(OwnedFd::from(server))
        .spawn()
        .unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&client).unwrap(), b"hello\r\n");
    assert!(finish(&mut serving).success());
}

#[test]
fn an_unknown_placeholder_exits_with_2() {
    for (banner, cause) in [
        ("50 %", "% is unknown: expected %h, %l, %p, or %%"),
        ("%n", "%n is unknown"),
        ("two\nlines", "one line"),
    ] {
        let output = Daemon::command()
            .args(["--banner", banner])
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(
            stderr.contains("--banner") && stderr.contains(cause),
            "{stderr}"
        );
    }
}
