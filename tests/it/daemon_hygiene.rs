//! What the daemon must not touch, and what must not stop it.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{self, Child, Command, Stdio};
use std::{env, thread};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    Daemon, Log, connect, eventually, exchange, finish, noise, read_to_end, reserve_addr,
};

/// Starts a daemon that does not print its address, and waits until it listens.
fn start(args: &[&str], stderr: Stdio) -> (Child, SocketAddr) {
    let (_reserved, addr) = reserve_addr();
    let child = Daemon::command()
        .args(["--listen", &addr.to_string()])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .unwrap();
    eventually("a listener", || TcpStream::connect(addr).is_ok());
    (child, addr)
}

#[test]
fn an_unread_standard_error_does_not_stop_the_echo() {
    const CONNECTIONS: usize = 15_000;
    let (mut child, addr) = start(&["-v"], Stdio::piped());
    // A pipe holds 64 KiB, which is about 700 lines. The queue holds a mebibyte.
    for _ in 0..CONNECTIONS {
        assert_eq!(exchange(addr, b"x"), b"x");
    }
    // When standard error is read again, the log says how many lines are missing.
    let mut log = Log::of(child.stderr.take().unwrap());
    let warning = " log lines dropped: standard error was not read in time";
    log.wait_for(warning);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(finish(&mut child).code(), Some(0));
    let log = String::from_utf8(log.all()).unwrap();
    let lost: usize = log
        .lines()
        .filter_map(|line| line.strip_suffix(warning)?.split_once("] "))
        .map(|(_, lost)| lost.parse::<usize>().unwrap())
        .sum();
    // Each connection logs a line at its start and a line at its end. The first connection is that of
    // `start`.
    assert_eq!(
        log.matches("DEBUG] id=").count() + lost,
        2 * (1 + CONNECTIONS)
    );
}

#[test]
fn an_unread_standard_error_does_not_delay_the_end() {
    // Neither a clean end nor a failure may be delayed.
    for failure in [false, true] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut command = Daemon::command();
        // Pass a listener, as a super-server does.
        let mut child = command
            .arg("-v")
            .stdin(OwnedFd::from(listener.try_clone().unwrap()))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        for _ in 0..2_000 {
            assert_eq!(exchange(addr, b"x"), b"x");
        }
        if failure {
            socket2::SockRef::from(&listener)
                .shutdown(Shutdown::Both)
                .unwrap();
        } else {
            kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        }
        assert_eq!(finish(&mut child).code(), Some(failure.into()));
    }
}

#[test]
fn a_closed_standard_error_does_not_stop_the_echo() {
    let (mut child, addr) = start(&["-v"], Stdio::piped());
    drop(child.stderr.take());
    for _ in 0..100 {
        assert_eq!(exchange(addr, b"x"), b"x");
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(finish(&mut child).code(), Some(0));
}

#[test]
fn a_full_disk_does_not_stop_the_echo() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (mut child, addr) = start(&["-v"], full.into());
    for _ in 0..100 {
        assert_eq!(exchange(addr, b"x"), b"x");
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(finish(&mut child).code(), Some(0));
}

#[test]
fn no_socket_takes_the_number_of_a_standard_descriptor_that_was_closed() {
    let mut shell = Command::new("sh");
    let daemon = env!("CARGO_BIN_EXE_echod");
    let mut child = shell
        .args([
            "-c",
            "exec \"$0\" --listen 127.0.0.1:0 <&- >&- 2>&-",
            daemon,
        ])
        .spawn()
        .unwrap();
    let fd = |number: u32| fs::read_link(format!("/proc/{}/fd/{number}", child.id()));
    let listens = || {
        (3..64).any(|number| fd(number).is_ok_and(|it| it.to_string_lossy().starts_with("socket:")))
    };
    eventually("a listener", listens);
    for number in 0..3 {
        assert_eq!(fd(number).unwrap().to_string_lossy(), "/dev/null");
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(finish(&mut child).code(), Some(0));
}

#[test]
fn the_daemon_keeps_no_directory_busy_and_leaves_the_umask() {
    let dir = env::temp_dir().join(format!("echod-hygiene-{}", process::id()));
    fs::create_dir(&dir).unwrap();
    let daemon = Daemon::spawn(
        Daemon::command()
            .args(["--listen", "127.0.0.1:0"])
            .current_dir(&dir),
    );
    let proc = format!("/proc/{}", daemon.pid().as_raw_nonzero());
    assert_eq!(
        fs::read_link(format!("{proc}/cwd"))
            .unwrap()
            .to_string_lossy(),
        "/"
    );
    let umask = |status: &str| {
        let status = fs::read_to_string(status).unwrap();
        let line = status.lines().find(|line| line.starts_with("Umask:"));
        line.unwrap().to_owned()
    };
    assert_eq!(umask(&format!("{proc}/status")), umask("/proc/self/status"));
    assert_eq!(daemon.stop().code, Some(0));
    fs::remove_dir(&dir).unwrap();
}

/// As `inetd(8)` starts it: the connection is all three standard descriptors.
#[test]
fn a_connection_on_standard_input_is_served_and_its_end_ends_the_daemon() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for (seed, len) in [(1, 0), (2, 5), (3, 1 << 20)] {
        let addr = listener.local_addr().unwrap();
        let message = noise(seed, len);
        let client = thread::spawn({
            let message = message.clone();
            move || exchange_in_parts(addr, &message)
        });
        let (connection, _) = listener.accept().unwrap();
        let fd = || OwnedFd::from(connection.try_clone().unwrap());
        let mut command = Daemon::command();
        command.args(["-vv", "--print-addr"]);
        let mut child = command
            .stdin(fd())
            .stdout(fd())
            .stderr(fd())
            .spawn()
            .unwrap();
        // The command still holds copies of the socket.
        drop(command);
        drop(connection);
        assert_eq!(finish(&mut child).code(), Some(0));
        // The client receives only the echo: no address, and no line of the log.
        assert!(client.join().unwrap() == message);
    }
}

#[test]
fn a_connection_on_standard_input_that_has_already_ended_ends_the_daemon() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = connect(listener.local_addr().unwrap());
    let (connection, _) = listener.accept().unwrap();
    socket2::SockRef::from(&client)
        .set_linger(Some(std::time::Duration::ZERO))
        .unwrap();
    drop(client);
    eventually("the reset", || connection.peer_addr().is_err());
    let mut child = Daemon::command()
        .stdin(OwnedFd::from(connection))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(finish(&mut child).code(), Some(0));
    assert_eq!(Log::of(child.stderr.take().unwrap()).all(), b"");
}

/// Sends and receives at the same time, and half-closes.
fn exchange_in_parts(addr: SocketAddr, message: &[u8]) -> Vec<u8> {
    let mut stream = connect(addr);
    let reader = stream.try_clone().unwrap();
    let reading = thread::spawn(move || read_to_end(&reader).unwrap());
    stream.write_all(message).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    reading.join().unwrap()
}
