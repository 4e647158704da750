//! The daytime protocol, RFC 867.

mod line;
mod parse;

use std::io::{self, Write};
use std::time::SystemTime;

use crate::connection::Connection;
use crate::worker::handler::RequestHandler;
pub use line::{Daytime, LeapSecond};
pub use parse::DaytimeError;

/// Sends the day and the time (RFC 867), and closes the connection.
///
/// The time is this machine's, in UTC. The RFC leaves the format open; choose one of
/// [`DaytimeFormat`]. Needs the feature `daytime`.
///
/// If the machine's clock is before 1970, or after 31 August 2132, the last day that fits the
/// [NIST format](DaytimeFormat::Nist), the handler sends nothing. It fails with a [`DaytimeError`]
/// of the kind [`InvalidData`](io::ErrorKind::InvalidData).
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use socketserver::{Daytime, DaytimeHandler, TcpServer};
/// use std::io::Read;
/// use std::net::TcpStream;
/// use std::thread;
///
/// let mut server = TcpServer::bind("127.0.0.1:0")?;
/// let addr = server.local_addr();
/// let serving = thread::spawn(move || server.handle_request(DaytimeHandler::new));
///
/// let mut line = String::new();
/// TcpStream::connect(addr)?.read_to_string(&mut line)?;
/// let daytime: Daytime = line.parse()?;
/// assert!(daytime.time().elapsed()?.as_secs() < 10);
/// # serving.join().expect("the server does not panic")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct DaytimeHandler {
    format: DaytimeFormat,
}

impl DaytimeHandler {
    /// Makes a handler that sends the [NIST format](DaytimeFormat::Nist). `DaytimeHandler::new` is the
    /// factory for [`serve_forever`](crate::TcpServer::serve_forever).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Chooses the format. Defaults to [`DaytimeFormat::Nist`].
    #[must_use]
    pub fn format(mut self, format: DaytimeFormat) -> Self {
        self.format = format;
        self
    }
}

impl RequestHandler for DaytimeHandler {
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        let now = Daytime::at(SystemTime::now())?;
        conn.write_all(self.format.write(&now).as_bytes())
    }
}

/// The format in which a [`DaytimeHandler`] sends the day and the time.
///
/// # Examples
///
/// ```no_run
/// # fn main() -> Result<(), socketserver::Error> {
/// use socketserver::{DaytimeFormat, DaytimeHandler, TcpServer};
///
/// let server = TcpServer::bind("127.0.0.1:1313")?;
/// server.serve_forever(|| DaytimeHandler::new().format(DaytimeFormat::Long))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DaytimeFormat {
    /// `53604 05-08-22 02:57:53 00 0 0   0.0 UTC(HOST) *`, the format of NIST's servers.
    ///
    /// [`Daytime`] explains and reads this line. With a line end before the line, and a space and a
    /// line end after it, there are 51 bytes, as from NIST.
    ///
    /// The label `UTC(HOST)` says that the time is that of a host. The flags say what a program knows
    /// that reads only the clock: no daylight saving, no leap second announced, no fault known, not
    /// sent ahead of time.
    #[default]
    Nist,
    /// `Monday, August 22, 2005 02:57:53-UTC`, the first format in RFC 867. It ends with CR LF.
    Long,
    /// `22 AUG 05 02:57:53 UTC`, the second format in RFC 867, which SMTP once used. It ends with
    /// CR LF.
    Short,
}

impl DaytimeFormat {
    fn write(self, daytime: &Daytime) -> String {
        match self {
            Self::Nist => format!("\n{daytime} \n"),
            Self::Long => daytime.strftime("%A, %B %-d, %Y %H:%M:%S-UTC\r\n"),
            Self::Short => daytime.strftime("%d %^b %y %H:%M:%S UTC\r\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_formats_are_those_of_nist_and_of_the_rfc() {
        let write = |format: DaytimeFormat, seconds| {
            format
                .write(&Daytime::at(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap())
        };
        assert_eq!(
            write(DaytimeFormat::Nist, 1_124_679_473),
            "\n53604 05-08-22 02:57:53 00 0 0   0.0 UTC(HOST) * \n"
        );
        assert_eq!(
            write(DaytimeFormat::Long, 383_247_463),
            "Monday, February 22, 1982 17:37:43-UTC\r\n"
        );
        assert_eq!(
            write(DaytimeFormat::Short, 381_484_753),
            "02 FEB 82 07:59:13 UTC\r\n"
        );
    }

    /// Tests every day of the range, each at a different time of day.
    #[test]
    fn what_is_sent_is_read_back_on_every_day() {
        let days = 0..=(99_999 - 40_587);
        for day in days {
            let seconds = day * 86_400 + day * 7919 % 86_400;
            let daytime =
                Daytime::at(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
            let sent = DaytimeFormat::Nist.write(&daytime);
            assert_eq!(sent.len(), 51, "{sent:?}");
            assert_eq!(sent.parse(), Ok(daytime), "{sent:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_is_read_back_with_every_flag(daytime in line::tests::any_daytime()) {
            let sent = DaytimeFormat::Nist.write(&daytime);
            prop_assert_eq!(sent.len(), 51, "{:?}", sent);
            prop_assert_eq!(sent.parse(), Ok(daytime), "{:?}", sent);
        }
    }
}
