//! Connections that come and go: connect, subscribe, get the kept event, leave, again; and nothing may stay behind.
//!
//! One message is published into each topic beforehand; a subscribe with `last_n` 1 must bring it back right after the ack,
//! unless the server keeps no history.

use super::leaks::{self, Health};
use super::visits::{Outcome, visit};
use super::{Session, figures};
use crate::Failure;
use crate::pace::Pace;
use crate::procfs::{Process, raise_file_limit};
use crate::units::{count, duration, float, grouped, ratio, wide};

const SPARE_FILES: usize = 64;

pub(crate) fn play(session: &mut Session, rate: f64, workers: usize) -> Result<(), Failure> {
    raise_file_limit(wide(workers + SPARE_FILES));
    let plan = session.plan(Pace::Silent);
    let before = Health::read(session);
    session.make_topics(&plan.topics)?;
    let server_before = session.server.and_then(Process::cpu);
    let own_before = Process::this().cpu();
    let outcome = visit(session, &plan, rate, workers);
    let server_after = session.server.and_then(Process::cpu);
    let own_after = Process::this().cpu();
    session.remove_topics(&plan.topics);
    let outcome = outcome?;
    if outcome.done == 0 {
        let why = outcome.failure.unwrap_or_else(|| "no visit ended".into());
        return Err(Failure::Connect(why));
    }
    show(session, &outcome);
    let report = &mut session.report;
    if let (Some(from), Some(to)) = (server_before, server_after) {
        let each = ratio(to.since(from).total_secs() * 1e6, float(outcome.done));
        let shown = format!("{each:.1} µs");
        report.figure("server_us_per_visit", "server CPU per visit", each, shown);
    }
    if let (Some(from), Some(to)) = (own_before, own_after) {
        let cores = ratio(to.since(from).total_secs(), outcome.secs);
        let shown = format!("{cores:.2} cores");
        report.figure("generator_cores", "generator CPU", cores, shown);
    }
    judge(session, &outcome);
    check_topics(session, &plan.topics);
    leaks::check(session, before);
    Ok(())
}

fn show(session: &mut Session, outcome: &Outcome) {
    let report = &mut session.report;
    let speed = ratio(float(outcome.done), outcome.secs);
    let shown = grouped(count(speed));
    report.figure("visits", "visits", outcome.done, grouped(outcome.done));
    report.figure("visits_per_sec", "visits per second", speed, shown);
    for (key, label, value) in [
        ("with_event", "  with an event", outcome.with_event),
        ("failed", "  failed", outcome.failed),
    ] {
        report.figure(key, label, value, grouped(value));
    }
    for (key, label, quantile) in [
        ("p50_ns", "a visit took p50", 0.5),
        ("p99_ns", "             p99", 0.99),
    ] {
        let nanos = outcome.visit_ns.value_at_quantile(quantile);
        report.figure(key, label, nanos, duration(nanos));
    }
    report.percentiles = figures::curve(&outcome.visit_ns);
}

fn judge(session: &mut Session, outcome: &Outcome) {
    if let Some(why) = &outcome.failure {
        let failed = outcome.failed;
        let breach = format!("{failed} visits failed, the first: {why}");
        session.report.breaks.push(breach);
    }
    match outcome.done - outcome.with_event {
        0 => {}
        missed if missed == outcome.done => {
            session.note("no visit got an event: the server keeps no history (last_n)");
        }
        missed => {
            let breach = format!("{missed} visits did not get the event that others got");
            session.report.breaks.push(breach);
        }
    }
}

/// The topics of this run are gone, or at least empty.
fn check_topics(session: &mut Session, names: &[String]) {
    let Some(listed) = session.rest.read("/topics") else {
        session.note("the server has no GET /topics: what it keeps is not checked");
        return;
    };
    let listed = listed["topics"].as_array().into_iter().flatten();
    let kept = listed.filter(|topic| {
        let own = topic["name"]
            .as_str()
            .is_some_and(|name| names.iter().any(|own| own == name));
        own && topic["subscribers"].as_u64() > Some(0)
    });
    let kept = kept.count();
    if kept > 0 {
        session.report.breaks.push(format!(
            "{kept} topics still count subscribers after all have left"
        ));
    }
}
