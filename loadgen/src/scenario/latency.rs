//! How long a message takes from the moment it was due. An open loop: a slow server does not slow the timetable, so what it
//! held up counts against it.

use super::{Session, figures};
use crate::Failure;
use crate::pace::Pace;

pub(crate) fn play(session: &mut Session, rate: f64) -> Result<(), Failure> {
    let mut plan = session.plan(Pace::Rate(rate));
    plan.record_latency = true;
    let measured = session.conduct(&plan, session.span())?;
    figures::latency(session, &measured);
    figures::throughput(session, &measured);
    figures::cost(session, &measured);
    figures::counts(session, &measured);
    figures::verdict(session, &plan, &measured);
    Ok(())
}
