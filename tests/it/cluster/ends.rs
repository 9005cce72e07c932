//! Nodes that end, one or all, and NATS with them: nothing that was acked is missing, and nothing is doubled.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::{Cluster, Publisher, ready, seen, state};
use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::json::number;
use crate::harness::nats::{Nats, free_port};

/// A subscriber that goes on at the next node where it was: the payloads that it got up to `last`.
async fn follow(
    nodes: Vec<std::net::SocketAddr>,
    epoch: serde_json::Value,
    last: tokio::sync::watch::Receiver<Option<u64>>,
) -> Vec<u64> {
    let (mut payloads, mut seq) = (Vec::new(), 0);
    for address in nodes.iter().cycle() {
        let Some(mut client) = Client::try_connect(*address).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let since =
            json!({"type": "subscribe", "topic": "t", "since": {"epoch": epoch, "seq": seq}});
        let Some(ack) = client.try_ask(&since.to_string()).await else {
            continue;
        };
        assert_eq!(ack["recovered"], true, "{ack}");
        loop {
            let wanted = *last.borrow();
            if wanted.is_some_and(|last| seq >= last) {
                return payloads;
            }
            let event = tokio::time::timeout(Duration::from_millis(200), client.try_recv()).await;
            match event {
                Ok(Some(event)) if event["type"] == "event" => {
                    assert_eq!(number(&event, "seq"), seq + 1, "no gap, no repeat: {event}");
                    seq += 1;
                    payloads.push(number(&event["message"], "payload"));
                }
                Ok(Some(_)) | Err(_) => {}
                Ok(None) => break,
            }
        }
    }
    payloads
}

#[tokio::test]
async fn clients_of_a_node_that_is_killed_go_on_at_another() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let room = [
        ("RING_BUFFER_SIZE", "100000"),
        ("SUBSCRIBER_QUEUE_SIZE", "100000"),
    ];
    let (one, other) = (cluster.node(&room).await, cluster.node(&room).await);
    one.create_topic("t").await;
    seen(&other, "t", 0).await;
    let epoch = one.get("/topics/t").await.json()["epoch"].clone();
    let nodes = vec![one.address(), other.address()];
    let (tell, last) = tokio::sync::watch::channel(None);
    let following = tokio::spawn(follow(nodes.clone(), epoch, last));
    let publishers: Vec<_> = (0..4_u64)
        .map(|publisher| {
            let nodes = nodes.clone();
            tokio::spawn(async move {
                let mut of = Publisher::new();
                let until = Instant::now() + Duration::from_secs(2);
                let mut n = 0;
                while Instant::now() < until {
                    of.publish(&nodes, "t", publisher << 32 | n).await;
                    n += 1;
                }
                n
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(700)).await;
    one.signal(Signal::KILL);
    let mut counts = Vec::new();
    for publisher in publishers {
        counts.push(publisher.await.expect("no publisher fails"));
    }
    let total: u64 = counts.iter().sum();
    tell.send(Some(total)).expect("somebody follows");
    let payloads = following.await.expect("the subscriber misses nothing");
    for (publisher, count) in (0..4_u64).zip(counts) {
        let of = payloads
            .iter()
            .filter(|payload| *payload >> 32 == publisher);
        assert!(
            of.map(|payload| payload & 0xffff_ffff).eq(0..count),
            "each message of publisher {publisher} once"
        );
        assert!(count > 10, "{count} messages in two seconds");
    }
}

#[tokio::test]
async fn what_was_acked_outlives_all_nodes_and_nats() {
    let Some(mut cluster) = Cluster::new() else {
        return;
    };
    let room = [("RING_BUFFER_SIZE", "10000")];
    let nodes = [cluster.node(&room).await, cluster.node(&room).await];
    nodes[0].create_topic("t").await;
    nodes[0].create_topic("gone").await;
    nodes[0].delete_topic("gone").await;
    seen(&nodes[1], "t", 0).await;
    let publishers: Vec<_> = nodes
        .iter()
        .map(|node| {
            let address = node.address();
            tokio::spawn(async move {
                let mut acked = Vec::new();
                let mut client = Client::try_connect(address).await.expect("it listens");
                loop {
                    let text = crate::harness::client::publish("t", acked.len() as u64);
                    match client.try_ask(&text).await {
                        Some(ack) if ack["type"] == "ack" => acked.push(number(&ack, "seq")),
                        _ => return acked,
                    }
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.nats.kill();
    for node in &nodes {
        node.signal(Signal::KILL);
    }
    let mut acked = Vec::new();
    for publisher in publishers {
        acked.extend(publisher.await.expect("no publisher fails"));
    }
    drop(nodes);
    cluster.nats.up();
    let (one, other) = (cluster.node(&room).await, cluster.node(&room).await);
    cluster.level(&[&one, &other]).await;
    assert_eq!(state(&one).await, state(&other).await);
    let kept = one.get("/topics/t/messages").await.json();
    let seqs: Vec<_> = kept["messages"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|event| number(event, "seq"))
        .collect();
    assert!(seqs.iter().copied().eq(1..=seqs.len() as u64));
    assert!(acked.len() > 20, "{} acked", acked.len());
    assert!(
        acked.iter().all(|seq| seqs.contains(seq)),
        "acked and missing"
    );
    assert_eq!(one.get("/topics/gone").await.status, 404);
}

#[tokio::test]
async fn a_node_that_slept_catches_up_and_says_so() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let (one, other) = (cluster.node(&[]).await, cluster.node(&[]).await);
    one.create_topic("t").await;
    seen(&other, "t", 0).await;
    let mut subscriber = Client::subscribed(&other, "t").await;
    let mut publisher = Client::connect(&one).await;
    publisher.publish("t", 0).await;
    assert_eq!(subscriber.expect_event("t").await["seq"], 1);
    other.signal(Signal::STOP);
    publisher.publish_all("t", 1..=60, 10).await;
    // Longer than NATS waits for whoever reads.
    tokio::time::sleep(Duration::from_secs(3)).await;
    publisher.publish_all("t", 61..=80, 10).await;
    other.signal(Signal::CONT);
    assert_eq!(
        subscriber.expect_seqs_to("t", 81).await,
        (2..=81).collect::<Vec<_>>()
    );
    ready(&other).await;
    cluster.level(&[&one, &other]).await;
    assert_eq!(state(&one).await, state(&other).await);
}

#[tokio::test]
async fn a_node_that_shuts_down_answers_what_it_has() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let mut node = cluster.node(&[]).await;
    node.create_topic("t").await;
    let mut client = Client::connect(&node).await;
    for n in 0..50_u64 {
        client
            .send_text(&crate::harness::client::publish("t", n))
            .await;
    }
    assert_eq!(client.recv().await["seq"], 1);
    node.signal(Signal::TERM);
    let (code, rest) = client.expect_close().await;
    assert_eq!(code, 1001);
    let acked = rest
        .iter()
        .filter(|message| message["type"] == "ack")
        .count() as u64
        + 1;
    assert_eq!(node.wait_exit(Duration::from_secs(5)).await.0, 0);
    let again = cluster.node(&[]).await;
    assert_eq!(again.get("/topics/t").await.json()["seq"], acked);
}

#[tokio::test]
async fn a_leader_that_goes_costs_nothing() {
    let Some(mut three) = Three::start() else {
        return;
    };
    let settings = [
        ("CLUSTER_REPLICAS", "3"),
        ("CLUSTER_URL", &*three.urls()),
        ("CLUSTER_NAME", "three"),
        ("CLUSTER_TIMEOUT_MS", "3000"),
    ];
    let nodes = [Broker::start(&settings), Broker::start(&settings)];
    for node in &nodes {
        ready_in(node, Duration::from_secs(30)).await;
    }
    nodes[0].create_topic("t").await;
    seen(&nodes[1], "t", 0).await;
    let mut subscriber = Client::subscribed(&nodes[1], "t").await;
    let mut publisher = Publisher::new();
    let addresses = [nodes[0].address()];
    let mut last = 0;
    for round in 0..3 {
        for _ in 0..20 {
            last += 1;
            let ack = publisher.publish(&addresses, "t", last).await;
            assert_eq!(ack["seq"], last);
        }
        three.servers[round].kill();
        for _ in 0..20 {
            last += 1;
            let ack = publisher.publish(&addresses, "t", last).await;
            assert_eq!(ack["seq"], last);
        }
        three.servers[round].up();
        three.whole().await;
    }
    assert_eq!(
        subscriber.expect_seqs_to("t", last).await,
        (1..=last).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_node_waits_for_the_servers_that_its_log_wants() {
    // The third was never there: one that has just gone may still be given a part of the log.
    let mut three = Three::to_come();
    if !(three.add() && three.add()) {
        return;
    }
    let settings = [
        ("CLUSTER_REPLICAS", "3"),
        ("CLUSTER_URL", &*three.urls()),
        ("CLUSTER_NAME", "waits"),
    ];
    let node = Broker::start(&settings);
    eventually("a word of what is missing", async || {
        node.log().contains("cannot be reached yet")
    })
    .await;
    assert!(three.add());
    ready_in(&node, Duration::from_secs(30)).await;
    node.create_topic("t").await;
}

async fn ready_in(node: &Broker, patience: Duration) {
    let until = Instant::now() + patience;
    while node.get("/ready").await.status != 200 {
        assert!(Instant::now() < until, "not ready in {patience:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Three NATS that are one.
struct Three {
    ports: [u16; 3],
    servers: Vec<Nats>,
}

impl Three {
    fn start() -> Option<Self> {
        let mut three = Self::to_come();
        (three.add() && three.add() && three.add()).then_some(three)
    }

    /// None of them is there yet.
    fn to_come() -> Self {
        Self {
            ports: [free_port(), free_port(), free_port()],
            servers: Vec::new(),
        }
    }

    /// Starts the next one; false where there is no NATS on this machine.
    fn add(&mut self) -> bool {
        let route = |port: &u16| format!("nats://127.0.0.1:{port}");
        let routes: Vec<_> = self.ports.iter().map(route).collect();
        let index = self.servers.len();
        let server = Nats::start_with(&[
            "-n",
            &format!("n{index}"),
            "--cluster_name",
            "three",
            "--cluster",
            &routes[index],
            "--routes",
            &routes.join(","),
        ]);
        self.servers.extend(server);
        self.servers.len() > index
    }

    fn urls(&self) -> String {
        let urls: Vec<_> = self.servers.iter().map(Nats::url).collect();
        urls.join(",")
    }

    /// Waits until the one that came back has what the others have.
    async fn whole(&self) {
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}
