//! Hooks of connections that end in a reactor while no thread can be started.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{RwLock, mpsc};
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socketserver::{EchoHandler, Rest, Stage, TcpServer, from_fn};

use crate::support::{TIMEOUT, TestServer, connect, eventually, ping};
use crate::turn;
use crate::usage::own_status;

/// The stack size of the servers' threads, so large that a limit of memory can prevent them alone.
const STACK: usize = 512 << 20;

/// Runs `run` while this process has too little memory for another thread of a server.
fn out_of_threads<T>(run: impl FnOnce() -> T) -> T {
    let before = getrlimit(Resource::As);
    let too_little = Rlimit {
        current: Some(own_status("VmSize:") * 1024 + STACK as u64 / 2),
        ..before
    };
    setrlimit(Resource::As, too_little).unwrap();
    // The C library keeps the stacks of threads that have ended. Take them, so that no new thread can.
    let end = RwLock::new(());
    thread::scope(|scope| {
        let running = end.write().unwrap();
        let wait = || drop(end.read());
        let builder = || thread::Builder::new().stack_size(STACK);
        while builder().spawn_scoped(scope, wait).is_ok() {}
        let result = run();
        setrlimit(Resource::As, before).unwrap();
        drop(running);
        result
    })
}

#[test]
fn a_close_hook_that_found_no_thread_runs_after_the_relief_even_if_no_client_comes() {
    let _turn = turn();
    let (sender, closed) = mpsc::channel();
    let builder = TcpServer::builder()
        .stack_size(STACK)
        .on_close(move |conn| sender.send(conn.id()).unwrap());
    // A client that sends `k` keeps its thread. Any other leaves the thread at once.
    let server = TestServer::with(
        builder,
        from_fn(|conn| {
            let mut first = [0];
            conn.read_exact(&mut first)?;
            conn.write_all(&first)?;
            if first == *b"k" {
                return io::copy(&mut &*conn, &mut io::sink()).map(drop);
            }
            conn.continue_with(Rest::Echo, &[]);
            Ok(())
        }),
    );
    let [first, second] = [(); 2].map(|()| connect(server.addr));
    ping(&first, b"e");
    ping(&second, b"e");
    let mut keeping = Vec::new();
    out_of_threads(|| {
        // With a client on each thread, no thread leads, so the supervisor does.
        while server.handle.status().threads() > keeping.len() {
            let client = connect(server.addr);
            ping(&client, b"k");
            keeping.push(client);
        }
        drop(first);
        eventually("its end", || {
            server.handle.connections()[0].stage() == Stage::Closing
        });
        // The reactor echoes this after it has looked for a thread.
        ping(&second, b"unhurt");
    });
    assert_eq!(closed.recv_timeout(TIMEOUT), Ok(1));
}

#[test]
fn a_server_of_one_connection_ends_even_if_its_close_hook_found_no_thread() {
    let _turn = turn();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    let (sender, closed) = mpsc::channel();
    let server = TcpServer::builder()
        .stack_size(STACK)
        .on_close(move |conn| sender.send(conn.id()).unwrap())
        .from_stream(stream)
        .unwrap();
    let server = TestServer::serve(server, EchoHandler::new);
    ping(&client, b"in");
    eventually("no thread", || server.handle.status().threads() == 0);
    out_of_threads(|| {
        drop(client);
        assert!(closed.recv_timeout(TIMEOUT).is_ok());
    });
    assert_eq!(server.join().connections(), 1);
}
