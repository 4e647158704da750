//! Errors of the command line and of variables.

use clap::Error;

/// The exit code of a usage error: 2, as by convention.
pub(crate) const EXIT_CODE: u8 = 2;

/// Returns the cause of an error as one line, for the log.
pub(crate) fn on_one_line(error: &Error) -> String {
    let text = error.to_string();
    let cause = text.split("\n\n").take_while(|paragraph| {
        !paragraph.starts_with("Usage:") && !paragraph.starts_with("For more")
    });
    let cause = cause.collect::<Vec<_>>().join("; ");
    let words: Vec<_> = cause.split_whitespace().collect();
    let line = words.join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn a_wrong_flag_and_a_wrong_value_are_reported_on_one_line() {
        for (arg, expected) in [
            (
                "--idle-timeout=soon",
                "invalid value 'soon' for '--idle-timeout <DUR>': expected a duration such as \
                 500ms, 30s, 5m or 1h30m",
            ),
            (
                "--at-limit=drop",
                "invalid value 'drop' for '--at-limit <WHAT>' [possible values: wait, reject]",
            ),
            (
                "--listn=:7",
                "unexpected argument '--listn' found; tip: a similar argument exists: '--listen'",
            ),
        ] {
            let error = Cli::try_parse_from(["echod", arg]).unwrap_err();
            assert_eq!(on_one_line(&error), expected);
        }
    }
}
