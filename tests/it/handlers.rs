//! What handlers and hooks may do, and what must not be affected by it.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socketserver::{Connection, EchoHandler, HandlerError, RequestHandler, TcpServer, from_fn};

use crate::support::{
    TIMEOUT, TestServer, connect, eventually, exchange, noise, ping, read_to_end,
};

#[test]
fn a_handler_needs_to_be_neither_send_nor_sync() {
    struct Counter(Rc<Cell<u32>>);
    impl RequestHandler for Counter {
        fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
            self.0.set(self.0.get() + 1);
            write!(conn, "{}", self.0.get())
        }
    }
    let server = TestServer::start(|| Counter(Rc::new(Cell::new(6))));
    assert_eq!(exchange(server.addr, b""), b"7");
}

#[test]
fn one_part_of_a_handler_reads_while_another_writes() {
    let server = TestServer::start(from_fn(|conn| {
        let conn = &*conn;
        io::copy(&mut io::BufReader::new(conn), &mut &*conn).map(drop)
    }));
    assert_eq!(exchange(server.addr, b"both ways"), b"both ways");
}

#[test]
fn a_handler_sees_what_was_counted() {
    let (sender, counted) = mpsc::channel();
    let server = TestServer::start(from_fn(move |conn| {
        let mut word = [0; 5];
        conn.read_exact(&mut word)?;
        conn.write_all(b"ok")?;
        sender.send((conn.bytes_in(), conn.bytes_out())).unwrap();
        Ok(())
    }));
    assert_eq!(exchange(server.addr, b"hello"), b"ok");
    assert_eq!(counted.recv_timeout(TIMEOUT).unwrap(), (5, 2));
    let totals = server.stop();
    assert_eq!((totals.bytes_in(), totals.bytes_out()), (5, 2));
}

#[test]
fn a_rejected_connection_is_closed_with_a_fin_and_never_handled() {
    let handled = Arc::new(AtomicUsize::new(0));
    let server = TestServer::with(
        TcpServer::builder().verify_request(|conn| conn.peer_addr().ip().is_ipv6()),
        from_fn({
            let handled = Arc::clone(&handled);
            move |_| {
                handled.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        }),
    );
    let mut client = connect(server.addr);
    client.write_all(b"never read by a handler").unwrap();
    assert_eq!(read_to_end(&client).unwrap(), b"");
    drop(client);
    assert_eq!(server.stop().connections(), 1);
    assert_eq!(handled.load(Ordering::Relaxed), 0);
}

#[test]
fn a_reset_is_a_connection_reset_error_for_the_hook_and_affects_no_other() {
    let failures = Arc::new(Mutex::new(Vec::new()));
    let server = TestServer::with(
        TcpServer::builder().handle_error({
            let failures = Arc::clone(&failures);
            move |_, failure| {
                if let HandlerError::Error(error) = failure {
                    failures.lock().unwrap().push(error.kind());
                }
            }
        }),
        EchoHandler::new,
    );
    let neighbour = connect(server.addr);
    let client = connect(server.addr);
    ping(&client, b"x");
    // `SO_LINGER` with a time of zero makes the close a reset.
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    eventually("the failure", || !failures.lock().unwrap().is_empty());
    assert_eq!(*failures.lock().unwrap(), [ErrorKind::ConnectionReset]);
    ping(&neighbour, b"still here");
}

#[test]
fn a_client_that_has_left_before_its_handler_starts_affects_no_other() {
    let (release, gate) = gate();
    let server = TestServer::with(
        TcpServer::builder().verify_request(move |_| {
            let _ = gate.lock().unwrap().recv();
            true
        }),
        EchoHandler::new,
    );
    for _ in 0..10 {
        let client = connect(server.addr);
        socket2::SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
    drop(release);
    assert_eq!(exchange(server.addr, b"next"), b"next");
}

fn gate() -> (Sender<()>, Mutex<Receiver<()>>) {
    let (sender, receiver) = mpsc::channel();
    (sender, Mutex::new(receiver))
}

#[test]
fn a_huge_write_is_never_cut_short() {
    let payload = noise(1, 16 << 20);
    let server = TestServer::start(from_fn({
        let payload = payload.clone();
        move |conn| conn.write_all(&payload)
    }));
    assert!(exchange(server.addr, b"") == payload);
}

#[test]
fn a_reply_reaches_a_client_that_is_still_sending() {
    // The handler reads nothing. If the server closed at once, a reset would destroy the reply.
    let reply = noise(2, 300_000);
    let server = TestServer::start(from_fn({
        let reply = reply.clone();
        move |conn| conn.write_all(&reply)
    }));
    let client = connect(server.addr);
    let upload = noise(3, 5_000_000);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&client).write_all(&upload).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        assert!(read_to_end(&client).unwrap() == reply);
    });
}

#[test]
fn a_stream_made_non_blocking_says_so_in_writes_and_still_waits_in_reads() {
    let (sender, errors) = mpsc::channel();
    let server = TestServer::start(from_fn(move |conn| {
        conn.stream().set_nonblocking(true)?;
        let mut word = [0; 5];
        conn.read_exact(&mut word)?;
        let error = loop {
            if let Err(error) = conn.write(&[0; 4096]) {
                break error;
            }
        };
        sender.send(error.kind()).unwrap();
        Ok(())
    }));
    let client = connect(server.addr);
    (&client).write_all(b"ready").unwrap();
    // The client reads only after a write has failed, because otherwise there might always be room.
    let error = errors.recv_timeout(TIMEOUT).unwrap();
    assert_eq!(error, ErrorKind::WouldBlock);
    assert!(read_to_end(&client).unwrap().len() > 4096);
}

#[test]
fn a_linger_for_ever_ends_with_the_client() {
    let server = TestServer::with(
        TcpServer::builder().lingering_time(Duration::MAX),
        from_fn(|conn| conn.write_all(b"bye")),
    );
    assert_eq!(exchange(server.addr, b""), b"bye");
    eventually("the end", || server.handle.connection_count() == 0);
}

#[test]
fn a_handler_has_the_stack_that_was_asked_for() {
    // This is more than the default of 2 MiB. With the default, the process would be aborted.
    let builder = TcpServer::builder().stack_size(16 << 20);
    let server = TestServer::with(
        builder,
        from_fn(|conn: &mut Connection| {
            #[allow(clippy::large_stack_arrays, reason = "to need so much is the point")]
            let large = std::hint::black_box([7; 3 << 20]);
            conn.write_all(&large[large.len() - 3..])
        }),
    );
    assert_eq!(exchange(server.addr, b""), [7; 3]);
}

#[test]
fn a_thread_is_reused_and_none_is_kept_per_connection() {
    let threads = Arc::new(Mutex::new(std::collections::HashSet::new()));
    let server = TestServer::start(from_fn({
        let threads = Arc::clone(&threads);
        move |_| {
            threads.lock().unwrap().insert(std::thread::current().id());
            Ok(())
        }
    }));
    for _ in 0..200 {
        exchange(server.addr, b"");
        eventually("the end", || server.handle.connection_count() == 0);
    }
    // There may be a few threads instead of one, because a thread is not idle at the very end of a
    // connection.
    assert!(threads.lock().unwrap().len() < 20);
}

#[test]
fn a_formatted_line_is_written_whole_beside_those_of_another_thread() {
    let server = TestServer::start(from_fn(|conn| {
        let conn = &*conn;
        std::thread::scope(|scope| {
            for name in ["one", "other"] {
                scope.spawn(move || {
                    for number in 0..2000 {
                        // The line has five fragments. Unbuffered, each would be a packet of its own.
                        writeln!(&mut &*conn, "{name} {number} {name} {number}").unwrap();
                    }
                });
            }
        });
        Ok(())
    }));
    let lines = String::from_utf8(exchange(server.addr, b"")).unwrap();
    assert_eq!(lines.lines().count(), 4000);
    for line in lines.lines() {
        let words: Vec<_> = line.split(' ').collect();
        assert!(
            words.len() == 4 && words[..2] == words[2..],
            "torn: {line:?}"
        );
    }
}
