//! Subscribers that stop reading: the others must not notice, and those who stopped must be told exactly what they lost.
//!
//! They stop when the first message leaves and read again when the last one has. A stalled subscriber that the server
//! disconnected is not a break: a socket that takes nothing for long enough may be closed.

use super::{Session, figures};
use crate::Failure;
use crate::engine::shared::Plan;
use crate::pace::Pace;
use crate::units::{float, grouped, wide};

pub(crate) fn play(
    session: &mut Session,
    stalled: usize,
    rate: f64,
    receive_buffer_bytes: usize,
) -> Result<(), Failure> {
    let plan = Plan {
        stalled,
        receive_buffer_bytes,
        record_latency: true,
        ..session.plan(Pace::Rate(rate))
    };
    let measured = session.conduct(&plan, session.span())?;
    figures::latency(session, &measured);
    figures::throughput(session, &measured);
    figures::cost(session, &measured);
    figures::memory(session, &measured);
    figures::counts(session, &measured);
    let (result, who) = (&measured.result, "stalled subscribers");
    let tally = &result.stalled;
    let report = &mut session.report;
    for (key, label, value) in [
        ("stalled", "stalled subscribers", wide(stalled)),
        ("stalled_told", "  told of their loss", result.stalled_told),
        (
            "stalled_ended",
            "  disconnected by the server",
            result.stalled_ended,
        ),
        (
            "stalled_received",
            "  events they still got",
            tally.received,
        ),
        (
            "stalled_announced",
            "  events lost, announced",
            tally.announced,
        ),
        (
            "stalled_unannounced",
            "  events lost, unannounced",
            tally.unannounced + tally.missing,
        ),
    ] {
        report.figure(key, label, value, grouped(value));
    }
    report.breaks.extend(tally.breaks(who));
    figures::verdict(session, &plan, &measured);
    if tally.announced == 0 && result.stalled_ended == 0 && tally.broken() == 0 {
        let bytes = float(measured.last.published) * float(wide(session.settings.bytes));
        session.note(format!(
            "nobody lost anything: {:.1} MB of payload fit into what the stalled sockets and the server hold; raise --rate or --secs",
            bytes / 1e6
        ));
    }
    Ok(())
}
