//! A client that checks every byte of its echo.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

/// A server that makes no progress for this long has hung.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

/// What a server did wrong.
#[derive(Debug)]
pub(crate) struct Failure(String);

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    /// How many bytes of echo have arrived.
    received: u64,
}

impl Client {
    pub(crate) fn connect(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&server, TIMEOUT)
            .map_err(|error| Failure(format!("connect: {}", explain(&error))))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self {
            stream,
            received: 0,
        })
    }

    /// Returns a second client for the same connection, to send from another thread.
    pub(crate) fn sender(&self) -> Result<Self> {
        Ok(Self {
            stream: self.stream.try_clone()?,
            received: 0,
        })
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result {
        self.stream
            .write_all(bytes)
            .map_err(|error| Failure(format!("send: {}", explain(&error))))
    }

    /// Sends a FIN.
    pub(crate) fn half_close(&mut self) -> Result {
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }

    /// Closes with a reset: `SO_LINGER` with a time of zero.
    pub(crate) fn reset(self) -> Result {
        Ok(SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?)
    }

    /// Receives exactly `bytes`.
    pub(crate) fn expect(&mut self, bytes: &[u8]) -> Result {
        let mut buffer = vec![0; bytes.len().min(1 << 16)];
        let mut rest = bytes;
        while !rest.is_empty() {
            let wanted = buffer.len().min(rest.len());
            let n = match (&self.stream).read(&mut buffer[..wanted]) {
                Ok(0) => return Err(self.failed(rest.len(), "the end")),
                Ok(n) => n,
                Err(error) => return Err(self.failed(rest.len(), explain(&error))),
            };
            if let Some(at) = (0..n).find(|&at| buffer[at] != rest[at]) {
                let offset = self.received + at as u64;
                return Err(Failure(format!("byte {offset} is wrong")));
            }
            self.received += n as u64;
            rest = &rest[n..];
        }
        Ok(())
    }

    /// Expects end of file, and no byte before it.
    pub(crate) fn expect_end(&mut self) -> Result {
        match (&self.stream).read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Failure("more came back than was sent".to_owned())),
            Err(error) => Err(self.failed(0, explain(&error))),
        }
    }

    /// Sends `bytes`, and receives their echo meanwhile.
    pub(crate) fn exchange(&mut self, bytes: &[u8]) -> Result {
        let mut sender = self.sender()?;
        thread::scope(|scope| {
            let sending = scope.spawn(move || sender.send(bytes));
            let received = self.expect(bytes);
            if received.is_err() {
                // Otherwise the sending thread might wait for a server that has stopped reading.
                let _ = self.stream.shutdown(Shutdown::Both);
            }
            let sent = sending.join().map_err(|_| Failure::panicked())?;
            received.and(sent)
        })
    }

    fn failed(&self, missing: usize, what: impl fmt::Display) -> Failure {
        let received = self.received;
        match missing {
            0 => Failure(format!("{what} instead of the end, after {received} bytes")),
            _ => Failure(format!("{what} after {received} bytes, {missing} missing")),
        }
    }
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "silence".to_owned(),
        ErrorKind::ConnectionReset => "a reset".to_owned(),
        _ => error.to_string(),
    }
}

impl Failure {
    pub(crate) fn panicked() -> Self {
        Self("a thread of the client panicked".to_owned())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(explain(&error))
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(errno: rustix::io::Errno) -> Self {
        io::Error::from(errno).into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
