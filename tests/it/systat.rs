//! The list of connections: from the service `systat`, and in the log at SIGUSR1.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Daemon, available, connect, eventually, exchange, field, finish, ping};

/// Starts a daemon with systat, and returns the address of systat.
fn with_systat(args: &[&str]) -> (Daemon, SocketAddr) {
    let daemon = Daemon::start(&[&["--service=systat=127.0.0.1:0"], args].concat());
    let addr = *daemon.addrs.last().unwrap();
    (daemon, addr)
}

/// Opens `count` connections to the echo, exchanges this many bytes on each, and waits until none needs a
/// thread.
fn fill(addr: SocketAddr, count: usize, bytes: usize) -> Vec<TcpStream> {
    let message = vec![b'x'; bytes];
    let clients: Vec<_> = (0..count).map(|_| connect(addr)).collect();
    clients.iter().for_each(|client| ping(client, &message));
    clients
}

/// Returns the list by `nc`, which ends because the daemon sends a FIN.
fn netcat(addr: SocketAddr) -> String {
    let output = Command::new("nc.openbsd")
        .args(["-w", "30", &addr.ip().to_string(), &addr.port().to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the rows of a table without the header, after a check that each column begins or ends where its
/// title does.
fn rows(table: &str) -> Vec<Vec<&str>> {
    assert!(table.ends_with("\r\n"));
    let mut lines = table.trim_end().split("\r\n");
    let titles = lines.next().unwrap();
    let column = |line: &str, word: &str| {
        let start = word.as_ptr() as usize - line.as_ptr() as usize;
        (start, start + word.len())
    };
    let title_columns: Vec<_> = titles
        .split_whitespace()
        .map(|title| column(titles, title))
        .collect();
    assert_eq!(title_columns.len(), 7, "{titles}");
    let row = |line| {
        let cells: Vec<&str> = str::split_whitespace(line).collect();
        for (cell, (start, end)) in cells.iter().zip(&title_columns) {
            let (cell_start, cell_end) = column(line, cell);
            assert!(cell_start == *start || cell_end == *end, "{line}\n{titles}");
        }
        cells
    };
    lines
        .filter(|line| !line.starts_with("..."))
        .map(row)
        .collect()
}

#[test]
fn a_thousand_connections_in_the_reactor_are_listed_for_netcat() {
    if !available(&["nc.openbsd"]) {
        return;
    }
    let (daemon, addr) = with_systat(&[]);
    let mut clients = fill(daemon.addr, 1000, 10);
    let mut table = String::new();
    eventually("all in the reactor", || {
        table = netcat(addr);
        // The daemon counts bytes after it has sent them.
        let is_carried = |row: &&Vec<&str>| row[4..] == ["10", "10", "reactor"];
        rows(&table).iter().filter(is_carried).count() == 1000
    });
    let listed = rows(&table);
    // The oldest connection comes first.
    let peers = clients.iter().map(|client| client.local_addr().unwrap());
    let local = daemon.addr.to_string();
    for (row, peer) in listed.iter().zip(peers) {
        assert_eq!(row[..3], ["echo", &peer.to_string(), &local]);
        assert!(row[3].ends_with('s'), "an age: {row:?}");
    }
    // The last row is netcat's own connection.
    let last = listed.last().unwrap();
    assert_eq!((last[0], last[6]), ("systat", "handler"));
    let echoes = |table: &str| rows(table).iter().filter(|row| row[0] == "echo").count();
    assert_eq!(echoes(&table), 1000);

    // Beyond 1000, connections are only counted.
    clients.extend(fill(daemon.addr, 25, 10));
    let table = netcat(addr);
    assert!(
        table.ends_with("\r\n... and 25 more of echo\r\n"),
        "{table}"
    );
    assert_eq!(echoes(&table), 1000);
    // The daemon discards what a client of systat sends (RFC 866).
    let table = String::from_utf8(exchange(addr, &vec![b'x'; 100_000])).unwrap();
    assert_eq!(echoes(&table), 1000);
}

#[test]
fn lists_do_not_tear_while_connections_come_and_go() {
    let (daemon, addr) = with_systat(&[]);
    let echo = daemon.addr;
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            for _ in 0..300 {
                assert_eq!(exchange(echo, b"hello"), b"hello");
            }
        });
        while !busy.is_finished() {
            let table = String::from_utf8(exchange(addr, b"")).unwrap();
            for row in rows(&table) {
                assert_eq!(row.len(), 7, "{row:?}");
                row[1].parse::<SocketAddr>().unwrap();
            }
        }
    });
    assert_eq!(daemon.stop().code, Some(0));
}

/// Returns the lines of a report in the log, without the first.
fn reported(log: &str) -> Vec<&str> {
    let lines = log.lines();
    lines.filter(|line| line.contains(" state=")).collect()
}

#[test]
fn sigusr1_logs_them_once_and_bounded() {
    let daemon = Daemon::start(&["--service=chargen=127.0.0.1:0"]);
    let clients = fill(daemon.addr, 120, 5);
    let mut endless = connect(daemon.addrs[1]);
    endless.read_exact(&mut [0]).unwrap();
    daemon.signal(Signal::USR1);
    daemon.wait_for_log("and 20 more connections");
    daemon.wait_for_log("state=handler");
    let log = daemon.log();
    assert!(
        log.contains("INFO ] connections: echo=120 chargen=1"),
        "{log}"
    );
    let lines = reported(&log);
    assert_eq!(lines.len(), 101, "{log}");
    for (line, client) in lines.iter().zip(&clients[..100]) {
        assert!(line.contains("INFO ]"), "{line}");
        assert_eq!(field(line, "service"), Some("echo"));
        let peer = client.local_addr().unwrap().to_string();
        assert_eq!(field(line, "peer"), Some(&*peer));
        assert_eq!(field(line, "local"), Some(&*daemon.addr.to_string()));
        assert_eq!(field(line, "bytes_in"), Some("5"));
    }
    // The signal stops nothing, and it works again.
    clients.iter().for_each(|client| ping(client, b"on"));
    drop(clients);
    drop(endless);
    eventually("a report of none", || {
        daemon.signal(Signal::USR1);
        daemon.log().contains("connections: echo=0 chargen=0")
    });
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn in_json_each_has_its_fields() {
    let daemon = Daemon::start(&["--log-format=json"]);
    let client = fill(daemon.addr, 1, 5);
    daemon.signal(Signal::USR1);
    daemon.wait_for_log("\"bytes_in\"");
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("\"bytes_out\""));
    let line: serde_json::Value = serde_json::from_str(line.unwrap()).unwrap();
    let peer = client[0].local_addr().unwrap().to_string();
    assert_eq!(line["peer"], peer);
    assert_eq!(line["service"], "echo");
    assert_eq!(line["bytes_in"], 5);
    assert!(line["state"].is_string() && line["age"].is_f64());
}

#[test]
fn sigusr1_works_where_the_parent_had_blocked_or_ignored_it() {
    for how in ["--block-signal=USR1", "--ignore-signal=USR1"] {
        let daemon = Daemon::spawn(
            Command::new("env")
                .args([how, env!("CARGO_BIN_EXE_echod")])
                .args(["--listen", "127.0.0.1:0"]),
        );
        daemon.signal(Signal::USR1);
        daemon.wait_for_log("connections: echo=0");
        assert_eq!(daemon.stop().code, Some(0), "{how}");
    }
}

#[test]
fn sigusr1_during_the_start_ends_nothing() {
    for _ in 0..30 {
        let mut child = Daemon::begin();
        let pid = Pid::from_child(&child);
        eventually("a mask with SIGUSR1", || blocks_sigusr1(child.id()));
        for _ in 0..10 {
            kill_process(pid, Signal::USR1).unwrap();
        }
        eventually("a handler of SIGINT", || catches_sigint(child.id()));
        kill_process(pid, Signal::INT).unwrap();
        assert_eq!(finish(&mut child).code(), Some(0));
    }
}

#[test]
fn many_reports_at_once_do_not_flood_the_log() {
    let daemon = Daemon::start(&[]);
    let client = fill(daemon.addr, 1, 5);
    for _ in 0..10_000 {
        daemon.signal(Signal::USR1);
    }
    ping(&client[0], b"alive");
    drop(client);
    let output = daemon.stop();
    assert_eq!(output.code, Some(0));
    assert!(!output.log.contains("were lost"), "{}", output.log);
}

fn blocks_sigusr1(pid: u32) -> bool {
    mask(pid, "SigBlk:") & 1 << (10 - 1) != 0
}

fn catches_sigint(pid: u32) -> bool {
    mask(pid, "SigCgt:") & 1 << (2 - 1) != 0
}

/// Returns a mask of signals of a process's first thread (`proc_pid_status(5)`).
fn mask(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix(name));
    mask.map_or(0, |mask| u64::from_str_radix(mask.trim(), 16).unwrap())
}
