//! The header of the PROXY protocol: the server receives it before it does anything else with a
//! connection of a trusted proxy.

use std::fmt;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::RecvFlags;

use super::Connection;
use crate::proxy_protocol::header::{self, MAX_V2, Malformed};
use crate::state::close_reason::CloseReason;
use crate::wake::wait;

/// Why the server received no header.
#[derive(Debug)]
pub(crate) enum NoHeader {
    Malformed(Malformed),
    /// Only `received` bytes of a header arrived within the timeout.
    Late {
        received: usize,
        timeout: Duration,
    },
    /// The peer half-closed after `received` bytes of a header.
    Ended {
        received: usize,
    },
    /// The server ends the connection.
    Closing,
    Failed(io::Error),
}

impl NoHeader {
    /// Returns whether the peer connected and closed without sending a byte, as simple health checks do.
    pub(crate) fn is_bare_connect(&self) -> bool {
        matches!(self, Self::Ended { received: 0 })
    }
}

impl fmt::Display for NoHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(cause) => cause.fmt(f),
            Self::Late {
                received: 0,
                timeout,
            } => write!(f, "sent none within {timeout:?}"),
            Self::Late { received, timeout } => {
                write!(f, "sent {received} bytes of one within {timeout:?}")
            }
            Self::Ended { received: 0 } => f.write_str("closed the connection without one"),
            Self::Ended { received } => {
                write!(f, "closed the connection after {received} bytes of one")
            }
            Self::Closing => f.write_str("the server ended the connection first"),
            Self::Failed(error) => write!(f, "the connection failed: {error}"),
        }
    }
}

impl Connection {
    /// Returns whether the peer is a trusted proxy, which must send a header.
    pub(crate) fn expects_proxy_header(&self) -> bool {
        self.slot.state().expects_proxy_header(self.record.peer())
    }

    /// Receives the header, and makes its addresses those of the connection. What follows the header
    /// stays in the socket.
    pub(crate) fn receive_proxy_header(&self) -> Result<(), NoHeader> {
        let timeout = self.slot.state().proxy_protocol.timeout;
        let mut buffer = [0; MAX_V2];
        let header = self.receive_header(&mut buffer, timeout)?;
        if let Some(endpoints) = header::parse(header).map_err(NoHeader::Malformed)? {
            self.record.set_proxied(endpoints);
        }
        Ok(())
    }

    fn receive_header<'b>(
        &self,
        buffer: &'b mut [u8; MAX_V2],
        timeout: Duration,
    ) -> Result<&'b [u8], NoHeader> {
        // A deadline beyond the range of `Instant` is no limit.
        let deadline = Instant::now().checked_add(timeout);
        let mut received = 0;
        loop {
            // Peek at the input first, then receive only the header's part of it. What follows the header must
            // stay in the socket, where a handler, a reactor or `splice(2)` looks for it.
            let ahead = match self.receive_now(&mut buffer[received..], RecvFlags::PEEK) {
                Ok(0) if self.record.is_aborted() => return Err(NoHeader::Closing),
                Ok(0) => return Err(NoHeader::Ended { received }),
                Ok(n) => received + n,
                Err(error) if is_transient(&error) => received,
                Err(error) => return Err(NoHeader::Failed(error)),
            };
            if ahead > received {
                let length = header::length(&buffer[..ahead]).map_err(NoHeader::Malformed)?;
                let end = length.map_or(ahead, |length| length.min(ahead));
                received += self
                    .receive_now(&mut buffer[received..end], RecvFlags::empty())
                    .map_err(NoHeader::Failed)?;
                if length == Some(received) {
                    return Ok(&buffer[..received]);
                }
            }
            // Check the deadline in each round, because a peer that sends byte by byte never lets the wait
            // time out.
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(NoHeader::Late { received, timeout });
            }
            self.wait_for_header(deadline)?;
        }
    }

    fn receive_now(&self, buffer: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
        let flags = flags | RecvFlags::DONTWAIT;
        let (_, n) = rustix::net::recv(self.stream(), buffer, flags)?;
        Ok(n)
    }

    /// Sleeps until the stream is readable, the server ends the connection, or the time is over.
    fn wait_for_header(&self, deadline: Option<Instant>) -> Result<(), NoHeader> {
        let sleepers = self.server().state().shutdown.sleepers().current();
        if self.should_close() {
            return Err(NoHeader::Closing);
        }
        let mut fds = [
            PollFd::new(self.stream(), PollFlags::IN),
            PollFd::new(&*sleepers, PollFlags::IN),
        ];
        let end = deadline.into_iter().chain(self.lifetime_end()).min();
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        wait(&mut fds, left).map_err(NoHeader::Failed)?;
        Ok(())
    }

    /// Returns the reason for the end of a connection without a header, because of `cause`.
    pub(crate) fn reason_without_header(&self, cause: &NoHeader) -> CloseReason {
        match cause {
            NoHeader::Malformed(_) | NoHeader::Late { .. } | NoHeader::Ended { .. } => {
                CloseReason::ProxyHeader
            }
            NoHeader::Closing => self.reason_to_close(),
            NoHeader::Failed(error) => self.reason_of(error),
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
