//! Echo without copying: a stream goes from the socket into a pipe and back, as references to the
//! pages in which it arrived (`splice(2)`).
//!
//! To copy a small message is cheaper than that, and a pipe takes two descriptors, so only a
//! connection that streams has one, for as long as it does.

use std::io::{self, ErrorKind, PipeReader, PipeWriter};
use std::net::TcpStream;

use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, splice};

use crate::connection::Connection;
use crate::semaphore::{Permit, Quota};

/// What a read must bring to be one of a stream.
const MUCH: usize = 16 * 1024;

/// How many reads make a stream, and how many small ones end it.
const READS: u32 = 8;

/// How many there are at most, so that they can't use up the descriptors that new connections need.
/// They fit under a descriptor limit of 4096 beside as many connections as there are by default.
static PIPES: Quota = Quota::new(32);

/// Tells a stream from messages by the sizes of reads.
#[derive(Debug, Default)]
pub(super) struct Detector {
    in_a_row: u32,
}

impl Detector {
    /// Counts a read. Returns a pipe if a stream is seen, and one can be had: without, for want of
    /// descriptors or memory, copying does.
    pub(super) fn sees(&mut self, n: usize) -> Option<Pipe> {
        self.in_a_row = if n < MUCH { 0 } else { self.in_a_row + 1 };
        if self.in_a_row < READS {
            return None;
        }
        // Not asked for again at every read.
        self.in_a_row = 0;
        Pipe::new()
    }
}

/// Sends back what is received for as long as it streams.
///
/// The end of the stream is left to be read by who copies: a splice returns 0 for it, but also where
/// the next byte is urgent.
pub(super) fn relay(conn: &Connection, mut pipe: Pipe) -> io::Result<()> {
    let mut small_in_a_row = 0;
    while small_in_a_row < READS {
        let received = conn.receive_soon_by(|most| pipe.fill(conn.stream(), most))?;
        let Some(n @ 1..) = received else {
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
#[derive(Debug)]
pub(super) struct Pipe {
    reader: PipeReader,
    writer: PipeWriter,
    held: usize,
    _permit: Permit<'static>,
}

impl Pipe {
    /// How much is asked for. Beyond a limit of each user (`pipe(7)`) the system gives less.
    const SIZE: usize = 256 * 1024;

    fn new() -> Option<Self> {
        let permit = PIPES.take()?;
        let (reader, writer) = io::pipe().ok()?;
        // Whatever it has then, 64 KiB as a rule, does.
        let _ = fcntl_setpipe_size(&writer, Self::SIZE);
        Some(Self {
            reader,
            writer,
            held: 0,
            _permit: permit,
        })
    }

    /// Takes what the peer has sent, or waits for it. The pipe must be empty.
    fn fill(&mut self, from: &TcpStream, most: usize) -> io::Result<usize> {
        let most = most.min(Self::SIZE);
        match splice(from, None, &self.writer, None, most, SpliceFlags::empty())? {
            // Not an end of file before a read says so.
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
