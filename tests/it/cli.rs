//! The command line: what it accepts, and what it says of what it doesn't.

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};

use crate::support::{Daemon, available, connect, exchange, ping, skip};

/// Runs a daemon that must end by itself, with nothing started.
fn fail(args: &[&str]) -> (Option<i32>, String) {
    let Output {
        status,
        stderr,
        stdout,
    } = Daemon::command().args(args).output().unwrap();
    assert!(stdout.is_empty());
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn bad_usage_names_the_flag_and_the_cause_and_exits_with_2() {
    for (args, flag, cause) in [
        (["--idle-timeout", "soon"], "--idle-timeout", "such as"),
        (
            ["--idle-timeout", "0s"],
            "--idle-timeout",
            "more than nothing",
        ),
        (["--write-timeout", "-1s"], "--write-timeout", "such as"),
        (["--drain-timeout", "5"], "--drain-timeout", "such as"),
        (["--max-connections", "0"], "--max-connections", "1 or more"),
        (
            ["--max-connections", "many"],
            "--max-connections",
            "1 or more",
        ),
        (["--backlog", "0"], "--backlog", "0 is not in 1"),
        (["--listen", "7007"], "--listen", "HOST:PORT"),
        (["--listen", "::1:7007"], "--listen", "brackets"),
        (["--listen", "127.0.0.1:65536"], "--listen", "65535"),
        (["--listen", ":7007,:7007"], ":7007", "already"),
        (
            ["--listen", "127.0.0.1:7,127.0.0.1:7"],
            "127.0.0.1:7",
            "already",
        ),
        (["--no-such-flag", "1"], "--no-such-flag", "unexpected"),
    ] {
        // The value with `=`, so that a negative one is not taken for a flag.
        let (code, stderr) = fail(&[&args.join("=")]);
        assert_eq!(code, Some(2), "{args:?}: {stderr}");
        assert!(
            stderr.contains(flag) && stderr.contains(cause),
            "{args:?}: {stderr}"
        );
    }
}

#[test]
fn a_start_that_fails_says_where_and_why_in_one_line_and_exits_with_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (addr, object, cause) in [
        (
            &*taken,
            format!("cannot bind {taken}"),
            "Address already in use",
        ),
        (
            "192.0.2.1:7007",
            "cannot bind 192.0.2.1:7007".into(),
            "Cannot assign",
        ),
        (
            "no-such-host.invalid:7",
            "cannot resolve no-such-host.invalid:7".into(),
            "",
        ),
        (
            "127.0.0.1:no-such-service",
            "cannot resolve 127.0.0.1:no-such-service".into(),
            "no TCP service is named",
        ),
    ] {
        // The good one before it must not be left half-started.
        let (code, stderr) = fail(&["-q", "--listen", "127.0.0.1:0", "--listen", addr]);
        assert_eq!(code, Some(1), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(
            stderr.starts_with(&format!("echod: {object}: ")),
            "{stderr}"
        );
        assert!(stderr.contains(cause), "{stderr}");
    }
}

#[test]
fn a_port_without_permission_is_named() {
    if !available(&["setpriv"]) {
        return;
    }
    // Without the one capability by which root may bind any port.
    let mut command = Command::new("setpriv");
    command
        .args([
            "--bounding-set=-net_bind_service",
            "--inh-caps=-net_bind_service",
        ])
        .args([env!("CARGO_BIN_EXE_echod"), "--listen", "127.0.0.1:7"]);
    if !rustix::process::geteuid().is_root() {
        command = Daemon::command();
        command.args(["--listen", "127.0.0.1:7"]);
    }
    let unprivileged = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if unprivileged.is_ok_and(|port| port.trim().parse::<u16>().unwrap() <= 7) {
        return skip("any port may be bound without permission here");
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("cannot bind 127.0.0.1:7: Permission denied"),
        "{stderr}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn help_answers_on_standard_output() {
    let output = Daemon::command().arg("--help").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    for word in [
        "--listen",
        "ECHOD_LISTEN",
        "127.0.0.1:7007",
        "SIGTERM",
        "Exit status",
        "RUST_LOG",
    ] {
        assert!(help.contains(word), "{word} is not in:\n{help}");
    }
    let version = Daemon::command().arg("--version").output().unwrap();
    let expected = format!("echod {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(version.stdout).unwrap(), expected);
}

#[test]
fn every_address_is_printed_on_its_own_line_and_then_standard_output_ends() {
    let daemon = Daemon::start(&["--listen", "[::1]:0", "--listen=127.0.0.2:0,127.0.0.3:0"]);
    let ips: Vec<_> = daemon
        .addrs
        .iter()
        .map(|addr| addr.ip().to_string())
        .collect();
    assert_eq!(ips, ["127.0.0.1", "::1", "127.0.0.2", "127.0.0.3"]);
    for &addr in &daemon.addrs {
        assert_eq!(exchange(addr, b"here"), b"here");
    }
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn no_host_means_every_address_of_both_families() {
    let daemon = Daemon::spawn(Daemon::command().args(["--listen", ":0"]));
    let port = daemon.addr.port();
    assert_eq!(daemon.addrs.len(), 1);
    for ip in ["127.0.0.1", "127.1.2.3", "[::1]"] {
        let addr: SocketAddr = format!("{ip}:{port}").parse().unwrap();
        assert_eq!(exchange(addr, b"here"), b"here");
    }
}

#[test]
fn variables_set_what_flags_set_and_flags_win() {
    let daemon = Daemon::spawn(
        Daemon::command()
            .env("ECHOD_LISTEN", "127.0.0.1:0,127.0.0.2:0")
            .env("ECHOD_MAX_CONNECTIONS", "9")
            .env("ECHOD_IDLE_TIMEOUT", "200ms")
            .env("ECHOD_VERBOSE", "1")
            .args(["--idle-timeout", "1h"])
            .args(["--max-connections", "1"]),
    );
    assert_eq!(daemon.addrs.len(), 2);
    let first = connect(daemon.addrs[1]);
    ping(&first, b"x");
    let _second = connect(daemon.addr);
    daemon.wait_for_log("limit of 1 connections reached");
    drop(first);
    daemon.wait_for_log("reason=eof");
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_malformed_variable_is_refused_like_its_flag() {
    let mut command = Daemon::command();
    let output = command
        .env("ECHOD_DRAIN_TIMEOUT", "later")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--drain-timeout"));
}

#[test]
fn rust_log_wins_over_v_and_q() {
    let daemon = Daemon::spawn(Daemon::command().env("RUST_LOG", "warn").args([
        "-vv",
        "--listen",
        "127.0.0.1:0",
    ]));
    exchange(daemon.addr, b"x");
    assert_eq!(daemon.stop().log, "");
}

#[test]
fn lines_have_a_time_and_a_level_unless_the_journal_has_its_own() {
    let start = |journal: bool| {
        // The stream that the variable names is standard error itself, as under systemd.
        let name = "JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2)";
        let script = if journal {
            format!("export {name}; ")
        } else {
            String::new()
        };
        let script = script + "exec \"$0\" --listen 127.0.0.1:0 --print-addr";
        let mut command = Command::new("sh");
        command
            .args(["-c", &script])
            .arg(env!("CARGO_BIN_EXE_echod"));
        Daemon::spawn(&mut command).stop().log
    };
    assert!(
        start(true).starts_with("<6>listening on"),
        "{}",
        start(true)
    );
    assert!(start(false).starts_with("[2"), "{}", start(false));
}

#[test]
fn a_limit_beyond_the_descriptors_is_warned_of_and_the_soft_limit_is_raised() {
    let start = |connections: &str| {
        let script = "ulimit -Sn 20; ulimit -Hn 300; exec \"$0\" \"$@\"";
        let mut command = Command::new("sh");
        command.args([
            "-c",
            script,
            env!("CARGO_BIN_EXE_echod"),
            "--listen",
            "127.0.0.1:0",
        ]);
        let daemon = Daemon::spawn(command.args(["--max-connections", connections]));
        // More than the soft limit was.
        let clients: Vec<_> = (0..50).map(|_| connect(daemon.addr)).collect();
        clients.iter().for_each(|client| ping(client, b"x"));
        drop(clients);
        daemon.stop().log
    };
    let fits = start("150");
    assert!(!fits.contains("WARN"), "{fits}");
    let exceeds = start("250");
    assert!(
        exceeds.contains("--max-connections 250 does not fit under the descriptor limit of 300"),
        "{exceeds}"
    );
}

#[test]
fn a_closed_standard_output_or_error_is_survived() {
    // Nobody reads the log.
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "exec \"$0\" -v --listen 127.0.0.1:0 --print-addr 2>&-",
    ]);
    let daemon = Daemon::spawn(command.arg(env!("CARGO_BIN_EXE_echod")));
    assert_eq!(exchange(daemon.addr, b"x"), b"x");
    assert_eq!(daemon.stop().code, Some(0));

    // Nobody reads the addresses.
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "exec \"$0\" -q --listen 127.0.0.1:0 --print-addr >/dev/full",
    ]);
    let output = command.arg(env!("CARGO_BIN_EXE_echod")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.starts_with("echod: cannot print to standard output: No space"),
        "{stderr}"
    );
}
