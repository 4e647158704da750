//! The log: what a line looks like, as text, as JSON, and as the journal reads it.

mod queue;

use std::env;
use std::io::{self, Write};
use std::panic;
use std::thread;

use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;
use env_logger::fmt::Formatter;
use env_logger::{Builder, Target, TimestampPrecision, WriteStyle};
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
        .write_style(style())
        .parse_default_env();
    let is_journal = is_journal();
    match (format, is_journal) {
        // It has a clock and a field for the level of its own.
        (Format::Text, true) => builder.format(|line, record| {
            write!(line, "{}", priority(record.level()))?;
            writeln!(line, "{}", record.args())
        }),
        (Format::Text, false) => builder
            .format_target(false)
            .format_timestamp(Some(TimestampPrecision::Millis)),
        (Format::Json, true) => builder.format(|line, record| {
            write!(line, "{}", priority(record.level()))?;
            write_json(line, record)
        }),
        (Format::Json, false) => builder.format(write_json),
    };
    builder.init();
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        // The library logs a handler's panic itself, with the peer.
        if thread::current().name() != Some("connection") {
            print(info);
        }
    }));
    Ok(Log {
        queue,
        is_plain: format == Format::Text && !is_journal,
    })
}

impl Log {
    pub(crate) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Says why the daemon could not go on, as any command would where people read it.
    pub(crate) fn last_words(mut self, reason: &str) {
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

/// In colour, if standard error is a terminal that wants it. The logger itself sees the queue.
fn style() -> WriteStyle {
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

fn write_json(line: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let mut fields = Fields::default();
    fields
        .0
        .insert("time".into(), json!(line.timestamp_millis().to_string()));
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
