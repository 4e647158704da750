//! Parses the values of flags and variables.

use std::num::{NonZeroU32, NonZeroUsize};
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use clap::builder::{BoolishValueParser, TypedValueParser};
use jiff::SignedDuration;
use socketserver::{Builder, Network, NetworkError};

/// Parses a number that may be 0.
pub(super) fn number<N: FromStr>(text: &str) -> Result<N, &'static str> {
    text.parse().map_err(|_| "expected a number, 0 or more")
}

/// Parses a number above 0.
pub(super) fn count<N: FromStr>(text: &str) -> Result<N, &'static str> {
    text.parse().map_err(|_| "expected a number, 1 or more")
}

/// Parses a number of connections in the backlog.
pub(super) fn backlog(text: &str) -> Result<u32, &'static str> {
    count(text).map(NonZeroU32::get)
}

/// Parses a number of reactors.
pub(super) fn reactors(text: &str) -> Result<NonZeroUsize, String> {
    let count = text.parse().ok();
    count
        .filter(|count: &NonZeroUsize| count.get() <= Builder::MAX_REACTORS)
        .ok_or_else(|| format!("expected a number, 1 to {}", Builder::MAX_REACTORS))
}

/// Parses whether a flag is given.
pub(super) fn truth(text: &str) -> Result<bool, &'static str> {
    let command = clap::Command::new("");
    BoolishValueParser::new()
        .parse_ref(&command, None, text.as_ref())
        .map_err(|_| "expected true or false")
}

/// Parses a duration such as `1h30m`. Zero needs no unit.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or("expected a duration such as 500ms, 30s, 5m or 1h30m")
}

/// Parses a duration above 0.
pub(super) fn positive(text: &str) -> Result<Duration, &'static str> {
    match duration(text)? {
        Duration::ZERO => Err("must be greater than 0"),
        duration => Ok(duration),
    }
}

/// Parses a number of bytes, such as `256KiB`.
pub(super) fn size(text: &str) -> Result<usize, &'static str> {
    text.parse::<ByteSize>()
        .ok()
        .and_then(|size| usize::try_from(size.as_u64()).ok())
        .ok_or("expected a size such as 65536, 256KiB or 1MB")
}

/// Parses a network or an address. In a list, spaces may follow a comma.
pub(super) fn network(text: &str) -> Result<Network, NetworkError> {
    text.trim().parse()
}

/// Parses how many times a flag is given. `true` and `yes` mean once, `false` and `no` mean never.
pub(super) fn times(text: &str) -> Result<u8, &'static str> {
    text.parse()
        .or_else(|_| truth(text).map(u8::from))
        .map_err(|_| "expected a number, 0 to 255, or true or false")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("20us"), Ok(Duration::from_micros(20)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for wrong in ["", "30", "soon", "-5s", "5 parsecs", "1e400s"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
        assert!(positive("0s").is_err());
        assert!(positive("0").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_duration_or_refused_with_a_hint(text in ".{0,20}") {
            if let Err(hint) = duration(&text) {
                prop_assert!(hint.contains("such as"));
            }
        }

        #[test]
        fn every_number_of_seconds_is_read_back(seconds in any::<u32>()) {
            let expected = Duration::from_secs(seconds.into());
            prop_assert_eq!(duration(&format!("{seconds}s")), Ok(expected));
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, expected) in [
            ("0", 0),
            ("65536", 65_536),
            ("256KiB", 262_144),
            ("256 KiB", 262_144),
            ("1MB", 1_000_000),
            ("1.5k", 1500),
        ] {
            assert_eq!(size(text), Ok(expected), "{text:?}");
        }
        for wrong in ["", "big", "-1", "1 parsec", "99999999999999999999"] {
            assert!(size(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn numbers_have_a_hint_with_their_bounds() {
        assert_eq!(number("0"), Ok(0_u64));
        assert_eq!(number::<u64>("x"), Err("expected a number, 0 or more"));
        assert_eq!(backlog("4294967295"), Ok(u32::MAX));
        assert_eq!(backlog("0"), Err("expected a number, 1 or more"));
        assert_eq!(reactors("1024"), Ok(NonZeroUsize::new(1024).unwrap()));
        for wrong in ["0", "1025", "18446744073709551615", "x"] {
            let hint = "expected a number, 1 to 1024";
            assert_eq!(reactors(wrong).unwrap_err(), hint, "{wrong:?}");
        }
        assert_eq!(truth("Yes"), Ok(true));
        assert_eq!(truth("x"), Err("expected true or false"));
    }

    #[test]
    fn how_often_is_a_number_or_a_truth() {
        for (text, expected) in [("0", 0), ("2", 2), ("true", 1), ("Yes", 1), ("off", 0)] {
            assert_eq!(times(text), Ok(expected));
        }
        assert!(times("256").is_err());
        assert!(times("often").is_err());
    }
}
