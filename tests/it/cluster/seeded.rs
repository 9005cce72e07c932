//! Whatever is done in whatever order, on nodes that differ in all that may differ: the state is one.

use serde_json::{Value, json};

use super::{Cluster, state};
use crate::harness::broker::Broker;
use crate::harness::http::Rest;
use crate::harness::random::Random;

fn id(number: usize) -> String {
    format!("550e8400-e29b-41d4-a716-{number:012x}")
}

/// Does this and that, many of them at once with the others.
async fn worker(address: std::net::SocketAddr, seed: u64) {
    let mut random = Random(seed);
    let mut rest = Rest::at(address).await;
    for _ in 0..150 {
        let topic = format!("t{}", random.below(4));
        let messages = format!("/topics/{topic}/messages");
        // Few ids, so that many are there already, at the edge of what is kept too.
        let message = |random: &mut Random| json!({"id": id(random.below(30)), "payload": "x".repeat(random.below(1500)), "once": random.below(3) > 0});
        let (method, path, body) = match random.below(20) {
            0 => ("POST", "/topics".to_owned(), json!({"name": topic})),
            1 => ("DELETE", format!("/topics/{topic}"), Value::Null),
            2..5 => {
                let count = 1 + random.below(40);
                let array: Vec<_> = (0..count).map(|_| message(&mut random)).collect();
                ("POST", messages, Value::from(array))
            }
            _ => ("POST", messages, message(&mut random)),
        };
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = rest.request(method, &path, &[], &body).await;
        let is_told = answer.status < 500 || answer.body.contains("UNAVAILABLE");
        assert!(is_told, "{}", answer.body);
    }
}

/// Whether the node that came last began with a snapshot; None where there is no NATS.
async fn try_seed(seed: u64) -> Option<bool> {
    let cluster = Cluster::new()?;
    // What is the same for all.
    let history = (
        "RING_BUFFER_SIZE",
        ["0", "1", "7", "20"][usize::try_from(seed % 4).expect("small")],
    );
    // A snapshot is taken at a quarter of it, and never comes to be so full that the poor node takes one.
    let log = ("CLUSTER_LOG_BYTES_MAX", "8MiB");
    let nodes = [
        cluster
            .node(&[
                history,
                log,
                ("SHARDS", "1"),
                ("SUBSCRIBER_QUEUE_SIZE", "4"),
            ])
            .await,
        cluster
            .node(&[
                history,
                log,
                ("SHARDS", "3"),
                ("RUN_MESSAGES_MAX", "1"),
                ("AUTO_CREATE_TOPICS", "true"),
            ])
            .await,
        cluster
            .node(&[history, log, ("SHARDS", "2"), ("HISTORY_BYTES_MAX", "3000")])
            .await,
    ];
    let workers = nodes.iter().enumerate().flat_map(|(index, node)| {
        let address = node.address();
        (0..4).map(move |worker| (address, seed * 100 + index as u64 * 10 + worker))
    });
    let workers: Vec<_> = workers
        .map(|(address, seed)| tokio::spawn(worker(address, seed)))
        .collect();
    for worker in workers {
        worker.await.expect("no worker fails");
    }
    let [one, other, poor] = &nodes;
    cluster.level(&[one, other, poor]).await;
    let whole = state(one).await;
    assert_eq!(whole, state(other).await, "seed {seed}");
    // It keeps less, but of the same.
    assert_eq!(numbers(one).await, numbers(poor).await, "seed {seed}");
    // And whoever comes later and reads it all has come to the same.
    let later = cluster.node(&[history, log, ("SHARDS", "5")]).await;
    assert_eq!(whole, state(&later).await, "seed {seed}");
    Some(later.log().contains("began with a snapshot"))
}

/// Names, epochs and numbers.
async fn numbers(node: &Broker) -> Vec<String> {
    let mut numbers = Vec::new();
    for name in ["t0", "t1", "t2", "t3"] {
        let of = node.get(&format!("/topics/{name}")).await;
        if of.status == 200 {
            let of = of.json();
            numbers.push(format!(
                "{} {} {} {}",
                of["name"], of["epoch"], of["seq"], of["created"]
            ));
        }
    }
    numbers
}

#[tokio::test]
async fn the_state_of_all_nodes_is_one() {
    let mut snapshots = 0;
    for seed in 0..4 {
        let Some(has_snapshot) = try_seed(seed).await else {
            return;
        };
        snapshots += u32::from(has_snapshot);
    }
    assert!(snapshots > 0, "the log was always read from its beginning");
}
