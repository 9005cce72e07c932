//! What a run found out, once, and the forms it is shown in.
//!
//! A scenario fills a [`Report`]; [`table`], [`json`] and [`html`] only print it, so that they can not disagree.

pub(crate) mod file;
pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod progress;
pub(crate) mod table;

use serde_json::Value;

use crate::conductor::Sample;
use crate::procfs::Machine;

/// One number: its name in JSON, its name for people, and both its forms.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) key: String,
    pub(crate) label: String,
    pub(crate) value: Value,
    pub(crate) shown: String,
}

/// One point of a percentile curve.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Percentile {
    pub(crate) quantile: f64,
    pub(crate) nanos: u64,
}

/// One rate that was tried, and what came of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) rate: f64,
    pub(crate) p99_ns: u64,
    pub(crate) held: bool,
}

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) scenario: &'static str,
    pub(crate) settings: Vec<(&'static str, String)>,
    pub(crate) command_line: String,
    pub(crate) machine: Machine,
    pub(crate) figures: Vec<Figure>,
    pub(crate) samples: Vec<Sample>,
    /// When the measured span begins, on the clock of the samples.
    pub(crate) warmup_secs: f64,
    pub(crate) percentiles: Vec<Percentile>,
    /// The steps of a search, in the order in which they were made.
    pub(crate) steps: Vec<Step>,
    /// The percentile that had to hold in each of them.
    pub(crate) objective_ns: Option<u64>,
    /// What the server counted itself between start and end.
    pub(crate) server_counts: Option<Value>,
    /// Breaches of the contract: any of them makes the exit code 1.
    pub(crate) breaks: Vec<String>,
    /// What a reader should know before believing the figures.
    pub(crate) notes: Vec<String>,
}

impl Report {
    pub(crate) fn figure(
        &mut self,
        key: &str,
        label: &str,
        value: impl Into<Value>,
        shown: impl Into<String>,
    ) {
        self.figures.push(Figure {
            key: key.into(),
            label: label.into(),
            value: value.into(),
            shown: shown.into(),
        });
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.breaks.is_empty()
    }
}

/// The command as a report shows it: reports are passed on, and a key is not to go with them.
pub(crate) fn command_line(args: impl IntoIterator<Item = String>) -> String {
    let mut is_key = false;
    let shown = args.into_iter().map(|arg| {
        let was_key = std::mem::replace(&mut is_key, arg == "--api-key");
        match arg.split_once('=') {
            _ if was_key => "(hidden)".to_owned(),
            Some(("--api-key", _)) => "--api-key=(hidden)".to_owned(),
            _ => arg,
        }
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::command_line;

    #[test]
    fn a_report_does_not_show_the_key() {
        let shown = |line: &str| command_line(line.split(' ').map(str::to_owned));
        assert_eq!(
            shown("loadgen idle --api-key sc_1 --conns 5"),
            "loadgen idle --api-key (hidden) --conns 5"
        );
        assert_eq!(
            shown("loadgen idle --api-key=sc_1"),
            "loadgen idle --api-key=(hidden)"
        );
    }
}

#[cfg(test)]
pub(crate) mod sample {
    use serde_json::json;

    use super::{Percentile, Report, Step};
    use crate::conductor::Sample;
    use crate::procfs::Machine;

    /// A report with everything in it, and with text that would break a page that does not escape.
    pub(crate) fn report() -> Report {
        let mut report = Report {
            scenario: "latency",
            settings: vec![("topics", "10".into()), ("url", "ws://<host>".into())],
            command_line: "loadgen latency --url 'ws://<host>'".into(),
            machine: Machine {
                cpu: "A & B".into(),
                cores: 2,
                kernel: "6.1".into(),
                commit: Some("abc".into()),
            },
            figures: Vec::new(),
            samples: (0_u32..20)
                .map(|at| Sample {
                    at_secs: f64::from(at),
                    deliveries_per_sec: 1000.0 * f64::from(at),
                    lost: u64::from(at) / 10,
                    resident_kb: Some(10_000 + u64::from(at)),
                })
                .collect(),
            warmup_secs: 1.0,
            percentiles: vec![
                Percentile {
                    quantile: 0.5,
                    nanos: 90_000,
                },
                Percentile {
                    quantile: 0.99,
                    nanos: 1_500_000,
                },
                Percentile {
                    quantile: 0.9999,
                    nanos: 8_000_000,
                },
            ],
            steps: [(1_000.0, 90_000, true), (2_000.0, 40_000_000, false)]
                .map(|(rate, p99_ns, held)| Step { rate, p99_ns, held })
                .to_vec(),
            objective_ns: Some(10_000_000),
            server_counts: Some(json!({"dropped": 3})),
            breaks: vec!["subscribers: 1 messages delivered <twice>".into()],
            notes: vec!["the generator was the limit".into()],
        };
        report.figure("deliveries", "deliveries", 5, "5");
        report
    }
}
