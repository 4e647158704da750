//! The handler of one connection, on any stream: reads requests and writes replies.

use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};

use crate::commands;
use crate::resp::{Reply, read_request};
use crate::store::Store;

/// Answers requests until the client half-closes or sends something that is not a request.
pub(crate) fn talk(stream: impl Read + Write, store: &Store) -> io::Result<()> {
    let mut input = BufReader::new(FlushBeforeRead(BufWriter::new(stream)));
    loop {
        let request = read_request(&mut input);
        let output = &mut input.get_mut().0;
        match request {
            Ok(words) => match &words[..] {
                [] => {}
                [command, args @ ..] => commands::run(command, args, store).write_to(output)?,
            },
            // The server can't know where the next request begins, so this is the last reply.
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                Reply::Error(format!("ERR Protocol error: {error}")).write_to(output)?;
                return output.flush();
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// A stream whose replies stay in a buffer until the next read of the stream.
///
/// The `BufReader` reads from this stream when it has no more input. So one write sends the replies to all
/// requests that arrived together, and no reply stays in the buffer while the client waits for it.
struct FlushBeforeRead<S: Write>(BufWriter<S>);

impl<S: Read + Write> Read for FlushBeforeRead<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.flush()?;
        self.0.get_mut().read(buf)
    }
}
