//! The line with a day and a time that the servers of NIST send: its fields, and how to write it.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::parse::DaytimeError;

/// A day and a time with the flags that NIST sends in the daytime protocol (RFC 867).
///
/// [`parse`](str::parse) reads a `Daytime` from a line, and [`Display`](fmt::Display) writes the line,
/// without the line ends around it:
///
/// ```text
/// JJJJJ YR-MO-DA HH:MM:SS TT L H msADV LABEL     OTM
/// 53604 05-08-22 02:57:53 50 0 0 725.6 UTC(NIST) *
/// ```
///
/// | field | |
/// | --- | --- |
/// | `JJJJJ` | the Modified Julian Date, in five digits: 40587 is the first day of 1970 |
/// | `YR-MO-DA`, `HH:MM:SS` | the same day, and the time, UTC; in a leap second the seconds are 60 |
/// | `TT` | [daylight saving](Self::is_daylight_saving) in the United States, [days](Self::days_to_change) to a change |
/// | `L` | a [leap second](Self::leap_second) at the end of the month: 0 none, 1 added, 2 removed |
/// | `H` | the server's [health](Self::health), 0 if all is well |
/// | `msADV` | the milliseconds by which the line is sent [ahead](Self::advance) of its time |
/// | `LABEL` | the [source](Self::label) of the time |
/// | `OTM` | the on-time mark, `*` or `#`: the line's time is the moment when this mark arrives |
///
/// Needs the feature `daytime`.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use socketserver::Daytime;
/// use std::time::{Duration, SystemTime};
///
/// let daytime: Daytime = "\n53604 05-08-22 02:57:53 50 0 0 725.6 UTC(NIST) * \n".parse()?;
/// assert_eq!(daytime.time(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_124_679_473));
/// assert!(daytime.is_daylight_saving());
/// assert_eq!(daytime.days_to_change(), None);
/// assert_eq!(daytime.leap_second(), None);
/// assert_eq!(daytime.health(), 0);
///
/// let error = "53604 05-08-23 02:57:53 50 0 0 725.6 UTC(NIST) *".parse::<Daytime>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "date \"05-08-23\": expected 05-08-22, the day of the Julian date",
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daytime {
    /// In whole seconds. For a leap second this is the second before it.
    pub(super) timestamp: Timestamp,
    pub(super) in_leap_second: bool,
    pub(super) daylight_saving: u8,
    pub(super) leap_second: Option<LeapSecond>,
    pub(super) health: u8,
    pub(super) advance: Duration,
    pub(super) label: String,
    pub(super) mark: char,
}

/// A change to the last minute of a month, which keeps UTC near the rotation of the earth.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), socketserver::DaytimeError> {
/// use socketserver::{Daytime, LeapSecond};
///
/// let daytime: Daytime = "57753 16-12-31 12:00:00 00 1 0 725.6 UTC(NIST) *".parse()?;
/// assert_eq!(daytime.leap_second(), Some(LeapSecond::Added));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeapSecond {
    /// The minute has 61 seconds.
    Added,
    /// The minute has 59 seconds.
    Removed,
}

/// The Modified Julian Date of the first day of 1970.
pub(super) const MJD_OF_1970: i64 = 40_587;

const SECONDS_A_DAY: i64 = 24 * 60 * 60;

/// The times that can be sent, in seconds since 1970: from 1970 to the last second of the last day whose
/// Modified Julian Date has five digits.
const RANGE: RangeInclusive<i64> = 0..=(100_000 - MJD_OF_1970) * SECONDS_A_DAY - 1;

impl Daytime {
    /// Makes the line that a server sends at `time` if it knows nothing else.
    ///
    /// The time is cut to whole seconds. The line says standard time, no leap second, health 0, an advance
    /// of 0 ms, and the label `UTC(HOST)`.
    ///
    /// # Errors
    ///
    /// The time is before 1970, or after 31 August 2132, when the Modified Julian Date gets a sixth
    /// digit.
    pub fn at(time: SystemTime) -> Result<Self, DaytimeError> {
        let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).ok();
        let timestamp = since_1970
            .and_then(|since| i64::try_from(since.as_secs()).ok())
            .filter(|seconds| RANGE.contains(seconds))
            .and_then(|seconds| Timestamp::from_second(seconds).ok());
        Ok(Self {
            timestamp: timestamp.ok_or_else(DaytimeError::out_of_range)?,
            in_leap_second: false,
            daylight_saving: 0,
            leap_second: None,
            health: 0,
            advance: Duration::ZERO,
            label: "UTC(HOST)".to_owned(),
            mark: '*',
        })
    }

    /// Returns the time, to the second.
    ///
    /// A [`SystemTime`] can't express a leap second, so for a leap second this returns the second before
    /// it.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        let seconds = self.timestamp.as_second();
        let distance = Duration::from_secs(seconds.unsigned_abs());
        // This can't overflow, because five digits of a Julian date reach only from 1858 to 2132.
        if seconds < 0 {
            SystemTime::UNIX_EPOCH - distance
        } else {
            SystemTime::UNIX_EPOCH + distance
        }
    }

    /// Returns whether daylight saving time is in effect in the United States (`TT` is 1 to 50).
    #[must_use]
    pub fn is_daylight_saving(&self) -> bool {
        (1..=50).contains(&self.daylight_saving)
    }

    /// Returns the number of days until daylight saving time begins or ends, if that happens this month. On
    /// the day of the change it is 1.
    #[must_use]
    pub fn days_to_change(&self) -> Option<u8> {
        Some(self.daylight_saving % 50).filter(|&days| days != 0)
    }

    /// Returns the leap second at the end of this month, if there is one.
    #[must_use]
    pub fn leap_second(&self) -> Option<LeapSecond> {
        self.leap_second
    }

    /// Returns the server's health, a digit: 0 if all is well. With any other digit don't trust the time.
    #[must_use]
    pub fn health(&self) -> u8 {
        self.health
    }

    /// Returns how long before its time the server sent the line, to compensate for the delay of the
    /// network.
    #[must_use]
    pub fn advance(&self) -> Duration {
        self.advance
    }

    /// Returns the source of the time, such as `UTC(NIST)`.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Formats the time in UTC as `strftime(3)` does.
    pub(super) fn strftime(&self, format: &str) -> String {
        let utc = self.timestamp.to_zoned_datetime(TimeZone::UTC);
        utc.strftime(format).to_string()
    }
}

/// Writes the line without line ends.
impl fmt::Display for Daytime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = MJD_OF_1970 + self.timestamp.as_second().div_euclid(SECONDS_A_DAY);
        let time = self.strftime(if self.in_leap_second {
            "%y-%m-%d %H:%M:60"
        } else {
            "%y-%m-%d %H:%M:%S"
        });
        let leap_second = match self.leap_second {
            None => 0,
            Some(LeapSecond::Added) => 1,
            Some(LeapSecond::Removed) => 2,
        };
        write!(
            f,
            "{day:05} {time} {:02} {leap_second} {} {:5.1} {} {}",
            self.daylight_saving,
            self.health,
            self.advance.as_secs_f64() * 1000.0,
            self.label,
            self.mark
        )
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Makes any `Daytime` whose line has 51 bytes.
    pub(crate) fn any_daytime() -> impl Strategy<Value = Daytime> {
        let flags = (0..100u8, 0..3u8, 0..10u8, 0..10_000u64, any::<bool>());
        let leap = prop::bool::weighted(0.1);
        let label = r"UTC\([A-Z]{4}\)";
        (RANGE, leap, flags, label).prop_map(|(seconds, leap, flags, label)| {
            let (daylight_saving, leap_second, health, tenths, asterisk) = flags;
            // The second before a leap second is the last of its minute.
            let seconds = if leap {
                seconds / 60 * 60 + 59
            } else {
                seconds
            };
            Daytime {
                timestamp: Timestamp::from_second(seconds).unwrap(),
                in_leap_second: leap,
                daylight_saving,
                leap_second: match leap_second {
                    0 => None,
                    1 => Some(LeapSecond::Added),
                    _ => Some(LeapSecond::Removed),
                },
                health,
                advance: Duration::from_micros(tenths * 100),
                label,
                mark: if asterisk { '*' } else { '#' },
            }
        })
    }

    #[test]
    fn a_clock_out_of_range_is_an_error_that_says_so() {
        let epoch = SystemTime::UNIX_EPOCH;
        let end = epoch + Duration::from_secs((*RANGE.end()).unsigned_abs());
        let last = Daytime::at(end).unwrap().to_string();
        assert!(last.starts_with("99999 32-08-31 23:59:59 "), "{last}");
        let centuries = Duration::from_secs(30_000 * 365 * 86_400);
        for time in [
            epoch - Duration::from_secs(1),
            epoch - centuries,
            end + Duration::from_secs(1),
            end + centuries,
        ] {
            let error = Daytime::at(time).unwrap_err().to_string();
            assert_eq!(error, "clock: expected a time from 1970 to August 2132");
        }
        // Truncating to whole seconds would make 0 s of this, which is in the range.
        assert!(Daytime::at(epoch - Duration::from_millis(1)).is_err());
        assert!(Daytime::at(epoch).is_ok());
    }

    #[test]
    fn daylight_saving_and_the_days_to_a_change_are_one_number() {
        let mut daytime = Daytime::at(SystemTime::UNIX_EPOCH).unwrap();
        for (flag, daylight_saving, days) in [
            (0, false, None),
            (1, true, Some(1)),
            (49, true, Some(49)),
            (50, true, None),
            (51, false, Some(1)),
            (99, false, Some(49)),
        ] {
            daytime.daylight_saving = flag;
            assert_eq!(daytime.is_daylight_saving(), daylight_saving, "{flag}");
            assert_eq!(daytime.days_to_change(), days, "{flag}");
        }
    }
}
