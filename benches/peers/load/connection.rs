//! A connection that checks its echo.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::sockopt::{set_tcp_nodelay, socket_error};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, connect, recv, send,
    shutdown, socket_with,
};

use super::noise::Noise;
use crate::failure::{Failure, Result};

/// A non-blocking connection. The bytes that come back must be those that were sent.
pub(super) struct Connection {
    socket: OwnedFd,
    /// The position in the noise at which the stream begins.
    start: u64,
    sent: u64,
    received: u64,
    half_closed: bool,
    /// When the client began to connect, or last sent.
    pub(super) since: Instant,
}

impl Connection {
    /// Begins to connect. Also returns whether the connection is already established.
    pub(super) fn open(server: SocketAddr, number: usize) -> Result<(Self, bool)> {
        let since = Instant::now();
        let family = match server {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)
            .map_err(|errno| Failure::errno("create a socket", errno))?;
        set_tcp_nodelay(&socket, true).map_err(|errno| Failure::errno("set an option", errno))?;
        let connected = match connect(&socket, &server) {
            Ok(()) => true,
            Err(Errno::INPROGRESS) => false,
            Err(errno) => return Err(Failure::errno("connect", errno)),
        };
        let connection = Self {
            socket,
            start: Noise::start(number),
            sent: 0,
            received: 0,
            half_closed: false,
            since,
        };
        Ok((connection, connected))
    }

    /// Checks that the connection is established. Call this when the socket has become writable.
    pub(super) fn connected(&self) -> Result {
        socket_error(&self.socket)
            .and_then(|result| result)
            .map_err(|errno| Failure::errno("connect", errno))
    }

    /// Sends the next `len` bytes of the stream with one call.
    pub(super) fn send_all(&mut self, noise: &Noise, len: usize) -> Result {
        match self.send(noise, len)? {
            sent if sent == len => Ok(()),
            sent => Err(Failure::new(format!(
                "the send buffer had room for {sent} of {len} bytes"
            ))),
        }
    }

    /// Sends as many of the next `len` bytes of the stream as the socket accepts. Returns how many.
    pub(super) fn send(&mut self, noise: &Noise, len: usize) -> Result<usize> {
        let bytes = noise.at(self.start + self.sent, len);
        let sent = match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => sent,
            Err(Errno::AGAIN) => 0,
            Err(errno) => return Err(Failure::errno("send", errno)),
        };
        self.sent += sent as u64;
        Ok(sent)
    }

    /// Receives, and compares. Returns how many bytes, or `None` if none have arrived yet.
    pub(super) fn receive(&mut self, noise: &Noise, buffer: &mut [u8]) -> Result<Option<usize>> {
        let received = match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
            Ok((received, _)) => received,
            Err(Errno::AGAIN) => return Ok(None),
            Err(errno) => return Err(Failure::errno("receive", errno)),
        };
        let echo = &buffer[..received];
        check(noise, self.start + self.received, self.received, echo)?;
        self.received += received as u64;
        if self.received > self.sent {
            return Err(Failure::new("more came back than was sent"));
        }
        if received == 0 && self.owed() > 0 {
            let (after, missing) = (self.received, self.owed());
            let what = format!("the end after {after} bytes, {missing} missing");
            return Err(Failure::new(what));
        }
        Ok(Some(received))
    }

    /// Returns how many bytes have not come back yet.
    pub(super) fn owed(&self) -> u64 {
        self.sent - self.received
    }

    /// Sends a FIN.
    pub(super) fn half_close(&mut self) -> Result {
        self.half_closed = true;
        shutdown(&self.socket, Shutdown::Write).map_err(|errno| Failure::errno("shut down", errno))
    }

    pub(super) fn half_closed(&self) -> bool {
        self.half_closed
    }
}

/// Compares `echo` with what was sent at `position` of the noise, `offset` of the stream.
pub(super) fn check(noise: &Noise, position: u64, offset: u64, echo: &[u8]) -> Result {
    let due = noise.at(position, echo.len());
    if echo == due {
        return Ok(());
    }
    let at = (0..echo.len()).find(|&at| echo[at] != due[at]).unwrap_or(0);
    Err(Failure::new(format!(
        "byte {} is wrong",
        offset + at as u64
    )))
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
