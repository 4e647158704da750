//! The protocol, RESP2: reads requests and writes replies.
//!
//! A request is an array of strings, such as `*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`, or a line of words, which a
//! user can type into `nc`. Both have a limit, because a client may send anything.

use std::io::{self, BufRead, ErrorKind, Read, Take, Write};
use std::str::FromStr;
use std::sync::Arc;

/// The longest request, in bytes on the wire. Redis's own limit is 512 MB for each string.
const MAX_REQUEST: u64 = 1 << 20;

/// The most words in a request. Each word takes memory beside its bytes, even if it is empty.
const MAX_WORDS: usize = 1024;

/// Reads one request: a command and its arguments. An empty request has no words.
///
/// A malformed or oversized request is an error of the kind `InvalidData`. The end of the input is
/// `UnexpectedEof`, both within a request and between two requests.
pub(crate) fn read_request(input: impl BufRead) -> io::Result<Vec<Vec<u8>>> {
    let mut input = input.take(MAX_REQUEST);
    let line = read_line(&mut input)?;
    if let Some(count) = line.strip_prefix(b"*") {
        return match number(count) {
            Some(count @ ..=MAX_WORDS) => (0..count).map(|_| read_bulk(&mut input)).collect(),
            _ => Err(invalid("invalid multibulk length")),
        };
    }
    let words = line.split(u8::is_ascii_whitespace);
    let words = words.filter(|word| !word.is_empty()).map(<[u8]>::to_vec);
    let words: Vec<_> = words.take(MAX_WORDS + 1).collect();
    if words.len() > MAX_WORDS {
        return Err(invalid("too big inline request"));
    }
    Ok(words)
}

/// Reads a string with its length before it, `$3\r\nGET\r\n`.
fn read_bulk(input: &mut Take<impl BufRead>) -> io::Result<Vec<u8>> {
    let line = read_line(input)?;
    let Some(length) = line.strip_prefix(b"$") else {
        let got = line.first().map_or(&b"\r"[..], std::slice::from_ref);
        return Err(invalid(&format!(
            "expected '$', got '{}'",
            got.escape_ascii()
        )));
    };
    let fits = |length: &u64| length.saturating_add(2) <= input.limit();
    let Some(length) = number(length).filter(fits) else {
        return Err(invalid("invalid bulk length"));
    };
    // Allocate as the bytes arrive, and not as soon as the client announces the length.
    let mut bulk = Vec::new();
    input.by_ref().take(length).read_to_end(&mut bulk)?;
    let mut end = [0; 2];
    input.read_exact(&mut end)?;
    if end != *b"\r\n" {
        return Err(invalid("expected CRLF after a bulk string"));
    }
    Ok(bulk)
}

/// Reads a line, and returns it without its end.
fn read_line(input: &mut Take<impl BufRead>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    input.read_until(b'\n', &mut line)?;
    if line.pop_if(|last| *last == b'\n').is_none() {
        return Err(match input.limit() {
            0 => invalid("too big request"),
            _ => ErrorKind::UnexpectedEof.into(),
        });
    }
    line.pop_if(|last| *last == b'\r');
    Ok(line)
}

/// Parses a decimal number.
pub(crate) fn number<N: FromStr>(bytes: &[u8]) -> Option<N> {
    str::from_utf8(bytes).ok()?.parse().ok()
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

pub(crate) enum Reply {
    Simple(&'static str),
    Error(String),
    Integer(i64),
    Bulk(Arc<[u8]>),
    Null,
    Array(Vec<Reply>),
}

impl Reply {
    pub(crate) fn write_to(&self, output: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Simple(text) => write!(output, "+{text}\r\n"),
            Self::Error(text) => write!(output, "-{text}\r\n"),
            Self::Integer(number) => write!(output, ":{number}\r\n"),
            Self::Bulk(bytes) => {
                write!(output, "${}\r\n", bytes.len())?;
                output.write_all(bytes)?;
                output.write_all(b"\r\n")
            }
            Self::Null => output.write_all(b"$-1\r\n"),
            Self::Array(replies) => {
                write!(output, "*{}\r\n", replies.len())?;
                replies.iter().try_for_each(|reply| reply.write_to(output))
            }
        }
    }
}
