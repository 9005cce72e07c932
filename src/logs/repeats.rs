//! Lines that clients can cause as often as they like: a few of a kind each second, then a count.
//!
//! A kind is the place in the source that logs. So no caller has to think of it, and the table is
//! as long as the program has such places.

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ahash::AHashMap;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::lines::Lines;

/// What a line about left-out lines shows of them.
const TEXT_CHARS_MAX: usize = 120;

/// How often each kind of line was written in this second, and how often it was not.
#[derive(Debug)]
pub(super) struct Repeats {
    lines_per_sec_max: u32,
    started: Instant,
    kinds: Mutex<AHashMap<Identifier, Kind>>,
}

#[derive(Debug)]
struct Kind {
    level: Level,
    second: u64,
    written: u32,
    left_out: u64,
    text: String,
}

impl Repeats {
    /// 0 writes all.
    pub(super) fn new(lines_per_sec_max: u32) -> Self {
        Self {
            lines_per_sec_max,
            started: Instant::now(),
            kinds: Mutex::default(),
        }
    }

    fn kinds(&self) -> MutexGuard<'_, AHashMap<Identifier, Kind>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a line is written. `text` is only asked for when it is the first that is not.
    fn admit(
        &self,
        kind: Identifier,
        level: Level,
        second: u64,
        text: impl Fn() -> String,
    ) -> bool {
        let mut kinds = self.kinds();
        let kind = kinds.entry(kind).or_insert_with(|| Kind {
            level,
            second,
            written: 0,
            left_out: 0,
            text: String::new(),
        });
        if kind.second != second {
            (kind.second, kind.written) = (second, 0);
        }
        if kind.written < self.lines_per_sec_max {
            kind.written += 1;
            return true;
        }
        if kind.left_out == 0 {
            kind.text = text();
        }
        kind.left_out += 1;
        false
    }

    /// The kinds that lines were left out of since the last time.
    fn take_left_out(&self) -> Vec<(Level, u64, String)> {
        let mut kinds = self.kinds();
        let left_out = kinds.values_mut().filter(|kind| kind.left_out > 0);
        left_out
            .map(|kind| {
                let lines = std::mem::take(&mut kind.left_out);
                (kind.level, lines, std::mem::take(&mut kind.text))
            })
            .collect()
    }

    /// Logs how many lines were left out since the last time. Says whether to ask again soon.
    pub(super) fn tell(&self) -> bool {
        let left_out = self.take_left_out();
        for (level, lines, text) in &left_out {
            // The level of an event is part of the program: as loud as what was left out, or info.
            if *level <= Level::WARN {
                tracing::warn!(lines, "left out more of: {text}");
            } else {
                tracing::info!(lines, "left out more of: {text}");
            }
        }
        !left_out.is_empty()
    }
}

/// The layer that asks [`Repeats`] about each line.
#[derive(Debug)]
pub(super) struct Limit {
    repeats: Arc<Repeats>,
    lines: Arc<Lines>,
}

impl Limit {
    pub(super) fn new(repeats: Arc<Repeats>, lines: Arc<Lines>) -> Self {
        Self { repeats, lines }
    }
}

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let about = event.metadata();
        // What the log says about itself is bounded by its own pace.
        if self.repeats.lines_per_sec_max == 0 || about.target().starts_with(super_module()) {
            return true;
        }
        let second = self.repeats.started.elapsed().as_secs();
        let text = || {
            let mut text = Text(String::new());
            event.record(&mut text);
            text.0.chars().take(TEXT_CHARS_MAX).collect()
        };
        let kind = about.callsite();
        let is_admitted = self.repeats.admit(kind, *about.level(), second, text);
        if !is_admitted {
            self.lines.tell_soon();
        }
        is_admitted
    }
}

/// The module path of the log.
fn super_module() -> &'static str {
    module_path!().trim_end_matches("::repeats")
}

/// The message of an event.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            write!(self.0, "{value:?}").ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Counts what gets through.
    #[derive(Clone, Default)]
    struct Count(Arc<AtomicU64>);

    impl<S: Subscriber> Layer<S> for Count {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn each_kind_is_written_so_often_and_the_rest_is_counted() {
        // A second is as long as this test takes, or longer: none of it is in the next one.
        let (repeats, lines) = (Arc::new(Repeats::new(3)), Arc::new(Lines::new(1 << 16)));
        let count = Count::default();
        let log = tracing_subscriber::registry()
            .with(Limit::new(Arc::clone(&repeats), lines))
            .with(count.clone());
        tracing::subscriber::with_default(log, || {
            for n in 0..100 {
                tracing::event!(target: "test", Level::INFO, "disconnected {n}");
            }
            tracing::event!(target: "test", Level::WARN, "something else");
        });
        let left_out = repeats.take_left_out();
        let counted: u64 = left_out.iter().map(|(_, lines, _)| lines).sum();
        assert_eq!(count.0.load(Ordering::Relaxed) + counted, 101);
        assert!(counted >= 94, "at most two seconds' worth: {counted}");
        assert_eq!(left_out[0].0, Level::INFO);
        assert!(left_out[0].2.starts_with("disconnected "), "{left_out:?}");
        assert!(repeats.take_left_out().is_empty());
    }
}
