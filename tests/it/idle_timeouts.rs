//! The idle timeout that a handler sets for its connection, and what counts as activity.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::mem;
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use socketserver::{Builder, Connection, Rest, TcpServer, from_fn};

use crate::support::{TIMEOUT, TestServer, connect, logged, ping, read_to_end};

const IDLE: Duration = Duration::from_millis(200);

/// Returns how long each of two reads waits for a silent client, until the read times out. The server has the
/// idle timeout `of_server`, and the handler runs `prepare` first.
fn silent_reads(
    of_server: Option<Duration>,
    prepare: impl Fn(&Connection) + Send + Sync + 'static,
) -> [Duration; 2] {
    let (sender, times) = mpsc::channel();
    let builder = TcpServer::builder().idle_timeout(of_server);
    let server = TestServer::with(
        builder,
        from_fn(move |conn| {
            prepare(conn);
            let times = [(); 2].map(|()| {
                let start = Instant::now();
                let error = conn.read(&mut [0]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                start.elapsed()
            });
            sender.send(times).unwrap();
            Ok(())
        }),
    );
    let _client = connect(server.addr);
    times.recv_timeout(TIMEOUT).unwrap()
}

#[test]
fn a_handlers_own_idle_timeout_replaces_the_servers() {
    for of_server in [None, Some(IDLE / 4), Some(TIMEOUT)] {
        for time in silent_reads(of_server, |conn| conn.set_idle_timeout(IDLE)) {
            assert!(time >= IDLE, "{time:?}");
            assert!(time < TIMEOUT / 2, "{time:?}");
        }
    }
}

#[test]
fn a_read_that_is_tried_again_waits_as_long_once_more() {
    for time in silent_reads(Some(IDLE), |_| {}) {
        assert!(time >= IDLE, "{time:?}");
    }
}

#[test]
fn a_handler_can_wait_for_ever_where_the_server_would_not() {
    let server = TestServer::with(
        TcpServer::builder().idle_timeout(IDLE / 4),
        from_fn(|conn| {
            conn.set_idle_timeout(None);
            // When this wait ends, several of the server's timeouts have passed.
            conn.wait(IDLE)?;
            conn.write_all(b"x")?;
            io::copy(&mut &*conn, &mut &*conn).map(drop)
        }),
    );
    let client = connect(server.addr);
    (&client).read_exact(&mut [0]).unwrap();
    ping(&client, b"hello");
}

#[test]
fn the_idle_timeout_of_a_handler_holds_after_it() {
    for (of_server, own) in [(None, Some(IDLE)), (Some(TIMEOUT), Some(IDLE))] {
        let (builder, lines) = logged();
        let builder = builder.idle_timeout(of_server);
        let server = TestServer::with(
            builder,
            from_fn(move |conn| {
                conn.set_idle_timeout(own);
                conn.continue_with(Rest::Echo, &[]);
                Ok(())
            }),
        );
        let client = connect(server.addr);
        // The server counts from this message at the earliest.
        let start = Instant::now();
        ping(&client, b"hello");
        assert_eq!(read_to_end(&client).unwrap(), b"");
        assert!(start.elapsed() >= IDLE, "{:?}", start.elapsed());
        assert!(start.elapsed() < TIMEOUT / 2);
        assert_eq!(lines.reason_after(client), "idle");
    }
}

/// The pause between two bytes of a download.
const PAUSE: Duration = Duration::from_millis(50);

/// The idle timeout of a download. The download lasts one and a half times as long.
const IDLE_DOWNLOAD: Duration = Duration::from_secs(2);

/// The result of a download.
struct Download {
    /// How the read ended that waited for input meanwhile.
    read: io::Result<usize>,
    /// The longest time from the beginning of a write to the end of the next write, or to the end of the
    /// read. On a busy machine it may be longer than a pause.
    silence: Duration,
}

/// Sends a byte now and then, for longer than an idle timeout. Another thread waits for input meanwhile, as a
/// proxy does.
fn download(conn: &Connection) -> Download {
    thread::scope(|scope| {
        let (stop, stopped) = mpsc::channel::<()>();
        let writer = scope.spawn(move || {
            let mut conn = conn;
            let (mut begun, mut silence) = (Instant::now(), Duration::ZERO);
            for byte in [b"x"; 60].into_iter().chain([b"!"]) {
                let before = mem::replace(&mut begun, Instant::now());
                let written = conn.write_all(byte);
                silence = silence.max(before.elapsed());
                if written.is_err() || stopped.recv_timeout(PAUSE) == Ok(()) {
                    break;
                }
            }
            silence.max(begun.elapsed())
        });
        let mut conn = conn;
        let read = conn.read(&mut [0]);
        // This fails if the writer has already ended.
        let _ = stop.send(());
        let silence = writer.join().unwrap();
        Download { read, silence }
    })
}

/// Runs a download by a client that closes after the last byte.
fn downloaded(builder: Builder, prepare: impl Fn(&Connection) + Send + Sync + 'static) -> Download {
    let (sender, result) = mpsc::channel();
    let server = TestServer::with(
        builder.idle_timeout(IDLE_DOWNLOAD),
        from_fn(move |conn| {
            prepare(conn);
            sender.send(download(conn)).unwrap();
            Ok(())
        }),
    );
    let client: TcpStream = connect(server.addr);
    // `read_until` reads again after EINTR, which a read with a timeout may fail with (signal(7)).
    BufReader::new(&client)
        .read_until(b'!', &mut Vec::new())
        .unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    result.recv_timeout(TIMEOUT).unwrap()
}

/// Fails if a download times out although it was never silent for as long as the timeout. Also fails if
/// twenty downloads were all that silent.
fn assert_is_never_idle(start: impl Fn() -> Download) {
    for _ in 0..20 {
        let Download { read, silence } = start();
        match read {
            Ok(n) => return assert_eq!(n, 0),
            Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
        }
        assert!(silence >= IDLE_DOWNLOAD, "too early: {silence:?}");
    }
    panic!("the machine is too busy");
}

#[test]
fn output_postpones_the_idle_timeout_if_it_counts_as_activity() {
    let server = |counts| TcpServer::builder().output_is_activity(counts);
    assert_is_never_idle(|| downloaded(server(true), |_| {}));
    let set = |conn: &Connection| conn.set_output_is_activity(true);
    assert_is_never_idle(|| downloaded(server(false), set));
}

#[test]
fn output_does_not_postpone_the_idle_timeout_if_it_does_not_count() {
    let error = downloaded(TcpServer::builder(), |_| {}).read.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let counts = TcpServer::builder().output_is_activity(true);
    let unset = |conn: &Connection| conn.set_output_is_activity(false);
    let error = downloaded(counts, unset).read.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}
