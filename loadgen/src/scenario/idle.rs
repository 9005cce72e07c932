//! What a connection costs that only listens: memory, CPU, and whether the server lets go of it in the end.

use super::leaks::{self, Health};
use super::{Session, figures};
use crate::Failure;
use crate::engine::shared::Plan;
use crate::pace::Pace;
use crate::units::{count, float, grouped, ratio, wide};

pub(crate) fn play(session: &mut Session, conns: usize) -> Result<(), Failure> {
    session.settings.topics = session.settings.topics.min(conns);
    let plan = Plan {
        subscribers: conns,
        publishers: 0,
        ..session.plan(Pace::Silent)
    };
    let before = Health::read(session);
    let measured = session.conduct(&plan, session.span())?;
    session.report.samples.clone_from(&measured.samples);
    let opened = float(measured.last.opened);
    let speed = ratio(opened, measured.connect_secs);
    let report = &mut session.report;
    report.figure(
        "connected",
        "connected and subscribed",
        measured.last.opened,
        grouped(measured.last.opened),
    );
    report.figure(
        "failed",
        "failed to connect",
        wide(measured.result.failures.len()),
        grouped(measured.last.failed),
    );
    report.figure(
        "connects_per_sec",
        "connects per second",
        speed,
        grouped(count(speed)),
    );
    if let (Some(empty), Some(full)) = measured.resident_kb {
        let each = ratio(float(full) - float(empty), opened);
        report.figure(
            "rss_kb_per_conn",
            "server memory per connection",
            each,
            format!("{each:.2} KB"),
        );
    }
    if let Some(cpu) = measured.server_cpu() {
        let share = ratio(cpu.total_secs(), measured.secs()) * 100.0;
        report.figure(
            "server_idle_percent",
            "server CPU while idle",
            share,
            format!("{share:.2} % of a core"),
        );
    }
    figures::verdict(session, &plan, &measured);
    leaks::check(session, before);
    Ok(())
}
