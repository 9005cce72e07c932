//! The log: lines that may be lost, and may never stop, slow or end anything.
//!
//! A thread that logs puts its line into a bounded buffer and goes on; one thread writes them to
//! standard error. What cannot be written or does not fit is dropped and counted. A kind of line
//! that clients can cause as often as they like is written a few times a second; the rest are
//! counted and told together. Our own writer, and not tracing-appender's: that one does not count
//! what a full disk swallows, bounds lines and not bytes, and prints where it cannot log.

use std::any::Any;
use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::values::LogFormat;
use crate::config::{Config, process_env, wants_color};

mod lines;
mod repeats;

use lines::{LineWriter, Lines};
use repeats::Repeats;

/// How long the end of the process waits for lines that nobody takes.
const FLUSH_TIME_MAX: Duration = Duration::from_millis(500);

/// What is said before there are settings fits in here.
const REPORT_BYTES_MAX: usize = 64 * 1024;

/// One process has one log.
static LINES: OnceLock<Arc<Lines>> = OnceLock::new();

/// The level at which it is on, and the one that the settings say.
static LEVEL: OnceLock<(reload::Handle<LevelFilter, Registry>, Level)> = OnceLock::new();

/// Sets up the log of this process, once.
pub fn init(config: &Config) {
    let repeats = Arc::new(Repeats::new(config.log_repeats_per_sec_max));
    let lines = start(config.log_buffer_bytes_max, Some(Arc::clone(&repeats)));
    let ansi = io::stderr().is_terminal() && wants_color(&process_env);
    let format = fmt::layer()
        .with_ansi(ansi)
        .log_internal_errors(false)
        .with_writer(LineWriter(Arc::clone(&lines)));
    let format = match config.log_format {
        LogFormat::Text => format.boxed(),
        LogFormat::Json => format.json().boxed(),
    };
    let (level, handle) = reload::Layer::new(LevelFilter::from_level(config.log_level));
    LEVEL.set((handle, config.log_level)).ok();
    tracing_subscriber::registry()
        .with(level)
        .with(repeats::Limit::new(repeats, lines))
        .with(filter_fn(is_ours))
        .with(format)
        .init();
    // The hook of the standard library prints, and a print that fails in it aborts the process.
    std::panic::set_hook(Box::new(log_panic));
}

/// Whether a line is about this broker. What its client of NATS does step by step is not: only what goes
/// wrong there. Of connections that come to nothing the log of the cluster speaks itself.
fn is_ours(line: &Metadata<'_>) -> bool {
    let is_of_client = line.target().starts_with("async_nats");
    !is_of_client || (*line.level() <= Level::WARN && line.target() != "async_nats::connector")
}

/// Makes the log say more: one level at a time, and behind the last the level of the settings again.
pub fn cycle_level() {
    let Some((handle, configured)) = LEVEL.get() else {
        return;
    };
    let now = handle.clone_current().and_then(LevelFilter::into_level);
    let next = match now.unwrap_or(*configured) {
        Level::ERROR => Level::WARN,
        Level::WARN => Level::INFO,
        Level::INFO => Level::DEBUG,
        Level::DEBUG => Level::TRACE,
        _ => *configured,
    };
    // Said at the more talkative of the two levels, so that it is seen.
    let is_less = now.is_some_and(|now| next < now);
    let tell = || tracing::info!("SIGUSR1: LOG_LEVEL is {next} now");
    if is_less {
        tell();
    }
    if handle.reload(LevelFilter::from_level(next)).is_ok() && !is_less {
        tell();
    }
}

/// Says what is wrong on standard error, where there is no log yet.
pub fn report(faults: impl IntoIterator<Item = String>) {
    let lines = start(REPORT_BYTES_MAX, None);
    for fault in faults {
        lines.push(format!("shardcast: {fault}\n").as_bytes());
    }
    flush();
}

/// Waits a moment for lines that are not written yet.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(FLUSH_TIME_MAX);
    }
}

/// Ends the process, whatever becomes of its log.
pub fn end(code: i32) -> ! {
    flush();
    std::process::exit(code)
}

fn start(bytes_max: usize, repeats: Option<Arc<Repeats>>) -> Arc<Lines> {
    let lines = LINES.get_or_init(|| Arc::new(Lines::new(bytes_max)));
    let (writing, telling) = (Arc::clone(lines), Arc::clone(lines));
    let thread = std::thread::Builder::new().name("log".into());
    // Without the thread all lines are lost, and that is all.
    let spawned = thread.spawn(move || {
        lines::write_all(&writing, &mut io::stderr(), || {
            repeats.as_ref().is_some_and(|repeats| repeats.tell())
        });
    });
    drop(spawned);
    telling
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let place = panic.location().map(ToString::to_string);
    let backtrace = std::backtrace::Backtrace::capture();
    let is_captured = backtrace.status() == std::backtrace::BacktraceStatus::Captured;
    tracing::error!(
        thread = thread.name(),
        backtrace = is_captured.then(|| backtrace.to_string()),
        "panicked at {}: {}",
        place.as_deref().unwrap_or("?"),
        panic_text(panic.payload())
    );
}

fn panic_text(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no text")
}
