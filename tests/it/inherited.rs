//! Sockets that were open before the daemon started: the daemon serves them, or rejects them by number and
//! kind.

use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Daemon, available, eventually, exchange, finish};

/// A script that moves standard input to descriptor 3 and sets `LISTEN_PID`, as a service manager does. The
/// shell then becomes the daemon, so only the shell knows the process id.
const AS_DESCRIPTOR_3: &str = "exec 3<&0 0</dev/null; export LISTEN_PID=$$";

/// Starts the daemon with `socket` on standard input, after `script` has moved it.
fn start(socket: impl Into<OwnedFd>, script: &str, variables: &[(&str, &str)]) -> Child {
    let mut command = Command::new("sh");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LISTEN_") {
            command.env_remove(name);
        }
    }
    command
        .args(["-c", &format!("{script}\nexec \"$0\" \"$@\"")])
        .arg(Daemon::command().get_program())
        .args(["--listen", "127.0.0.1:0", "--print-addr"])
        .envs(variables.iter().copied())
        .stdin(Stdio::from(socket.into()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Returns the output and the exit code of a daemon that must end at once.
fn end(mut child: Child) -> (String, Option<i32>) {
    let code = finish(&mut child).code();
    let mut said = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut said).unwrap();
    (said, code)
}

fn refused(socket: impl Into<OwnedFd>, script: &str, variables: &[(&str, &str)]) -> String {
    let (said, code) = end(start(socket, script, variables));
    assert_eq!(code, Some(1), "{said}");
    let line = said.strip_prefix("echod: ").expect(&said);
    line.strip_suffix('\n').expect(&said).to_owned()
}

/// Stops a daemon that serves. Returns its address and its log.
fn served(mut child: Child) -> (String, String) {
    let mut printed = String::new();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_to_string(&mut printed).unwrap();
    let addr = printed.trim().to_owned();
    let echo = exchange(addr.parse().expect("an address"), b"hello");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let (log, code) = end(child);
    assert_eq!((&*echo, code), (&b"hello"[..], Some(0)), "{log}");
    (addr, log)
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn unix_listener(name: &str) -> UnixListener {
    let path = std::env::temp_dir().join(format!("echod-{name}-{}", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    listener
}

#[test]
fn a_socket_on_standard_input_that_is_not_tcp_is_refused() {
    let refused = |socket: OwnedFd| refused(socket, "", &[]);
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(
        refused(udp.into()),
        "cannot serve standard input: it is a UDP socket; expected a TCP socket"
    );
    assert_eq!(
        refused(unix_listener("stdin").into()),
        "cannot serve standard input: it is a listening Unix socket; expected a TCP socket"
    );
    let (datagram, _peer) = UnixDatagram::pair().unwrap();
    assert_eq!(
        refused(datagram.into()),
        "cannot serve standard input: it is a Unix socket without a connection; expected a TCP socket"
    );
}

#[test]
fn a_unix_connection_on_standard_input_is_a_warning() {
    let (stream, _peer) = UnixStream::pair().unwrap();
    let (_, log) = served(start(stream, "", &[]));
    let warning = "standard input is a Unix stream connection, and is not served";
    assert_eq!(log.matches(warning).count(), 1, "{log}");
}

#[test]
fn a_listener_that_is_passed_is_served() {
    let listener = listener();
    let addr = listener.local_addr().unwrap();
    let child = start(listener, AS_DESCRIPTOR_3, &[("LISTEN_FDS", "1")]);
    assert_eq!(served(child).0, addr.to_string());
}

#[test]
fn what_is_passed_and_cannot_be_served_is_refused_with_its_number_name_and_kind() {
    let refused = |socket: OwnedFd, name| {
        let variables = [("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", name)];
        refused(socket, AS_DESCRIPTOR_3, &variables)
    };
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(
        refused(udp.into(), "daytime"),
        "descriptor 3 (\"daytime\") is a UDP socket; expected a listening TCP socket"
    );
    assert_eq!(
        refused(unix_listener("passed").into(), "local.socket"),
        "descriptor 3 (\"local.socket\") is a listening Unix socket; expected a listening TCP socket"
    );
    let file = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(
        refused(file.into(), "echo"),
        "descriptor 3 (\"echo\") is not a socket; expected a listening TCP socket"
    );
    let peer = listener();
    let connection = TcpStream::connect(peer.local_addr().unwrap()).unwrap();
    assert_eq!(
        refused(connection.into(), "echo"),
        "descriptor 3 (\"echo\") is a TCP connection; expected a listening TCP socket; with \
         Accept=yes, set StandardInput=socket"
    );
    assert_eq!(
        refused(listener().into(), "gopher"),
        "descriptor 3 (\"gopher\") is not named after a service; set FileDescriptorName= to one of: echo, \
         daytime, daytime-long, daytime-short, time, discard, chargen, systat, metrics"
    );
}

#[test]
fn a_variable_of_a_service_manager_that_is_wrong_is_refused_with_its_value() {
    let refused = |variables: &[(&str, &str)]| refused(listener(), AS_DESCRIPTOR_3, variables);
    let start = Instant::now();
    // Fewer than ten descriptors are open beside the one that is passed.
    for count in ["10", "100000000"] {
        let line = refused(&[("LISTEN_FDS", count)]);
        assert!(
            line.starts_with(&format!("LISTEN_FDS=\"{count}\" is wrong: descriptor ")),
            "{line}"
        );
        assert!(line.ends_with(" is not open"), "{line}");
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(
        refused(&[("LISTEN_FDS", "many")]),
        "LISTEN_FDS=\"many\" is wrong: expected a number of descriptors"
    );
    assert_eq!(
        refused(&[("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "echo:time")]),
        "LISTEN_FDNAMES=\"echo:time\" is wrong: expected as many names as LISTEN_FDS says, 1"
    );
}

#[test]
fn what_is_passed_to_another_process_is_not_taken() {
    let passed = listener();
    let addr = passed.local_addr().unwrap();
    let other = "exec 3<&0 0</dev/null; export LISTEN_PID=1";
    let child = start(passed.try_clone().unwrap(), other, &[("LISTEN_FDS", "1")]);
    assert_ne!(served(child).0, addr.to_string());
    // The process id may match by chance, because ids are reused. `LISTEN_PIDFDID` decides, and 1 is the
    // identity of no process.
    let variables = [("LISTEN_FDS", "1"), ("LISTEN_PIDFDID", "1")];
    if has_identities() {
        let child = start(passed, AS_DESCRIPTOR_3, &variables);
        assert_ne!(served(child).0, addr.to_string());
    }
}

#[test]
fn what_is_passed_to_this_process_by_its_identity_is_taken() {
    if !available(&["python3"]) || !has_identities() {
        return;
    }
    let passed = listener();
    let addr = passed.local_addr().unwrap();
    let identity = "import os, sys; print(os.fstat(os.pidfd_open(int(sys.argv[1]))).st_ino)";
    let script = format!("export LISTEN_PIDFDID=$(python3 -c '{identity}' $$)\n{AS_DESCRIPTOR_3}");
    let child = start(passed, &script, &[("LISTEN_FDS", "1")]);
    assert_eq!(served(child).0, addr.to_string());
}

/// Returns whether each pidfd has an inode number of its own, as since Linux 6.9.
fn has_identities() -> bool {
    use rustix::fs::fstat;
    use rustix::process::{PidfdFlags, getpid, pidfd_open};
    let inode = |pid| fstat(pidfd_open(pid, PidfdFlags::empty()).unwrap()).map(|stat| stat.st_ino);
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let differ = inode(getpid()) != inode(Pid::from_child(&child));
    child.kill().unwrap();
    eventually("the end of the connection", || {
        child.try_wait().unwrap().is_some()
    });
    differ
}
