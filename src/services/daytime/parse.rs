//! Reads a line of the NIST format.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::civil::{Time, date};
use jiff::tz::TimeZone;

use super::line::{Daytime, LeapSecond, MJD_OF_1970};

/// The error of a line that is not a [`Daytime`], or of a clock that is out of its range.
///
/// The message names the field, quotes up to 20 characters of it, and says what was expected, such as
/// `time "25:00:00": expected HH:MM:SS`. As an [`io::Error`] it has the kind
/// [`InvalidData`](ErrorKind::InvalidData).
///
/// # Examples
///
/// ```
/// use socketserver::{Daytime, DaytimeError};
///
/// let error: DaytimeError = "53604 05-08-22 25:00:00 50 0 0 725.6 UTC(NIST) *"
///     .parse::<Daytime>()
///     .unwrap_err();
/// assert_eq!(error.to_string(), "time \"25:00:00\": expected HH:MM:SS");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaytimeError(String);

impl DaytimeError {
    pub(super) fn out_of_range() -> Self {
        Self("clock: expected a time from 1970 to August 2132".to_owned())
    }
}

impl fmt::Display for DaytimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for DaytimeError {}

impl From<DaytimeError> for io::Error {
    fn from(error: DaytimeError) -> Self {
        Self::new(ErrorKind::InvalidData, error)
    }
}

/// Reads a line, with or without line ends around it. Fields are separated by one or more spaces or tabs.
///
/// The Julian date decides the century. A second of 60 is accepted in any minute, and the label may be any
/// text or missing.
///
/// # Errors
///
/// A field is missing or malformed, or the date is not the day of the Julian date.
impl FromStr for Daytime {
    type Err = DaytimeError;

    fn from_str(text: &str) -> Result<Self, DaytimeError> {
        const BLANKS: [char; 2] = [' ', '\t'];
        let line = text.trim_matches(['\r', '\n', ' ', '\t']);
        let mut words = line.split(BLANKS).filter(|word| !word.is_empty());

        let julian_date: u32 = read("Julian date", words.next(), "five digits", digits::<5, _>)?;
        let days = i64::from(julian_date) - MJD_OF_1970;
        let day = date(1970, 1, 1).saturating_add(SignedDuration::from_hours(24 * days));
        let written = day.strftime("%y-%m-%d").to_string();
        let expected = format!("{written}, the day of the Julian date");
        read("date", words.next(), &expected, |text| {
            (text == written).then_some(())
        })?;
        let (time, in_leap_second) = read("time", words.next(), "HH:MM:SS", time)?;
        let daylight_saving = read("TT", words.next(), "two digits", digits::<2, _>)?;
        let leap_second = read("L", words.next(), "0, 1 or 2", |text| match text {
            "0" => Some(None),
            "1" => Some(Some(LeapSecond::Added)),
            "2" => Some(Some(LeapSecond::Removed)),
            _ => None,
        })?;
        let health = read("H", words.next(), "one digit", digits::<1, _>)?;
        let expected = "milliseconds such as 50.0";
        let advance = read("msADV", words.next(), expected, milliseconds)?;
        // The mark is the last word. All words before it are the label.
        let mut words: Vec<&str> = words.collect();
        let mark = read("on-time mark", words.pop(), "* or #", |text| match text {
            "*" => Some('*'),
            "#" => Some('#'),
            _ => None,
        })?;
        let label = read("label", Some(&words.join(" ")), "text", |text| {
            (!text.contains(char::is_control)).then(|| text.to_owned())
        })?;

        let timestamp = TimeZone::UTC.to_timestamp(day.to_datetime(time));
        Ok(Self {
            timestamp: timestamp.map_err(|_| DaytimeError::out_of_range())?,
            in_leap_second,
            daylight_saving,
            leap_second,
            health,
            advance,
            label,
            mark,
        })
    }
}

/// Reads a field with `read`, or returns an error that says what was expected.
fn read<T>(
    field: &str,
    text: Option<&str>,
    expected: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, DaytimeError> {
    let text = text.ok_or_else(|| DaytimeError(format!("{field} missing: expected {expected}")))?;
    read(text).ok_or_else(|| {
        // Quote only the beginning, because the text may be a megabyte long.
        let excerpt: String = text.chars().take(20).collect();
        DaytimeError(format!("{field} {excerpt:?}: expected {expected}"))
    })
}

/// Reads a number of exactly `COUNT` digits.
fn digits<const COUNT: usize, T: FromStr>(text: &str) -> Option<T> {
    let digits = text.len() == COUNT && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// Reads `HH:MM:SS`. Returns the time, and whether it is in a leap second.
fn time(text: &str) -> Option<(Time, bool)> {
    // `strptime` makes 59 of a second of 60. It also accepts one digit instead of two, so check the length.
    let time = Time::strptime("%H:%M:%S", text).ok()?;
    (text.len() == "HH:MM:SS".len()).then(|| (time, text.ends_with(":60")))
}

fn milliseconds(text: &str) -> Option<Duration> {
    // `f64` also parses signs, exponents and infinities, which are not in the format.
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let milliseconds: f64 = text.parse().ok().filter(|_| plain)?;
    Duration::try_from_secs_f64(milliseconds / 1000.0).ok()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;

    const NIST: &str = "53604 05-08-22 02:57:53 50 0 0 725.6 UTC(NIST) *";

    fn seconds(line: &str) -> u64 {
        let time = line.parse::<Daytime>().unwrap().time();
        time.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs()
    }

    #[test]
    fn lines_captured_from_servers_are_read() {
        let summer: Daytime = "\n53604 05-08-22 02:57:53 50 0 0 725.6 UTC(NIST) * \n"
            .parse()
            .unwrap();
        assert_eq!(summer.to_string(), NIST);
        assert_eq!(seconds(NIST), 1_124_679_473);
        assert!(summer.is_daylight_saving());
        assert_eq!(summer.days_to_change(), None);
        assert_eq!((summer.leap_second(), summer.health()), (None, 0));
        assert_eq!(summer.advance(), Duration::from_micros(725_600));
        assert_eq!(summer.label(), "UTC(NIST)");

        let line = "\n54169 07-03-10 02:43:18 52 0 0 594.5 UTC(NIST) #\n";
        let eve: Daytime = line.parse().unwrap();
        assert_eq!(eve.to_string(), line.trim());
        assert_eq!(seconds(line), 1_173_494_598);
        assert!(!eve.is_daylight_saving());
        assert_eq!(eve.days_to_change(), Some(2));
    }

    #[test]
    fn spaces_line_ends_and_labels_may_differ() {
        for same in [
            "53604 05-08-22 02:57:53 50 0 0 725.6 UTC(NIST) *\r\n",
            "\r\n 53604  05-08-22\t02:57:53 50 0 0  725.6  UTC(NIST)   *  \r\n",
            "53604 05-08-22 02:57:53 50 0 0 725.6 my own clock *",
            "53604 05-08-22 02:57:53 50 0 0 725.6 *",
            "53604 05-08-22 02:57:53 50 0 0   .0 UTC(NIST) *",
            "53604 05-08-22 02:57:53 50 0 0 50 UTC(NIST) *",
        ] {
            assert_eq!(seconds(same), 1_124_679_473, "{same:?}");
        }
    }

    #[test]
    fn the_julian_date_tells_the_century() {
        let first = "00000 58-11-17 00:00:00 00 0 0 0.0 X *";
        let first = first.parse::<Daytime>().unwrap().time();
        let before = SystemTime::UNIX_EPOCH.duration_since(first).unwrap();
        assert_eq!(before.as_secs(), 40_587 * 86_400);
        assert_eq!(seconds("40587 70-01-01 00:00:00 00 0 0 0.0 X *"), 0);
        assert_eq!(
            seconds("77112 70-01-01 00:00:00 00 0 0 0.0 X *"),
            36_525 * 86_400
        );
    }

    #[test]
    fn a_leap_second_is_the_second_before_it() {
        let line = "57753 16-12-31 23:59:60 00 1 0   0.0 UTC(NIST) *";
        assert_eq!(seconds(line), seconds(&line.replace(":60", ":59")));
        let daytime: Daytime = line.parse().unwrap();
        assert_eq!(daytime.leap_second(), Some(LeapSecond::Added));
        assert_eq!(daytime.to_string(), line);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (right, wrong, error) in [
            (
                "53604",
                "5360",
                "Julian date \"5360\": expected five digits",
            ),
            (
                "53604",
                "+5360",
                "Julian date \"+5360\": expected five digits",
            ),
            (
                "53604",
                "53605",
                "date \"05-08-22\": expected 05-08-23, the day of the Julian date",
            ),
            (
                "05-08-22",
                "05/08/22",
                "date \"05/08/22\": expected 05-08-22, the day of the Julian date",
            ),
            (":53", ":61", "time \"02:57:61\": expected HH:MM:SS"),
            (
                "02:57:53",
                "24:57:53",
                "time \"24:57:53\": expected HH:MM:SS",
            ),
            ("02:57:53", "2:57:53", "time \"2:57:53\": expected HH:MM:SS"),
            (
                "02:57:53",
                "02:57:530",
                "time \"02:57:530\": expected HH:MM:SS",
            ),
            (" 50", " 5", "TT \"5\": expected two digits"),
            (" 50", " -1", "TT \"-1\": expected two digits"),
            (" 0 0", " 3 0", "L \"3\": expected 0, 1 or 2"),
            (" 0 0", " 0 x", "H \"x\": expected one digit"),
            (
                "725.6",
                "-725.6",
                "msADV \"-725.6\": expected milliseconds such as 50.0",
            ),
            (
                "725.6",
                "inf",
                "msADV \"inf\": expected milliseconds such as 50.0",
            ),
            (
                "725.6",
                ".",
                "msADV \".\": expected milliseconds such as 50.0",
            ),
            (
                "NIST",
                "NI\x1bST",
                "label \"UTC(NI\\u{1b}ST)\": expected text",
            ),
            ("*", "+", "on-time mark \"+\": expected * or #"),
            ("*", "* *\n*", "on-time mark \"*\\n*\": expected * or #"),
        ] {
            let line = NIST.replacen(right, wrong, 1);
            let found = line.parse::<Daytime>().unwrap_err();
            assert_eq!(found.to_string(), error, "{line:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let words: Vec<_> = NIST.split(' ').collect();
        for (count, field) in [
            "date missing",
            "time missing",
            "TT missing",
            "L missing",
            "H missing",
            "msADV missing",
            "on-time mark missing",
            "on-time mark \"UTC(NIST)\"",
        ]
        .iter()
        .enumerate()
        {
            let line = words[..=count].join(" ");
            let error = line.parse::<Daytime>().unwrap_err().to_string();
            assert!(error.starts_with(field), "{line:?}: {error}");
        }
        let error = "\n \n".parse::<Daytime>().unwrap_err().to_string();
        assert_eq!(error, "Julian date missing: expected five digits");
    }

    #[test]
    fn an_error_quotes_only_a_part_of_a_megabyte() {
        let error = "7".repeat(1 << 20).parse::<Daytime>().unwrap_err();
        assert!(error.to_string().len() < 100, "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_rejected_without_a_panic(text in ".{0,80}") {
            let _ = text.parse::<Daytime>();
        }

        #[test]
        fn a_text_like_a_line_that_is_read_is_read_back_after_writing(
            text in "[45][0-9]{4} [0-9]{2}-0[1-9]-[0-9]{2} [0-2][0-9](:[0-6][0-9]){2} [0-9]{2} [0-3] [0-9] {1,3}[0-9]{0,3}\\.?[0-9]? ([A-Z]{0,9} ){0,2}[*#+]",
        ) {
            if let Ok(daytime) = text.parse::<Daytime>() {
                prop_assert_eq!(daytime.to_string().parse(), Ok(daytime));
            }
        }
    }
}
