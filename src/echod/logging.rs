//! The log: on standard error, in the words of `env_logger`.

use std::env;
use std::io;
use std::panic;
use std::thread;

use env_logger::{Builder, TimestampPrecision};
use log::LevelFilter;

/// Starts logging at `level`, or as `RUST_LOG` says if it is set.
pub(crate) fn start(level: LevelFilter) {
    Builder::new()
        .filter_level(level)
        .parse_default_env()
        .format_target(false)
        .format_timestamp((!is_journal()).then_some(TimestampPrecision::Millis))
        .init();
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        // The library logs a handler's panic itself, with the peer.
        if thread::current().name() != Some("connection") {
            print(info);
        }
    }));
}

/// Returns whether standard error is the journal, which has a clock of its own.
///
/// The service manager says which stream it connected (`JOURNAL_STREAM`, `systemd.exec(5)`).
/// Standard error may have been redirected since, and the variable inherited.
fn is_journal() -> bool {
    let Ok(stat) = rustix::fs::fstat(io::stderr()) else {
        return false;
    };
    env::var("JOURNAL_STREAM")
        .is_ok_and(|stream| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}
