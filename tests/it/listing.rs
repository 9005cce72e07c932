//! Long lists of topics: whole, however they are read, and in pieces.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::broker::Broker;
use crate::harness::eventually;
use crate::harness::http::{Rest, request_head};
use crate::harness::wire::Wire;

const TOPICS: usize = 3000;

fn name(number: usize) -> String {
    format!("{number:05}{}", "\"".repeat(245))
}

/// A broker with many topics of long names.
async fn full_broker(settings: &[(&str, &str)]) -> Broker {
    let broker = Broker::start(settings);
    let mut rest = Rest::open(&broker).await;
    for numbers in (0..TOPICS).collect::<Vec<_>>().chunks(100) {
        let mut requests = String::new();
        for number in numbers {
            let body = json!({"name": name(*number)}).to_string();
            let length = body.len().to_string();
            requests += &request_head("POST", "/topics", &[("Content-Length", &length)]);
            requests += &body;
        }
        rest.wire.send(requests.as_bytes()).await;
        for _ in numbers {
            assert_eq!(rest.response("a creation").await.status, 201);
        }
    }
    broker
}

fn all_names() -> BTreeSet<String> {
    (0..TOPICS).map(name).collect()
}

fn names_in_topics(body: &Value) -> BTreeSet<String> {
    let topics = body["topics"].as_array().expect("a list");
    assert_eq!(topics.len(), TOPICS);
    let name = |topic: &Value| topic["name"].as_str().map(str::to_owned);
    topics.iter().filter_map(name).collect()
}

#[tokio::test]
async fn a_long_list_is_whole() {
    let broker = full_broker(&[("SHARDS", "3")]).await;
    let mut rest = Rest::open(&broker).await;
    for _ in 0..2 {
        let topics = rest.request("GET", "/topics", &[], "").await;
        assert_eq!(topics.header("transfer-encoding"), Some("chunked"));
        assert_eq!(names_in_topics(&topics.json()), all_names());
        let stats = rest.request("GET", "/stats", &[], "").await.json();
        let topics = stats["topics"].as_object().expect("an object");
        assert_eq!(topics.keys().cloned().collect::<BTreeSet<_>>(), all_names());
        assert_eq!(topics[&name(7)]["messages"], 0);
        assert_eq!(stats["totals"]["messages"], 0);
    }
    let head = rest.request("HEAD", "/topics", &[], "").await;
    assert_eq!(head.status, 200);
    assert_eq!(rest.request("GET", "/health", &[], "").await.status, 200);
}

#[tokio::test]
async fn a_client_of_http_1_0_reads_a_long_list_to_the_end() {
    let broker = full_broker(&[]).await;
    let mut rest = Rest::open(&broker).await;
    rest.wire.send(b"GET /topics HTTP/1.0\r\n\r\n").await;
    let answer = rest.wire.rest("the list").await;
    let answer = String::from_utf8(answer).expect("JSON is UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.0 200") && !head.contains("chunked"));
    let body = serde_json::from_str(body).expect("whole JSON");
    assert_eq!(names_in_topics(&body), all_names());
}

#[tokio::test]
async fn a_short_list_has_its_length() {
    let broker = Broker::start(&[]);
    for path in ["/topics", "/stats"] {
        let empty = broker.get(path).await;
        assert!(empty.header("content-length").is_some());
    }
    broker.create_topic("a \"quoted\" name").await;
    let stats = broker.get("/stats").await;
    assert!(stats.header("content-length").is_some());
    assert_eq!(stats.json()["topics"]["a \"quoted\" name"]["messages"], 0);
}

#[tokio::test]
async fn slow_readers_pin_pieces_and_not_lists() {
    let broker = full_broker(&[]).await;
    let whole = broker.get("/stats").await.body.len() as u64 / 1024;
    let before = broker.resident_kib();
    let mut readers = Vec::new();
    for _ in 0..60 {
        let mut wire = Wire::connect(broker.address(), Some(4096)).await;
        let request = request_head("GET", "/stats", &[]);
        wire.send(request.as_bytes()).await;
        assert!(wire.take_head("the head").await.is_some());
        readers.push(wire);
    }
    let grown = broker.resident_kib().saturating_sub(before) / 60;
    assert!(grown < whole / 3, "{grown} KiB of {whole} for each");
    // And it is all there for one that goes on.
    let mut reader = Rest {
        wire: readers.swap_remove(0),
    };
    let mut body = Vec::new();
    loop {
        let size = reader.wire.take_line("a chunk").await.expect("a size");
        let size = usize::from_str_radix(size.trim(), 16).expect("hexadecimal");
        let chunk = reader.wire.take(size + 2, "a chunk").await;
        body.extend(&chunk.expect("a whole chunk")[..size]);
        if size == 0 {
            break;
        }
    }
    let stats: Value = serde_json::from_slice(&body).expect("whole JSON");
    assert_eq!(
        stats["topics"].as_object().map(serde_json::Map::len),
        Some(TOPICS)
    );
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_let_go() {
    let broker = full_broker(&[("WRITE_TIMEOUT_SEC", "1")]).await;
    let mut wire = Wire::connect(broker.address(), Some(4096)).await;
    let requests = request_head("GET", "/stats", &[]).repeat(8);
    wire.send(requests.as_bytes()).await;
    // The broker's side of the connection ends while nobody reads it.
    eventually("the end", async || {
        let port = wire.stream.local_addr().expect("it is bound").port();
        !has_peer(&broker, port)
    })
    .await;
}

/// Whether the broker holds an open connection to this local port.
fn has_peer(broker: &Broker, port: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux has it");
    let (ours, theirs) = (
        format!(":{:04X}", broker.address().port()),
        format!(":{port:04X}"),
    );
    table.lines().skip(1).any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let local = words.next().is_some_and(|local| local.ends_with(&ours));
        let remote = words.next().is_some_and(|remote| remote.ends_with(&theirs));
        // 01 is an established connection.
        local && remote && words.next() == Some("01")
    })
}
