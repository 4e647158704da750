//! The log: formats lines as text, as JSON, and for the journal.

mod queue;

use std::env;
use std::io::{self, Write};
use std::panic;
use std::thread;
use std::time::SystemTime;

use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;
use env_logger::fmt::{ConfigurableFormat, Formatter};
use env_logger::{Builder, Target, TimestampPrecision, WriteStyle};
use jiff::Timestamp;
use log::kv::{self, Key, Value, VisitSource, VisitValue};
use log::{Level, LevelFilter, Record};
use serde_json::{Map, Value as Json, json};

use queue::Queue;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Lines of text
    Text,
    /// One JSON object a line, with a field for each value
    Json,
}

/// The log of the process. Dropping it writes the queued lines, for at most 1 s.
#[must_use]
pub(crate) struct Log {
    queue: &'static Queue,
    /// Whether lines are text for people, neither JSON nor for the journal.
    is_plain: bool,
}

/// Starts logging at `level`, or with the filter in `RUST_LOG` if that is set.
pub(crate) fn start(level: LevelFilter, format: Format) -> io::Result<Log> {
    let queue = Queue::start()?;
    let mut builder = Builder::new();
    builder
        .filter_level(level)
        .target(Target::Pipe(Box::new(queue)))
        .write_style(style());
    let wrong = set_filter(&mut builder).err();
    let is_journal = is_journal();
    match (format, is_journal) {
        // The journal records the time and the level itself.
        (Format::Text, true) => builder.format(|line, record| {
            write!(line, "{}", priority(record.level()))?;
            writeln!(line, "{}", record.args())
        }),
        (Format::Text, false) => builder.format(text()),
        (Format::Json, true) => builder.format(|line, record| {
            write!(line, "{}", priority(record.level()))?;
            write_json(line, record)
        }),
        (Format::Json, false) => builder.format(write_json),
    };
    builder.init();
    if let Some(reason) = wrong {
        log::warn!("{reason}; --verbose and --quiet choose the level");
    }
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        // The library itself logs the panic of a handler, with the peer. Don't print it twice.
        let of_a_handler = |name: &str| name.ends_with("connection");
        if !thread::current().name().is_some_and(of_a_handler) {
            print(info);
        }
    }));
    Ok(Log {
        queue,
        is_plain: format == Format::Text && !is_journal,
    })
}

/// Returns how many log lines were dropped so far because standard error was not read in time.
pub(crate) fn lost_lines() -> u64 {
    queue::lost()
}

impl Log {
    pub(crate) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Writes the error that ends the process: as `echod: ...` for people, otherwise as a log line.
    pub(crate) fn fatal(mut self, reason: &str) {
        if self.is_plain {
            // Writing to the queue never fails.
            let _ = self.queue.write(format!("echod: {reason}\n").as_bytes());
        } else {
            log::error!("{reason}");
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.queue.flush();
    }
}

/// Sets the filter in `RUST_LOG`, if that is set.
///
/// The logger could read the variable itself. But it would print errors in it to standard error, in another
/// format, and would panic if standard error can't be written.
fn set_filter(builder: &mut Builder) -> Result<(), String> {
    let Some(value) = env::var_os("RUST_LOG") else {
        return Ok(());
    };
    let value = value.into_string().map_err(|value| {
        let value = value.to_string_lossy();
        format!("RUST_LOG={value:?} is ignored: it is not UTF-8")
    })?;
    env_filter::Builder::new()
        .try_parse(&value)
        .map_err(|error| format!("RUST_LOG={value:?} is ignored: {error}"))?;
    builder.parse_filters(&value);
    Ok(())
}

/// Returns whether to use colours: as `RUST_LOG_STYLE` says, otherwise if standard error is a terminal with
/// colours.
///
/// The logger can't find that out itself, because it writes to the queue.
fn style() -> WriteStyle {
    match env::var("RUST_LOG_STYLE").as_deref() {
        Ok("always") => return WriteStyle::Always,
        Ok("never") => return WriteStyle::Never,
        _ => {}
    }
    match AutoStream::choice(&io::stderr()) {
        ColorChoice::Never => WriteStyle::Never,
        _ => WriteStyle::Always,
    }
}

/// Returns whether standard error is the journal.
///
/// systemd puts the device and the inode of the journal's stream into `JOURNAL_STREAM` (`systemd.exec(5)`).
/// The variable alone proves nothing: a parent may have redirected standard error and passed on the variable.
fn is_journal() -> bool {
    let Ok(stat) = rustix::fs::fstat(io::stderr()) else {
        return false;
    };
    env::var("JOURNAL_STREAM")
        .is_ok_and(|stream| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Returns the prefix that gives a line its priority in the journal (`sd-daemon(3)`).
fn priority(level: Level) -> &'static str {
    match level {
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    }
}

/// Returns the time, or `None` if the clock is beyond the year 9999, which would make the logger's own
/// timestamp panic.
fn now() -> Option<Timestamp> {
    Timestamp::try_from(SystemTime::now()).ok()
}

/// Formats a line for people. Leaves out the time if [`now`] has none.
fn text() -> impl Fn(&mut Formatter, &Record<'_>) -> io::Result<()> {
    let [dated, undated] = [Some(TimestampPrecision::Millis), None].map(|precision| {
        let mut format = ConfigurableFormat::default();
        format.target(false).timestamp(precision);
        format
    });
    move |line, record| match now() {
        Some(_) => dated.format(line, record),
        None => undated.format(line, record),
    }
}

fn write_json(line: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let mut fields = Fields::default();
    if let Some(now) = now() {
        fields.0.insert("time".into(), json!(format!("{now:.3}")));
    }
    fields
        .0
        .insert("level".into(), json!(record.level().as_str()));
    fields
        .0
        .insert("message".into(), json!(record.args().to_string()));
    // It fails only if a visitor fails, and `Fields` never does.
    let _ = record.key_values().visit(&mut fields);
    serde_json::to_writer(&mut *line, &fields.0)?;
    writeln!(line)
}

/// The fields of a line.
#[derive(Default)]
struct Fields(Map<String, Json>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let mut field = Field(Json::Null);
        value.visit(&mut field)?;
        // The library passes an absent value, such as the name of a server without one, as null.
        if !field.0.is_null() {
            self.0.insert(key.as_str().to_owned(), field.0);
        }
        Ok(())
    }
}

struct Field(Json);

impl VisitValue<'_> for Field {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), kv::Error> {
        self.0 = json!(value.to_string());
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), kv::Error> {
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        self.0 = json!(value);
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
        self.0 = json!(value);
        Ok(())
    }
}
