//! Whether the server forgets who left: its own counts must come back to what they were.

use std::thread;
use std::time::{Duration, Instant};

use super::Session;
use crate::units::grouped;

/// What `GET /health` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Health {
    subscribers: u64,
    topics: u64,
}

impl Health {
    pub(crate) fn read(session: &Session) -> Option<Self> {
        let health = session.rest.read("/health")?;
        Some(Self {
            subscribers: health["subscribers"].as_u64()?,
            topics: health["topics"].as_u64()?,
        })
    }
}

/// Called when all connections are closed and all topics removed.
pub(crate) fn check(session: &mut Session, before: Option<Health>) {
    let Some(before) = before else {
        session.note("the server has no GET /health: whether it forgets who left is not checked");
        return;
    };
    let patience = Duration::from_secs_f64(session.settings.drain);
    let start = Instant::now();
    let mut now = Health::read(session);
    while now != Some(before) && start.elapsed() < patience {
        thread::sleep(Duration::from_millis(20));
        now = Health::read(session);
    }
    let Some(now) = now else {
        session
            .report
            .breaks
            .push("GET /health stopped answering".into());
        return;
    };
    let took = start.elapsed().as_secs_f64();
    let report = &mut session.report;
    report.figure(
        "subscribers_left",
        "subscribers left behind",
        now.subscribers,
        grouped(now.subscribers),
    );
    report.figure("forget_secs", "  known after", took, format!("{took:.2} s"));
    if now.subscribers > before.subscribers {
        let kept = now.subscribers - before.subscribers;
        report.breaks.push(format!(
            "{kept} subscribers are still counted by GET /health after they left"
        ));
    }
    if now.topics > before.topics {
        let kept = now.topics - before.topics;
        session.note(format!(
            "{kept} more topics are counted by GET /health than before"
        ));
    }
}
