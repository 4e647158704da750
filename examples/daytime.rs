//! A client of the daytime service (RFC 867): what day is it, and what time, by another's clock?
//!
//! ```sh
//! cargo run -- --service daytime=:1313
//! cargo run --example daytime -- localhost:1313    # in another terminal; or try time.nist.gov
//! ```

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::io::{self, Error, ErrorKind, Read};
use std::net::{Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::time::Duration;
use std::{env, str, thread};

use jiff::{Timestamp, tz::TimeZone};
use socketserver::{Daytime, LeapSecond};

/// How long the server may take in all, even if the answer drips.
const PATIENCE: Duration = Duration::from_secs(5);
/// The RFC wants no more than a line.
const LONGEST: u64 = 1000;

fn main() -> ExitCode {
    let Some(server) = env::args().nth(1) else {
        eprintln!("usage: daytime HOST[:PORT]");
        return ExitCode::from(2);
    };
    match find(&server).and_then(ask) {
        Ok(answer) => tell(&answer),
        Err(error) => {
            eprintln!("{server}: {}", explain(&error));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// The port is 13, unless one follows a colon; but an IPv6 address has colons of its own.
fn find(server: &str) -> io::Result<Vec<SocketAddr>> {
    if server.contains(':') && server.parse::<Ipv6Addr>().is_err() {
        Ok(server.to_socket_addrs()?.collect())
    } else {
        Ok((server, 13).to_socket_addrs()?.collect())
    }
}

fn ask(addrs: Vec<SocketAddr>) -> io::Result<Vec<u8>> {
    let (answered, answer) = channel();
    thread::spawn(move || answered.send(read(&addrs)));
    let late = Err(ErrorKind::TimedOut.into());
    answer.recv_timeout(PATIENCE).unwrap_or(late)
}

/// Connects to one of the addresses, and reads until the server closes.
fn read(addrs: &[SocketAddr]) -> io::Result<Vec<u8>> {
    let stream = TcpStream::connect(addrs)?;
    let mut answer = Vec::new();
    match stream.take(LONGEST + 1).read_to_end(&mut answer)? as u64 {
        0 => Err(Error::other("it hung up without a word")),
        1..=LONGEST => Ok(answer),
        _ => Err(Error::other("it sends too much for the time of day")),
    }
}

fn explain(error: &Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "nobody listens there; is the server running?".to_owned(),
        ErrorKind::TimedOut => format!("no answer within {PATIENCE:?}"),
        ErrorKind::InvalidInput => "write the address as HOST, HOST:PORT or [IPV6]:PORT".to_owned(),
        _ => error.to_string(),
    }
}

fn tell(answer: &[u8]) {
    let daytime: Daytime = match String::from_utf8_lossy(answer).parse() {
        Ok(daytime) => daytime,
        Err(error) => {
            // A terminal would obey control characters.
            match str::from_utf8(answer).map(str::trim) {
                Ok(text) if !text.contains(char::is_control) => println!("{text}"),
                _ => println!("{}", answer.trim_ascii().escape_ascii()),
            }
            return println!("(as it came, not in the form of NIST: {error})");
        }
    };
    let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
    let time = Timestamp::try_from(daytime.time()).unwrap_or_default();
    let time = time.to_zoned(zone);
    println!("{}", time.strftime("%A, %B %-d, %Y, %H:%M:%S %Z"));
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
