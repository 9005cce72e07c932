//! Two looks at a broker, put into lines: totals, and a table that can be sorted.

use std::cmp::Ordering;

use super::figures::{as_float, short, short_bytes, up};
use super::look::{Connection, Look, Topic};
use super::{By, View};
use crate::cli::harmless;

/// What stands in a column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Text(String),
    /// A number of things.
    Count(u64),
    /// So many in a second; none is known of the first look.
    Rate(Option<f64>),
    /// So many bytes in a second.
    Bytes(Option<f64>),
    Millis(u64),
}

/// A line of the table, one cell for each column.
pub(super) type Row = Vec<Cell>;

/// The columns of the topics.
pub(super) const TOPICS: &[&str] = &[
    "TOPIC", "SUBS", "MSG/S", "OUT-B/S", "DROP/S", "DROPPED", "MESSAGES", "SEQ",
];

/// The columns of the connections.
pub(super) const CONNECTIONS: &[&str] = &[
    "CLIENT", "LAG", "LAG-MS", "DROPPED", "OUT/S", "IN/S", "SUBS", "VIA", "KEY", "ADDRESS",
    "SINCE", "ID",
];

impl Cell {
    /// In few columns, for a screen.
    #[cfg(feature = "top")]
    pub(super) fn short(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Count(count) => short(as_float(*count)),
            Self::Rate(None) | Self::Bytes(None) => "-".into(),
            Self::Rate(Some(rate)) => short(*rate),
            Self::Bytes(Some(bytes)) => short_bytes(*bytes),
            Self::Millis(millis) => short(as_float(*millis)),
        }
    }

    /// In full, for programs: one word each time, or what follows would be in another column.
    pub(super) fn exact(&self) -> String {
        match self {
            Self::Text(text) if text.is_empty() => "-".into(),
            Self::Text(text) => text.replace(char::is_whitespace, "_"),
            Self::Count(count) | Self::Millis(count) => count.to_string(),
            Self::Rate(None) | Self::Bytes(None) => "-".into(),
            Self::Rate(Some(rate)) => format!("{rate:.1}"),
            Self::Bytes(Some(bytes)) => format!("{bytes:.0}"),
        }
    }

    /// Whether it is a text with this one in it.
    #[cfg(feature = "top")]
    pub(super) fn contains(&self, part: &str) -> bool {
        matches!(self, Self::Text(text) if text.contains(part))
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    /// Whether it tells of a loss.
    #[cfg(feature = "top")]
    pub(super) fn is_above_zero(&self) -> bool {
        match self {
            Self::Count(count) | Self::Millis(count) => *count > 0,
            Self::Rate(rate) | Self::Bytes(rate) => rate.is_some_and(|rate| rate > 0.0),
            Self::Text(_) => false,
        }
    }

    /// The largest number first, texts by the alphabet.
    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            (Self::Count(one) | Self::Millis(one), Self::Count(other) | Self::Millis(other)) => {
                other.cmp(one)
            }
            (Self::Rate(one) | Self::Bytes(one), Self::Rate(other) | Self::Bytes(other)) => {
                let rate = |rate: &Option<f64>| rate.unwrap_or_default();
                rate(other).total_cmp(&rate(one))
            }
            _ => Ordering::Equal,
        }
    }
}

/// What a broker has done between two looks, or since its start.
#[derive(Debug)]
pub(super) struct Since<'l> {
    before: Option<&'l Look>,
    now: &'l Look,
    seconds: f64,
}

impl<'l> Since<'l> {
    /// Between the two, unless the process is another one.
    pub(super) fn new(before: Option<&'l Look>, now: &'l Look) -> Self {
        #[expect(clippy::float_cmp, reason = "the same text was read twice")]
        let before = before.filter(|before| before.meters.started == now.meters.started);
        let seconds = before.map_or(0.0, |before| (now.at - before.at).as_secs_f64());
        Self {
            before: before.filter(|_| seconds > 0.0),
            now,
            seconds,
        }
    }

    /// How fast something grows; a topic that is new was at 0.
    fn rate(&self, of: impl Fn(&Look) -> Option<u64>) -> Option<f64> {
        let (before, now) = (of(self.before?).unwrap_or_default(), of(self.now)?);
        Some(as_float(now.saturating_sub(before)) / self.seconds)
    }

    /// Events delivered in a second.
    #[cfg(feature = "top")]
    pub(super) fn delivered(&self) -> Option<f64> {
        self.rate(|look| Some(look.stats.totals.delivered))
    }

    /// What holds for all, in three lines of at most 80 columns.
    pub(super) fn totals(&self) -> [String; 3] {
        let totals = &self.now.stats.totals;
        let meters = &self.now.meters;
        let per_second = |of: fn(&Look) -> u64| {
            let rate = self.rate(|look| Some(of(look)));
            rate.map_or_else(|| "-".into(), short)
        };
        let latency = |share| {
            let before = self.before.map(|before| &before.meters);
            let latency = before.and_then(|before| meters.latency_since(before, share));
            latency.map_or_else(
                || "-".into(),
                |seconds| format!("{:.2} ms", seconds * 1000.0),
            )
        };
        let cpu = self.before.map_or_else(
            || "-".into(),
            |before| {
                let cpu_sec = meters.cpu_sec - before.meters.cpu_sec;
                format!("{:.0}%", cpu_sec * 100.0 / self.seconds)
            },
        );
        [
            format!(
                "messages/s {}   delivered/s {}   dropped/s {}   skipped/s {}",
                per_second(|look| look.stats.totals.messages),
                per_second(|look| look.stats.totals.delivered),
                per_second(|look| look.stats.totals.dropped),
                per_second(|look| look.stats.totals.skipped),
            ),
            format!(
                "queued {}   latency p50 {}, p99 {}   out {}/s",
                short(as_float(totals.queued)),
                latency(0.5),
                latency(0.99),
                self.rate(|look| Some(look.stats.totals.bytes_out))
                    .map_or_else(|| "-".into(), short_bytes),
            ),
            format!(
                "topics {}   conn {}   subs {}   cpu {cpu}   mem {}   up {}",
                short(as_float(self.now.stats.topics.len() as u64)),
                short(as_float(totals.connections)),
                short(as_float(totals.subscribers)),
                short_bytes(meters.resident),
                up(meters.started),
            ),
        ]
    }

    /// The table of `view`, sorted.
    pub(super) fn rows(&self, view: View, by: By) -> Vec<Row> {
        let mut rows: Vec<Row> = match view {
            View::Topics => {
                let topics = self.now.stats.topics.iter();
                topics
                    .map(|(name, topic)| self.topic(name, topic))
                    .collect()
            }
            View::Connections => {
                let before = self.before.map(|before| before.connections.as_slice());
                let connections = self.now.connections.iter();
                connections
                    .map(|of| self.connection(of, before.unwrap_or_default()))
                    .collect()
            }
        };
        rows.sort_by(|one, other| {
            let order = one[by.column].order(&other[by.column]);
            let order = if by.is_reversed {
                order.reverse()
            } else {
                order
            };
            // Whoever looks on shall not see equal ones change places.
            order.then_with(|| one[0].order(&other[0]))
        });
        rows
    }

    fn topic(&self, name: &str, topic: &Topic) -> Row {
        let rate = |of: fn(&Topic) -> u64| self.rate(|look| look.stats.topics.get(name).map(of));
        vec![
            Cell::Text(harmless(name)),
            Cell::Count(topic.subscribers),
            Cell::Rate(rate(|topic| topic.messages)),
            Cell::Bytes(rate(|topic| topic.bytes_out)),
            Cell::Rate(rate(|topic| topic.dropped)),
            Cell::Count(topic.dropped),
            Cell::Count(topic.messages),
            Cell::Count(topic.seq),
        ]
    }

    fn connection(&self, now: &Connection, before: &[Connection]) -> Row {
        let before = before.iter().find(|before| before.id == now.id);
        let rate = |of: fn(&Connection) -> u64| {
            let more = of(now).saturating_sub(of(before?));
            Some(as_float(more) / self.seconds)
        };
        vec![
            Cell::Text(harmless(&now.client_id)),
            Cell::Count(now.lag.events),
            Cell::Millis(now.lag.age_ms),
            Cell::Count(now.dropped),
            Cell::Rate(rate(|of| of.events_out)),
            Cell::Rate(rate(|of| of.events_in)),
            Cell::Count(now.subscriptions),
            Cell::Text(harmless(&now.transport)),
            Cell::Text(now.key.as_deref().map_or_else(|| "-".into(), harmless)),
            Cell::Text(harmless(&now.address)),
            Cell::Text(harmless(&now.since)),
            Cell::Text(harmless(&now.id)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    use super::super::look::Meters;
    use super::*;

    fn look(at: Instant, stats: &str, started: f64) -> Look {
        Look {
            at,
            stats: serde_json::from_str(stats).expect("stats"),
            connections: Vec::new(),
            meters: Meters {
                started,
                ..Meters::default()
            },
        }
    }

    #[test]
    fn rates_are_what_came_in_between_and_the_largest_stands_first() {
        let began = Instant::now();
        let before = r#"{"topics":{"a":{"messages":10},"b":{"messages":5}},"totals":{}}"#;
        let now = r#"{"topics":{"a":{"messages":12},"b":{"messages":25},"c\u001b[2J":{"messages":4}},"totals":{}}"#;
        let before = look(began, before, 1.0);
        let now = look(began + Duration::from_secs(2), now, 1.0);
        let by = |column, is_reversed| By {
            column,
            is_reversed,
        };
        let rows = |since: &Since<'_>, by| {
            let rows = since.rows(View::Topics, by).into_iter();
            let cells = rows.map(|row| format!("{} {}", row[0].exact(), row[2].exact()));
            cells.collect::<Vec<_>>()
        };
        let since = Since::new(Some(&before), &now);
        assert_eq!(rows(&since, by(2, false)), ["b 10.0", "c[2J 2.0", "a 1.0"]);
        assert_eq!(rows(&since, by(2, true)), ["a 1.0", "c[2J 2.0", "b 10.0"]);
        assert_eq!(rows(&since, by(0, false)), ["a 1.0", "b 10.0", "c[2J 2.0"]);
        // Of the first look, and of another process, no rate is known.
        let restarted = look(
            began + Duration::from_secs(2),
            r#"{"topics":{"a":{}},"totals":{}}"#,
            2.0,
        );
        assert_eq!(
            rows(&Since::new(Some(&before), &restarted), by(2, false)),
            ["a -"]
        );
        assert_eq!(
            rows(&Since::new(None, &before), by(2, false)),
            ["a -", "b -"]
        );
    }

    #[test]
    fn totals_of_a_large_broker_fit_into_80_columns() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("now");
        let started = now.as_secs_f64() - 365.96 * 86_400.0;
        let topics = (0..100_000).map(|at| format!("\"{at}\":{{}}"));
        let topics = topics.collect::<Vec<_>>().join(",");
        let stats = |many: u64| {
            let names = "messages delivered skipped dropped queued bytes_out";
            let totals = names.split(' ').map(|name| format!("\"{name}\":{many}"));
            let totals = totals.collect::<Vec<_>>().join(",");
            format!(
                r#"{{"topics":{{{topics}}},"totals":{{"connections":1234567,"subscribers":123456789,{totals}}}}}"#
            )
        };
        let began = Instant::now();
        let before = look(began, &stats(0), started);
        let mut now = look(
            began + Duration::from_secs(2),
            &stats(987_654_321_000),
            started,
        );
        now.meters.cpu_sec = 128.0 * 2.0;
        now.meters.resident = 123_456_789_012.0;
        now.meters.latency = vec![(30.0, 1.0), (f64::INFINITY, 2.0)];
        let lines = Since::new(Some(&before), &now).totals();
        for line in &lines {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert_eq!(
            lines[2],
            "topics 100k   conn 1.23M   subs 123M   cpu 12800%   mem 115Gi   up 365 d 23 h"
        );
    }

    #[test]
    fn each_cell_is_one_word_for_programs() {
        let cell = |text: &str| Cell::Text(text.into()).exact();
        assert_eq!(cell("a b\u{a0}c"), "a_b_c");
        assert_eq!(cell(""), "-");
    }
}
