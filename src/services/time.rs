//! The time protocol, RFC 868.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use crate::connection::Connection;
use crate::worker::handler::RequestHandler;

/// Sends the time as a number (RFC 868), and closes the connection.
///
/// The number is the seconds since the start of 1900, UTC, in four bytes, the most significant byte
/// first. The time is this machine's.
///
/// Four bytes hold 136 years. The count starts again from 0 on 7 February 2036 at 06:28:16 UTC, as in
/// NTP. The first *era* ends then, and the next lasts until 2172. The four bytes don't say which era
/// they mean. A client must choose the era whose time is nearest to its own clock. The choice is right
/// if this clock is wrong by less than 68 years.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use socketserver::{TcpServer, TimeHandler};
/// use std::io::Read;
/// use std::net::TcpStream;
/// use std::thread;
/// use std::time::SystemTime;
///
/// let mut server = TcpServer::bind("127.0.0.1:0")?;
/// let addr = server.local_addr();
/// let serving = thread::spawn(move || server.handle_request(TimeHandler::new));
///
/// let mut reply = [0; 4];
/// TcpStream::connect(addr)?.read_exact(&mut reply)?;
/// // The seconds from 1900 to 1970, and from 1970 to now. The reply has their low 32 bits.
/// let now = SystemTime::UNIX_EPOCH.elapsed()?.as_secs() + 2_208_988_800;
/// let behind = (now as u32).wrapping_sub(u32::from_be_bytes(reply));
/// assert!(behind < 10);
/// # serving.join().expect("the server does not panic")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct TimeHandler {
    _private: (),
}

impl TimeHandler {
    /// Makes a time handler. `TimeHandler::new` is the factory for
    /// [`serve_forever`](crate::TcpServer::serve_forever).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl RequestHandler for TimeHandler {
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        conn.write_all(&seconds(SystemTime::now()).to_be_bytes())
    }
}

/// The seconds from the start of 1900 to that of 1970: 70 years, of which 17 were leap years.
const FROM_1900_TO_1970: u32 = (70 * 365 + 17) * 24 * 60 * 60;

/// Returns the seconds since the start of the era of `time`.
fn seconds(time: SystemTime) -> u32 {
    // The conversion wraps, and so drops the number of the era.
    #[allow(clippy::cast_possible_truncation)]
    let low = |duration: Duration| duration.as_secs() as u32;
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => FROM_1900_TO_1970.wrapping_add(low(since)),
        Err(error) => FROM_1900_TO_1970.wrapping_sub(low(error.duration())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_in_the_rfc_are_sent_as_the_rfc_says() {
        for (date, number) in [
            ("1970-01-01", 2_208_988_800),
            ("1976-01-01", 2_398_291_200),
            ("1980-01-01", 2_524_521_600),
            ("1983-05-01", 2_629_584_000),
        ] {
            assert_eq!(seconds(at(date)), number, "{date}");
        }
        // The RFC says -1,297,728,000, which is the same in two's complement.
        assert_eq!(seconds(at("1858-11-17")), 2_997_239_296);
    }

    #[test]
    fn the_count_starts_again_in_2036() {
        let last = at("2036-02-07") + Duration::from_secs(6 * 3600 + 28 * 60 + 15);
        assert_eq!(seconds(last), u32::MAX);
        assert_eq!(seconds(last + Duration::from_secs(1)), 0);
        assert_eq!(seconds(at("1900-01-01")), 0);
    }

    fn at(date: &str) -> SystemTime {
        let timestamp: jiff::Timestamp = format!("{date}T00:00:00Z").parse().unwrap();
        timestamp.try_into().unwrap()
    }
}
