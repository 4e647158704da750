//! Ten thousand panics leave nothing behind, and each is logged once.

use std::fs;
use std::io;
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once};
use std::thread;

use log::{Level, LevelFilter, Log, Metadata, Record};
use socketserver::{Connection, EchoHandler, RequestHandler, from_fn};

use crate::support::{TestServer, connect, eventually, exchange, ping, read_to_end};
use crate::turn;

/// Panics in `handle`, in `finish`, and with a payload that panics when it is dropped.
struct Fragile;

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("when dropped");
    }
}

impl RequestHandler for Fragile {
    fn handle(&mut self, conn: &mut Connection) -> std::io::Result<()> {
        let mut step = [0];
        std::io::Read::read_exact(conn, &mut step)?;
        match step[0] {
            b'h' => panic!("\x1b[31min handle\n{}", conn.peer_addr()),
            b'b' => panic::panic_any(Bomb),
            _ => Ok(()),
        }
    }

    fn finish(&mut self, conn: &mut Connection) -> std::io::Result<()> {
        assert!(conn.bytes_in() == 0, "in finish");
        Ok(())
    }
}

/// Counts the log lines at `error`.
struct Counter {
    errors: AtomicUsize,
    last_two: Mutex<[String; 2]>,
}

static COUNTER: Counter = Counter {
    errors: AtomicUsize::new(0),
    last_two: Mutex::new([String::new(), String::new()]),
};

impl Log for Counter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() == Level::Error
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.errors.fetch_add(1, Ordering::Relaxed);
            let mut last_two = self.last_two.lock().unwrap();
            last_two.rotate_left(1);
            last_two[1] = record.args().to_string();
        }
    }

    fn flush(&self) {}
}

/// Starts counting, and keeps the standard panic hook from printing the panics of these tests.
fn count_errors() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&COUNTER).unwrap();
        log::set_max_level(LevelFilter::Error);
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if thread::current().name() != Some("connection") {
                print(info);
            }
        }));
    });
}

/// Returns the descriptors and the resident kilobytes of this process.
fn held() -> (usize, usize) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| -> usize {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
    (descriptors, field("VmRSS:"))
}

#[test]
fn ten_thousand_panics_leave_no_thread_descriptor_or_byte_behind() {
    let _turn = turn();
    count_errors();
    let counted = COUNTER.errors.load(Ordering::Relaxed);
    let server = TestServer::start(|| Fragile);
    let panic_times = |times: usize| {
        for round in 0..times {
            let step = if round % 2 == 0 { b"h" } else { b"b" };
            assert_eq!(exchange(server.addr, step), b"");
        }
        eventually("no connection", || server.handle.connection_count() == 0);
    };
    // After a first round, the allocator and the server hold what they keep for reuse.
    panic_times(1000);
    let (descriptors, resident) = held();
    panic_times(10_000);
    let (descriptors_after, resident_after) = held();
    assert_eq!(descriptors_after, descriptors);
    assert!(
        resident_after < resident + 1024,
        "{resident} kB before, {resident_after} kB after"
    );
    // Each connection panics in `handle` and in `finish`.
    assert_eq!(COUNTER.errors.load(Ordering::Relaxed) - counted, 2 * 11_000);
    server.stop();
    eventually("the end of the threads", || serving_threads() == 0);
}

/// Returns how many threads of this process serve connections or wait to serve one.
fn serving_threads() -> usize {
    fs::read_dir("/proc/self/task")
        .unwrap()
        .filter(|task| {
            let name = task.as_ref().unwrap().path().join("comm");
            fs::read_to_string(name).is_ok_and(|name| name.trim() == "connection")
        })
        .count()
}

#[test]
fn threads_end_with_their_server() {
    let _turn = turn();
    // Copy here, because `EchoHandler` leaves the echo to the server and keeps no thread.
    let by_hand = from_fn(|conn| io::copy(&mut &*conn, &mut &*conn).map(drop));
    let server = TestServer::start(by_hand);
    let clients: Vec<_> = (0..50).map(|_| connect(server.addr)).collect();
    for client in &clients {
        ping(client, b"x");
    }
    drop(clients);
    eventually("no connection", || server.handle.connection_count() == 0);
    // These threads would stay idle for a while. One more leads. Threads of an earlier server may still be
    // ending.
    eventually("idle threads", || serving_threads() == 50 + 1);
    server.stop();
    eventually("the end of the threads", || serving_threads() == 0);
}

#[test]
fn a_panic_is_logged_with_its_peer_on_one_line() {
    let _turn = turn();
    count_errors();
    let server = TestServer::start(|| Fragile);
    let client = connect(server.addr);
    let peer = client.local_addr().unwrap();
    std::io::Write::write_all(&mut &client, b"h").unwrap();
    assert_eq!(read_to_end(&client).unwrap(), b"");
    server.stop();
    assert_eq!(
        *COUNTER.last_two.lock().unwrap(),
        [
            // Bytes of a client in the message must neither begin a line of their own nor change its colour.
            format!(r"peer={peer} handler: panicked: \u{{1b}}[31min handle\n{peer}"),
            format!("peer={peer} handler: panicked: in finish"),
        ]
    );

    // Other connections of the same process are still served.
    let server = TestServer::start(EchoHandler::new);
    thread::scope(|scope| {
        scope.spawn(|| ping(&connect(server.addr), b"unhurt"));
    });
}
