//! A client of the daytime service (RFC 867): asks a server for the date and the time.
//!
//! ```sh
//! cargo run -- --service daytime=127.0.0.1:1313
//! cargo run --example daytime -- 127.0.0.1:1313    # in another terminal; or try time.nist.gov
//! ```

mod support;

use std::env;
use std::io::{self, Error, ErrorKind, Read};
use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;

use jiff::{Timestamp, tz::TimeZone};
use socketserver::{Daytime, LeapSecond};
use support::{TIMEOUT, complain, connect, print, printable, resolve, within};

/// The most bytes of an answer. RFC 867 suggests a single line.
const LONGEST: u64 = 1000;

fn main() -> ExitCode {
    let Some(server) = env::args_os().nth(1) else {
        complain("usage: daytime HOST[:PORT]");
        return ExitCode::from(2);
    };
    let server = server.to_string_lossy();
    match find(&server).and_then(|addrs| ask(connect(&addrs)?)) {
        Ok(answer) => {
            print(tell(&answer));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(format_args!("{server}: {}", explain(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Looks up `HOST:PORT`, or `HOST` with port 13. An IPv6 address has colons, too, but no port after them.
fn find(server: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = server.parse::<Ipv6Addr>() {
        return Ok(vec![(ip, 13).into()]);
    }
    if server.contains(':') {
        return resolve(server);
    }
    resolve(&format!("{server}:13"))
}

fn ask(stream: TcpStream) -> io::Result<Vec<u8>> {
    let late = Err(ErrorKind::TimedOut.into());
    within(TIMEOUT, || read(stream)).unwrap_or(late)
}

/// Reads until the server closes.
fn read(stream: TcpStream) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    match stream.take(LONGEST + 1).read_to_end(&mut answer)? as u64 {
        0 => Err(Error::other("the server closed without an answer")),
        1..=LONGEST => Ok(answer),
        _ => Err(Error::other("the answer is too long for a date and time")),
    }
}

fn explain(error: &Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            "no program listens there; is the server running?".to_owned()
        }
        ErrorKind::TimedOut => format!("no answer within {TIMEOUT:?}"),
        // An error without a code of the system comes from `resolve`, which rejects the argument.
        ErrorKind::InvalidInput if error.raw_os_error().is_none() => {
            "write the address as HOST, HOST:PORT or [IPV6]:PORT".to_owned()
        }
        _ => error.to_string(),
    }
}

fn tell(answer: &[u8]) -> String {
    let daytime: Daytime = match String::from_utf8_lossy(answer).parse() {
        Ok(daytime) => daytime,
        Err(error) => {
            let answer = printable(answer.trim_ascii());
            return format!(
                "{answer}\n(printed as received, because it is not in NIST's format: {error})"
            );
        }
    };
    let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
    let time = Timestamp::try_from(daytime.time()).unwrap_or_default();
    let time = time.to_zoned_datetime(zone);
    let mut lines = vec![time.strftime("%A, %B %-d, %Y, %H:%M:%S %Z").to_string()];
    lines.push(match daytime.health() {
        0 => "The clock there is healthy.".to_owned(),
        fault => format!("Don't trust it: the clock there is not healthy ({fault})."),
    });
    if daytime.is_daylight_saving() {
        lines.push("It is daylight saving time there.".to_owned());
    }
    if let Some(days) = daytime.days_to_change() {
        lines.push(format!(
            "Daylight saving time changes there on day {days}; today is day 1."
        ));
    }
    if let Some(leap_second) = daytime.leap_second() {
        let seconds = match leap_second {
            LeapSecond::Added => 61,
            LeapSecond::Removed => 59,
        };
        lines.push(format!(
            "The last minute of this month has {seconds} seconds."
        ));
    }
    lines.join("\n")
}
