//! `shardcast top`: what a broker is doing, its busiest topics, and who is slow.
//!
//! On a terminal a screen that follows it; anywhere else the same as text.

use std::io::{self, Write};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::Failure;
use crate::config::client::ClientSettings;
use look::Look;
use table::Since;

mod figures;
#[cfg(feature = "top")]
mod list;
mod look;
#[cfg(feature = "top")]
mod screen;
mod table;

/// What the table is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Topics,
    Connections,
}

/// By what a table is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct By {
    /// The index of the column.
    pub(super) column: usize,
    /// The smallest first.
    pub(super) is_reversed: bool,
}

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) view: View,
    pub(super) by: By,
    pub(super) interval: Duration,
    /// Reports that are printed where there is no screen; 0 is no end.
    pub(super) count: u64,
}

impl View {
    #[cfg(feature = "top")]
    fn name(self) -> &'static str {
        match self {
            Self::Topics => "topics",
            Self::Connections => "connections",
        }
    }

    fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Topics => table::TOPICS,
            Self::Connections => table::CONNECTIONS,
        }
    }

    /// The busiest topics; the slowest connections.
    fn by_default(self) -> By {
        By {
            column: match self {
                Self::Topics => 2,
                Self::Connections => 1,
            },
            is_reversed: false,
        }
    }

    /// Sorted by the column of that name, in letters of either case.
    pub(super) fn by(self, name: Option<&str>) -> Result<By, String> {
        let Some(name) = name else {
            return Ok(self.by_default());
        };
        let columns = self.columns();
        let column = columns.iter().position(|of| of.eq_ignore_ascii_case(name));
        let column = column.ok_or_else(|| {
            let names = columns.join(", ").to_lowercase();
            format!("there is no column '{name}' to sort by: {names}")
        })?;
        Ok(By {
            column,
            is_reversed: false,
        })
    }

    /// What the broker is to give the largest of. None where it gives all.
    fn of_broker(self, by: By) -> Option<&'static str> {
        if self == Self::Topics {
            return None;
        }
        Some(match table::CONNECTIONS.get(by.column).copied() {
            Some("DROPPED") => "dropped",
            Some("SINCE") => "age",
            _ => "lag",
        })
    }
}

/// Follows the broker until the user has seen enough, or the reports are printed.
pub(super) async fn top(settings: &ClientSettings, wanted: Wanted) -> Result<(), Failure> {
    #[cfg(feature = "top")]
    if io::IsTerminal::is_terminal(&io::stdout()) && io::IsTerminal::is_terminal(&io::stdin()) {
        return screen::follow(settings, wanted).await;
    }
    report(settings, wanted, &mut io::stdout()).await
}

/// Prints what is wanted as text.
async fn report(
    settings: &ClientSettings,
    wanted: Wanted,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut pace = tokio::time::interval(wanted.interval);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace.tick().await;
    let mut before = Look::take(settings, wanted.view, wanted.by).await?;
    let mut printed = 0;
    while wanted.count == 0 || printed < wanted.count {
        pace.tick().await;
        let now = Look::take(settings, wanted.view, wanted.by).await?;
        if printed > 0 {
            writeln!(out)?;
        }
        let chosen = now.chosen(wanted.view, wanted.by);
        print(&Since::new(Some(&before), &now), chosen, wanted, out)?;
        out.flush()?;
        before = now;
        printed += 1;
    }
    Ok(())
}

/// Columns with two spaces between them: texts to the left, numbers to the right.
fn print(
    since: &Since<'_>,
    chosen: Option<String>,
    wanted: Wanted,
    out: &mut dyn Write,
) -> io::Result<()> {
    for line in since.totals() {
        writeln!(out, "{line}")?;
    }
    if let Some(chosen) = chosen {
        writeln!(out, "of the connections {chosen}")?;
    }
    writeln!(out)?;
    let rows = since.rows(wanted.view, wanted.by);
    let columns = wanted.view.columns();
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(table::Cell::exact).collect())
        .collect();
    let chars = |text: &str| text.chars().count();
    let widths = columns.iter().enumerate().map(|(at, name)| {
        let widest = cells.iter().map(|row| chars(&row[at])).max();
        widest.unwrap_or_default().max(chars(name))
    });
    let widths: Vec<_> = widths.collect();
    let is_text = |at: usize| rows.first().is_some_and(|row| row[at].is_text());
    let mut line = |texts: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (at, text) in texts.enumerate() {
            let gap = if at > 0 { "  " } else { "" };
            let space = " ".repeat(widths[at] - chars(text));
            let cell = if is_text(at) || at == 0 {
                format!("{gap}{text}{space}")
            } else {
                format!("{gap}{space}{text}")
            };
            line.push_str(&cell);
        }
        writeln!(out, "{}", line.trim_end())
    };
    line(&mut columns.iter().copied())?;
    for row in &cells {
        line(&mut row.iter().map(String::as_str))?;
    }
    Ok(())
}
