//! Shared by the tests: servers and daemons that end with their test, and clients that time out instead of
//! hanging.

mod comers;
mod daemon;
mod haproxy;
mod lines;
#[cfg(target_os = "linux")]
mod network;
#[cfg(target_os = "linux")]
mod refused;
mod server;
mod session;
mod xinetd;

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{self, Command};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use socketserver::TcpServer;

pub(crate) use comers::while_clients_come;
pub(crate) use daemon::{Daemon, finish};
pub(crate) use haproxy::Haproxy;
pub(crate) use lines::{Lines, field, logged};
#[cfg(target_os = "linux")]
pub(crate) use network::{in_own_network, must};
#[cfg(target_os = "linux")]
pub(crate) use refused::refused;
pub(crate) use server::TestServer;
pub(crate) use session::{Log, Session};
pub(crate) use xinetd::Xinetd;

/// Time limit for every step. Even on a busy machine no step takes that long, unless it hangs.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// Returns the command of an example. `cargo test` builds the examples into a folder beside the daemon.
pub(crate) fn example(name: &str) -> Command {
    let mut path = PathBuf::from(env!("CARGO_BIN_EXE_echod"));
    path.set_file_name("examples");
    path.push(name);
    assert!(
        path.exists(),
        "no example {}; run `cargo build --examples`",
        path.display()
    );
    Command::new(path)
}

/// Starts an example of a server that takes its address as an argument, and returns the address. The log has
/// its connections.
pub(crate) fn serving(name: &str, args: &[&str]) -> (Session, SocketAddr) {
    let mut command = example(name);
    let server = Session::start(command.args(args).env("RUST_LOG", "debug"));
    let addr = server.listening_addr();
    (server, addr)
}

/// Sends `bytes` one by one, ten a second, until the server ends the connection. Returns how long that took,
/// the connect included, because the server's clock starts with it. Returns `None` if the server accepted all
/// bytes.
pub(crate) fn drip(addr: SocketAddr, bytes: &[u8]) -> Option<Duration> {
    let start = Instant::now();
    let mut stream = connect(addr);
    stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    for byte in bytes {
        if stream.write_all(&[*byte]).is_err() {
            return Some(start.elapsed());
        }
        match stream.read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(1..) => return None,
            Ok(0) | Err(_) => return Some(start.elapsed()),
        }
    }
    None
}

/// Copies a program so that every user can run the copy, in a process of its own. If this process wrote the
/// copy, a child that another test starts in the meantime could inherit the open file, and the copy could not
/// be run (`ETXTBSY`).
pub(crate) fn copy_program(from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) {
    let mut install = Command::new("install");
    let copied = install.arg("--mode=755").arg(from).arg(to).status();
    assert!(copied.unwrap().success());
}

/// Returns a free address, and a socket that keeps it free: as long as the socket lives, no other program
/// gets this port by chance, and connections are refused until a program listens on this very address.
pub(crate) fn reserve_addr() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // A program that listens sets this option, too, and may then use the address of a socket that does not
    // listen.
    socket.set_reuse_address(true).unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any.into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, addr)
}

/// Binds an address that a server of this process has released. When another test starts a program, the new
/// process has copies of all open sockets, the listening ones too, until it runs the program. So the address
/// may be in use for a moment longer.
pub(crate) fn bind_again(addr: SocketAddr) -> TcpServer {
    let mut server = None;
    eventually("a free address", || {
        server = TcpServer::bind(addr).ok();
        server.is_some()
    });
    server.unwrap()
}

/// Returns an address of the loopback network that only this process uses.
pub(crate) fn private_addr(port: u16) -> SocketAddr {
    (Ipv4Addr::from(0x7f00_0000 | process::id()), port).into()
}

/// Connects, with timeouts, so that a hang fails the test.
pub(crate) fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, TIMEOUT).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Connects from `source`, an address in 127.0.0.0/8. All of these belong to this machine.
pub(crate) fn connect_from(source: &str, server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source: IpAddr = source.parse().unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&server.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Sends `message`, and waits for the whole echo.
pub(crate) fn ping(mut stream: &TcpStream, message: &[u8]) {
    stream.write_all(message).unwrap();
    let mut echo = vec![0; message.len()];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(echo, message);
}

/// Sends `message`, half-closes, and returns all that comes back.
pub(crate) fn exchange(addr: SocketAddr, message: &[u8]) -> Vec<u8> {
    let mut stream = connect(addr);
    stream.write_all(message).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    read_to_end(&stream).unwrap()
}

pub(crate) fn read_to_end(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).map(|_| all)
}

/// Returns pseudo-random bytes, in which any loss, repetition or swap shows.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// Fails unless `measure` returns at least `time`, and at least once in twenty runs no more than `slack`
/// longer. Other tests keep the machine busy, so a single run may take longer.
pub(crate) fn assert_takes(time: Duration, slack: Duration, measure: impl Fn() -> Duration) {
    let mut all = Vec::new();
    for _ in 0..20 {
        let taken = measure();
        assert!(taken >= time, "too early: {taken:?}");
        if taken <= time + slack {
            return;
        }
        all.push(taken);
    }
    panic!("never within {slack:?} of {time:?}: {all:?}");
}

/// Waits until `condition` holds, and fails if it doesn't within [`TIMEOUT`].
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(soon(condition), "not in time: {what}");
}

/// Returns whether `condition` holds within [`TIMEOUT`].
fn soon(mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + TIMEOUT;
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::park_timeout(Duration::from_millis(1));
    }
    true
}

/// Returns the words in `text` that begin with `prefix`, without punctuation after them.
pub(crate) fn words<'t>(text: &'t str, prefix: &'t str) -> impl Iterator<Item = &'t str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c))
        .filter(move |word| word.starts_with(prefix))
}

/// Returns whether all `programs` are installed. Otherwise skips the test.
pub(crate) fn available(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs
        .iter()
        .filter(|program| {
            let found = Command::new("sh")
                .args(["-c", "command -v \"$0\"", program])
                .output();
            !found.unwrap().status.success()
        })
        .collect();
    if missing.is_empty() {
        return true;
    }
    skip(&format!("not installed: {missing:?}"));
    false
}

/// Prints that this test is skipped. Panics if `CI` is set, because CI must run every test.
pub(crate) fn skip(reason: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "must not be skipped: {reason}"
    );
    // Write to standard error directly, because the test harness captures the output of tests that pass.
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let _ = io::stderr().write_all(format!("{name}: skipped, {reason}\n").as_bytes());
}
