//! The command line: what the daemon accepts, and its errors for everything else.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};

use crate::support::{Daemon, available, connect, exchange, finish, ping, skip};

/// Runs a daemon that must end by itself, without listening.
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
        (["--write-timeout", "-1s"], "--write-timeout", "such as"),
        (["--drain-timeout", "5"], "--drain-timeout", "such as"),
        (["--max-connections", "0"], "--max-connections", "1 or more"),
        (
            ["--max-connections", "many"],
            "--max-connections",
            "1 or more",
        ),
        (["--backlog", "0"], "--backlog", "1 or more"),
        (["--reactors", "1025"], "--reactors", "1 to 1024"),
        (["--listen", "7007"], "--listen", "127.0.0.1:7007"),
        (
            ["--listen", "127.1:7007"],
            "--listen",
            "not an IPv4 address",
        ),
        (["--service", "daytime=:+13"], "--service", "neither a port"),
        (["--listen", "::1:7007"], "--listen", "brackets"),
        (["--listen", "127.0.0.1:65536"], "--listen", "65535"),
        (["--listen", ":7007,*:7007"], "[::]:7007", "is given twice"),
        (
            ["--listen", "127.0.0.1:7,127.0.0.1:7"],
            "127.0.0.1:7",
            "is given twice",
        ),
        (
            ["--service", "time=127.0.0.1:7009,daytime=:7009"],
            "time at 127.0.0.1:7009",
            "daytime at :7009",
        ),
        (["--no-such-flag", "1"], "--no-such-flag", "unexpected"),
    ] {
        // Join flag and value with `=`, so that a negative value is not taken for a flag.
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
        // The valid address before the invalid one must not be listened on.
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
    // Drop the capability by which root may bind any port.
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
        return skip("binding a low port needs no permission on this machine");
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("cannot bind 127.0.0.1:7: Permission denied")
            && stderr.contains("ports below 1024 need root or the capability CAP_NET_BIND"),
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
fn a_malformed_variable_is_rejected_by_its_name() {
    let run = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = Daemon::command();
        let output = command.envs(variables.iter().copied()).args(args).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let later = ("ECHOD_DRAIN_TIMEOUT", "later");
    let said = run(&[], &[later]);
    let expected = "error: invalid value 'later' for 'ECHOD_DRAIN_TIMEOUT': expected a duration";
    assert!(said.starts_with(expected), "{said}");

    // A flag wins over its variable, so the error is about the flag.
    let said = run(&["--drain-timeout=soon"], &[later]);
    assert!(said.contains("'soon' for '--drain-timeout"), "{said}");

    // The error is in JSON if the format is JSON, whether by a flag or by a variable.
    let said = run(&[], &[later, ("ECHOD_LOG_FORMAT", "JSON")]);
    let expected =
        "{\"level\":\"ERROR\",\"message\":\"invalid value 'later' for 'ECHOD_DRAIN_TIMEOUT'";
    assert!(said.starts_with(expected), "{said}");
    let args = ["--backlog=0", "-q", "--log-format", "json"];
    let said = run(&args, &[]);
    assert!(said.starts_with("{\"level\":\"ERROR\""), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn an_empty_variable_counts_as_unset_and_booleans_have_several_spellings() {
    let daemon = Daemon::spawn(
        Daemon::command()
            .env("ECHOD_LISTEN", "127.0.0.1:0, 127.0.0.2:0")
            .env("ECHOD_IDLE_TIMEOUT", "")
            .env("ECHOD_SERVICE", "")
            .env("ECHOD_MAX_PER_SOURCE", "0")
            .env("ECHOD_WRITE_TIMEOUT", "0")
            .env("ECHOD_AT_LIMIT", "WAIT")
            .env("ECHOD_PRINT_ADDR", "off")
            .env("ECHOD_VERBOSE", "yes"),
    );
    assert_eq!(daemon.addrs.len(), 2);
    assert_eq!(exchange(daemon.addr, b"x"), b"x");
    daemon.wait_for_log("reason=eof");
    let log = daemon.stop().log;
    assert!(!log.contains("WARN"), "{log}");
}

#[test]
fn settings_without_effect_and_unknown_variables_are_warned_of_once() {
    let warnings = |command: &mut Command| {
        let log = Daemon::spawn(command).stop().log;
        let warnings = log.lines().filter_map(|line| line.split_once(" WARN ] "));
        warnings
            .map(|(_, text)| text.to_owned())
            .collect::<Vec<_>>()
    };
    let sysctl = |name: &str| -> u32 {
        let value = std::fs::read_to_string(format!("/proc/sys/net/core/{name}")).unwrap();
        value.trim().parse().unwrap()
    };
    let somaxconn = sysctl("somaxconn");
    let buffer = sysctl("rmem_max").min(sysctl("wmem_max"));
    let mut command = Daemon::command();
    command
        .args(["--listen=127.0.0.1:0", "--busy-poll=1s"])
        .env("ECHOD_BACKLOG", (somaxconn + 1).to_string())
        .env("ECHOD_SOCKET_BUFFERS", (buffer + 1).to_string())
        .env("ECHOD_LISTN", ":7")
        .env("ECHOD_PORT", "tcp://10.0.0.1:7")
        .env("ECHOD_SERVICE_HOST", "10.0.0.1");
    assert_eq!(
        warnings(&mut command),
        [
            "unknown variable ECHOD_LISTN is ignored; did you mean ECHOD_LISTEN?".to_owned(),
            format!(
                "ECHOD_BACKLOG is {}, but the kernel takes at most {somaxconn} (net.core.somaxconn)",
                somaxconn + 1
            ),
            format!(
                "ECHOD_SOCKET_BUFFERS is {} bytes, but the kernel takes at most {buffer} (net.core.rmem_max, \
                 net.core.wmem_max)",
                buffer + 1
            ),
            "--busy-poll is 1s, above the maximum of 20ms, which is used instead".to_owned(),
        ]
    );

    // A listener that was passed on standard input, as inetd does.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut child = Daemon::command()
        .args(["--listen=127.0.0.1:0", "--backlog=9"])
        .stdin(OwnedFd::from(listener))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(exchange(addr, b"here"), b"here");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(finish(&mut child).success());
    let mut log = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut log)
        .unwrap();
    for expected in [
        "WARN ] --listen has no effect: the sockets that were passed to echod take its place\n",
        "WARN ] --backlog has no effect on sockets that were passed to echod\n",
    ] {
        assert!(log.contains(expected), "{log}");
    }
}

#[test]
fn addresses_that_one_socket_covers_are_listened_on_once() {
    // A reserved port: no other program gets it meanwhile, but the daemon can still listen on it.
    let reserved = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    reserved.set_only_v6(false).unwrap();
    reserved.set_reuse_address(true).unwrap();
    let any: SocketAddr = "[::]:0".parse().unwrap();
    reserved.bind(&any.into()).unwrap();
    let port = reserved.local_addr().unwrap().as_socket().unwrap().port();
    for listen in [
        format!("[::]:{port},0.0.0.0:{port}"),
        format!("0.0.0.0:{port},[::]:{port}"),
        format!(":{port},127.0.0.1:{port}"),
        format!("127.0.0.1:{port},[::1]:{port},*:{port}"),
    ] {
        let daemon = Daemon::spawn(Daemon::command().args(["--listen", &listen]));
        assert_eq!(daemon.addrs.len(), 1, "{listen}");
        for ip in ["127.0.0.1", "[::1]"] {
            let addr: SocketAddr = format!("{ip}:{port}").parse().unwrap();
            assert_eq!(exchange(addr, b"here"), b"here");
        }
        assert_eq!(daemon.stop().code, Some(0));
    }
}

#[test]
fn a_help_that_cannot_be_printed_is_a_failure() {
    for arg in ["--help", "-h", "--version"] {
        let output = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$1\" >/dev/full"])
            .args([env!("CARGO_BIN_EXE_echod"), arg])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(
            stderr.starts_with("echod: cannot print to standard output: No space"),
            "{stderr}"
        );
    }
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
        // The variable names the stream of standard error, as it does under systemd.
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
fn services_for_operators_do_not_double_the_descriptors_that_connections_need() {
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 400; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_echod"))
        .args(["--listen=127.0.0.1:0", "--max-connections=150"])
        .arg("--service=metrics=127.0.0.1:0");
    let daemon = Daemon::spawn(&mut command);
    let log = daemon.stop().log;
    assert!(!log.contains("WARN"), "{log}");
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
        // This is more than the soft limit was.
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
    // Standard error is closed.
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "exec \"$0\" -v --listen 127.0.0.1:0 --print-addr 2>&-",
    ]);
    let daemon = Daemon::spawn(command.arg(env!("CARGO_BIN_EXE_echod")));
    assert_eq!(exchange(daemon.addr, b"x"), b"x");
    assert_eq!(daemon.stop().code, Some(0));

    // Standard output is closed.
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
