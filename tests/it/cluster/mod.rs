//! Several nodes as one broker, on a real `nats-server`. Where there is none these tests say so and pass.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::harness::broker::Broker;
use crate::harness::client::{Client, publish};
use crate::harness::eventually;
use crate::harness::json::{member, number};
use crate::harness::nats::{self, Nats};

mod credentials;
mod ends;
mod nats_away;
mod refusals;
mod rough;
mod seeded;
mod snapshots;
mod tail;
mod together;

/// A NATS, and the name of a cluster on it.
struct Cluster {
    nats: Nats,
    url: String,
    name: String,
}

impl Cluster {
    /// None where there is no NATS.
    fn new() -> Option<Self> {
        Nats::start().map(Self::on)
    }

    fn on(nats: Nats) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        Self {
            url: nats.url(),
            nats,
            name,
        }
    }

    /// A node that has still to read the log.
    fn start(&self, settings: &[(&str, &str)]) -> Broker {
        let own = [("CLUSTER_URL", &*self.url), ("CLUSTER_NAME", &*self.name)];
        Broker::start(&[&own, settings].concat())
    }

    /// A node that is level with the log.
    async fn node(&self, settings: &[(&str, &str)]) -> Broker {
        let node = self.start(settings);
        ready(&node).await;
        node
    }

    /// Waits until all nodes have carried out what is in the log now.
    async fn level(&self, nodes: &[&Broker]) {
        let nats = self.url.trim_start_matches("nats://");
        let nats = nats.parse().expect("an address without a name");
        for node in nodes {
            nats::level(node.address(), nats, &self.name).await;
        }
    }
}

/// Waits until a node is level with the log.
async fn ready(node: &Broker) {
    eventually("a node that is level with the log", async || {
        node.get("/ready").await.status == 200
    })
    .await;
}

/// What `/stats` says of the cluster.
async fn standing(node: &Broker) -> Value {
    node.get("/stats").await.json()["cluster"].clone()
}

/// All that a node knows of its topics, as text: names, epochs, numbers, and every message that is kept.
async fn state(node: &Broker) -> Vec<String> {
    let topics = node.get("/topics").await.json();
    let topics = topics["topics"].as_array().expect("a list");
    let mut state = Vec::new();
    for topic in topics {
        let name = topic["name"].as_str().expect("a name");
        let kept = node.get(&format!("/topics/{name}/messages")).await;
        assert_eq!(kept.status, 200, "{}", kept.body);
        let created = node.get(&format!("/topics/{name}")).await;
        state.push(format!(
            "{} {}",
            member(&created.body, "created"),
            kept.body
        ));
    }
    state.sort();
    state
}

/// The newest message of a topic on a node, once it is this one.
async fn seen(node: &Broker, topic: &str, seq: u64) {
    eventually("a message on another node", async || {
        let shown = node.get(&format!("/topics/{topic}")).await;
        shown.status == 200 && number(&shown.json(), "seq") >= seq
    })
    .await;
}

/// A publisher that goes on with the next node when it loses one, and repeats what it is not sure of.
struct Publisher {
    client: Option<Client>,
    unavailable: u64,
}

impl Publisher {
    fn new() -> Self {
        Self {
            client: None,
            unavailable: 0,
        }
    }

    /// Publishes once, however often that takes; `nodes` are where to go, the first that takes it.
    async fn publish(&mut self, nodes: &[SocketAddr], topic: &str, payload: u64) -> Value {
        self.publish_value(nodes, topic, payload.into()).await
    }

    /// The same with any payload.
    async fn publish_value(&mut self, nodes: &[SocketAddr], topic: &str, payload: Value) -> Value {
        let text =
            publish(topic, payload).replacen(r#","payload""#, r#","once":true,"payload""#, 1);
        loop {
            for address in nodes {
                if self.client.is_none() {
                    self.client = Client::try_connect(*address).await;
                }
                let Some(client) = &mut self.client else {
                    continue;
                };
                match client.try_ask(&text).await {
                    Some(answer) if answer["type"] == "ack" => return answer,
                    Some(answer) => {
                        assert_eq!(answer["error"]["code"], "UNAVAILABLE", "{answer}");
                        self.unavailable += 1;
                    }
                    None => self.client = None,
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}
