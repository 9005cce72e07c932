//! The seven scenarios, and what they have in common: topics of their own, one conducted run, one way to report it.

mod churn;
mod fanout;
mod figures;
mod idle;
mod latency;
mod leaks;
mod slo;
mod soak;
mod stalled;
mod visits;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use crate::Failure;
use crate::args::{Scenario, Settings};
use crate::client::Doors;
use crate::conductor::{Measured, Span, Stage, Tick, conduct};
use crate::engine::shared::Plan;
use crate::pace::Pace;
use crate::procfs::{Machine, Process, raise_file_limit};
use crate::report::progress::Progress;
use crate::report::{self, Report};
use crate::rest::{Rest, resolve_all};
use crate::units::wide;

/// Files that are open besides the connections.
const SPARE_FILES: usize = 64;

/// Everything a scenario works with.
pub(crate) struct Session {
    pub(crate) settings: Settings,
    pub(crate) doors: Doors,
    /// Of the other nodes.
    pub(crate) others: Vec<Rest>,
    pub(crate) rest: Rest,
    pub(crate) server: Option<Process>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) progress: Progress,
    pub(crate) report: Report,
    run: u32,
    plans_made: u32,
}

/// Runs one scenario from topics made to topics removed.
pub(crate) fn play(
    scenario: &Scenario,
    settings: Settings,
    stop: Arc<AtomicBool>,
) -> Result<Report, Failure> {
    let mut session = Session::open(scenario, settings, stop)?;
    match *scenario {
        Scenario::Fanout { window } => fanout::play(&mut session, window)?,
        Scenario::Latency { rate } => latency::play(&mut session, rate)?,
        Scenario::Idle { conns } => idle::play(&mut session, conns)?,
        Scenario::Stalled {
            stalled,
            rate,
            receive_buffer,
        } => stalled::play(&mut session, stalled, rate, receive_buffer)?,
        Scenario::Churn { rate, workers } => churn::play(&mut session, rate, workers)?,
        Scenario::Soak { rate, slope_kb_max } => soak::play(&mut session, rate, slope_kb_max)?,
        Scenario::Slo { rate, p99_ms, loss } => {
            let objective = slo::Objective {
                p99_ms,
                loss_max: loss,
            };
            slo::play(&mut session, rate, objective)?;
        }
    }
    session.progress.clear();
    Ok(session.report)
}

impl Session {
    fn open(
        scenario: &Scenario,
        settings: Settings,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, Failure> {
        let key = settings.api_key.as_deref();
        let (doors, rest, others) = resolve_all(&settings.url, key, &settings.trust)?;
        let server = match settings.server_pid {
            Some(id) => Some(
                Process::with_id(id)
                    .ok_or_else(|| Failure::Usage(format!("--server-pid {id}: no such process")))?,
            ),
            None => rest.port().and_then(Process::listening_on),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_millis());
        let run =
            u32::try_from(now & 0xffff_ffff).unwrap_or(0) ^ std::process::id().rotate_left(16);
        let report = Report {
            scenario: scenario.name(),
            settings: shown_settings(scenario, &settings),
            command_line: report::command_line(std::env::args()),
            machine: Machine::look(),
            figures: Vec::new(),
            samples: Vec::new(),
            warmup_secs: settings.warmup,
            percentiles: Vec::new(),
            steps: Vec::new(),
            objective_ns: None,
            server_counts: None,
            breaks: Vec::new(),
            notes: Vec::new(),
        };
        Ok(Self {
            progress: Progress::new(settings.quiet),
            settings,
            doors,
            others,
            rest,
            server,
            stop,
            report,
            run,
            plans_made: 0,
        })
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn span(&self) -> Span {
        Span {
            warmup_secs: self.settings.warmup,
            secs: self.settings.secs,
            drain_secs: self.settings.drain,
        }
    }

    /// What the settings say, with topic names that no other run has.
    pub(crate) fn plan(&mut self, pace: Pace) -> Plan {
        Plan {
            topics: self.name_topics(),
            subscribers: self.settings.topics * self.settings.subs,
            stalled: 0,
            publishers: self.settings.pubs,
            payload_bytes: self.settings.bytes,
            pace,
            record_latency: false,
            threads: self.settings.threads,
            receive_buffer_bytes: 0,
            run: self.run,
        }
    }

    pub(crate) fn name_topics(&mut self) -> Vec<String> {
        self.plans_made += 1;
        let (run, plan) = (self.run, self.plans_made);
        (0..self.settings.topics)
            .map(|number| format!("lg-{run:08x}-{plan}-{number:06}"))
            .collect()
    }

    /// All of them or none.
    pub(crate) fn make_topics(&mut self, names: &[String]) -> Result<(), Failure> {
        for (made, name) in names.iter().enumerate() {
            if let Err(failure) = self.rest.create_topic(name) {
                self.remove_topics(&names[..made]);
                return Err(failure);
            }
        }
        // They are made in the order of their names: who has the last has all.
        for (other, last) in self.others.iter().zip(names.last().into_iter().cycle()) {
            other.await_topic(last)?;
        }
        Ok(())
    }

    pub(crate) fn remove_topics(&mut self, names: &[String]) {
        // A server that does not answer is not asked a thousand times.
        let answers = names.iter().map_while(|name| self.rest.delete_topic(name));
        if answers.filter(|removed| *removed).count() < names.len() {
            self.note("the server did not remove the topics of this run (DELETE /topics)");
        }
    }

    /// Topics, one run, and what the server counted meanwhile.
    pub(crate) fn conduct(&mut self, plan: &Plan, span: Span) -> Result<Measured, Failure> {
        self.conduct_watched(plan, span, &mut |_, _| {})
    }

    /// The same with somebody who looks on.
    pub(crate) fn conduct_watched(
        &mut self,
        plan: &Plan,
        span: Span,
        watch: &mut dyn FnMut(&Tick<'_>, &mut Progress),
    ) -> Result<Measured, Failure> {
        let files = wide(plan.subscribers + plan.publishers + SPARE_FILES);
        let allowed = raise_file_limit(files);
        if allowed < files {
            return Err(Failure::Usage(format!(
                "{files} open files are needed, and {allowed} are allowed (ulimit -n)"
            )));
        }
        self.make_topics(&plan.topics)?;
        let before = self.rest.read("/stats");
        let progress = &mut self.progress;
        let mut stage = Stage {
            doors: &self.doors,
            server: self.server,
            stop: &self.stop,
            watch: &mut |tick| {
                progress.tick(tick);
                watch(tick, progress);
            },
        };
        let measured = conduct(plan, span, &mut stage);
        let after = self.rest.read("/stats");
        self.report.server_counts = server_counts(before.as_ref(), after.as_ref(), &plan.topics);
        self.remove_topics(&plan.topics);
        measured
    }

    /// Once, however often it is true.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.report.notes.contains(&note) {
            self.report.notes.push(note);
        }
    }
}

fn shown_settings(scenario: &Scenario, settings: &Settings) -> Vec<(&'static str, String)> {
    let mut shown = vec![
        ("url", settings.url.clone()),
        ("topics", settings.topics.to_string()),
    ];
    match scenario {
        Scenario::Idle { conns } => shown.push(("conns", conns.to_string())),
        Scenario::Churn { rate, workers } => {
            shown.push(("rate", rate.to_string()));
            shown.push(("workers", workers.to_string()));
        }
        _ => {
            shown.push(("subs", settings.subs.to_string()));
            shown.push(("pubs", settings.pubs.to_string()));
            shown.push(("warmup", settings.warmup.to_string()));
        }
    }
    match scenario {
        Scenario::Fanout { window } => shown.push(("window", window.to_string())),
        Scenario::Latency { rate } => shown.push(("rate", rate.to_string())),
        Scenario::Soak { rate, slope_kb_max } => {
            shown.push(("rate", rate.to_string()));
            shown.push(("slope-kb-max", slope_kb_max.to_string()));
        }
        Scenario::Stalled {
            stalled,
            rate,
            receive_buffer,
        } => {
            shown.push(("stalled", stalled.to_string()));
            shown.push(("rate", rate.to_string()));
            shown.push(("receive-buffer", receive_buffer.to_string()));
        }
        Scenario::Slo { rate, p99_ms, loss } => {
            shown.push(("rate", rate.to_string()));
            shown.push(("p99-ms", p99_ms.to_string()));
            shown.push(("loss", loss.to_string()));
        }
        Scenario::Idle { .. } | Scenario::Churn { .. } => {}
    }
    shown.push(("bytes", settings.bytes.to_string()));
    shown.push(("secs", settings.secs.to_string()));
    shown.push(("threads", settings.threads.to_string()));
    shown
}

/// The growth of every total, and the sums over the topics of this run.
fn server_counts(
    before: Option<&Value>,
    after: Option<&Value>,
    topics: &[String],
) -> Option<Value> {
    let (before, after) = (before?, after?);
    let mut counts = Map::new();
    for (name, value) in after["totals"].as_object().into_iter().flatten() {
        if let Some(value) = value.as_u64() {
            let earlier = before["totals"][name].as_u64().unwrap_or(0);
            counts.insert(
                format!("totals.{name}"),
                value.saturating_sub(earlier).into(),
            );
        }
    }
    for field in ["messages", "dropped", "bytes_in", "bytes_out"] {
        let values = topics
            .iter()
            .map(|topic| after["topics"][topic][field].as_u64());
        if let Some(sum) = values.sum::<Option<u64>>() {
            counts.insert(field.into(), sum.into());
        }
    }
    (!counts.is_empty()).then_some(Value::Object(counts))
}
