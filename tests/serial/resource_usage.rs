//! The cost of a message, of busy-polling, and of an idle connection.

use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use socketserver::{EchoHandler, Rest, TcpServer, from_fn};

use crate::support::{Daemon, connect, eventually, noise, ping, read_to_end};
use crate::turn;
use crate::usage::{status, ticks};

/// Returns how often the server allocates memory while it echoes this many messages to one client.
fn allocations(messages: usize, size: usize) -> u64 {
    let mut server = TcpServer::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr();
    thread::scope(|scope| {
        scope.spawn(move || {
            let client = connect(addr);
            let message = noise(1, size);
            for _ in 0..messages {
                ping(&client, &message);
            }
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_to_end(&client).unwrap(), b"");
        });
        // The server runs on this thread, and the counter counts only this thread.
        let info = allocation_counter::measure(|| {
            server.handle_request(EchoHandler::new).unwrap();
        });
        info.count_total
    })
}

#[test]
fn a_message_allocates_nothing() {
    let _turn = turn();
    // The first wait of the process reads the number of processors, which allocates memory.
    allocations(100, 128);
    let for_few = allocations(100, 128);
    assert!(for_few > 0, "the counter does not count");
    assert_eq!(allocations(10_000, 128), for_few);
}

#[test]
fn a_stream_allocates_as_it_begins_and_not_as_it_goes_on() {
    let _turn = turn();
    let size = 256 << 10;
    // The buffer grows again after each silence, and a busy machine causes some silences.
    let most = allocations(1, 128) + 100;
    assert!(allocations(200, size) <= most);
}

#[test]
fn unread_input_that_is_only_discarded_takes_no_memory() {
    static UNREAD: [u8; 1 << 20] = [0; 1 << 20];
    let _turn = turn();
    let mut server = TcpServer::bind("127.0.0.1:0").unwrap();
    let client = connect(server.local_addr());
    client.shutdown(Shutdown::Write).unwrap();
    let info = allocation_counter::measure(|| {
        let handler = from_fn(|conn| {
            conn.continue_with(Rest::Discard, &UNREAD);
            Ok(())
        });
        server.handle_request(handler).unwrap();
    });
    assert!(info.bytes_max < 1 << 20, "{info:?}");
}

/// Sends this many messages. Each goes out `pause` after the echo of the last.
fn converse(client: &TcpStream, messages: usize, pause: Duration) {
    let (_open, nothing) = mpsc::channel::<()>();
    for _ in 0..messages {
        ping(client, b"x");
        let _ = nothing.recv_timeout(pause);
    }
}

/// The time limit of busy-polling. Each wait that reaches it adds a measurable share of CPU time.
const BUSY_POLL: Duration = Duration::from_millis(5);

fn spent(daemon: &Daemon, work: impl FnOnce()) -> Duration {
    let before = ticks(daemon);
    work();
    Duration::from_millis(10 * (ticks(daemon) - before))
}

#[test]
fn no_message_makes_the_server_busy_poll_longer_than_the_limit() {
    let _turn = turn();
    let daemon = Daemon::start(&["--busy-poll", "5ms"]);
    let client = connect(daemon.addr);
    // Each round ends with a pause, in which busy-polling finds nothing.
    let rounds = 50;
    let has_busy_polled = (0..20).any(|_| {
        let time = spent(&daemon, || {
            for _ in 0..rounds {
                converse(&client, 3, Duration::ZERO);
                converse(&client, 1, 2 * BUSY_POLL);
            }
        });
        // Each round may busy-poll once without success. As much again is for the messages themselves.
        assert!(time <= 2 * rounds * BUSY_POLL, "{time:?}");
        time > BUSY_POLL
    });
    // Without any busy-polling, the test would prove nothing. While other programs keep all processors busy,
    // there may be none.
    assert!(has_busy_polled);
}

#[test]
fn a_connection_that_busy_polling_does_not_help_is_rarely_busy_polled() {
    let _turn = turn();
    let daemon = Daemon::start(&["--busy-poll", "5ms"]);
    let client = connect(daemon.addr);
    let messages = 256;
    let time = spent(&daemon, || converse(&client, messages, 2 * BUSY_POLL));
    // The server busy-polls after 1, 2, 4, … messages, and then after one in 64. As much again is for the
    // messages themselves. Busy-polling after each message would take 256 times `BUSY_POLL`.
    assert!(time <= 2 * (6 + 4) * BUSY_POLL, "{time:?}");
}

#[test]
fn a_slow_connection_is_not_busy_polled() {
    let _turn = turn();
    let daemon = Daemon::start(&["--busy-poll", "20ms"]);
    let client = connect(daemon.addr);
    let time = spent(&daemon, || converse(&client, 30, Duration::from_millis(50)));
    // Busy-polling for half of the messages would take 300 ms.
    assert!(time <= Duration::from_millis(100), "{time:?}");
}

#[test]
fn busy_polling_threads_leave_the_processor_to_other_connections() {
    let _turn = turn();
    let daemon = Daemon::start(&["--busy-poll", "20ms"]);
    thread::scope(|scope| {
        // These are more threads than processors, and each busy-polls most of the time.
        for _ in 0..8 {
            let client = connect(daemon.addr);
            scope.spawn(move || {
                for _ in 0..60 {
                    converse(&client, 4, Duration::ZERO);
                    converse(&client, 1, Duration::from_millis(15));
                }
            });
        }
        let neighbour = connect(daemon.addr);
        let mut times: Vec<_> = (0..100)
            .map(|_| {
                let start = Instant::now();
                ping(&neighbour, b"unhurt");
                start.elapsed()
            })
            .collect();
        times.sort();
        assert!(times[50] < Duration::from_millis(100), "{times:?}");
    });
}

#[test]
fn an_idle_connection_takes_less_than_a_kib_and_no_thread() {
    const CLIENTS: u64 = 4000;
    let _turn = turn();
    let daemon = Daemon::spawn(Daemon::command().args(["--listen", "127.0.0.1:0"]));
    // After its first client, the daemon has the threads that it needs.
    ping(&connect(daemon.addr), b"x");
    let before = status(&daemon, "VmRSS");
    let clients: Vec<_> = (0..CLIENTS).map(|_| connect(daemon.addr)).collect();
    for client in &clients {
        ping(client, b"x");
    }
    eventually("little memory", || {
        status(&daemon, "VmRSS").saturating_sub(before) < CLIENTS
    });
    assert!(status(&daemon, "Threads") <= 50);
}
