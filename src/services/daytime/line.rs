//! A day and a time as the servers of NIST send them: what the line says, and how it is written.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::parse::DaytimeError;

/// A day and a time with the flags that NIST sends in the daytime protocol (RFC 867).
///
/// It is read from a line, and [displayed](fmt::Display) as one, without the line ends around it:
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
/// | `H` | the server's [health](Self::health) |
/// | `msADV` | by how many milliseconds the line is sent [ahead](Self::advance) of its time |
/// | `LABEL` | whose time it is |
/// | `OTM` | the on-time mark, `*` or `#`: the time is that at which it arrives |
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
    /// In whole seconds. That of a leap second is the second before it.
    pub(super) timestamp: Timestamp,
    pub(super) in_leap_second: bool,
    pub(super) daylight_saving: u8,
    pub(super) leap_second: Option<LeapSecond>,
    pub(super) health: u8,
    pub(super) advance: Duration,
    pub(super) label: String,
    pub(super) mark: char,
}

/// What happens to the last minute of a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeapSecond {
    /// It has 61 seconds.
    Added,
    /// It has 59 seconds.
    Removed,
}

/// The Modified Julian Date of the first day of 1970.
pub(super) const MJD_OF_1970: i64 = 40_587;

const SECONDS_A_DAY: i64 = 24 * 60 * 60;

/// From 1970 to the last second of the last day whose Modified Julian Date has five digits, in
/// seconds since 1970.
const RANGE: RangeInclusive<i64> = 0..=(100_000 - MJD_OF_1970) * SECONDS_A_DAY - 1;

impl Daytime {
    /// Makes what a server sends at `time`, if it knows no more than that: whole seconds, standard
    /// time, no leap second, healthy, and the label `UTC(HOST)`.
    ///
    /// # Errors
    ///
    /// It is before 1970, or after 31 August 2132: the Modified Julian Date would not have five
    /// digits.
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

    /// Returns the time, to the second. A leap second, which a [`SystemTime`] doesn't know, is the
    /// second before it.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        let seconds = self.timestamp.as_second();
        let distance = Duration::from_secs(seconds.unsigned_abs());
        // No overflow: five digits of a Julian date reach from 1858 to 2132.
        if seconds < 0 {
            SystemTime::UNIX_EPOCH - distance
        } else {
            SystemTime::UNIX_EPOCH + distance
        }
    }

    /// Returns whether daylight saving time is in effect, in the United States.
    #[must_use]
    pub fn is_daylight_saving(&self) -> bool {
        (1..=50).contains(&self.daylight_saving)
    }

    /// Returns in how many days that changes, if it does so this month. On the day itself it is 1.
    #[must_use]
    pub fn days_to_change(&self) -> Option<u8> {
        Some(self.daylight_saving % 50).filter(|&days| days != 0)
    }

    /// Returns whether the last minute of the month will be longer or shorter.
    #[must_use]
    pub fn leap_second(&self) -> Option<LeapSecond> {
        self.leap_second
    }

    /// Returns the server's health: 0 if all is well. With any other, don't trust the time.
    #[must_use]
    pub fn health(&self) -> u8 {
        self.health
    }

    /// Returns how long before its time the line was sent, to make up for its way.
    #[must_use]
    pub fn advance(&self) -> Duration {
        self.advance
    }

    /// Returns whose time it is, such as `UTC(NIST)`.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Writes it as `strftime(3)` does.
    pub(super) fn strftime(&self, format: &str) -> String {
        let utc = self.timestamp.to_zoned_datetime(TimeZone::UTC);
        utc.strftime(format).to_string()
    }
}

/// Without the line ends.
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

    /// Whatever 51 bytes can say.
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
        // Not 0 s, which a truncation makes of it.
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
