//! The failures of a probe, with their causes and exit codes.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};

#[derive(Debug)]
pub(crate) struct Failure {
    pub(super) what: String,
    pub(super) cause: Cause,
}

#[derive(Debug)]
pub(super) enum Cause {
    Unresolved(io::Error),
    Refused,
    TimedOut,
    Reset,
    /// The server answered, but not with an echo.
    Wrong(String),
    Other(io::Error),
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::TimedOut => Self::TimedOut,
            // Only the first system call after a reset fails with `ECONNRESET`. Later ones fail with `EPIPE`
            // or `ENOTCONN`.
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected => Self::Reset,
            _ => Self::Other(error),
        }
    }
}

impl Failure {
    /// Returns whether the server answered, but not with the echo.
    pub(super) fn is_wrong_echo(&self) -> bool {
        matches!(self.cause, Cause::Wrong(_))
    }

    /// Returns the exit code of this failure. The probe exits with the highest code of all failures.
    pub(crate) fn exit_code(&self) -> u8 {
        match self.cause {
            Cause::Other(_) => 1,
            Cause::Unresolved(_) => 3,
            Cause::Refused => 4,
            Cause::TimedOut => 5,
            Cause::Reset => 6,
            Cause::Wrong(_) => 7,
        }
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
