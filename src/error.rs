//! The library's error: what was attempted, on which address, and why it failed.
//!
//! The error is one opaque type, so that it can gain fields. `Display` names only the operation and
//! its object. Callers that walk the chain of sources then print the cause once, not twice.

use std::{fmt, io};

/// A failure to set up or to run a server.
///
/// `Display` shows the operation and its object, such as `cannot bind 0.0.0.0:7`. The cause is the
/// error's [`source`](std::error::Error::source).
///
/// # Examples
///
/// ```
/// use socketserver::TcpServer;
/// use std::error::Error;
///
/// // 192.0.2.0/24 is reserved for documentation, so it is no address of this machine.
/// let error = TcpServer::bind("192.0.2.1:7007").unwrap_err();
/// assert_eq!(error.to_string(), "cannot bind 192.0.2.1:7007");
/// assert_eq!(error.kind(), std::io::ErrorKind::AddrNotAvailable);
/// assert!(error.source().is_some());
/// ```
#[derive(Debug)]
pub struct Error {
    operation: String,
    cause: io::Error,
}

impl Error {
    pub(crate) fn new(operation: impl Into<String>, cause: io::Error) -> Self {
        Self {
            operation: operation.into(),
            cause,
        }
    }

    pub(crate) fn invalid(operation: impl Into<String>, cause: &'static str) -> Self {
        Self::new(
            operation,
            io::Error::new(io::ErrorKind::InvalidInput, cause),
        )
    }

    pub(crate) fn cause(&self) -> &io::Error {
        &self.cause
    }

    /// Returns the kind of the cause, such as [`AddrInUse`](io::ErrorKind::AddrInUse).
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.cause.kind()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.operation)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// Converts with the same kind, and with the whole [`Error`] as the inner error.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}
