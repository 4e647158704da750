//! The echo over a path that delays and loses packets.
//!
//! The path consists of a network namespace with a TUN device, and of two threads. Packets to the address
//! 10.77.0.2 come out of the device, and `socat` passes each to a thread. The thread delays or drops the
//! packet, swaps its source and destination, and sends it back into the device. So a client that connects to
//! 10.77.0.2 reaches the server on 10.77.0.1 over a bad network. The checksums stay valid, because a sum does
//! not depend on the order. `tc netem` would do the same, but not every kernel has it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::geteuid;
use rustix::thread::move_into_link_name_space;
use socketserver::{EchoHandler, TcpServer, from_fn};

use crate::support::{
    Daemon, TestServer, available, connect, eventually, example, noise, read_to_end, skip,
};

/// The delay in each direction.
const DELAY: Duration = Duration::from_millis(10);
/// Packets lost of a hundred, in each direction.
const LOST: u8 = 2;

struct LossyPath {
    folder: PathBuf,
    namespace: Child,
    socat: Child,
}

impl LossyPath {
    fn new(name: &str) -> Option<Self> {
        if !available(&["ip", "nsenter", "socat", "unshare"]) {
            return None;
        }
        if !geteuid().is_root() || !Path::new("/dev/net/tun").exists() {
            skip("it takes root and /dev/net/tun to make a lossy path");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("echod-path-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let [outside, inside] = ["outside", "inside"].map(|end| folder.join(end));
        let mirror = UnixDatagram::bind(&outside).unwrap();

        // The namespace exists as long as this shell, which ends when its input ends.
        let mut namespace = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo up && cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut up = String::new();
        let stdout = namespace.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut up).unwrap();
        assert_eq!(up, "up\n");
        let mut path = Self {
            socat: in_namespace(&namespace, "socat")
                .arg("TUN:10.77.0.1/24,tun-name=lossy,iff-no-pi,iff-up")
                .arg(format!(
                    "UNIX-SENDTO:{},bind={}",
                    outside.display(),
                    inside.display()
                ))
                .spawn()
                .unwrap(),
            namespace,
            folder,
        };
        eventually("the device", || {
            assert!(path.socat.try_wait().unwrap().is_none(), "socat has ended");
            inside.exists() && path.enter(|| connectable("10.77.0.2:1"))
        });
        turn_back(mirror, inside);
        Some(path)
    }

    fn command(&self, program: &str) -> Command {
        in_namespace(&self.namespace, program)
    }

    /// Runs `f` on a thread in the namespace. A socket stays in the namespace in which it was created.
    fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.namespace.id())).unwrap();
        thread::scope(|scope| {
            let entered = scope.spawn(move || {
                move_into_link_name_space(namespace.as_fd(), None).unwrap();
                f()
            });
            entered.join().unwrap()
        })
    }

    fn serve<F, H>(&self, factory: F) -> (TestServer, SocketAddr)
    where
        F: Fn() -> H + Send + Sync + 'static,
        H: socketserver::RequestHandler + 'static,
    {
        let server = self.enter(|| TcpServer::bind("10.77.0.1:0").unwrap());
        let port = server.local_addr().port();
        (
            TestServer::serve(server, factory),
            SocketAddr::from(([10, 77, 0, 2], port)),
        )
    }
}

impl Drop for LossyPath {
    fn drop(&mut self) {
        drop(self.namespace.stdin.take());
        for child in [&mut self.socat, &mut self.namespace] {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn in_namespace(namespace: &Child, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args([
        &format!("--net=/proc/{}/ns/net", namespace.id()),
        "--",
        program,
    ]);
    command
}

/// Returns whether there is a route to an address, even if nothing listens there.
fn connectable(addr: &str) -> bool {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(addr).is_ok()
}

/// Sends packets back to their source, late, and not all of them.
fn turn_back(mirror: UnixDatagram, inside: PathBuf) {
    let back = mirror.try_clone().unwrap();
    let (sender, delayed) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut rng = fastrand::Rng::with_seed(862);
        let mut packet = [0; 2048];
        // This ends when the receiver of the packets has closed its end.
        while let Ok(n) = mirror.recv(&mut packet) {
            let is_ipv4 = packet[0] >> 4 == 4;
            if is_ipv4 && rng.u8(..100) >= LOST {
                let (source, destination) = packet[12..20].split_at_mut(4);
                source.swap_with_slice(destination);
                let due = Instant::now() + DELAY;
                if sender.send((due, packet[..n].to_vec())).is_err() {
                    return;
                }
            }
        }
    });
    thread::spawn(move || {
        for (due, packet) in delayed {
            while let Some(left) = due.checked_duration_since(Instant::now()) {
                thread::park_timeout(left);
            }
            if back.send_to(&packet, &inside).is_err() {
                return;
            }
        }
    });
}

#[test]
fn the_conformance_suite_passes_over_a_lossy_path() {
    let Some(path) = LossyPath::new("suite") else {
        return;
    };
    let echod = env!("CARGO_BIN_EXE_echod");
    let daemon = Daemon::spawn(path.command(echod).args(["-v", "--listen", "10.77.0.1:0"]));
    let addr = format!("10.77.0.2:{}", daemon.addr.port());
    let suite = example("conformance")
        .get_program()
        .to_str()
        .unwrap()
        .to_owned();
    for case in [
        "nothing",
        "pipelined",
        "half-close",
        "1 MiB",
        "urgent",
        "vanish",
    ] {
        let output = path
            .command(&suite)
            .args(["--only", case, &addr])
            .output()
            .unwrap();
        let table = String::from_utf8(output.stdout).unwrap();
        assert!(table.contains("\n1 passed, 0 failed\n"), "{table}");
    }
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_client_that_is_still_sending_gets_its_whole_reply_over_a_lossy_path() {
    let Some(path) = LossyPath::new("reply") else {
        return;
    };
    // The handler reads nothing. The close must not cause a reset that destroys the reply.
    let reply = noise(20, 100_000);
    let (server, addr) = path.serve(from_fn({
        let reply = reply.clone();
        move |conn| conn.write_all(&reply)
    }));
    for round in 0..5 {
        let start = Instant::now();
        let client = path.enter(|| connect(addr));
        assert!(start.elapsed() >= 2 * DELAY, "this is not the lossy path");
        let upload = noise(round, 200_000);
        thread::scope(|scope| {
            scope.spawn(|| {
                (&client).write_all(&upload).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
            });
            assert!(read_to_end(&client).unwrap() == reply);
        });
    }
    server.stop();
}

#[test]
fn a_stop_in_mid_stream_loses_nothing_that_was_echoed_over_a_lossy_path() {
    let Some(path) = LossyPath::new("stop") else {
        return;
    };
    for round in 0..3 {
        let (server, addr) = path.serve(EchoHandler::new);
        let client = path.enter(|| connect(addr));
        let sent = noise(round, 8 << 20);
        thread::scope(|scope| {
            scope.spawn(|| {
                // This ends when the server has closed.
                let _ = (&client).write_all(&sent);
            });
            let mut echo = vec![0; 100_000];
            (&client).read_exact(&mut echo).unwrap();
            let stopping = scope.spawn(|| server.stop());
            let mut part = [0; 4096];
            while let Ok(n @ 1..) = (&client).read(&mut part) {
                echo.extend_from_slice(&part[..n]);
            }
            let _ = client.shutdown(Shutdown::Both);
            let totals = stopping.join().unwrap();
            assert!(echo == sent[..echo.len()], "the echo is not a prefix");
            assert_eq!(
                (echo.len() as u64, totals.aborted()),
                (totals.bytes_out(), 0)
            );
        });
    }
}
