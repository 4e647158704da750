//! `--check`: an echo client, for containers and load balancers. It sends a probe, verifies what
//! comes back, and has an exit code for each way in which that can fail.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::address::ListenAddr;

/// More than a line, and less than any buffer on the way: it is sent without waiting for a reader.
const PROBE: usize = 1024;

/// Sends a probe to the first address of `target` that takes the connection, and returns what to
/// say of its echo.
pub(crate) fn check(target: &ListenAddr, timeout: Duration) -> Result<String, Failure> {
    let addrs = target.resolve_peer().map_err(|error| Failure {
        what: format!("cannot resolve {target}"),
        cause: Cause::Unresolved(error),
    })?;
    // From here on: a resolver can't be interrupted.
    let clock = Clock::start(timeout);
    let (addr, stream) = connect(&addrs, &clock)?;
    exchange(&stream, &clock).map_err(|cause| Failure {
        what: format!("no echo from {addr}"),
        cause,
    })?;
    let millis = clock.started.elapsed().as_secs_f64() * 1000.0;
    Ok(format!("{addr} echoes: {PROBE} bytes in {millis:.2} ms"))
}

/// Returns the connection to the first address that takes it, or the failure that tells most.
fn connect(addrs: &[SocketAddr], clock: &Clock) -> Result<(SocketAddr, TcpStream), Failure> {
    let mut failures = Vec::new();
    for (tried, &addr) in addrs.iter().enumerate() {
        // An address that does not answer leaves the others their share of the time.
        let untried = u32::try_from(addrs.len() - tried).unwrap_or(u32::MAX);
        let connected = clock
            .left()
            .and_then(|left| TcpStream::connect_timeout(&addr, left / untried))
            .and_then(not_to_itself);
        match connected {
            Ok(stream) => return Ok((addr, stream)),
            Err(error) => failures.push(Failure {
                what: format!("cannot connect to {addr}"),
                cause: error.into(),
            }),
        }
    }
    // The first of those that tell as much, because the system sorts addresses by preference.
    let most_telling = failures
        .into_iter()
        .min_by_key(|failure| match failure.cause {
            // The peer has answered.
            Cause::Refused | Cause::Reset => 0,
            // The address is reachable as far as this machine knows.
            Cause::TimedOut => 1,
            // This machine can't use the address: it may have no IPv6, say.
            _ => 2,
        });
    Err(most_telling.unwrap_or_else(|| Failure {
        what: "cannot connect".to_owned(),
        cause: Cause::TimedOut,
    }))
}

/// Refuses a connection of a socket with itself, which would echo.
///
/// TCP lets a socket connect to its own port (RFC 9293, 3.5: simultaneous open). The kernel may
/// give it just the port that nobody listens on.
fn not_to_itself(stream: TcpStream) -> io::Result<TcpStream> {
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

/// Sends the probe and reads its echo, then half-closes and reads the end, or returns what is wrong.
///
/// The half-close comes last, because some forwarders take it for a close: they drop what is still
/// on its way.
fn exchange(mut stream: &TcpStream, clock: &Clock) -> Result<(), Cause> {
    let mut probe = [0; PROBE];
    fastrand::fill(&mut probe);
    stream.set_write_timeout(Some(clock.left()?))?;
    stream.write_all(&probe)?;

    let mut buffer = [0; PROBE];
    let mut due = &probe[..];
    while !due.is_empty() {
        let read = receive(stream, clock, &mut buffer)?;
        due = match due.strip_prefix(read) {
            Some(_) if read.is_empty() => {
                let len = PROBE - due.len();
                return Err(Cause::Wrong(format!(
                    "it ended after {len} of {PROBE} bytes"
                )));
            }
            Some(rest) => rest,
            None if read.starts_with(due) => return Err(Cause::more()),
            None => return Err(Cause::Wrong("other bytes came back".to_owned())),
        };
    }
    stream.shutdown(Shutdown::Write)?;
    if receive(stream, clock, &mut buffer)?.is_empty() {
        Ok(())
    } else {
        Err(Cause::more())
    }
}

/// Returns what was read, which is nothing at the end.
fn receive<'b>(
    mut stream: &TcpStream,
    clock: &Clock,
    buffer: &'b mut [u8],
) -> io::Result<&'b [u8]> {
    loop {
        stream.set_read_timeout(Some(clock.left()?))?;
        match stream.read(buffer) {
            Ok(n) => return Ok(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The one deadline of all that is done.
struct Clock {
    started: Instant,
    timeout: Duration,
}

impl Clock {
    fn start(timeout: Duration) -> Self {
        Self {
            started: Instant::now(),
            timeout,
        }
    }

    /// Returns the time that is left, in a form that a socket takes for a timeout: a microsecond
    /// or more.
    fn left(&self) -> io::Result<Duration> {
        self.timeout
            .checked_sub(self.started.elapsed())
            .filter(|left| left.as_micros() > 0)
            .ok_or_else(|| ErrorKind::TimedOut.into())
    }
}

/// What was tried, and why it failed.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Unresolved(io::Error),
    Refused,
    TimedOut,
    Reset,
    Wrong(String),
    Other(io::Error),
}

impl Cause {
    fn more() -> Self {
        Self::Wrong(format!("more than {PROBE} bytes came back"))
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            // The second is what a socket's own timeout is called.
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::TimedOut,
            // Whatever is done first after a reset reports it; what is done next is told that
            // there is no connection.
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected => Self::Reset,
            _ => Self::Other(error),
        }
    }
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.cause {
            Cause::Other(_) => 1,
            Cause::Unresolved(_) => 3,
            Cause::Refused => 4,
            Cause::TimedOut => 5,
            Cause::Reset => 6,
            Cause::Wrong(_) => 7,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.what)?;
        match &self.cause {
            Cause::Refused => f.write_str("connection refused"),
            Cause::TimedOut => f.write_str("timed out"),
            Cause::Reset => f.write_str("connection reset"),
            Cause::Wrong(how) => f.write_str(how),
            Cause::Unresolved(error) | Cause::Other(error) => error.fmt(f),
        }
    }
}

impl Error for Failure {}
