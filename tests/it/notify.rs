//! The messages to the service manager, and that the daemon never waits for a manager that does not read.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Daemon, TIMEOUT, exchange, finish};

/// The notification socket of a service manager.
struct Manager {
    socket: UnixDatagram,
    addr: SocketAddr,
    variable: String,
}

impl Manager {
    fn new(test: &str) -> Self {
        let name = format!("echod-{test}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&path);
        let variable = path.to_str().unwrap().to_owned();
        Self::at(SocketAddr::from_pathname(path).unwrap(), variable)
    }

    fn at(addr: SocketAddr, variable: String) -> Self {
        let socket = UnixDatagram::bind_addr(&addr).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        Self {
            socket,
            addr,
            variable,
        }
    }

    fn command(&self) -> Command {
        let mut command = Daemon::command();
        command
            .env("NOTIFY_SOCKET", &self.variable)
            .env_remove("WATCHDOG_PID")
            .env_remove("WATCHDOG_USEC")
            .args(["--listen", "127.0.0.1:0"]);
        command
    }

    fn receive(&self) -> String {
        let mut message = [0; 1000];
        loop {
            match self.socket.recv(&mut message) {
                Ok(n) => return String::from_utf8_lossy(&message[..n]).trim_end().to_owned(),
                // A call with a timeout may fail with EINTR (signal(7)).
                Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}"),
            }
        }
    }

    /// Returns the messages that have been sent and not been received yet.
    fn received(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).unwrap();
        let mut message = [0; 1000];
        let mut all = Vec::new();
        while let Ok(n) = self.socket.recv(&mut message) {
            all.push(String::from_utf8(message[..n].to_vec()).unwrap());
        }
        all
    }

    /// Fills the queue of the socket, so that the next sender waits until the manager reads.
    fn fill(&self) {
        let client = UnixDatagram::unbound().unwrap();
        client.connect_addr(&self.addr).unwrap();
        client.set_nonblocking(true).unwrap();
        let error = loop {
            if let Err(error) = client.send(b"x") {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(path) = self.addr.as_pathname() {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[test]
fn a_delayed_stop_is_announced_at_once_with_the_time_that_it_takes() {
    let manager = Manager::new("delay");
    let mut command = manager.command();
    let daemon = Daemon::spawn(command.args(["--shutdown-delay=1h", "--drain-timeout=5s"]));
    assert!(manager.receive().starts_with("READY=1"));
    daemon.signal(Signal::TERM);
    let mut message = manager.receive();
    while message.starts_with("STATUS=") {
        message = manager.receive();
    }
    // The time includes some seconds for an abort.
    assert_eq!(message, "STOPPING=1\nEXTEND_TIMEOUT_USEC=3615000000");
    assert_eq!(exchange(daemon.addr, b"still"), b"still");
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_manager_on_an_abstract_socket_is_notified() {
    let name = format!("echod-abstract-{}", std::process::id());
    let addr = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = Manager::at(addr, format!("@{name}"));
    let daemon = Daemon::spawn(&mut manager.command());
    assert!(manager.receive().starts_with("READY=1\n"));
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_start_and_a_stop_are_announced() {
    let manager = Manager::new("told");
    let daemon = Daemon::spawn(manager.command().args(["--drain-timeout", "7s"]));
    assert_eq!(
        manager.receive(),
        "READY=1\nSTATUS=connections: 0 now, 0 served, 0 rejected"
    );
    assert_eq!(daemon.stop().code, Some(0));
    assert_eq!(
        manager.receive(),
        "STOPPING=1\nEXTEND_TIMEOUT_USEC=17000000"
    );
}

#[test]
fn a_start_that_fails_reports_the_reason() {
    let manager = Manager::new("reason");
    // This machine does not have this address.
    let mut child = manager
        .command()
        .args(["--listen", "192.0.2.1:7"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(finish(&mut child).code(), Some(1));
    let told = manager.receive();
    assert!(
        told.starts_with("STATUS=cannot bind 192.0.2.1:7: "),
        "{told}"
    );
}

#[test]
fn a_manager_that_does_not_read_delays_nothing() {
    let manager = Manager::new("unread");
    manager.fill();
    let daemon = Daemon::spawn(&mut manager.command());
    assert_eq!(exchange(daemon.addr, b"hello"), b"hello");
    let start = Instant::now();
    assert_eq!(daemon.stop().code, Some(0));
    assert!(start.elapsed() < Duration::from_secs(10));

    // A start that fails must not wait for long, either.
    let mut failing = manager
        .command()
        .args(["--listen", "192.0.2.1:7"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(finish(&mut failing).code(), Some(1));
}

#[test]
fn a_manager_that_reads_late_gets_every_message() {
    let manager = Manager::new("late");
    manager.fill();
    let daemon = Daemon::spawn(&mut manager.command());
    let first = std::iter::repeat_with(|| manager.receive()).find(|message| message != "x");
    assert!(first.unwrap().starts_with("READY=1\n"));
    assert_eq!(daemon.stop().code, Some(0));
    assert!(manager.receive().starts_with("STOPPING=1\n"));
}

#[test]
fn the_watchdog_is_fed_if_it_is_this_processs_own() {
    // Only the shell that becomes the daemon knows the process id.
    let manager = Manager::new("watchdog");
    let mut command = Command::new("sh");
    command
        .args(["-c", "WATCHDOG_PID=$$ exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_echod"))
        .args(["--listen", "127.0.0.1:0"])
        .env("NOTIFY_SOCKET", &manager.variable)
        .env("WATCHDOG_USEC", "1000000");
    let daemon = Daemon::spawn(&mut command);
    while manager.receive() != "WATCHDOG=1" {}
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_disabled_malformed_or_foreign_watchdog_is_not_fed() {
    for (usec, pid) in [("0", None), ("soon", None), ("1000", Some("1"))] {
        let manager = Manager::new(&format!("none-{usec}"));
        let mut command = manager.command();
        command.env("WATCHDOG_USEC", usec);
        if let Some(pid) = pid {
            command.env("WATCHDOG_PID", pid);
        }
        let daemon = Daemon::spawn(&mut command);
        assert!(manager.receive().starts_with("READY=1\n"));
        let output = daemon.stop();
        assert_eq!(output.code, Some(0));
        let told = manager.received();
        assert!(
            !told.iter().any(|told| told.contains("WATCHDOG")),
            "{told:?}"
        );
        let warns = output.log.contains("WATCHDOG_USEC");
        assert_eq!(warns, pid.is_none(), "WATCHDOG_USEC={usec}");
    }
}

#[test]
fn a_watchdog_of_a_microsecond_does_not_keep_it_busy() {
    let manager = Manager::new("busy");
    let start = Instant::now();
    let daemon = Daemon::spawn(manager.command().env("WATCHDOG_USEC", "1"));
    for _ in 0..20 {
        while manager.receive() != "WATCHDOG=1" {}
    }
    // The messages are at least 10 ms apart. Taken literally, the interval would be half a microsecond.
    assert!(start.elapsed() >= Duration::from_millis(150));
    assert_eq!(daemon.stop().code, Some(0));
}
