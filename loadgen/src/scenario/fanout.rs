//! How many deliveries a second, and what one costs the server. A closed loop: nobody is sent more than it takes.

use super::Session;
use super::figures;
use crate::Failure;
use crate::pace::Pace;

pub(crate) fn play(session: &mut Session, window: u64) -> Result<(), Failure> {
    let pace = match window {
        0 => Pace::Flood,
        window => Pace::Window(window),
    };
    let plan = session.plan(pace);
    let span = session.span();
    let measured = session.conduct(&plan, span)?;
    figures::throughput(session, &measured);
    figures::cost(session, &measured);
    figures::counts(session, &measured);
    figures::verdict(session, &plan, &measured);
    Ok(())
}
