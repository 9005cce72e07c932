//! What happens to networks: connections that are cut at every byte, reset, stopped, left half open, delayed; thousands
//! of ends at once, and of returns. Each time the broker is then as it was, and neighbours have missed nothing.
//!
//! Beside it: half requests and trickles in `limits.rs` and `hostile.rs`, TLS in `tls_hostile.rs`, descriptors in
//! `admission.rs`, a process that stood still in `hostile.rs`, a full disk in `logs.rs`.

use serde_json::json;

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::descriptors::descriptors_of;
use crate::harness::eventually;

mod crowds;
mod cuts;
mod cuts_tls;
mod delay;
mod shortage;
mod vanished;

/// A neighbour of whoever fails: a publisher and a subscriber that see every message of `calm`, in order.
struct Neighbour {
    publisher: Client,
    subscriber: Client,
    seq: u64,
}

impl Neighbour {
    async fn of(broker: &Broker) -> Self {
        broker.create_topic("calm").await;
        Self {
            publisher: Client::connect(broker).await,
            subscriber: Client::subscribed(broker, "calm").await,
            seq: 0,
        }
    }

    /// One message from one to the other. Heartbeats may come between.
    async fn live(&mut self) {
        self.seq += 1;
        let ack = self.publisher.publish("calm", self.seq).await;
        assert_eq!(
            (&ack["seq"], &ack["matched"]),
            (&json!(self.seq), &json!(1))
        );
        let event = self.subscriber.expect_event("calm").await;
        assert_eq!(event["seq"], self.seq);
    }

    /// Lives until nobody else is left, and nothing that was kept for them: its own two connections, one of them
    /// subscribed, and no more descriptors than before.
    async fn alone(&mut self, broker: &Broker, descriptors: usize) {
        eventually("nobody else is left", async || {
            self.live().await;
            let totals = broker.get("/stats").await.json()["totals"].clone();
            let kinds = &totals["memory"]["kinds"];
            [
                &totals["connections"],
                &totals["subscribers"],
                &totals["queued"],
                &kinds["replies"],
                &kinds["input"],
            ] == [2, 1, 0, 0, 0]
                && descriptors_of(broker) <= descriptors
        })
        .await;
    }
}
