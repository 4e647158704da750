//! One connection of a probe: connect, send, compare the echo, half-close, expect the end.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::failure::{Cause, Failure};

/// Maximum bytes that one system call sends or receives.
const CHUNK: usize = 16 * 1024;

/// A time limit with its start.
struct Deadline {
    started: Instant,
    timeout: Duration,
}

impl Deadline {
    fn after(timeout: Duration) -> Self {
        let started = Instant::now();
        Self { started, timeout }
    }

    /// Returns the remaining time, at least a microsecond.
    ///
    /// Less would be rounded to 0, which means "no timeout" to `setsockopt(2)`.
    fn left(&self) -> io::Result<Duration> {
        self.timeout
            .checked_sub(self.started.elapsed())
            .filter(|left| left.as_micros() > 0)
            .ok_or_else(|| ErrorKind::TimedOut.into())
    }
}

/// The random bytes that the connections of a probe send.
///
/// Each connection starts at another offset in the block, which exposes a server that mixes up two
/// connections. A connection repeats the block, so that the memory of the probe does not grow with `size`.
pub(super) struct Payload {
    block: Vec<u8>,
    size: u64,
}

impl Payload {
    pub(super) fn random(size: u64) -> Self {
        let mut block = vec![0; 4 * CHUNK];
        fastrand::fill(&mut block);
        Self { block, size }
    }

    /// Returns the bytes at `position` of a connection that starts at the offset `start` of the block.
    fn bytes_at(&self, start: usize, position: u64) -> &[u8] {
        let len = self.block.len() as u64;
        let offset = (start as u64 + position % len) % len;
        #[allow(
            clippy::cast_possible_truncation,
            reason = "it is less than the length of the block"
        )]
        let offset = offset as usize;
        let left = usize::try_from(self.size - position).unwrap_or(usize::MAX);
        let bytes = &self.block[offset..];
        &bytes[..bytes.len().min(left).min(CHUNK)]
    }
}

/// A connection that a server has accepted.
pub(super) struct Connection<'p> {
    pub(super) addr: SocketAddr,
    stream: TcpStream,
    payload: &'p Payload,
    /// The offset in the block of the payload at which this connection starts.
    start: usize,
    /// The remaining time for the rest of this connection.
    left: Duration,
}

impl<'p> Connection<'p> {
    /// Connects to the first of `addrs` that accepts, and returns how long that took.
    ///
    /// # Errors
    ///
    /// No address accepts. Then this is the failure that says most about the server.
    pub(super) fn open(
        addrs: &[SocketAddr],
        payload: &'p Payload,
        timeout: Duration,
    ) -> Result<(Self, Duration), Failure> {
        let deadline = Deadline::after(timeout);
        let mut failures = Vec::new();
        for (tried, &addr) in addrs.iter().enumerate() {
            // Divide the time. Otherwise an address that does not answer would leave none for the others.
            let untried = u32::try_from(addrs.len() - tried).unwrap_or(u32::MAX);
            let started = Instant::now();
            let connected = deadline
                .left()
                .and_then(|left| TcpStream::connect_timeout(&addr, left / untried))
                .and_then(not_to_itself);
            match connected {
                Ok(stream) => {
                    let connection = Self {
                        addr,
                        stream,
                        payload,
                        start: fastrand::usize(..payload.block.len()),
                        left: deadline.left().unwrap_or_default(),
                    };
                    return Ok((connection, started.elapsed()));
                }
                Err(error) => failures.push(Failure {
                    what: format!("cannot connect to {addr}"),
                    cause: error.into(),
                }),
            }
        }
        // `min_by_key` returns the first of equals, and the system sorts addresses by preference.
        let most_telling = failures
            .into_iter()
            .min_by_key(|failure| match failure.cause {
                // The peer answered.
                Cause::Refused | Cause::Reset => 0,
                // This machine has a route to the address.
                Cause::TimedOut => 1,
                // This machine can't use the address, for example because it has no IPv6.
                _ => 2,
            });
        Err(most_telling.unwrap_or_else(|| Failure {
            what: "cannot connect".to_owned(),
            cause: Cause::TimedOut,
        }))
    }

    /// Sends the payload and compares the echo with it. Returns how long that took.
    pub(super) fn exchange(&mut self) -> Result<Duration, Failure> {
        let deadline = Deadline::after(self.left);
        self.compare(&deadline)
            .map_err(|cause| self.failure(cause))?;
        self.left = deadline.left().unwrap_or_default();
        Ok(deadline.started.elapsed())
    }

    /// Half-closes, and expects the server to close.
    ///
    /// The half-close comes after the echo. Some TCP forwarders close at a half-close, and drop data on the
    /// way.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let deadline = Deadline::after(self.left);
        self.expect_end(&deadline)
            .map_err(|cause| self.failure(cause))
    }

    fn failure(&self, cause: Cause) -> Failure {
        Failure {
            what: format!("no echo from {}", self.addr),
            cause,
        }
    }

    /// Sends the payload and compares the echo with it.
    ///
    /// It reads while it sends. Otherwise a payload larger than all buffers on the way would deadlock.
    fn compare(&self, deadline: &Deadline) -> Result<(), Cause> {
        let size = self.payload.size;
        let (mut sent, mut received) = (0, 0);
        let mut buffer = [0; CHUNK];
        while received < size {
            let mut events = PollFlags::IN;
            events.set(PollFlags::OUT, sent < size);
            wait(&self.stream, events, deadline)?;
            if sent < size {
                sent += try_send(&self.stream, self.bytes_at(sent))? as u64;
            }
            let Some(mut input) = try_receive(&self.stream, &mut buffer)? else {
                continue;
            };
            if input.is_empty() {
                return Err(Cause::Wrong(format!(
                    "the connection ended after {received} of {size} bytes"
                )));
            }
            while !input.is_empty() {
                if received == size {
                    return Err(self.too_much());
                }
                let expected = self.bytes_at(received);
                let len = expected.len().min(input.len());
                if input[..len] != expected[..len] {
                    return Err(Cause::Wrong("other bytes came back".to_owned()));
                }
                input = &input[len..];
                received += len as u64;
            }
        }
        Ok(())
    }

    /// Half-closes, and waits for the end of the connection.
    fn expect_end(&self, deadline: &Deadline) -> Result<(), Cause> {
        self.stream.shutdown(Shutdown::Write)?;
        loop {
            wait(&self.stream, PollFlags::IN, deadline)?;
            match try_receive(&self.stream, &mut [0])? {
                Some([]) => return Ok(()),
                Some(_) => return Err(self.too_much()),
                None => {}
            }
        }
    }

    fn bytes_at(&self, position: u64) -> &[u8] {
        self.payload.bytes_at(self.start, position)
    }

    fn too_much(&self) -> Cause {
        Cause::Wrong(format!("more than {} bytes came back", self.payload.size))
    }
}

/// Turns a connection of a socket with itself, which would echo, into "connection refused".
///
/// TCP lets a socket connect to its own port (RFC 9293, 3.5: simultaneous open). That happens if no socket
/// listens on the port, and the kernel picks the same port for the client.
fn not_to_itself(stream: TcpStream) -> io::Result<TcpStream> {
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

/// Waits until the socket is ready. Fails with `TimedOut` at the deadline.
fn wait(stream: &TcpStream, events: PollFlags, deadline: &Deadline) -> io::Result<()> {
    loop {
        // `None`, no timeout, if the seconds don't fit a `Timespec`.
        let left = Timespec::try_from(deadline.left()?).ok();
        match poll(&mut [PollFd::new(stream, events)], left.as_ref()) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Sends without blocking, and returns how many bytes the socket took.
fn try_send(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match send(stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(len) => Ok(len),
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        Err(errno) => Err(errno.into()),
    }
}

/// Receives without blocking. Returns `None` if no bytes have arrived, and an empty slice at the end of the
/// connection.
fn try_receive<'b>(stream: &TcpStream, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
    match recv(stream, &mut *buffer, RecvFlags::DONTWAIT) {
        Ok((len, _)) => Ok(Some(&buffer[..len])),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
