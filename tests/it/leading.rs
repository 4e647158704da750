//! Which thread runs a handler: a thread of the connection's own, or, if the handler never blocks, the
//! leader, which accepts the next client, too.

use std::io::{self, Read, Write};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use socketserver::{Builder, CloseReason, Connection, RequestHandler, Rest, TcpServer, Totals};

use crate::support::{
    TIMEOUT, TestServer, assert_takes, connect, eventually, exchange, ping, read_to_end,
};

/// Sends the id of its thread to the test, and then does what `then` does.
struct Reporting<const NEVER_BLOCKS: bool> {
    threads: Sender<ThreadId>,
    then: Then,
}

impl<const NEVER_BLOCKS: bool> RequestHandler for Reporting<NEVER_BLOCKS> {
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        self.threads.send(thread::current().id()).unwrap();
        (self.then)(conn)
    }

    fn never_blocks() -> bool {
        NEVER_BLOCKS
    }
}

/// What a handler does with its connection.
type Then = fn(&mut Connection) -> io::Result<()>;

/// Serves five clients, one after the other. Returns whether one thread ran the handlers of all of them, and
/// the totals. Otherwise no two successive clients have the same thread.
fn serve_five<const NEVER_BLOCKS: bool>(builder: Builder, then: Then) -> (bool, Totals) {
    let (sender, threads) = mpsc::channel();
    let server = TestServer::with(builder, move || Reporting::<NEVER_BLOCKS> {
        threads: sender.clone(),
        then,
    });
    let threads: Vec<_> = (0..5)
        .map(|_| {
            // A client whose handler panics is reset, unless the handler has read everything.
            let _ = read_to_end(&connect(server.addr));
            threads.recv_timeout(TIMEOUT).unwrap()
        })
        .collect();
    let totals = server.stop();
    assert_eq!(totals.connections(), 5);
    let same: Vec<_> = threads.windows(2).map(|pair| pair[0] == pair[1]).collect();
    let all = same[0];
    assert!(same.iter().all(|&same| same == all), "{same:?}");
    (all, totals)
}

#[test]
fn the_leader_runs_a_handler_that_never_blocks_and_other_handlers_have_threads_of_their_own() {
    let builder = TcpServer::builder;
    assert!(serve_five::<true>(builder(), |_| Ok(())).0);
    assert!(!serve_five::<false>(builder(), |_| Ok(())).0);
}

#[test]
fn with_a_hook_no_handler_runs_on_the_leader() {
    let builder = TcpServer::builder;
    for builder in [
        builder().verify_request(|_| true),
        builder().handle_error(|_, _| {}),
        builder().on_close(|_| {}),
    ] {
        assert!(!serve_five::<true>(builder, |_| Ok(())).0);
    }
    #[cfg(feature = "proxy-protocol")]
    {
        // The clients are not from this network.
        let builder = builder().proxy_protocol(["192.0.2.0/24".parse().unwrap()]);
        assert!(!serve_five::<true>(builder, |_| Ok(())).0);
    }
}

#[test]
fn a_handler_that_fails_on_the_leader_ends_its_connection_only() {
    let builder = TcpServer::builder;
    let (by_leader, totals) = serve_five::<true>(builder(), |_| Err(io::Error::other("full")));
    assert!(by_leader);
    assert_eq!(totals.closed_by(CloseReason::Error), 5);
    let (by_leader, totals) = serve_five::<true>(builder(), |_| panic!("a bug"));
    assert!(by_leader);
    assert_eq!(totals.closed_by(CloseReason::Panic), 5);
}

#[test]
fn a_greeting_on_the_leader_comes_before_the_echo() {
    struct Welcome;
    impl RequestHandler for Welcome {
        fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
            conn.write_all(b"welcome\n")?;
            conn.continue_with(Rest::Echo, &[]);
            Ok(())
        }

        fn never_blocks() -> bool {
            true
        }
    }
    let server = TestServer::start(|| Welcome);
    let silent = connect(server.addr);
    assert_eq!(exchange(server.addr, b"hello"), b"welcome\nhello");
    let mut greeting = [0; 8];
    (&silent).read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"welcome\n");
    ping(&silent, b"still here");
}

#[test]
fn a_handler_that_blocks_the_leader_is_aborted_at_the_drain_timeout() {
    /// Sends without end, although it says that it never blocks.
    struct Blocks;
    impl RequestHandler for Blocks {
        fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
            while conn.write_all(&[0; 4096]).is_ok() {}
            Ok(())
        }

        fn never_blocks() -> bool {
            true
        }
    }
    let drain = Duration::from_millis(700);
    for (at_once, time) in [(false, drain), (true, Duration::ZERO)] {
        assert_takes(time, Duration::from_secs(1), || {
            let builder = TcpServer::builder().drain_timeout(drain);
            let server = TestServer::with(builder, || Blocks);
            let _client = connect(server.addr);
            eventually("a connection", || server.handle.connection_count() == 1);
            let start = Instant::now();
            if at_once {
                server.handle.shutdown_now();
            }
            assert_eq!(server.stop().aborted(), 1);
            start.elapsed()
        });
    }
}
