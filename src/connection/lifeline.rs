//! When a connection must end, or must be told that it lives.
//!
//! Deadlines run on ticks in which the core was alive and had looked at the sockets: see
//! `Local::tick`. Nobody is judged by a clock that ran while the process stood still.

use std::rc::Rc;

use super::local::Local;
use super::timers::{self, Tick};
use super::{Connection, Phase, error};
use crate::protocol::codes::{AUTH_TIMEOUT_TEXT, CloseCode, ErrorCode};

impl Connection {
    /// When it has been silent for too long.
    fn silent_at(&self, local: &Local) -> Tick {
        let silence = timers::ticks(local.config().pong_wait).saturating_add(1);
        self.heard.get().saturating_add(silence)
    }

    /// When its socket has taken nothing for too long, if something waits for it.
    fn stuck_at(&self, local: &Local) -> Option<Tick> {
        let wait = timers::ticks(local.config().write_wait).saturating_add(1);
        self.stalled.get().map(|since| since.saturating_add(wait))
    }

    /// Whether it is to be looked at at tick `at`, and not at another.
    pub(crate) fn is_due(&self, at: Tick) -> bool {
        self.due.get() == at
    }

    /// Sees to it that the core looks at this connection at its next deadline.
    pub(crate) fn watch(&self, local: &Local) {
        let mut next = match self.phase.get() {
            Phase::Ended => return,
            Phase::Closing => self.until.get(),
            Phase::Open | Phase::Leaving => {
                let heartbeat = self.heartbeat.get().min(self.silent_at(local));
                if self.is_authenticated.get() {
                    heartbeat
                } else {
                    heartbeat.min(self.until.get())
                }
            }
        };
        let ends = self.grant_ends_at(local).filter(|_| !self.is_over());
        for deadline in [self.stuck_at(local), ends].into_iter().flatten() {
            next = next.min(deadline);
        }
        local.wake_at(self, next);
    }
}

/// What happens to a connection when its deadline comes.
pub(crate) fn look_at(local: &Local, connection: &Rc<Connection>) {
    let now = local.tick();
    let phase = connection.phase.get();
    if phase == Phase::Ended {
        return;
    }
    if connection.stuck_at(local).is_some_and(|stuck| now >= stuck) {
        tracing::info!(
            client = connection.label(),
            "disconnected: its socket takes nothing"
        );
        local.counters.slow_disconnects.add(1);
        connection.end(local, "its socket took nothing for WRITE_WAIT_SEC");
        return;
    }
    if phase == Phase::Closing {
        if now >= connection.until.get() {
            connection.end(local, "not closed within CLOSE_WAIT_SEC");
        }
        connection.watch(local);
        return;
    }
    if !connection.is_authenticated.get() && now >= connection.until.get() {
        let answer = error(ErrorCode::Unauthorized, AUTH_TIMEOUT_TEXT);
        connection.refuse(local, &answer, AUTH_TIMEOUT_TEXT);
        return;
    }
    if connection.ends_with_grant(local) {
        return;
    }
    // Who is not read cannot be heard. What it is paused for has an end of its own. Who listens to
    // an event stream has nothing to say: the kernel asks whether its machine is there.
    if connection.is_paused.get() || connection.is_stream() {
        connection.heard.set(now);
    }
    if now >= connection.silent_at(local) {
        tracing::info!(
            client = connection.label(),
            "disconnected: nothing was heard from it"
        );
        let reason = "nothing was heard for PONG_WAIT_SEC";
        connection.close(local, Some(CloseCode::POLICY), reason);
        return;
    }
    if now >= connection.heartbeat.get() {
        beat(local, connection);
    }
    connection.watch(local);
}

fn beat(local: &Local, connection: &Rc<Connection>) {
    let config = local.config();
    connection.heartbeat.set(local.after(config.ping_period));
    connection.ring.borrow_mut().shrink(local.elapsed_us());
    // A client that does not read gets no more heartbeats on top of what it has not read.
    if connection.is_parked.get() {
        return;
    }
    let ts = local.timestamp();
    let (dialect, is_seen) = (connection.dialect, config.heartbeat_info);
    connection.send(local, |out| dialect.heartbeat(out, is_seen, ts));
}
