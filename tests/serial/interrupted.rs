//! Signals that keep interrupting a thread do not suspend its deadlines.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use procfs::process::Process;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::gettid;
use socketserver::{Builder, Connection, EchoHandler, TcpServer, from_fn};

use crate::support::{TIMEOUT, TestServer, connect, ping, read_to_end};
use crate::turn;

/// Much longer than the pause between two signals.
const LIMIT: Duration = Duration::from_millis(300);

/// Makes SIGUSR1 interrupt system calls and do nothing else.
fn catch_signals() {
    // The handler must stay installed, because otherwise the second signal would end the process. Although it
    // has `SA_RESTART`, `poll(2)` and reads or writes with a timeout are interrupted (`signal(7)`).
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::default()).unwrap();
}

/// Interrupts a thread every 5 ms until `done` receives something.
fn interrupt<T>(thread: Pid, done: &Receiver<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        // The signal goes to the process, and Linux prefers the thread with this id. The thread may have
        // ended, so the result is ignored.
        let _ = kill_process(thread, Signal::USR1);
        match done.recv_timeout(Duration::from_millis(5)) {
            Ok(outcome) => return outcome,
            Err(RecvTimeoutError::Timeout) => {
                assert!(Instant::now() < deadline, "a deadline is suspended");
            }
            Err(RecvTimeoutError::Disconnected) => panic!("it failed"),
        }
    }
}

/// Interrupts the thread of a handler until the handler has sent something.
fn interrupt_handler<T: Send + 'static>(
    builder: Builder,
    handle: impl Fn(&mut Connection, &Sender<T>) -> std::io::Result<()> + Send + Sync + 'static,
) -> T {
    let _turn = turn();
    catch_signals();
    let (thread, threads) = mpsc::channel();
    let (done, is_done) = mpsc::channel();
    let server = TestServer::with(
        builder,
        from_fn(move |conn| {
            thread.send(gettid()).unwrap();
            handle(conn, &done)
        }),
    );
    let _client = connect(server.addr);
    interrupt(threads.recv_timeout(TIMEOUT).unwrap(), &is_done)
}

#[test]
fn signals_do_not_suspend_the_idle_timeout_of_a_read() {
    let kind = interrupt_handler(TcpServer::builder().idle_timeout(LIMIT), |conn, done| {
        let error = conn.read(&mut [0; 64]).unwrap_err();
        done.send(error.kind()).unwrap();
        Ok(())
    });
    assert_eq!(kind, ErrorKind::TimedOut);
}

#[test]
fn signals_do_not_suspend_the_lifetime_in_a_read() {
    let n = interrupt_handler(TcpServer::builder().max_lifetime(LIMIT), |conn, done| {
        done.send(conn.read(&mut [0; 64])?).unwrap();
        Ok(())
    });
    assert_eq!(n, 0);
}

#[test]
fn signals_do_not_suspend_the_timeout_of_a_write() {
    let kind = interrupt_handler(TcpServer::builder().write_timeout(LIMIT), |conn, done| {
        let error = loop {
            // The client reads nothing, so a write times out.
            if let Err(error) = conn.write(&[0; 1 << 14]) {
                break error;
            }
        };
        done.send(error.kind()).unwrap();
        Ok(())
    });
    assert_eq!(kind, ErrorKind::TimedOut);
}

/// Interrupts a thread while it runs `run`.
fn interrupt_while<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    let (thread, threads) = mpsc::channel();
    let (done, is_done) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            thread.send(gettid()).unwrap();
            done.send(run()).unwrap();
        });
        interrupt(threads.recv_timeout(TIMEOUT).unwrap(), &is_done)
    })
}

#[test]
fn signals_do_not_suspend_the_timeout_of_an_accept() {
    let _turn = turn();
    catch_signals();
    let builder = TcpServer::builder().accept_timeout(LIMIT);
    let mut server = builder.bind("127.0.0.1:0").unwrap();
    let peer = interrupt_while(|| server.handle_request(EchoHandler::new).unwrap());
    assert_eq!(peer, None);
}

#[test]
fn signals_do_not_suspend_the_drain_timeout() {
    let _turn = turn();
    catch_signals();
    let builder = TcpServer::builder().drain_timeout(LIMIT);
    let server = builder.bind("127.0.0.1:0").unwrap();
    let (addr, handle) = (server.local_addr(), server.handle());
    // The handler ignores every request to end.
    let (release, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let stuck = from_fn(move |conn| {
        conn.write_all(b"x")?;
        let _ = gate.lock().unwrap().recv();
        Ok(())
    });
    let totals = interrupt_while(|| {
        thread::scope(|scope| {
            scope.spawn(|| {
                connect(addr).read_exact(&mut [0]).unwrap();
                handle.shutdown();
            });
            server.serve_forever(stuck).unwrap()
        })
    });
    assert_eq!(totals.aborted(), 1);
    drop(release);
}

#[test]
fn signals_do_not_suspend_the_idle_timeout_in_a_reactor() {
    let _turn = turn();
    catch_signals();
    let builder = TcpServer::builder().idle_timeout(LIMIT);
    let server = TestServer::with(builder, EchoHandler::new);
    let client = connect(server.addr);
    ping(&client, b"x");
    let (done, is_done) = mpsc::channel();
    let reading = thread::spawn(move || done.send(read_to_end(&client).unwrap()).unwrap());
    let mut reactor = None;
    crate::support::eventually("a reactor", || {
        let tasks = Process::myself().unwrap().tasks().unwrap();
        reactor = tasks
            .flatten()
            .find(|task| task.stat().is_ok_and(|stat| stat.comm == "reactor"));
        reactor.is_some()
    });
    let reactor = Pid::from_raw(reactor.unwrap().tid).unwrap();
    assert_eq!(interrupt(reactor, &is_done), b"");
    reading.join().unwrap();
}
