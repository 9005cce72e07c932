//! A way to NATS that delays, holds back and cuts at random: entries are appended late, and again, and confirmed
//! never. What was acked is there once, and all nodes come to one state.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::{Cluster, standing, state};
use crate::harness::broker::Broker;
use crate::harness::http::Rest;
use crate::harness::json::{message_id, number};
use crate::harness::random::Random;

const WORKERS: u64 = 10;
const MESSAGES: u64 = 12;
const TOPICS: usize = 3;

/// Each node appends for so long, and sends an append again after half a second.
const TIMEOUT_MS: &str = "1500";

/// Longer than any of this takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A way to a server that is rough until it is told otherwise.
struct Rough {
    port: u16,
    is_calm: Arc<AtomicBool>,
}

impl Rough {
    async fn to(server: String, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let rough = Self {
            port: listener.local_addr().expect("it is bound").port(),
            is_calm: Arc::default(),
        };
        let is_calm = Arc::clone(&rough.is_calm);
        tokio::spawn(async move {
            let mut random = Random(seed);
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&server).await else {
                    continue;
                };
                let life = Duration::from_millis(300 + random.below(1500) as u64);
                let seeds = [random.below(1 << 20), random.below(1 << 20)];
                tokio::spawn(pass(near, far, life, seeds, Arc::clone(&is_calm)));
            }
        });
        rough
    }
}

/// One connection, which is cut when its life is over.
async fn pass(
    near: TcpStream,
    far: TcpStream,
    life: Duration,
    seeds: [usize; 2],
    is_calm: Arc<AtomicBool>,
) {
    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
    let end = async {
        sleep(life).await;
        while is_calm.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = carry(from_near, to_far, seeds[0], &is_calm) => {}
        () = carry(from_far, to_near, seeds[1], &is_calm) => {}
        () = end => {}
    }
}

/// One direction: most of it at once, some of it late, and some so late that nobody waits for it any more.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, seed: usize, is_calm: &AtomicBool) {
    let mut random = Random(seed as u64);
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if !is_calm.load(Ordering::Relaxed) {
            let late = match random.below(20) {
                0 => 700,
                1..5 => random.below(30) as u64,
                _ => 0,
            };
            sleep(Duration::from_millis(late)).await;
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

/// Publishes under ids of its own until each is acked, now on this node and now on that one. Topic, id and number
/// of each.
async fn worker(nodes: Vec<SocketAddr>, seed: u64) -> Vec<(String, String, u64)> {
    let (mut random, mut acked) = (Random(seed), Vec::new());
    let mut rests = Vec::new();
    for node in &nodes {
        rests.push(Rest::at(*node).await);
    }
    for _ in 0..MESSAGES {
        let topic = format!("t{}", random.below(TOPICS));
        let id = message_id();
        let body = json!({"id": id, "payload": "x".repeat(random.below(500)), "once": true});
        let (path, body) = (format!("/topics/{topic}/messages"), body.to_string());
        let seq = loop {
            let rest = &mut rests[random.below(nodes.len())];
            let answer = rest.request("POST", &path, &[], &body).await;
            match answer.status {
                200 => break number(&answer.json(), "seq"),
                503 => assert!(answer.body.contains("UNAVAILABLE"), "{}", answer.body),
                _ => panic!("{}", answer.body),
            }
        };
        acked.push((topic, id, seq));
    }
    acked
}

/// How many entries were appended again; None where there is no NATS.
async fn try_seed(seed: u64) -> Option<u64> {
    let cluster = Cluster::new()?;
    let server = cluster.url.trim_start_matches("nats://").to_owned();
    let (mut ways, mut nodes) = (Vec::new(), Vec::new());
    for way in 0..2 {
        let way = Rough::to(server.clone(), seed * 10 + way).await;
        // The nodes come to the log over a calm way: it is what happens to them there that is looked at.
        way.is_calm.store(true, Ordering::Relaxed);
        let url = format!("nats://127.0.0.1:{}", way.port);
        let settings = [
            ("CLUSTER_URL", &*url),
            ("CLUSTER_TIMEOUT_MS", TIMEOUT_MS),
            ("RING_BUFFER_SIZE", "10000"),
            ("SHARDS", "2"),
        ];
        nodes.push(cluster.node(&settings).await);
        ways.push(way);
    }
    for topic in 0..TOPICS {
        nodes[0].create_topic(&format!("t{topic}")).await;
    }
    cluster.level(&[&nodes[0], &nodes[1]]).await;
    for way in &ways {
        way.is_calm.store(false, Ordering::Relaxed);
    }
    let addresses: Vec<_> = nodes.iter().map(Broker::address).collect();
    let workers = (0..WORKERS).map(|of| tokio::spawn(worker(addresses.clone(), seed * 100 + of)));
    let workers: Vec<_> = workers.collect();
    let mut acked = BTreeMap::new();
    for worker in workers {
        let done = timeout(PATIENCE, worker).await;
        let done = done.unwrap_or_else(|_| panic!("seed {seed}: no end in {PATIENCE:?}"));
        for (topic, id, seq) in done.expect("no worker fails") {
            let before = acked.insert((topic, seq), id);
            assert_eq!(before, None, "seed {seed}: two messages have one number");
        }
    }
    for way in &ways {
        way.is_calm.store(true, Ordering::Relaxed);
    }
    cluster.level(&[&nodes[0], &nodes[1]]).await;
    let whole = state(&nodes[0]).await;
    assert_eq!(whole, state(&nodes[1]).await, "seed {seed}");
    let mut kept = BTreeMap::new();
    for topic in 0..TOPICS {
        let topic = format!("t{topic}");
        let path = format!("/topics/{topic}/messages");
        let messages = nodes[0].get(&path).await.json()["messages"].clone();
        for message in messages.as_array().expect("a list") {
            let id = message["message"]["id"].as_str().expect("an id").to_owned();
            kept.insert((topic.clone(), number(message, "seq")), id);
        }
    }
    assert_eq!(kept, acked, "seed {seed}");
    let mut again = 0;
    for node in &nodes {
        again += number(&standing(node).await["appends"], "retried");
    }
    Some(again)
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_rough_way_what_was_acked_is_there_once_and_everywhere() {
    let mut again = 0;
    for seed in 0..2 {
        match try_seed(seed).await {
            None => return,
            Some(more) => again += more,
        }
    }
    assert!(again > 0, "nothing was appended again");
}
