//! Log lines: one JSON object per line on stderr when nobody watches, a short coloured form on a terminal.
//!
//! A core must not wait for a log reader: lines go through a bounded queue to a writer thread of their own, and are
//! dropped when it is full.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::SystemTime;

use anyhow::Context as _;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::types::LogLevel;

/// Starts logging; lines are written until the guard is dropped.
///
/// # Errors
/// When the log file cannot be opened.
pub(crate) fn start(level: LogLevel, file: Option<&Path>) -> anyhow::Result<WorkerGuard> {
    let (writer, is_human): (Box<dyn Write + Send>, bool) = match file {
        Some(path) => {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            (Box::new(file.with_context(|| format!("cannot open log.file {}", path.display()))?), false)
        }
        None if std::io::stdout().is_terminal() => (Box::new(std::io::stdout()), true),
        None => (Box::new(std::io::stderr()), false),
    };
    let (writer, guard) = tracing_appender::non_blocking(writer);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = if is_human { lines.event_format(Human).boxed() } else { lines.event_format(Json).boxed() };
    // What libraries have to say is for those who debug them.
    let ours = Targets::new()
        .with_default(filter(level).min(LevelFilter::WARN))
        .with_targets(["gyre", "gyre_io", "gyre_engine", "gyre_proto"].map(|name| (name, filter(level))));
    tracing_subscriber::registry().with(lines.with_filter(ours)).init();
    Ok(guard)
}

/// Says why a node cannot start, before there is a logger: in the form in which its lines would have been.
pub(crate) fn fatal(message: &str) {
    if std::io::stdout().is_terminal() {
        eprintln!("{message}");
    } else {
        eprintln!("{}", serde_json::json!({ "level": "fatal", "time": now(), "message": message }));
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::None => LevelFilter::OFF,
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error | LogLevel::Fatal => LevelFilter::ERROR,
    }
}

/// The fields of an event in the order they were given.
#[derive(Default)]
struct Fields {
    message: String,
    /// The process ends after this line; `tracing` has no such level.
    is_fatal: bool,
    others: Map<String, Value>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.to_owned(),
            name => {
                self.others.insert(name.to_owned(), value.into());
            }
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.others.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.others.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "fatal" {
            self.is_fatal = value;
            return;
        }
        self.others.insert(field.name().to_owned(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// `{"level":"info","time":"2026-11-21T06:40:59Z","message":"…","client":"…"}`
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut line = Map::new();
        let level = if fields.is_fatal { "fatal" } else { level_name(*event.metadata().level()) };
        line.insert("level".to_owned(), level.into());
        line.insert("time".to_owned(), now().into());
        line.append(&mut fields.others);
        line.insert("message".to_owned(), fields.message.into());
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// `2026-11-21 06:40:59 [INF] message client=…`
struct Human;

impl<S, N> FormatEvent<S, N> for Human
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (tag, colour) = match *event.metadata().level() {
            Level::ERROR if fields.is_fatal => ("FTL", 31),
            Level::ERROR => ("ERR", 31),
            Level::WARN => ("WRN", 33),
            Level::INFO => ("INF", 32),
            Level::DEBUG => ("DBG", 36),
            Level::TRACE => ("TRC", 35),
        };
        let time = now().replace('T', " ").replace('Z', "");
        write!(writer, "{time} \x1b[{colour}m[{tag}]\x1b[0m {}", fields.message)?;
        for (name, value) in &fields.others {
            match value {
                // Escaped: a client must not be able to write lines of its own.
                Value::String(text) => write!(writer, " \x1b[2m{name}=\x1b[0m{}", text.escape_debug())?,
                value => write!(writer, " \x1b[2m{name}=\x1b[0m{value}")?,
            }
        }
        writeln!(writer)
    }
}

/// UTC to the second.
fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}
