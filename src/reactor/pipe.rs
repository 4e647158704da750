//! Moves streams without copying: bytes go from the socket into a pipe and back as references to the
//! pages in which they arrived (`splice(2)`).
//!
//! Copying is cheaper for small messages, and a pipe takes two descriptors. So only a connection
//! that streams has a pipe and a thread, and only while the stream lasts.

use std::io::{self, ErrorKind, PipeReader, PipeWriter};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, splice};

use super::remainder::{STREAM_MIN_READ, STREAM_READS};
use crate::connection::Connection;
use crate::semaphore::{Permit, Semaphore};
use crate::state::close_reason::CloseReason;

/// The most pipes of the process, so that they can't use up the descriptors that new connections
/// need.
static PIPES: Semaphore = Semaphore::new(32);

/// Whether the system has refused to splice, as a filter of system calls does. Reactors copy all
/// streams after that.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// A pipe for the stream of one connection.
#[derive(Debug)]
pub(super) struct Pipe {
    reader: PipeReader,
    writer: PipeWriter,
    /// The number of bytes in the pipe.
    held: usize,
    _permit: Permit<'static>,
}

impl Pipe {
    /// The capacity to ask for, in bytes. Beyond a limit for each user (`pipe(7)`) the kernel gives less.
    const CAPACITY: usize = 256 * 1024;

    /// Makes a pipe. Returns `None` if the process has the most pipes that it may have or is short of
    /// descriptors or memory, or if the system refuses to splice.
    pub(super) fn new() -> Option<Self> {
        if REFUSED.load(Ordering::Relaxed) {
            return None;
        }
        let permit = PIPES.try_acquire()?;
        let (reader, writer) = io::pipe().ok()?;
        // If the kernel refuses, the pipe keeps its 64 KiB, which are enough.
        let _ = fcntl_setpipe_size(&writer, Self::CAPACITY);
        Some(Self {
            reader,
            writer,
            held: 0,
            _permit: permit,
        })
    }

    /// Echoes the peer's stream on this thread. Returns once the peer no longer streams or the server
    /// ends the connection. Returns the time when the peer last sent something.
    ///
    /// # Errors
    ///
    /// The stream has failed, or a timeout of the connection is over.
    pub(super) fn relay(mut self, conn: &Connection) -> io::Result<Instant> {
        let mut last = Instant::now();
        let mut small_in_a_row = 0;
        // Otherwise a write to a peer that reads nothing would block without end, and delay a close.
        conn.send_in_slices();
        while small_in_a_row < STREAM_READS && !conn.should_close() {
            let received = conn.receive_soon_by(|most| {
                self.fill(conn.stream(), most).map_err(|error| {
                    if is_refusal(&error, conn) {
                        REFUSED.store(true, Ordering::Relaxed);
                        // The splice took no bytes, so the reactor can go on by copying.
                        return ErrorKind::WouldBlock.into();
                    }
                    error
                })
            })?;
            // The peer is silent or has ended the stream. The reactor waits for input or reads the end.
            let Some(n @ 1..) = received else {
                break;
            };
            last = Instant::now();
            while self.held > 0 {
                // A splice may block for a slice, even if `send_by` asks the closure not to block.
                conn.send_by(|_| self.drain(conn.stream()))?;
            }
            small_in_a_row = if n < STREAM_MIN_READ {
                small_in_a_row + 1
            } else {
                0
            };
        }
        Ok(last)
    }

    /// Moves what the peer has sent into the pipe, after waiting for it. The pipe must be empty.
    fn fill(&mut self, from: &TcpStream, most: usize) -> io::Result<usize> {
        let most = most.min(Self::CAPACITY);
        match splice(from, None, &self.writer, None, most, SpliceFlags::empty())? {
            // A splice returns 0 at the end of file, but also if the next byte is urgent data (`tcp(7)`).
            // The reactor finds out which.
            0 => Err(ErrorKind::WouldBlock.into()),
            n => {
                self.held = n;
                Ok(n)
            }
        }
    }

    /// Sends some of the bytes in the pipe.
    fn drain(&mut self, to: &TcpStream) -> io::Result<usize> {
        let flags = SpliceFlags::empty();
        let n = splice(&self.reader, None, to, None, self.held, flags)?;
        self.held -= n;
        Ok(n)
    }
}

/// Returns whether an error means that the system refuses to splice, and not that the connection failed.
fn is_refusal(error: &io::Error, conn: &Connection) -> bool {
    !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
        && conn.reason_of(error) == CloseReason::Error
}
