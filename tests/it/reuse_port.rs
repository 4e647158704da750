//! Processes that share an address (`SO_REUSEPORT`): which clients each gets, and a restart that loses no
//! client.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use socketserver::{EchoHandler, TcpServer};

use crate::support::{
    Daemon, TestServer, connect, eventually, exchange, field, finish, in_own_network, ping,
    read_to_end, while_clients_come,
};

/// Starts a process on a free port, which other processes may share.
fn first(args: &[&str]) -> Daemon {
    Daemon::start(&[&["--reuse-port"], args].concat())
}

/// Starts a process that shares the address of `first`.
fn second(first: &Daemon, args: &[&str]) -> Daemon {
    let addr = first.addr.to_string();
    let mut command = Daemon::command();
    Daemon::spawn(command.args(["--reuse-port", "--listen", &addr]).args(args))
}

/// Stops a process, and returns how many clients it has served.
fn stop(daemon: Daemon) -> u64 {
    let output = daemon.stop();
    assert_eq!(output.code, Some(0), "{}", output.log);
    let line = output.log.lines().find(|line| line.contains("stopped: "));
    field(line.unwrap(), "connections")
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn servers_that_ask_for_it_share_an_address_and_each_gets_clients() {
    let share = || TcpServer::builder().reuse_port(true);
    let one = TestServer::with(share(), EchoHandler::new);
    let other = TestServer::serve(share().bind(one.addr).unwrap(), EchoHandler::new);
    eventually("a client of each", || {
        assert_eq!(exchange(one.addr, b"here"), b"here");
        let served = |server: &TestServer| server.handle.totals().connections() > 0;
        served(&one) && served(&other)
    });
    let error = TcpServer::bind(one.addr).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
}

#[test]
fn an_address_of_a_server_that_did_not_ask_for_it_is_in_use() {
    let one = TestServer::start(EchoHandler::new);
    let output = Daemon::command()
        .args(["--reuse-port", "--listen", &one.addr.to_string()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = format!(
        "cannot bind {}: Address already in use (os error 98); to share it, run both processes as the same \
         user and with --reuse-port\n",
        one.addr
    );
    assert!(said.ends_with(&expected), "{said}");
}

/// Leaves clients in the backlog of one process, starts another process, and stops the first. Returns what
/// each client gets.
fn stop_with_a_full_backlog() -> Vec<io::Result<Vec<u8>>> {
    let old = first(&["--max-connections=1"]);
    let inside = connect(old.addr);
    ping(&inside, b"here");
    let waiting: Vec<_> = (0..9).map(|_| connect(old.addr)).collect();
    let new = second(&old, &[]);
    old.signal(Signal::TERM);
    assert_eq!(read_to_end(&inside).unwrap(), b"", "the end of the drain");
    drop(inside);
    assert_eq!(old.wait().code, Some(0));
    let exchange = |mut client: TcpStream| {
        client.write_all(b"due")?;
        client.shutdown(Shutdown::Write)?;
        read_to_end(&client)
    };
    let outcomes = waiting.into_iter().map(exchange).collect();
    stop(new);
    outcomes
}

#[test]
fn clients_in_the_backlog_are_reset_at_a_stop_unless_tcp_migrate_req_moves_them() {
    in_own_network(|| {
        for outcome in stop_with_a_full_backlog() {
            let error = outcome.unwrap_err().kind();
            assert_eq!(error, ErrorKind::ConnectionReset);
        }
        // The setting belongs to the network namespace.
        fs::write("/proc/sys/net/ipv4/tcp_migrate_req", "1").unwrap();
        for outcome in stop_with_a_full_backlog() {
            assert_eq!(outcome.unwrap(), b"due");
        }
    });
}

#[test]
fn reuse_port_has_no_effect_on_sockets_that_were_passed() {
    for (asked, warns) in [("true", true), ("false", false)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let daemon = Daemon::command()
            .env("ECHOD_REUSE_PORT", asked)
            .stdin(OwnedFd::from(listener))
            .stderr(Stdio::piped())
            .spawn();
        let mut daemon = daemon.unwrap();
        assert_eq!(exchange(addr, b"here"), b"here");
        kill_process(Pid::from_child(&daemon), Signal::TERM).unwrap();
        assert!(finish(&mut daemon).success());
        let mut log = String::new();
        let mut stderr = daemon.stderr.take().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        let warning = "ECHOD_REUSE_PORT has no effect on sockets that were passed to echod";
        assert_eq!(log.contains(warning), warns, "{log}");
    }
}

#[test]
fn the_process_that_began_to_listen_last_gets_all_new_clients() {
    let mut old = first(&[]);
    for _ in 0..3 {
        let new = second(&old, &[]);
        for _ in 0..20 {
            assert_eq!(exchange(new.addr, b"here"), b"here");
        }
        stop(mem::replace(&mut old, new));
    }
    assert_eq!(stop(old), 20);
}

#[test]
fn if_the_new_process_stops_the_old_one_gets_clients_again() {
    let old = first(&[]);
    assert_eq!(stop(second(&old, &[])), 0);
    assert_eq!(exchange(old.addr, b"here"), b"here");
    assert_eq!(stop(old), 1);
}

/// The time for which the old process accepts the clients that connected before the new process listened.
const DELAY: &str = "--shutdown-delay=500ms";

#[test]
fn a_restart_refuses_and_resets_no_client() {
    let mut daemon = first(&[DELAY]);
    let addr = daemon.addr;
    while_clients_come(addr, || {
        for _ in 0..10 {
            let new = second(&daemon, &[DELAY]);
            stop(mem::replace(&mut daemon, new));
        }
    });
    stop(daemon);
}
