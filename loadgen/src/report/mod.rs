//! What a run found out, once, and the forms it is shown in.
//!
//! A scenario fills a [`Report`]; [`table`], [`json`] and [`html`] only print it, so that they can not disagree.

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

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) scenario: &'static str,
    pub(crate) settings: Vec<(&'static str, String)>,
    pub(crate) command_line: String,
    pub(crate) machine: Machine,
    pub(crate) figures: Vec<Figure>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) percentiles: Vec<Percentile>,
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

#[cfg(test)]
pub(crate) mod sample {
    use serde_json::json;

    use super::{Percentile, Report};
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
                    resident_kb: None,
                })
                .collect(),
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
            server_counts: Some(json!({"dropped": 3})),
            breaks: vec!["subscribers: 1 messages delivered <twice>".into()],
            notes: vec!["the generator was the limit".into()],
        };
        report.figure("deliveries", "deliveries", 5, "5");
        report
    }
}
