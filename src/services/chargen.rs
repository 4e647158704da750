//! The character generator protocol, RFC 864.

use std::io::{self, Write};

use crate::connection::Connection;
use crate::worker::handler::RequestHandler;

/// Sends lines of characters (RFC 864) until the client closes the connection.
///
/// Each line has 72 of the 95 printing ASCII characters and ends with CR LF. Each line starts one
/// character later than the line before. The first line starts with the space.
///
/// The handler reads nothing. The server drops what the client has sent when it closes the
/// connection. A client that has half-closed still receives.
///
/// The handler also ends at a shutdown, at the end of the
/// [lifetime](crate::Builder::max_lifetime), and if the client reads nothing for the
/// [write timeout](crate::Builder::write_timeout). Both limits are off by default. Set at least the
/// write timeout, because a client that stops reading otherwise holds its thread until a shutdown.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use socketserver::{ChargenHandler, TcpServer};
/// use std::io::{BufRead, BufReader};
/// use std::net::TcpStream;
/// use std::thread;
///
/// let mut server = TcpServer::bind("127.0.0.1:0")?;
/// let addr = server.local_addr();
/// let serving = thread::spawn(move || server.handle_request(ChargenHandler::new));
///
/// let mut lines = BufReader::new(TcpStream::connect(addr)?).lines();
/// let first = lines.next().ok_or("no line")??;
/// assert!(first.starts_with(" !\"#$%&'()*+,-./0123456789:;<=>?@ABC"));
/// assert_eq!(first.len(), 72);
/// # drop(lines);
/// # serving.join().expect("the server does not panic")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct ChargenHandler {
    _private: (),
}

impl ChargenHandler {
    /// Makes a chargen handler. `ChargenHandler::new` is the factory for
    /// [`serve_forever`](crate::TcpServer::serve_forever).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl RequestHandler for ChargenHandler {
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        let mut sent = 0;
        while !conn.is_closing() {
            sent += conn.write(&PATTERN[sent..])?;
            sent %= PATTERN.len();
        }
        Ok(())
    }
}

const WIDTH: usize = 72;
const LINE: usize = WIDTH + "\r\n".len();

/// The number of printing ASCII characters, from the space to the tilde.
const PRINTING: usize = 95;

/// All different lines, which the handler sends again and again.
static PATTERN: [u8; PRINTING * LINE] = pattern();

const fn pattern() -> [u8; PRINTING * LINE] {
    let mut pattern = [0; PRINTING * LINE];
    let mut at = 0;
    while at < pattern.len() {
        let (line, column) = (at / LINE, at % LINE);
        pattern[at] = match column {
            #[allow(clippy::cast_possible_truncation, reason = "it is less than 95")]
            ..WIDTH => b' ' + ((line + column) % PRINTING) as u8,
            WIDTH => b'\r',
            _ => b'\n',
        };
        at += 1;
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_starts_one_character_later() {
        let text = std::str::from_utf8(&PATTERN).unwrap();
        let printing: String = (b' '..=b'~').map(char::from).collect();
        let twice = printing.repeat(2);
        let lines: Vec<_> = text.split_terminator("\r\n").collect();
        assert_eq!(lines.len(), 95);
        for (first, line) in lines.iter().enumerate() {
            assert_eq!(*line, &twice[first..first + 72]);
        }
    }
}
