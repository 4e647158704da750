//! The clients of a round, and what each of them must receive.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;

use crate::TIMEOUT;

pub(crate) const GREETING: &[u8] = b"hello\n";

/// What the first byte of a client asks the handler to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Nothing, because the server has the echo handler.
    None,
    /// Leave the echo to the server.
    Echo,
    /// Echo with blocking reads and writes.
    BlockingEcho,
    /// Greet, then leave the echo to the server.
    GreetedEcho,
    /// Echo the input that waits report.
    WaitingEcho,
    Panic,
    Return,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behaviour {
    /// Sends messages and waits for each echo, then half-closes.
    Ping,
    /// Sends 1 MiB while it reads, then half-closes.
    Flood,
    /// Sends something and resets the connection.
    Reset,
    /// Sends something and half-closes.
    HalfClose,
    /// Sends only its wish.
    Silent,
}

#[derive(Debug)]
pub(crate) struct Client {
    wish: Wish,
    behaviour: Behaviour,
    payload: Vec<u8>,
    /// When the client connects, after the start of the round.
    comes: Duration,
}

/// The result of a client.
#[derive(Debug)]
pub(crate) struct Report {
    /// The most bytes that the client may have sent.
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl Wish {
    pub(crate) fn byte(self) -> Option<u8> {
        match self {
            Self::None => None,
            Self::Echo => Some(b'e'),
            Self::BlockingEcho => Some(b'b'),
            Self::GreetedEcho => Some(b'g'),
            Self::WaitingEcho => Some(b'w'),
            Self::Panic => Some(b'p'),
            Self::Return => Some(b'r'),
        }
    }
}

impl Client {
    /// Returns a random client. `wishes` says whether the handler reads a wish, and `ends` whether the client
    /// ends by itself.
    pub(crate) fn new(rng: &mut Rng, wishes: bool, ends: bool) -> Self {
        let all = [
            Wish::Echo,
            Wish::Echo,
            Wish::BlockingEcho,
            Wish::GreetedEcho,
            Wish::WaitingEcho,
            Wish::Panic,
            Wish::Return,
        ];
        let behaviour = *rng
            .choice(&[
                Behaviour::Ping,
                Behaviour::Ping,
                Behaviour::Flood,
                Behaviour::Reset,
                Behaviour::HalfClose,
                Behaviour::HalfClose,
                if ends {
                    Behaviour::Flood
                } else {
                    Behaviour::Silent
                },
            ])
            .unwrap();
        let len = match behaviour {
            Behaviour::Flood => 1024 * 1024,
            Behaviour::Silent => 0,
            _ => rng.usize(0..5000),
        };
        let mut payload = vec![0; len];
        rng.fill(&mut payload);
        Self {
            wish: if wishes {
                *rng.choice(&all).unwrap()
            } else {
                Wish::None
            },
            behaviour,
            payload,
            comes: Duration::from_micros(rng.u64(0..40_000)),
        }
    }

    /// Runs the client until its connection ends. `stopped` is set before the server is asked to stop.
    /// `is_cut_short` says whether the server has limits that may end the connection.
    pub(crate) fn play(
        &self,
        addr: SocketAddr,
        stopped: &AtomicBool,
        is_cut_short: bool,
        rejects: bool,
    ) -> Result<Report, String> {
        thread::sleep(self.comes);
        let fail = |what: &str, error: &io::Error| format!("{what}: {error}, {self}");
        let has_stopped = || stopped.load(Ordering::SeqCst);
        let mut report = Report {
            sent: 0,
            received: 0,
        };
        let stream = match TcpStream::connect_timeout(&addr, TIMEOUT) {
            Ok(stream) => stream,
            Err(error) if is_end(&error) && has_stopped() => return Ok(report),
            // An abort may arrive before `connect` returns.
            Err(error) if error.kind() == ErrorKind::ConnectionReset && is_cut_short => {
                return Ok(report);
            }
            Err(error) => return Err(fail("cannot connect", &error)),
        };
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        report.sent = 1 + self.payload.len() as u64;
        let mut received = Vec::new();
        let result = self.talk(&stream, &mut received);
        report.received = received.len() as u64;
        let due = self.due();
        if !due.starts_with(&received) {
            return Err(format!("{} wrong bytes for {self}", received.len()));
        }
        let is_clean = match &result {
            Ok(()) => true,
            Err(error) if is_end(error) => false,
            Err(error) => return Err(fail("the connection does not end", error)),
        };
        let may_be_less = self.behaviour == Behaviour::Reset
            || matches!(self.wish, Wish::Panic | Wish::Return)
            || is_cut_short
            || (rejects && received.is_empty());
        // The client's observations must have happened before the stop, so check for the stop last.
        if !may_be_less && !has_stopped() && (!is_clean || received != due) {
            let (got, due) = (received.len(), due.len());
            return Err(format!(
                "got {got} of {due} before the stop: {result:?}, {self}"
            ));
        }
        Ok(report)
    }

    fn talk(&self, mut stream: &TcpStream, received: &mut Vec<u8>) -> io::Result<()> {
        if let Some(wish) = self.wish.byte() {
            stream.write_all(&[wish])?;
        }
        match self.behaviour {
            Behaviour::Ping => {
                if self.wish == Wish::GreetedEcho {
                    read_some(stream, received, GREETING.len())?;
                }
                for message in self.payload.chunks(700) {
                    stream.write_all(message)?;
                    read_some(stream, received, message.len())?;
                }
                let _ = stream.shutdown(Shutdown::Write);
            }
            Behaviour::Flood => {
                return thread::scope(|scope| {
                    scope.spawn(|| {
                        // An error is ignored, because the reader finds out the cause.
                        let _ = (&*stream).write_all(&self.payload);
                        let _ = stream.shutdown(Shutdown::Write);
                    });
                    stream.read_to_end(received).map(drop)
                });
            }
            Behaviour::Reset => {
                stream.write_all(&self.payload)?;
                let socket = socket2::SockRef::from(stream);
                return socket.set_linger(Some(Duration::ZERO));
            }
            Behaviour::HalfClose => {
                stream.write_all(&self.payload)?;
                let _ = stream.shutdown(Shutdown::Write);
            }
            Behaviour::Silent => {}
        }
        stream.read_to_end(received).map(drop)
    }

    /// Returns all bytes that may come back.
    fn due(&self) -> Vec<u8> {
        match self.wish {
            Wish::None | Wish::Echo | Wish::BlockingEcho | Wish::WaitingEcho => {
                self.payload.clone()
            }
            Wish::GreetedEcho => [GREETING, &self.payload].concat(),
            Wish::Panic | Wish::Return => Vec::new(),
        }
    }
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            wish,
            behaviour,
            payload,
            ..
        } = self;
        write!(f, "{behaviour:?} {wish:?} {}", payload.len())
    }
}

/// Reads exactly this many bytes, unless the connection ends before.
fn read_some(mut stream: &TcpStream, received: &mut Vec<u8>, n: usize) -> io::Result<()> {
    let mut left = n;
    let mut buffer = [0; 1024];
    while left > 0 {
        let most = left.min(buffer.len());
        let n = stream.read(&mut buffer[..most])?;
        if n == 0 {
            break;
        }
        received.extend_from_slice(&buffer[..n]);
        left -= n;
    }
    Ok(())
}

/// Returns whether an error means the end of the connection, and not a timeout of the client.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
    )
}
