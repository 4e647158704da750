//! The error type of the benchmark: a line of text.

use std::fmt;

use rustix::io::Errno;

pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

/// A line that says what went wrong.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    /// Describes an error of a system call on a connection.
    pub(crate) fn errno(operation: &str, errno: Errno) -> Self {
        match errno {
            Errno::CONNRESET | Errno::PIPE => Self::new("a reset"),
            _ => Self(format!("cannot {operation}: {errno}")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
