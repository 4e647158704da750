//! Streams without copying: bytes go from the socket into a pipe and back as references to the
//! pages in which they arrived (`splice(2)`).
//!
//! Copying is cheaper for small messages, and a pipe takes two descriptors. So only a connection
//! that streams has a pipe, and a thread to move it, for as long as the stream lasts.

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

/// Whether the system has refused to splice, as a filter of system calls does. Copying does then.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// A pipe, and how much is in it.
#[derive(Debug)]
pub(super) struct Pipe {
    reader: PipeReader,
    writer: PipeWriter,
    held: usize,
    _permit: Permit<'static>,
}

impl Pipe {
    /// The capacity that is asked for. Beyond a limit for each user (`pipe(7)`) the system gives
    /// less.
    const CAPACITY: usize = 256 * 1024;

    /// Makes a pipe, unless the process has too many or is short of descriptors or memory, or the
    /// system refuses to splice.
    pub(super) fn new() -> Option<Self> {
        if REFUSED.load(Ordering::Relaxed) {
            return None;
        }
        let permit = PIPES.try_acquire()?;
        let (reader, writer) = io::pipe().ok()?;
        // If the system refuses, the pipe keeps its 64 KiB, which do.
        let _ = fcntl_setpipe_size(&writer, Self::CAPACITY);
        Some(Self {
            reader,
            writer,
            held: 0,
            _permit: permit,
        })
    }

    /// Sends back what the peer sends, on this thread, for as long as it streams and the server
    /// does not end the connection. Returns when the peer last sent something.
    ///
    /// # Errors
    ///
    /// Those of the connection, and its timeouts.
    pub(super) fn relay(mut self, conn: &Connection) -> io::Result<Instant> {
        let mut last = Instant::now();
        let mut small_in_a_row = 0;
        // A peer that takes nothing must not hold up a close.
        conn.send_in_slices();
        while small_in_a_row < STREAM_READS && !conn.should_close() {
            let received = conn.receive_soon_by(|most| {
                self.fill(conn.stream(), most).map_err(|error| {
                    if is_refusal(&error, conn) {
                        REFUSED.store(true, Ordering::Relaxed);
                        // Nothing was taken, so the reactor can copy on as if nothing came.
                        return ErrorKind::WouldBlock.into();
                    }
                    error
                })
            })?;
            // The peer is silent, or at its end: that is for the reactor to read.
            let Some(n @ 1..) = received else {
                break;
            };
            last = Instant::now();
            while self.held > 0 {
                // A splice blocks as it likes, for at most a slice.
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

    /// Takes what the peer has sent, or waits for it. The pipe must be empty.
    fn fill(&mut self, from: &TcpStream, most: usize) -> io::Result<usize> {
        let most = most.min(Self::CAPACITY);
        match splice(from, None, &self.writer, None, most, SpliceFlags::empty())? {
            // A splice returns 0 at the end of file, but also where the next byte is urgent.
            0 => Err(ErrorKind::WouldBlock.into()),
            n => {
                self.held = n;
                Ok(n)
            }
        }
    }

    /// Sends some of what the pipe holds.
    fn drain(&mut self, to: &TcpStream) -> io::Result<usize> {
        let flags = SpliceFlags::empty();
        let n = splice(&self.reader, None, to, None, self.held, flags)?;
        self.held -= n;
        Ok(n)
    }
}

/// Returns whether an error says that the system does not splice, and nothing of the connection.
fn is_refusal(error: &io::Error, conn: &Connection) -> bool {
    !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
        && conn.reason_of(error) == CloseReason::Error
}
