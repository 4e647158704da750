//! A client of the daytime service (RFC 867): what day is it, and what time, by another's clock?
//!
//! ```sh
//! cargo run -- --service daytime=:1313
//! cargo run --example daytime -- localhost:1313    # in another terminal; or try time.nist.gov
//! ```

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::io::{self, Error, ErrorKind, Read};
use std::net::{Ipv6Addr, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, str};

use jiff::{Timestamp, tz::TimeZone};
use socketserver::{Daytime, LeapSecond};

const PATIENCE: Duration = Duration::from_secs(5);

/// The RFC wants no more than a line.
const LONGEST: usize = 1000;

fn main() -> ExitCode {
    let Some(server) = env::args().nth(1) else {
        eprintln!("usage: daytime HOST[:PORT]");
        return ExitCode::from(2);
    };
    match connect(&server).and_then(read) {
        Ok(answer) => {
            tell(&answer);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{server}: {}", explain(&error));
            ExitCode::FAILURE
        }
    }
}

/// The port is 13, unless one follows a colon; but an IPv6 address has colons of its own.
fn connect(server: &str) -> io::Result<TcpStream> {
    let addrs = if server.contains(':') && server.parse::<Ipv6Addr>().is_err() {
        server.to_socket_addrs()
    } else {
        (server, 13).to_socket_addrs()
    };
    let mut last = Error::other("the name has no address");
    for addr in addrs? {
        match TcpStream::connect_timeout(&addr, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Reads until the server closes, for which it has so long in all, however it drips.
fn read(mut stream: TcpStream) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    let (mut answer, mut buffer) = (Vec::new(), [0; LONGEST]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer)? {
            0 if answer.is_empty() => return Err(Error::other("it hung up without a word")),
            0 => return Ok(answer),
            n => answer.extend_from_slice(&buffer[..n]),
        }
        if answer.len() > LONGEST {
            let length = format!("it sends more than {LONGEST} bytes: that is not the time of day");
            return Err(Error::other(length));
        }
    }
}

fn explain(error: &Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "nobody listens there; is the server running?".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => format!("no answer within {PATIENCE:?}"),
        ErrorKind::InvalidInput => "write the address as HOST, HOST:PORT or [IPV6]:PORT".to_owned(),
        _ => error.to_string(),
    }
}

fn tell(answer: &[u8]) {
    match String::from_utf8_lossy(answer).parse() {
        Ok(daytime) => describe(&daytime),
        Err(error) => println!(
            "{}\n(as it came, not in the form of NIST: {error})",
            printable(answer)
        ),
    }
}

/// The time in the zone of this machine, and what else the server says.
fn describe(daytime: &Daytime) {
    let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
    let time = Timestamp::try_from(daytime.time()).unwrap_or_default();
    let format = "%A, %B %-d, %Y, %H:%M:%S %Z";
    println!("{}", time.to_zoned(zone).strftime(format));
    match daytime.health() {
        0 => println!("The clock there is healthy."),
        fault => println!("Don't trust it: the clock there is not healthy ({fault})."),
    }
    if daytime.is_daylight_saving() {
        println!("It is daylight saving time there.");
    }
    if let Some(days) = daytime.days_to_change() {
        println!("Daylight saving time changes there on day {days}; today is day 1.");
    }
    match daytime.leap_second() {
        Some(LeapSecond::Added) => println!("The last minute of this month has 61 seconds."),
        Some(LeapSecond::Removed) => println!("The last minute of this month has 59 seconds."),
        None => {}
    }
}

/// Text as it is; anything else escaped, as a terminal would obey control characters.
fn printable(answer: &[u8]) -> String {
    match str::from_utf8(answer).map(str::trim) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => answer.escape_ascii().to_string(),
    }
}
