//! The end: signals, and what they set off.

use std::io;
use std::sync::atomic::Ordering;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::http::ending::Ending;
use crate::broker::request::Request;
use crate::core::mailbox::{Letter, Mailbox};
use crate::logs;
use crate::process::Process;

/// The signals that the server listens to.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    user: Signal,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits for one that ends the server. A closed terminal, a reload or a wish
    /// for another log level does not.
    async fn end(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hangup.recv() => tracing::info!("SIGHUP: going on"),
                _ = self.user.recv() => logs::cycle_level(),
            }
        }
    }
}

/// Waits for the first signal, calls `begin`, then shuts down as the protocol says. A second signal
/// ends at once.
pub(super) async fn drain_at_signal(
    process: &Process,
    mailboxes: &[Mailbox],
    ending: &Ending,
    mut signals: Signals,
    begin: impl FnOnce(),
) {
    signals.end().await;
    begin();
    let timeout = process.config.shutdown_timeout;
    process.draining.store(true, Ordering::SeqCst);
    tracing::info!(timeout_sec = timeout.as_secs(), "shutting down");
    tokio::select! {
        drained = tokio::time::timeout(timeout, drain(process, mailboxes, ending)) => {
            if drained.is_ok() {
                tracing::info!("drained");
            } else {
                tracing::warn!("not drained within SHUTDOWN_TIMEOUT_SEC; ending");
            }
        }
        () = signals.end() => {
            tracing::warn!("second signal; ending at once");
            logs::end(1);
        }
    }
}

/// Every thread stops taking commands, every shard finishes what it has, every ring is flushed,
/// every socket gets its close, every request that has begun its answer.
async fn drain(process: &Process, mailboxes: &[Mailbox], ending: &Ending) {
    to_all(mailboxes, Letter::Drain).await;
    let mut fences = Vec::new();
    for inbox in process.broker.inboxes() {
        let (reply, passed) = oneshot::channel();
        inbox.send(Request::Fence { reply }).await;
        fences.push(passed);
    }
    for passed in fences {
        drop(passed.await);
    }
    if process.metrics.core_sum(|core| &core.connections) > 0 {
        tokio::time::sleep(process.config.drain_grace).await;
    }
    tokio::join!(to_all(mailboxes, Letter::Finish), ending.finish());
}

async fn to_all(mailboxes: &[Mailbox], letter: impl Fn(oneshot::Sender<()>) -> Letter) {
    let answers: Vec<_> = mailboxes.iter().map(|to| to.ask(&letter)).collect();
    for answer in answers {
        drop(answer.await);
    }
}
