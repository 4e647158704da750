//! Functions that several examples share: look up a name, connect, give up in time, print.
//!
//! If you copy an example that uses them, copy this file, too.

#![allow(dead_code, reason = "each example uses a part of this module")]

use std::fmt::{Display, Write as _};
use std::io::{self, Error, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc::channel;
use std::time::Duration;
use std::{env, process, thread};

/// Time limit for connecting, and another for the conversation after it.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to one of the addresses.
///
/// A name may have several addresses, some of which this machine can't use. This function tries them in
/// order. If all fail, it returns the error that says most about the server. `TcpStream::connect` would
/// return the error of the last address.
pub(crate) fn connect(addrs: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut failures = Vec::new();
    for addr in addrs {
        // Each address gets a share of the time, so that one that does not answer can't use it all.
        let share = TIMEOUT / u32::try_from(addrs.len()).unwrap_or(u32::MAX);
        match TcpStream::connect_timeout(addr, share) {
            Ok(stream) => return Ok(stream),
            Err(error) => failures.push(error),
        }
    }
    let most_telling = failures.into_iter().min_by_key(|error| match error.kind() {
        // The server's machine has answered.
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => 0,
        ErrorKind::TimedOut => 1,
        // This machine has no way to that address.
        _ => 2,
    });
    Err(most_telling.unwrap_or_else(|| Error::new(ErrorKind::NotFound, "the name has no address")))
}

/// Looks up the addresses of `HOST:PORT`.
pub(crate) fn resolve(server: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(addr) = server.parse() {
        return Ok(vec![addr]);
    }
    let (host, port) = server.rsplit_once(':').unwrap_or_default();
    // Rust's parser also takes a plus sign.
    let port = port.parse().ok().filter(|_| !port.starts_with('+'));
    match port {
        Some(port) if !host.is_empty() && !host.contains(':') => {
            check_name(host)?;
            Ok((host, port).to_socket_addrs()?.collect())
        }
        _ => Err(Error::new(
            ErrorKind::InvalidInput,
            "write the address as HOST:PORT",
        )),
    }
}

/// Rejects texts that are not host names, although `getaddrinfo(3)` returns an address for them.
///
/// `getaddrinfo(3)` takes `*` for this machine, and a name whose last label is a number, such as `1`,
/// `127.1` or `0x7f.1`, for an IPv4 address in an old notation.
pub(crate) fn check_name(host: &str) -> io::Result<()> {
    let last = host.trim_end_matches('.').rsplit('.').next();
    let is_number = last.is_some_and(|last| {
        let hex = last.strip_prefix("0x").or(last.strip_prefix("0X"));
        hex.unwrap_or(last).bytes().all(|digit| match hex {
            Some(_) => digit.is_ascii_hexdigit(),
            None => digit.is_ascii_digit(),
        })
    });
    if host == "*" || is_number {
        let what = format!("{host:?} is neither a name nor an IP address");
        return Err(Error::new(ErrorKind::NotFound, what));
    }
    Ok(())
}

/// Runs `work` on a thread of its own, and gives up on it after `time`.
///
/// A timeout of the socket limits each `read` only. A server that sends a byte now and then would keep
/// the client waiting for ever.
pub(crate) fn within<T: Send + 'static>(
    time: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, result) = channel();
    thread::spawn(move || done.send(work()));
    result.recv_timeout(time).ok()
}

/// Returns an argument of the command line, or `default` if it was left out.
pub(crate) fn argument(number: usize, default: &str) -> String {
    env::args()
        .nth(number)
        .unwrap_or_else(|| default.to_owned())
}

/// Converts bytes to text for a terminal. Escapes control characters, which a terminal would obey, and
/// bytes that are not UTF-8.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for part in bytes.utf8_chunks() {
        for c in part.valid().replace("\r\n", "\n").chars() {
            if c.is_control() && !matches!(c, '\n' | '\t') {
                let _ = write!(text, "{}", c.to_string().as_bytes().escape_ascii());
            } else {
                text.push(c);
            }
        }
        let _ = write!(text, "{}", part.invalid().escape_ascii());
    }
    text
}

/// Prints a line. If that fails, the program ends.
///
/// `println!` would panic, with a message about the program instead of the full disk.
pub(crate) fn print(line: impl Display) {
    printed(writeln!(io::stdout(), "{line}"));
}

/// Ends the program if printing has failed.
pub(crate) fn printed(result: io::Result<()>) {
    if let Err(error) = result {
        // A closed pipe needs no message, because its reader, such as `head`, has read all it wants.
        if error.kind() != ErrorKind::BrokenPipe {
            complain(format_args!("cannot print: {error}"));
        }
        process::exit(1);
    }
}

/// Prints a line on standard error. An error is ignored, because there is nowhere left to report it.
pub(crate) fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
