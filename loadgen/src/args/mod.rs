//! The command line: what may be said, and what it means.
//!
//! [`flags`] knows the flags and their defaults. What comes out of here is valid: counts that must not be zero are not, and a payload
//! holds at least its own numbers.

pub(crate) mod flags;

use std::path::PathBuf;

use clap::ArgMatches;

use crate::tls::Trust;
use crate::wire::{PAYLOAD_BYTES_MIN, STREAMS_MAX};

/// What every scenario has.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) url: String,
    pub(crate) api_key: Option<String>,
    pub(crate) trust: Trust,
    pub(crate) topics: usize,
    pub(crate) subs: usize,
    pub(crate) pubs: usize,
    pub(crate) bytes: usize,
    pub(crate) secs: f64,
    pub(crate) warmup: f64,
    pub(crate) drain: f64,
    pub(crate) threads: usize,
    pub(crate) json: bool,
    pub(crate) html: Option<PathBuf>,
    pub(crate) server_pid: Option<u32>,
    pub(crate) quiet: bool,
}

/// What only one scenario has.
#[derive(Debug, Clone)]
pub(crate) enum Scenario {
    Fanout {
        window: u64,
    },
    Latency {
        rate: f64,
    },
    Idle {
        conns: usize,
    },
    Stalled {
        stalled: usize,
        rate: f64,
        receive_buffer: usize,
    },
    Churn {
        rate: f64,
        workers: usize,
    },
    Soak {
        rate: f64,
        slope_kb_max: f64,
    },
    Slo {
        rate: f64,
        p99_ms: f64,
        loss: u64,
    },
}

impl Scenario {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Fanout { .. } => "fanout",
            Self::Latency { .. } => "latency",
            Self::Idle { .. } => "idle",
            Self::Stalled { .. } => "stalled",
            Self::Churn { .. } => "churn",
            Self::Soak { .. } => "soak",
            Self::Slo { .. } => "slo",
        }
    }
}

/// What was asked for, or one line that says what is wrong with it.
pub(crate) fn parse(matches: &ArgMatches) -> Result<(Scenario, Settings), String> {
    let (name, given) = matches.subcommand().ok_or("a scenario is wanted")?;
    let length = |name| {
        given_number(given, name)
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(1)
    };
    let real = |name, otherwise| given_real(given, name).unwrap_or(otherwise);
    let settings = Settings {
        url: given.get_one::<String>("url").cloned().unwrap_or_default(),
        api_key: given.get_one::<String>("api-key").cloned(),
        trust: Trust {
            ca: given.get_one::<PathBuf>("ca").cloned(),
            insecure: given.get_flag("insecure"),
        },
        topics: length("topics"),
        subs: length("subs"),
        pubs: length("pubs"),
        bytes: length("bytes"),
        secs: real("secs", 1.0),
        warmup: real("warmup", 0.0),
        drain: real("drain-secs", 10.0),
        threads: length("threads"),
        json: given.get_flag("json"),
        html: given.get_one::<PathBuf>("html").cloned(),
        server_pid: given.get_one::<u32>("server-pid").copied(),
        quiet: given.get_flag("quiet"),
    };
    if settings.bytes < PAYLOAD_BYTES_MIN {
        return Err(format!(
            "--bytes {}: a payload holds at least {PAYLOAD_BYTES_MIN} bytes",
            settings.bytes
        ));
    }
    if settings.topics.max(settings.pubs) > STREAMS_MAX {
        return Err(format!("--topics and --pubs: at most {STREAMS_MAX}"));
    }
    if settings.secs <= 0.0 {
        return Err("--secs: a run takes longer than nothing".into());
    }
    let rate = real("rate", 0.0);
    if rate <= 0.0 && !matches!(name, "fanout" | "idle" | "churn") {
        return Err("--rate: more than 0 messages per second are wanted".into());
    }
    let scenario = match name {
        "fanout" => Scenario::Fanout {
            window: given_number(given, "window").unwrap_or(32),
        },
        "latency" => Scenario::Latency { rate },
        "idle" => Scenario::Idle {
            conns: length("conns"),
        },
        "stalled" => Scenario::Stalled {
            stalled: length("stalled"),
            rate,
            receive_buffer: length("receive-buffer"),
        },
        "churn" => Scenario::Churn {
            rate,
            workers: length("workers"),
        },
        "soak" => Scenario::Soak {
            rate,
            slope_kb_max: real("slope-kb-max", 512.0),
        },
        _ => Scenario::Slo {
            rate,
            p99_ms: real("p99-ms", 10.0),
            loss: given_number(given, "loss").unwrap_or(0),
        },
    };
    if let Scenario::Stalled { stalled, .. } = scenario
        && stalled >= settings.topics * settings.subs
    {
        return Err(format!("--stalled {stalled}: somebody must go on reading"));
    }
    Ok((scenario, settings))
}

fn given_number(given: &ArgMatches, name: &str) -> Option<u64> {
    given.try_get_one::<u64>(name).ok().flatten().copied()
}

fn given_real(given: &ArgMatches, name: &str) -> Option<f64> {
    given.try_get_one::<f64>(name).ok().flatten().copied()
}

#[cfg(test)]
mod tests {
    use super::flags::command;
    use super::{Scenario, Settings, parse};

    fn parsed(line: &str) -> Result<(Scenario, Settings), String> {
        let words = ["loadgen"].into_iter().chain(line.split_whitespace());
        let matches = command()
            .try_get_matches_from(words)
            .map_err(|e| e.to_string())?;
        parse(&matches)
    }

    #[test]
    fn every_scenario_starts_with_its_defaults() {
        command().debug_assert();
        for name in [
            "fanout", "latency", "idle", "stalled", "churn", "soak", "slo",
        ] {
            let (scenario, _) = parsed(name).expect("defaults are valid");
            assert_eq!(scenario.name(), name);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "",
            "dance",
            "fanout --subs 0",
            "fanout --bytes 3",
            "latency --rate 0",
            "latency --rate nan",
            "latency --secs -1",
            "stalled --subs 3 --stalled 3",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
