//! Keys are read again: when their file changes, and at SIGHUP.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use super::essential;
use crate::core::mailbox::{Letter, Mailbox};
use crate::process::Process;

/// Pause between two looks at the files. A change is read at the second look that finds it, and
/// has to hold within a second.
const LOOK: Duration = Duration::from_millis(250);

/// Watches the files of `process`, if it has any.
pub(super) fn start(
    runtime: &Runtime,
    process: &Arc<Process>,
    mailboxes: &Arc<[Mailbox]>,
) -> io::Result<()> {
    if !process.access.is_on() {
        return Ok(());
    }
    let hangup = runtime.block_on(async { signal(SignalKind::hangup()) })?;
    let watching = runtime.spawn(watch(Arc::clone(process), Arc::clone(mailboxes), hangup));
    runtime.spawn(async move {
        drop(watching.await);
        // A task that panics is gone without a word, and keys could not be withdrawn any more.
        essential::end("the watch over keys");
    });
    Ok(())
}

async fn watch(process: Arc<Process>, mailboxes: Arc<[Mailbox]>, mut hangup: Signal) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let must_read = tokio::select! {
            _ = looks.tick() => false,
            _ = hangup.recv() => true,
        };
        if process.access.renew(must_read) {
            for mailbox in mailboxes.iter() {
                mailbox.send(Letter::Review);
            }
        }
    }
}
