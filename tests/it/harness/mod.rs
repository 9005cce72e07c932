//! What every test stands on: the real binary as a child process, and clients that share no code with it.
//!
//! Nothing here sleeps to let something happen. A test waits for an answer, or asks again until it is the right one;
//! both give up after [`PATIENCE`] and say what they waited for.

pub(crate) mod broker;
pub(crate) mod client;
pub(crate) mod descriptors;
pub(crate) mod hs256;
pub(crate) mod http;
pub(crate) mod json;
pub(crate) mod keys;
pub(crate) mod nats;
pub(crate) mod pair;
pub(crate) mod random;
pub(crate) mod raw;
pub(crate) mod sse;
pub(crate) mod tls;
pub(crate) mod wire;

use std::future::Future;
use std::time::Duration;

/// How long anything may take that should happen at once. Generous: machines that run tests are busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The answer of `future`, or a panic that names what did not come.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}

/// Asks again until `condition` holds, for what the broker does on its own time and announces to nobody.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    within(what, async {
        while !condition().await {
            pace.tick().await;
        }
    })
    .await;
}
