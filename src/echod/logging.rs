//! The log: what a line looks like, as text, as JSON, and as the journal reads it.

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
    /// A line as people read it
    Text,
    /// A JSON object a line, with a field for all that is counted
    Json,
}

/// The log of the process. When it is dropped, what has been logged is written, unless standard
/// error takes too long for it.
#[must_use]
pub(crate) struct Log {
    queue: &'static Queue,
    /// Whether people read it as it is, and not a program.
    is_plain: bool,
}

/// Starts logging at `level`, or as `RUST_LOG` says if it is set.
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
        // It has a clock and a field for the level of its own.
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
        // The library logs a handler's panic itself, with the peer.
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

/// Returns how many lines of the log were lost so far, because nobody read them in time.
pub(crate) fn lost_lines() -> u64 {
    queue::lost()
}

impl Log {
    pub(crate) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Says why the daemon could not go on, as any command would where people read it.
    pub(crate) fn fatal(mut self, reason: &str) {
        if self.is_plain {
            // It takes whatever it is given.
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

/// Sets what is logged to what `RUST_LOG` says, if it is set.
///
/// The logger could read the variable itself. But it would print what is wrong there to standard
/// error, in a form of its own, and panic where that can't be written.
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

/// In colour, if `RUST_LOG_STYLE` says so, or standard error is a terminal that wants it. The logger
/// itself sees the queue.
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
/// The service manager says which stream it connected (`JOURNAL_STREAM`, `systemd.exec(5)`).
/// Standard error may have been redirected since, and the variable inherited.
fn is_journal() -> bool {
    let Ok(stat) = rustix::fs::fstat(io::stderr()) else {
        return false;
    };
    env::var("JOURNAL_STREAM")
        .is_ok_and(|stream| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Returns what the journal takes a line's priority from (`sd-daemon(3)`).
fn priority(level: Level) -> &'static str {
    match level {
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    }
}

/// Returns the time, unless the clock is wrong by thousands of years. The logger's own timestamp would
/// panic then.
fn now() -> Option<Timestamp> {
    Timestamp::try_from(SystemTime::now()).ok()
}

/// A line as people read it, with the time if there is one.
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
    // It fails only where a visitor does.
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
        // A server without a name has no field for it.
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
