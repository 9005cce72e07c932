//! Every broker as a cluster: of one node, or of two of which whoever connects comes to the other one in turn.
//!
//! Nodes do not wait for each other: what was acked on one is known to the other a moment later. So that a test goes as
//! with one broker, what its clients send to a node waits until that node has carried out all that the log has.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::harness::nats;

/// A variable of the test process: the NATS on which every broker is a cluster of its own.
const CLUSTER_OF_ALL: &str = "SHARDCAST_TEST_CLUSTER_URL";

/// Another: beside the one above it gives each such cluster two nodes.
const NODES_OF_ALL: &str = "SHARDCAST_TEST_CLUSTER_NODES";

/// The nodes that are one of two, each with its NATS and the name of its cluster.
static NODES: Mutex<BTreeMap<SocketAddr, (SocketAddr, String)>> = Mutex::new(BTreeMap::new());

#[expect(
    clippy::disallowed_methods,
    reason = "the rule is for the broker; what holds for one node holds for one that goes by a log"
)]
pub(crate) fn cluster_of_all() -> Vec<(&'static str, OsString)> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let Some(url) = std::env::var_os(CLUSTER_OF_ALL) else {
        return Vec::new();
    };
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}-{number}", std::process::id());
    vec![
        ("CLUSTER_URL", url),
        ("CLUSTER_NAME", name.into()),
        ("CLUSTER_LOG_BYTES_MAX", "8MiB".into()),
    ]
}

/// The name of a cluster of two, where all are to be such.
#[expect(clippy::disallowed_methods, reason = "as above")]
pub(crate) fn name() -> Option<String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    std::env::var_os(NODES_OF_ALL)?;
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    Some(format!("pair-{}-{number}", std::process::id()))
}

/// These are the nodes of the cluster of two with this name.
#[expect(clippy::disallowed_methods, reason = "as above")]
pub(crate) fn register(name: &str, nodes: [SocketAddr; 2]) {
    let url = std::env::var(CLUSTER_OF_ALL).expect("two nodes have a NATS");
    let nats = url.trim_start_matches("nats://").parse();
    let nats = nats.expect("an address without a name");
    let mut known = NODES.lock().expect("nobody panics with it");
    for node in nodes {
        known.insert(node, (nats, name.to_owned()));
    }
}

/// Waits until a node has carried out all that the log has, if it is one of two.
pub(crate) async fn level(node: SocketAddr) {
    if let Some((nats, cluster)) = of_pair(node) {
        nats::level(node, nats, &cluster).await;
    }
}

fn of_pair(node: SocketAddr) -> Option<(SocketAddr, String)> {
    let known = NODES.lock().expect("nobody panics with it");
    known.get(&node).cloned()
}
