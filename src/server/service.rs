//! What a service manager is told, by systemd's `sd_notify`: that the broker is ready, that it
//! drains, and that its cores live. Nothing where there is none.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::core::mailbox::{Letter, Mailbox};

/// Clients can come. `status` is for who looks.
pub(super) fn is_ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// It drains.
pub(super) fn is_stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Says that the process lives (`WATCHDOG=1`) for as long as every core answers, twice in the time
/// that the manager gives it. A core that hangs is what the manager restarts the process for.
pub(super) async fn watch(mailboxes: Arc<[Mailbox]>) {
    let Some(period) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut looks = interval((period / 2).max(Duration::from_millis(1)));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let answers: Vec<_> = mailboxes.iter().map(|to| to.ask(Letter::Ping)).collect();
        for (core, mut answer) in answers.into_iter().enumerate() {
            while timeout(period, &mut answer).await.is_err() {
                tracing::error!(core, "does not answer; the service manager is told nothing");
            }
        }
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told (NOTIFY_SOCKET)");
    }
}
