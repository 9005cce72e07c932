//! A real `nats-server`: the same as that of the tests of the log; and what it has stored, asked without any code of the
//! broker's.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::harness::json::{message_id, number};
use crate::harness::wire::Wire;
use crate::harness::within;

#[path = "../../../crates/cluster/tests/nats/mod.rs"]
mod server;

pub(crate) use server::{Nats, free_port};

/// The last entry of the log of a cluster: what was acked anywhere is at most this.
pub(crate) async fn last_entry(nats: SocketAddr, cluster: &str) -> u64 {
    let mut wire = Wire::connect(nats, None).await;
    // Answers go to whoever listens under the name: no two ask under one.
    let inbox = format!("_INBOX.{}", message_id());
    let stream = format!("$JS.API.STREAM.INFO.SHARDCAST_{cluster}");
    let asked =
        format!("CONNECT {{\"verbose\":false}}\r\nSUB {inbox} 1\r\nPUB {stream} {inbox} 0\r\n\r\n");
    wire.write(asked.as_bytes()).await;
    loop {
        let line = wire.take_line("what NATS says").await;
        let line = line.expect("NATS stays");
        let Some(of) = line.trim_end().strip_prefix("MSG ") else {
            continue;
        };
        let bytes = of.rsplit(' ').next().and_then(|bytes| bytes.parse().ok());
        let answer = wire
            .take(bytes.expect("a length"), "an answer of NATS")
            .await;
        let answer: Value = serde_json::from_slice(&answer.expect("all of it")).expect("JSON");
        return number(&answer["state"], "last_seq");
    }
}

/// Waits until a node has carried out all that the log has now.
pub(crate) async fn level(node: SocketAddr, nats: SocketAddr, cluster: &str) {
    let last = last_entry(nats, cluster).await;
    let mut pace = tokio::time::interval(Duration::from_millis(2));
    within("a node that has carried out the log", async {
        while applied(node).await < last {
            pace.tick().await;
        }
    })
    .await;
}

/// The last entry that a node has carried out. Its figures are open to all, where its keys are not known here.
async fn applied(node: SocketAddr) -> u64 {
    let mut wire = Wire::connect(node, None).await;
    wire.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await;
    let text = String::from_utf8(wire.rest("the figures").await).expect("they are text");
    let figure = text
        .lines()
        .find_map(|line| line.strip_prefix("shardcast_cluster_applied_entry "));
    let figure = figure.and_then(|figure| figure.trim().parse().ok());
    figure.unwrap_or_else(|| panic!("no figure of the log: {text}"))
}
