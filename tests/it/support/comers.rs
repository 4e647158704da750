use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};

use super::{TIMEOUT, eventually, noise, read_to_end};

/// Runs `run` while clients connect, send and close all the time. Fails if a client is refused, is reset, or
/// receives anything other than what it sent.
pub(crate) fn while_clients_come(addr: SocketAddr, run: impl FnOnce()) {
    let (is_over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let client = |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        while !is_over.load(Ordering::Relaxed) {
            let message = noise(rng.u64(..), rng.usize(1..5000));
            let echo = exchange(addr, &message)?;
            // A client that is still sending when a drain begins gets only a prefix.
            assert!(message.starts_with(&echo), "not an echo");
            served.fetch_add(1, Ordering::Relaxed);
        }
        io::Result::Ok(())
    };
    thread::scope(|scope| {
        let client = &client;
        let clients = [0, 1, 2, 3].map(|seed| scope.spawn(move || client(seed)));
        // If `run` panics, this still ends the clients.
        let end = Ends(&is_over);
        let more_come = || {
            let before = served.load(Ordering::Relaxed);
            eventually("more clients", || {
                served.load(Ordering::Relaxed) > before + 20
                    || clients.iter().any(ScopedJoinHandle::is_finished)
            });
        };
        more_come();
        run();
        more_come();
        drop(end);
        for client in clients {
            client.join().unwrap().unwrap();
        }
    });
}

/// Ends the clients when it is dropped.
struct Ends<'e>(&'e AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn exchange(addr: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(message)?;
    stream.shutdown(Shutdown::Write)?;
    read_to_end(&stream)
}
