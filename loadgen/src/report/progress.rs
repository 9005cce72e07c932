//! One line on a terminal while a run goes on.

use std::io::{self, IsTerminal, Write};

use crate::conductor::Tick;
use crate::engine::shared::Phase;
use crate::units::{count, float, grouped, ratio, seconds};

const EVERY_NS: u64 = 250_000_000;

#[derive(Debug)]
pub(crate) struct Progress {
    quiet: bool,
    shown: bool,
    last: (u64, u64, u64),
    drawn: bool,
}

impl Progress {
    /// Nothing is drawn where nobody watches.
    pub(crate) fn new(quiet: bool) -> Self {
        Self {
            quiet,
            shown: !quiet && io::stderr().is_terminal(),
            last: (0, 0, 0),
            drawn: false,
        }
    }

    pub(crate) fn tick(&mut self, tick: &Tick<'_>) {
        let now = tick.now;
        if !self.shown || now.at_ns < self.last.0 + EVERY_NS {
            return;
        }
        let secs = seconds(now.at_ns - self.last.0);
        let per_sec = |now: u64, last: u64| grouped(count(ratio(float(now - last), secs)));
        let line = match tick.phase {
            Phase::Connecting => {
                format!("connecting · {} open · {} failed", now.opened, now.failed)
            }
            Phase::Running => format!(
                "{:6.1} s · {} publishes/s · {} deliveries/s · {} lost",
                tick.at_secs,
                per_sec(now.published, self.last.1),
                per_sec(now.deliveries, self.last.2),
                now.announced + now.broken,
            ),
            Phase::Draining | Phase::Closing => "waiting for what is on its way".into(),
        };
        self.draw(&line);
        self.last = (now.at_ns, now.published, now.deliveries);
    }

    pub(crate) fn draw(&mut self, line: &str) {
        if self.shown {
            self.drawn = true;
            // A terminal that went away is no reason to end a run.
            drop(write!(io::stderr(), "\r\x1b[K{line}"));
        }
    }

    pub(crate) fn clear(&mut self) {
        if self.drawn {
            self.drawn = false;
            drop(write!(io::stderr(), "\r\x1b[K"));
        }
    }

    /// A line that stays, terminal or not. A standard error that is closed is no reason to end a run.
    pub(crate) fn keep(&mut self, line: &str) {
        self.clear();
        if !self.quiet {
            drop(writeln!(io::stderr(), "{line}"));
        }
    }
}
