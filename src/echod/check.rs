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

/// Returns the first connection that comes about, or the failure of the last address.
fn connect(addrs: &[SocketAddr], clock: &Clock) -> Result<(SocketAddr, TcpStream), Failure> {
    let mut last = Failure {
        what: "cannot connect".to_owned(),
        cause: Cause::TimedOut,
    };
    for (tried, &addr) in addrs.iter().enumerate() {
        // An address that does not answer leaves the others their share of the time.
        let untried = u32::try_from(addrs.len() - tried).unwrap_or(u32::MAX);
        let connected = clock
            .left()
            .and_then(|left| TcpStream::connect_timeout(&addr, left / untried))
            .and_then(not_to_itself);
        match connected {
            Ok(stream) => return Ok((addr, stream)),
            Err(error) => {
                last = Failure {
                    what: format!("cannot connect to {addr}"),
                    cause: error.into(),
                }
            }
        }
    }
    Err(last)
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

/// Sends the probe, half-closes, and reads to the end of the echo, or to what is wrong with it.
fn exchange(mut stream: &TcpStream, clock: &Clock) -> Result<(), Cause> {
    let mut probe = [0; PROBE];
    fastrand::fill(&mut probe);
    stream.set_write_timeout(Some(clock.left()?))?;
    stream.write_all(&probe)?;
    stream.shutdown(Shutdown::Write)?;

    let mut buffer = [0; PROBE];
    let mut due = &probe[..];
    loop {
        stream.set_read_timeout(Some(clock.left()?))?;
        let read = match stream.read(&mut buffer) {
            Ok(0) if due.is_empty() => return Ok(()),
            Ok(0) => {
                let len = PROBE - due.len();
                return Err(Cause::Wrong(format!(
                    "it ended after {len} of {PROBE} bytes"
                )));
            }
            Ok(n) => &buffer[..n],
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        due = match due.strip_prefix(read) {
            Some(rest) => rest,
            None if read.starts_with(due) => {
                return Err(Cause::Wrong(format!("more than {PROBE} bytes came back")));
            }
            None => return Err(Cause::Wrong("other bytes came back".to_owned())),
        };
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
