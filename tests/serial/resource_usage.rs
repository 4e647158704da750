//! What a message, a wait and an idle connection cost.

use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use socketserver::{EchoHandler, TcpServer};

use crate::support::{Daemon, connect, eventually, noise, ping, read_to_end};
use crate::turn;
use crate::usage::{status, ticks};

/// Returns how often the server allocates while it echoes so many messages to one client.
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
        // It serves on this thread, and only this one is counted.
        let info = allocation_counter::measure(|| {
            server.handle_request(EchoHandler::new).unwrap();
        });
        info.count_total
    })
}

#[test]
fn a_message_allocates_nothing() {
    let _turn = turn();
    // The first wait of the process learns how many processors there are.
    allocations(100, 128);
    let for_few = allocations(100, 128);
    assert!(for_few > 0, "the counter does not count");
    assert_eq!(allocations(10_000, 128), for_few);
}

#[test]
fn a_stream_allocates_as_it_begins_and_not_as_it_goes_on() {
    let _turn = turn();
    let size = 256 << 10;
    // The buffer grows again after each silence, and a busy machine makes some.
    let most = allocations(1, 128) + 100;
    assert!(allocations(200, size) <= most);
}

/// Sends so many messages, each so long after the echo of the last.
fn converse(client: &TcpStream, messages: usize, pause: Duration) {
    let (_open, nothing) = mpsc::channel::<()>();
    for _ in 0..messages {
        ping(client, b"x");
        let _ = nothing.recv_timeout(pause);
    }
}

/// A wait so long that it shows in a process's time.
const SPIN: Duration = Duration::from_millis(5);

fn spent(daemon: &Daemon, work: impl FnOnce()) -> Duration {
    let before = ticks(daemon);
    work();
    Duration::from_millis(10 * (ticks(daemon) - before))
}

#[test]
fn no_message_makes_the_server_wait_awake_for_longer_than_it_may() {
    let _turn = turn();
    let daemon = Daemon::start(&["--busy-poll", "5ms"]);
    let client = connect(daemon.addr);
    // Whatever makes it wait again is followed by what it waits for in vain.
    let rounds = 50;
    let time = spent(&daemon, || {
        for _ in 0..rounds {
            converse(&client, 3, Duration::ZERO);
            converse(&client, 1, 2 * SPIN);
        }
    });
    // One wait in vain a round, and as much again for the messages themselves.
    assert!(time <= 2 * rounds * SPIN, "{time:?}");
    // Or this shows nothing.
    assert!(time > SPIN, "it does not wait: {time:?}");
}

#[test]
fn a_connection_that_waiting_does_not_help_costs_next_to_none() {
    let _turn = turn();
    let daemon = Daemon::start(&["--busy-poll", "5ms"]);
    let client = connect(daemon.addr);
    let messages = 256;
    let time = spent(&daemon, || converse(&client, messages, 2 * SPIN));
    // After 1, 2, 4, … messages, and then one in 64. As much again is for the messages themselves.
    // Were it for each, it would be 256.
    assert!(time <= 2 * (6 + 4) * SPIN, "{time:?}");
}

#[test]
fn a_slow_connection_is_not_waited_for_at_all() {
    let _turn = turn();
    let daemon = Daemon::start(&["--busy-poll", "20ms"]);
    let client = connect(daemon.addr);
    let time = spent(&daemon, || converse(&client, 30, Duration::from_millis(50)));
    // If it were for half of them, it would take 300 ms.
    assert!(time <= Duration::from_millis(100), "{time:?}");
}

#[test]
fn those_that_wait_awake_leave_the_processor_to_a_neighbour() {
    let _turn = turn();
    let daemon = Daemon::start(&["--busy-poll", "20ms"]);
    thread::scope(|scope| {
        // More than there are processors, awake for most of the time.
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
    // With one served, the daemon has the threads that it needs.
    ping(&connect(daemon.addr), b"x");
    let before = status(&daemon, "VmRSS");
    let clients: Vec<_> = (0..CLIENTS).map(|_| connect(daemon.addr)).collect();
    for client in &clients {
        ping(client, b"x");
    }
    eventually("little memory", || {
        (status(&daemon, "VmRSS") - before) < CLIENTS
    });
    assert!(status(&daemon, "Threads") <= 50);
}
