//! Shortages of descriptors, threads and memory, inflicted on a running daemon by `prlimit(2)`.

use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Signal, geteuid};

use crate::support::{
    Daemon, TIMEOUT, assert_takes, available, connect, copy_program, eventually, exchange, ping,
    read_to_end, skip,
};
use crate::turn;
use crate::usage::{has_thread, status, ticks};

const SECOND: Duration = Duration::from_secs(1);

/// A resource that can run out, by its name for `prlimit(1)`.
type Resource = &'static str;
const DESCRIPTORS: Resource = "nofile";
const THREADS: Resource = "nproc";
const MEMORY: Resource = "as";

/// Sets the soft limit of a running daemon, and returns the limit before.
fn limit(daemon: &Daemon, resource: Resource, to: &str) -> String {
    let pid = daemon.pid().as_raw_nonzero();
    // Run `prlimit` as the daemon's own user. In a sandbox, even root may not change the limits of other
    // users.
    let user = fs::metadata(format!("/proc/{pid}")).unwrap().uid();
    let prlimit = |args: &[&str]| {
        let mut command = as_user(user, "prlimit");
        let output = command
            .args([&format!("--pid={pid}")])
            .args(args)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "prlimit: {stderr}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let flag = format!("--{resource}");
    let before = prlimit(&[&flag, "--output=SOFT", "--noheadings", "--raw"]);
    prlimit(&[&format!("{flag}={to}:")]);
    before
}

/// Returns a command that runs as another user, if this process may change its user.
fn as_user(user: u32, program: impl AsRef<OsStr>) -> Command {
    if !geteuid().is_root() || user == 0 {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args([format!("--reuid={user}"), format!("--regid={user}")])
        .args(["--clear-groups", "--inh-caps=-all", "--bounding-set=-all"])
        .arg(program);
    command
}

/// Returns the lowest descriptor that the daemon does not use: the next one that it would open.
fn next_descriptor(daemon: &Daemon) -> String {
    let path = format!("/proc/{}/fd", daemon.pid().as_raw_nonzero());
    let free = (0..1000).find(|n| fs::symlink_metadata(format!("{path}/{n}")).is_err());
    free.unwrap().to_string()
}

/// The longest pause between two tries to serve a client is a second. The rest is for a busy machine.
const SOON: Duration = Duration::from_millis(1500);

/// Checks one shortage: connected clients are served, new clients wait, the CPU is idle, and the log has one
/// line. Returns how long after the relief the waiting clients are served.
fn endure(
    daemon: &Daemon,
    resource: Resource,
    to: &str,
    warning: &str,
    service: Service,
) -> Duration {
    let addr = service.addr(daemon);
    let inside = [connect(addr), connect(addr)];
    for client in &inside {
        service.exchange(client);
    }
    let warnings = || daemon.log().matches("WARN").count();
    let before = warnings();
    let unlimited = limit(daemon, resource, to);
    let waiting: Vec<_> = (0..20).map(|_| connect(addr)).collect();
    for mut client in &waiting {
        client.write_all(b"x").unwrap();
    }
    daemon.wait_for_log(warning);
    let start = ticks(daemon);
    // This read times out: for this second, no client is admitted.
    let last = waiting.last().unwrap();
    last.set_read_timeout(Some(SECOND)).unwrap();
    let error = (&*last).read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(ticks(daemon) - start < 20, "it spins");
    for client in &inside {
        service.exchange(client);
    }

    limit(daemon, resource, &unlimited);
    let relief = Instant::now();
    for mut client in &waiting {
        client.set_read_timeout(Some(TIMEOUT)).unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    let taken = relief.elapsed();
    assert_eq!(warnings(), before + 1, "{}", daemon.log());
    taken
}

/// A service. The echo only needs descriptors. Chargen keeps a thread for each connection, so it also needs
/// threads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Service {
    Echo,
    Chargen,
}

/// Makes the daemon serve chargen beside the echo. With fewer connections than the default, both fit under
/// the descriptor limit of any machine, so the daemon has nothing to warn about at its start.
const WITH_CHARGEN: [&str; 2] = ["--service=chargen=127.0.0.1:0", "--max-connections=1000"];

impl Service {
    fn addr(self, daemon: &Daemon) -> SocketAddr {
        daemon.addrs[usize::from(self == Self::Chargen)]
    }

    /// Checks that the client is served. A client of chargen reads a few bytes, so the thread of its
    /// connection stays blocked in a write.
    fn exchange(self, mut client: &TcpStream) {
        match self {
            Self::Echo => ping(client, b"unhurt"),
            Self::Chargen => client.read_exact(&mut [0; 74]).unwrap(),
        }
    }
}

/// Connects a first client, and waits until the daemon has opened what it needs to serve it.
fn served(daemon: &Daemon) -> TcpStream {
    let client = connect(daemon.addr);
    ping(&client, b"in");
    eventually("a reactor", || has_thread(daemon, "reactor"));
    client
}

#[test]
fn out_of_descriptors_clients_wait_and_are_served_after_the_relief() {
    let _turn = turn();
    if !available(&["prlimit"]) {
        return;
    }
    assert_takes(Duration::ZERO, SOON, || {
        let daemon = Daemon::start(&[]);
        drop(served(&daemon));
        // The two clients inside take two more descriptors.
        let next: u64 = next_descriptor(&daemon).parse().unwrap();
        let warning = "cannot accept: Too many open files";
        let to = (next + 2).to_string();
        let taken = endure(&daemon, DESCRIPTORS, &to, warning, Service::Echo);
        assert_eq!(daemon.stop().code, Some(0));
        taken
    });
}

#[test]
fn out_of_descriptors_a_client_that_leaves_makes_room_for_the_next() {
    let _turn = turn();
    if !available(&["prlimit"]) {
        return;
    }
    let daemon = Daemon::start(&[]);
    let inside = served(&daemon);
    limit(&daemon, DESCRIPTORS, &next_descriptor(&daemon));
    let mut waiting = connect(daemon.addr);
    waiting.write_all(b"x").unwrap();
    daemon.wait_for_log("cannot accept");
    drop(inside);
    waiting.read_exact(&mut [0]).unwrap();
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn out_of_descriptors_for_a_reactor_each_connection_has_a_thread() {
    let _turn = turn();
    if !available(&["prlimit"]) {
        return;
    }
    let daemon = Daemon::start(&[]);
    // There is room for two connections. A reactor would need three descriptors.
    let next: u64 = next_descriptor(&daemon).parse().unwrap();
    let unlimited = limit(&daemon, DESCRIPTORS, &(next + 2).to_string());
    let clients = [connect(daemon.addr), connect(daemon.addr)];
    // The second message comes back from where the connection stays.
    for client in clients.iter().chain(&clients) {
        ping(client, b"without a reactor");
    }
    assert!(!has_thread(&daemon, "reactor"));
    limit(&daemon, DESCRIPTORS, &unlimited);
    // The thread that accepts may echo this before it hands the connection to a new reactor.
    ping(&connect(daemon.addr), b"with a reactor");
    eventually("a reactor", || has_thread(&daemon, "reactor"));
    for client in &clients {
        ping(client, b"unhurt");
    }
    let output = daemon.stop();
    assert_eq!(output.code, Some(0), "{}", output.log);
    assert!(!output.log.contains("WARN"), "{}", output.log);
}

#[test]
fn out_of_descriptors_rejected_clients_do_not_delay_the_next() {
    let _turn = turn();
    if !available(&["prlimit"]) {
        return;
    }
    let daemon = Daemon::start(&["--max-connections=1", "--at-limit=reject"]);
    let inside = served(&daemon);
    // There is room for five more descriptors. Rejected connections use them for a while.
    let next: u64 = next_descriptor(&daemon).parse().unwrap();
    limit(&daemon, DESCRIPTORS, &(next + 5).to_string());
    let start = Instant::now();
    for _ in 0..100 {
        assert_eq!((&connect(daemon.addr)).read(&mut [0]).unwrap(), 0);
    }
    // With a back-off for every few clients, this would take many seconds.
    assert!(start.elapsed() < 2 * SECOND, "{:?}", start.elapsed());
    ping(&inside, b"unhurt");
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn out_of_descriptors_the_metrics_say_so() {
    let _turn = turn();
    if !available(&["prlimit"]) {
        return;
    }
    let daemon = Daemon::start(&["--service=systat=127.0.0.1:0,metrics=127.0.0.1:0"]);
    ping(&connect(daemon.addr), b"in");
    eventually("a reactor", || has_thread(&daemon, "echo reactor"));
    // The scrape is accepted, and has a thread of its own, while there are descriptors.
    let scrape = connect(daemon.addrs[2]);
    (&scrape).write_all(b"GET /metrics HTTP/1.0\r\n").unwrap();
    eventually("an accepted scrape", || {
        exchange(daemon.addrs[1], b"")
            .windows(8)
            .any(|word| word == b"metrics ")
    });
    let unlimited = limit(&daemon, DESCRIPTORS, &next_descriptor(&daemon));
    // These clients need more descriptors than the clients before may have freed.
    let waiting: Vec<_> = (0..20).map(|_| connect(daemon.addr)).collect();
    for mut client in &waiting {
        client.write_all(b"x").unwrap();
    }
    daemon.wait_for_log("service=echo cannot accept");
    (&scrape).write_all(b"\r\n").unwrap();
    let metrics = String::from_utf8(read_to_end(&scrape).unwrap()).unwrap();
    let value = |name: &str| -> Option<u64> {
        let line = metrics.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse().ok()
    };
    let shortages = value("echod_shortages_total{service=\"echo\",resource=\"descriptors\"}");
    assert!(shortages > Some(0), "{metrics}");
    // The metric is missing, because reading it would take a descriptor.
    assert_eq!(value("process_open_fds"), None);
    limit(&daemon, DESCRIPTORS, &unlimited);
    for mut client in &waiting {
        client.read_exact(&mut [0]).unwrap();
    }
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn out_of_threads_clients_wait_and_are_served_after_the_relief() {
    let _turn = turn();
    let Some(other_user) = Unprivileged::new() else {
        return;
    };
    assert_takes(Duration::ZERO, SOON, || {
        let daemon = other_user.daemon();
        // The two clients inside have a thread each, and one thread leads.
        let threads = (status(&daemon, "Threads:") + 3).to_string();
        let warning = "cannot start a thread: Resource temporarily unavailable";
        let taken = endure(&daemon, THREADS, &threads, warning, Service::Chargen);
        assert_eq!(daemon.stop().code, Some(0));
        taken
    });
}

#[test]
fn out_of_threads_among_many_clients_none_is_lost() {
    let _turn = turn();
    let Some(other_user) = Unprivileged::new() else {
        return;
    };
    let daemon = other_user.daemon();
    let addr = Service::Chargen.addr(&daemon);
    // The limit leaves room for a few threads.
    let threads = (status(&daemon, "Threads:") + 3).to_string();
    let unlimited = limit(&daemon, THREADS, &threads);
    daemon.signal(Signal::STOP);
    let clients: Vec<_> = (0..20).map(|_| connect(addr)).collect();
    daemon.signal(Signal::CONT);
    daemon.wait_for_log("cannot start a thread");
    limit(&daemon, THREADS, &unlimited);
    for mut client in &clients {
        client.read_exact(&mut [0]).unwrap();
    }
    drop(clients);
    eventually("all have left", || {
        daemon.log().matches("reason=reset").count() == 20
    });
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn out_of_threads_a_client_that_leaves_makes_room_for_the_next() {
    let _turn = turn();
    let Some(other_user) = Unprivileged::without_other_processes() else {
        return;
    };
    let daemon = other_user.daemon();
    let addr = Service::Chargen.addr(&daemon);
    let threads = (status(&daemon, "Threads:") + 2).to_string();
    limit(&daemon, THREADS, &threads);
    let clients: Vec<_> = (0..10).map(|_| connect(addr)).collect();
    // The clients leave only after the shortage. Otherwise two threads would be enough for all.
    daemon.wait_for_log("cannot start a thread");
    // The backlog is a queue, so the clients are served in order.
    for mut client in clients {
        client.read_exact(&mut [0]).unwrap();
    }
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn at_its_own_bound_of_threads_the_server_names_it_and_clients_wait() {
    let _turn = turn();
    let Some(other_user) = Unprivileged::without_other_processes() else {
        return;
    };
    // The server leaves an eighth of the limit to other processes.
    let mut command = as_user(user_without_processes(), "prlimit");
    let daemon = Daemon::spawn(command.arg("--nproc=80").arg(&other_user.binary).args([
        "-v",
        "--listen",
        "127.0.0.1:0",
        WITH_CHARGEN[0],
        "--max-connections=75",
    ]));
    daemon.wait_for_log("--max-connections 75 does not fit under the limit of 70 threads");
    let addr = Service::Chargen.addr(&daemon);
    let mut clients: Vec<_> = (0..75).map(|_| connect(addr)).collect();
    daemon.wait_for_log(
        "cannot start a thread: the limit of 70 threads is reached (RLIMIT_NPROC is 80)",
    );
    for client in &mut clients[..70] {
        client.read_exact(&mut [0]).unwrap();
    }
    clients[70].set_nonblocking(true).unwrap();
    assert!(clients[70].read(&mut [0]).is_err(), "beyond the bound");
    clients[70].set_nonblocking(false).unwrap();
    drop(clients.drain(..70));
    for mut client in clients {
        client.read_exact(&mut [0]).unwrap();
    }
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn out_of_threads_the_echo_is_unhurt() {
    let _turn = turn();
    let Some(other_user) = Unprivileged::new() else {
        return;
    };
    let daemon = other_user.daemon();
    ping(&connect(daemon.addr), b"in");
    limit(&daemon, THREADS, &status(&daemon, "Threads:").to_string());
    let clients: Vec<_> = (0..500).map(|_| connect(daemon.addr)).collect();
    for client in &clients {
        ping(client, b"x");
    }
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn out_of_memory_for_a_thread_clients_wait_and_are_served_after_the_relief() {
    let _turn = turn();
    if !available(&["prlimit"]) {
        return;
    }
    assert_takes(Duration::ZERO, SOON, || {
        let daemon = Daemon::start(&WITH_CHARGEN);
        let addr = Service::Chargen.addr(&daemon);
        let first = [connect(addr), connect(addr), connect(addr)];
        for client in &first {
            Service::Chargen.exchange(client);
        }
        drop(first);
        eventually("they have left", || {
            daemon.log().matches("reason=").count() == 3
        });
        // Of the three idle threads, two are for the clients inside, and one leads. The limit leaves less
        // memory than the stack of a fifth thread needs.
        let size = ((status(&daemon, "VmSize:") + 100) * 1024).to_string();
        let warning = "cannot start a thread: ";
        let taken = endure(&daemon, MEMORY, &size, warning, Service::Chargen);
        assert_eq!(daemon.stop().code, Some(0));
        taken
    });
}

/// Returns the number of a user without processes. Each run of these tests has another user, so that the limit
/// does not count the threads of a run beside it.
fn user_without_processes() -> u32 {
    60_000 + std::process::id() % 5_000
}

/// A user to run the daemon as, because the limit on threads does not apply to root.
struct Unprivileged {
    binary: PathBuf,
}

impl Unprivileged {
    /// Returns such a user without other processes, whose threads the limit would count, too. Returns `None`,
    /// and says so, if there is no such user.
    fn without_other_processes() -> Option<Self> {
        if geteuid().is_root() {
            return Self::new();
        }
        skip("only root can become a user without other processes");
        None
    }

    /// Returns `None`, and says so, if the programs to become that user are missing.
    fn new() -> Option<Self> {
        if !available(&["prlimit", "setpriv"]) {
            return None;
        }
        // The folder of the build may be closed to that user, so use a copy.
        let binary = std::env::temp_dir().join(format!("echod-{}", std::process::id()));
        copy_program(env!("CARGO_BIN_EXE_echod"), &binary);
        Some(Self { binary })
    }

    fn daemon(&self) -> Daemon {
        let mut command = as_user(user_without_processes(), &self.binary);
        Daemon::spawn(
            command
                .args(["-v", "--listen", "127.0.0.1:0"])
                .args(WITH_CHARGEN),
        )
    }
}

impl Drop for Unprivileged {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.binary);
    }
}
