//! The pipes that streams go through: which connection holds one, and for how long.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::{RecvFlags, recv};

use crate::support::{Daemon, connect, eventually, noise, ping, read_to_end};
use crate::turn;
use crate::usage::{descriptors, has_thread};

/// The number of pipes.
const PIPES: usize = 32;

#[test]
fn a_pipe_is_held_while_a_stream_lasts_and_no_longer() {
    let _turn = turn();
    let daemon = Daemon::start(&[]);
    let client = connect(daemon.addr);
    ping(&client, b"x");
    // The reactor that has the client's connection has descriptors of its own.
    eventually("a reactor", || has_thread(&daemon, "reactor"));
    let without = descriptors(&daemon);
    thread::scope(|scope| {
        let (stop, stopped) = mpsc::channel::<()>();
        scope.spawn(|| {
            let block = noise(2, 64 << 10);
            let _stop = stop;
            eventually("a pipe", || {
                (&client).write_all(&block).unwrap();
                descriptors(&daemon) == without + 2
            });
        });
        let mut buffer = vec![0; 64 << 10];
        client
            .set_read_timeout(Some(Duration::from_millis(10)))
            .unwrap();
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
            let read = (&client).read(&mut buffer);
            assert!(read.is_ok() || read.is_err_and(|e| e.kind() == ErrorKind::WouldBlock));
        }
    });
    eventually("no pipe", || descriptors(&daemon) == without);
}

#[test]
fn a_stream_without_a_pipe_is_echoed_and_all_pipes_are_given_back() {
    let _turn = turn();
    let daemon = Daemon::start(&[]);
    // When the daemon serves its first client, it has opened, and closed, what it needs for its start.
    let inside = connect(daemon.addr);
    ping(&inside, b"x");
    eventually("a reactor", || has_thread(&daemon, "reactor"));
    let before = descriptors(&daemon);
    let bytes = noise(3, 4 << 20);
    // All pipes are available again each time, however the clients that held them have left.
    for leave in [Sender::leave, Sender::take_the_rest, Sender::leave] {
        let mut senders: Vec<_> = (0..PIPES).map(|_| Sender::start(daemon.addr)).collect();
        let all_held = before + PIPES + 2 * PIPES;
        eventually("a stream while all pipes are held", || {
            eventually("all pipes are held", || {
                let held = descriptors(&daemon) == all_held;
                if !held {
                    // A sender may have stalled before it got a pipe.
                    senders.iter_mut().for_each(Sender::take_some);
                }
                held
            });
            let client = connect(daemon.addr);
            thread::scope(|scope| {
                scope.spawn(|| {
                    (&client).write_all(&bytes).unwrap();
                    client.shutdown(Shutdown::Write).unwrap();
                });
                let echo = read_to_end(&client).unwrap();
                assert!(echo == bytes, "the echo differs");
            });
            // Otherwise the stream may have got a pipe that another client had given back.
            eventually("it has left", || descriptors(&daemon) <= all_held);
            descriptors(&daemon) == all_held
        });
        senders.into_iter().for_each(leave);
        eventually("no descriptor is left", || descriptors(&daemon) == before);
        ping(&inside, b"unhurt");
    }
    assert_eq!(daemon.stop().code, Some(0));
}

/// A client that sends until the connection accepts no more, and reads only when told to.
struct Sender {
    client: Arc<TcpStream>,
    stop: Arc<AtomicBool>,
    taken: usize,
    /// The sending thread. It returns how many bytes it has sent.
    thread: JoinHandle<usize>,
}

impl Sender {
    fn start(addr: SocketAddr) -> Self {
        let client = Arc::new(connect(addr));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (client, stop) = (Arc::clone(&client), Arc::clone(&stop));
            move || {
                let block = noise(4, 64 << 10);
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    // The write fails after the client has left.
                    let Ok(n) = (&*client).write(&block) else {
                        break;
                    };
                    sent += n;
                }
                let _ = client.shutdown(Shutdown::Write);
                sent
            }
        });
        Self {
            client,
            stop,
            taken: 0,
            thread,
        }
    }

    fn take_some(&mut self) {
        let mut buffer = vec![0; 64 << 10];
        if let Ok((_, n)) = recv(&self.client, &mut buffer, RecvFlags::DONTWAIT) {
            self.taken += n;
        }
    }

    /// Half-closes, and reads the rest of the echo.
    fn take_the_rest(self) {
        self.stop.store(true, Ordering::Relaxed);
        let rest = read_to_end(&self.client).unwrap().len();
        assert_eq!(self.taken + rest, self.thread.join().unwrap());
    }

    /// Closes without reading the echo, which resets the connection.
    fn leave(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.client.shutdown(Shutdown::Both).unwrap();
        self.thread.join().unwrap();
    }
}
