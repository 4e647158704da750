//! Echo without copying: a stream goes from the socket into a pipe and back, as references to the
//! pages in which it arrived (`splice(2)`).
//!
//! It takes two system calls more than it saves on a small message, two descriptors, and room in
//! the pipe, so only a connection that streams has one, for as long as it does.

use std::io::{self, ErrorKind, PipeReader, PipeWriter};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, splice};

use crate::connection::Connection;

/// What a read must bring to be one of a stream.
const MUCH: usize = 16 * 1024;

/// How many reads make a stream, and how many small ones end it.
const READS: u32 = 8;

/// Tells a stream from messages by the sizes of reads.
#[derive(Debug, Default)]
pub(super) struct Detector {
    in_a_row: u32,
}

impl Detector {
    /// Counts a read. Returns whether a stream is seen.
    pub(super) fn sees(&mut self, n: usize) -> bool {
        self.in_a_row = if n < MUCH { 0 } else { self.in_a_row + 1 };
        self.in_a_row >= READS
    }
}

/// Sends back what is received for as long as it streams.
///
/// The end of the stream is left to be read by who copies: a splice returns 0 for it, but also where
/// the next byte is urgent.
pub(super) fn relay(conn: &Connection) -> io::Result<()> {
    // Without one, for want of descriptors or memory, copying does.
    let Some(mut pipe) = Pipe::new() else {
        return Ok(());
    };
    let mut small_in_a_row = 0;
    while small_in_a_row < READS {
        let Some(n) = conn.receive_soon_by(|most| pipe.fill(conn.stream(), most))? else {
            return Ok(());
        };
        while pipe.held > 0 {
            conn.send_by(|| pipe.drain(conn.stream()))?;
        }
        small_in_a_row = if n < MUCH { small_in_a_row + 1 } else { 0 };
    }
    Ok(())
}

/// A pipe, and how much is in it.
struct Pipe {
    reader: PipeReader,
    writer: PipeWriter,
    held: usize,
    _one_of: OneOfMany,
}

impl Pipe {
    /// How much is asked for. Beyond a limit of each user (`pipe(7)`) the system gives less.
    const SIZE: usize = 256 * 1024;

    fn new() -> Option<Self> {
        let one_of = OneOfMany::take()?;
        let (reader, writer) = io::pipe().ok()?;
        // Whatever it has then, 64 KiB as a rule, does.
        let _ = fcntl_setpipe_size(&writer, Self::SIZE);
        Some(Self {
            reader,
            writer,
            held: 0,
            _one_of: one_of,
        })
    }

    /// Takes what the peer has sent, or waits for it. The pipe must be empty.
    fn fill(&mut self, from: &TcpStream, most: usize) -> io::Result<usize> {
        let most = most.min(Self::SIZE);
        match splice(from, None, &self.writer, None, most, SpliceFlags::empty())? {
            0 => Err(ErrorKind::WouldBlock.into()),
            n => {
                self.held = n;
                Ok(n)
            }
        }
    }

    /// Sends some of what it holds.
    fn drain(&mut self, to: &TcpStream) -> io::Result<usize> {
        let n = splice(
            &self.reader,
            None,
            to,
            None,
            self.held,
            SpliceFlags::empty(),
        )?;
        self.held -= n;
        Ok(n)
    }
}

/// The permission to hold one of the pipes of this process, so that they can't use up the
/// descriptors that new connections need.
struct OneOfMany;

static PIPES: AtomicUsize = AtomicUsize::new(0);

impl OneOfMany {
    /// They fit under a descriptor limit of 4096 beside as many connections as there are by
    /// default.
    const MOST: usize = 32;

    fn take() -> Option<Self> {
        // Relaxed: it is only counted.
        let taken = PIPES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |pipes| {
            (pipes < Self::MOST).then_some(pipes + 1)
        });
        taken.ok().map(|_| Self)
    }
}

impl Drop for OneOfMany {
    fn drop(&mut self) {
        PIPES.fetch_sub(1, Ordering::Relaxed);
    }
}
