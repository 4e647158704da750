//! Streams: the client sends as fast as the server reads, and receives the echo meanwhile.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use super::clients::{connect_all, end_all};
use super::connection::{Connection, check};
use super::noise::{LONGEST, Noise};
use super::poller::{Poller, TIMEOUT, silence};
use super::{Target, Window, add_resident};
use crate::failure::{Failure, Result};
use crate::figures::{Figure, Figures};

/// The most bytes of one `send`. Programs that move much data usually write the size of a pipe at once.
const CHUNK: usize = 64 << 10;

pub(super) fn run(target: &Target, streams: usize) -> Result<Figures> {
    let noise = Noise::new();
    let mut poller = Poller::new()?;
    let mut clients = connect_all(&mut poller, target.addr, streams)?.connections;
    for (number, connection) in clients.iter().enumerate() {
        poller.modify(connection, number, EventFlags::IN | EventFlags::OUT)?;
    }
    let mut buffer = vec![0; LONGEST];
    let mut run_for = |time| run_for(&mut poller, &mut clients, &noise, &mut buffer, time);
    run_for(target.warm_up)?;
    let window = Window::open(target)?;
    let bytes = run_for(target.time)?;
    let figures = figures(window, bytes, target)?;
    end_all(&mut poller, &mut clients, &noise)?;
    Ok(figures)
}

/// Sends and receives for `time`. Returns how many bytes came back.
fn run_for(
    poller: &mut Poller,
    clients: &mut [Connection],
    noise: &Noise,
    buffer: &mut [u8],
    time: Duration,
) -> Result<u64> {
    let start = Instant::now();
    let mut bytes = 0;
    while start.elapsed() < time {
        for index in 0..poller.wait()? {
            let (number, ready) = poller.ready(index);
            let connection = &mut clients[number];
            if ready.contains(EventFlags::IN) {
                match connection.receive(noise, buffer)? {
                    Some(0) => return Err(Failure::new("a FIN before the client's")),
                    received => bytes += received.unwrap_or(0) as u64,
                }
            }
            if ready.contains(EventFlags::OUT) {
                connection.send(noise, CHUNK)?;
            }
        }
    }
    Ok(bytes)
}

/// Runs one stream with a thread that writes and a thread that reads.
pub(super) fn run_with_threads(target: &Target) -> Result<Figures> {
    let connection = connect_all(&mut Poller::new()?, target.addr, 1)?.connections;
    let socket = connection[0].as_fd();
    let option = |errno| Failure::errno("set an option", errno);
    ioctl_fionbio(socket, false).map_err(option)?;
    for timeout in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(socket, timeout, Some(TIMEOUT)).map_err(option)?;
    }
    let (noise, stop, received) = (Noise::new(), AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let sending = scope.spawn(|| send_until(socket, &noise, &stop));
        let receiving = scope.spawn(|| {
            let result = receive_all(socket, &noise, &received);
            if result.is_err() {
                // Otherwise the sending thread might wait for a server that has stopped reading.
                let _ = shutdown(socket, Shutdown::Both);
            }
            result
        });
        let measured = measure(target, &received);
        stop.store(true, Ordering::Relaxed);
        let panicked = |_| Err(Failure::new("a thread of the client panicked"));
        let sent = sending.join().unwrap_or_else(panicked);
        let came_back = receiving.join().unwrap_or_else(panicked)?;
        match sent?.checked_sub(came_back) {
            Some(0) => measured,
            missing => Err(Failure::new(format!(
                "the end after {came_back} bytes, {} missing",
                missing.unwrap_or(0)
            ))),
        }
    })
}

/// Sends until `stop` is set, then half-closes. Returns the number of bytes sent.
fn send_until(socket: BorrowedFd, noise: &Noise, stop: &AtomicBool) -> Result<u64> {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        sent += send(socket, noise.at(sent, CHUNK), SendFlags::NOSIGNAL)
            .map_err(|errno| waited("send", errno))? as u64;
    }
    shutdown(socket, Shutdown::Write).map_err(|errno| Failure::errno("shut down", errno))?;
    Ok(sent)
}

/// Receives until end of file, and compares. Returns the number of bytes received.
fn receive_all(socket: BorrowedFd, noise: &Noise, received: &AtomicU64) -> Result<u64> {
    let mut buffer = vec![0; LONGEST];
    let mut position = 0;
    loop {
        let (n, _) = recv(socket, &mut buffer[..], RecvFlags::empty())
            .map_err(|errno| waited("receive", errno))?;
        if n == 0 {
            return Ok(position);
        }
        check(noise, position, position, &buffer[..n])?;
        position += n as u64;
        // `Relaxed` is enough, because only the figures use this number.
        received.store(position, Ordering::Relaxed);
    }
}

fn waited(operation: &str, errno: Errno) -> Failure {
    match errno {
        Errno::AGAIN => silence(),
        _ => Failure::errno(operation, errno),
    }
}

fn measure(target: &Target, received: &AtomicU64) -> Result<Figures> {
    thread::sleep(target.warm_up);
    let window = Window::open(target)?;
    let before = received.load(Ordering::Relaxed);
    thread::sleep(target.time);
    let bytes = received.load(Ordering::Relaxed) - before;
    figures(window, bytes, target)
}

fn figures(window: Window, bytes: u64, target: &Target) -> Result<Figures> {
    let (rate, cpu) = window.close(bytes)?;
    let mut figures = vec![(Figure::Megabytes, rate / 1e6)];
    figures.extend(cpu.map(|each| (Figure::CpuPerKib, each * 1024.0)));
    add_resident(&mut figures, target)?;
    Ok(figures)
}
