//! permessage-deflate: what is agreed on, what goes over the wire both ways, and what a hostile client gets out of it.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use serde_json::{Value, json};

use crate::harness::broker::{Broker, UPGRADE_HEADERS};
use crate::harness::client::Client;
use crate::harness::http::request_head;
use crate::harness::raw::{CONTINUATION, FIN, PING, RSV1, RawSocket, TEXT, masked, text};
use crate::harness::wire::Wire;

const OFFER: &str = "permessage-deflate; client_max_window_bits";

/// A client with permessage-deflate, by hand.
struct Deflating {
    raw: RawSocket,
    /// Texts that came deflated, and plain.
    counts: (u64, u64),
}

impl Deflating {
    async fn connect(broker: &Broker, offer: &str) -> (Self, Option<String>) {
        let mut raw = RawSocket {
            wire: Wire::connect(broker.address(), None).await,
        };
        let headers = [&UPGRADE_HEADERS[..], &[("Sec-WebSocket-Extensions", offer)]].concat();
        raw.send(request_head("GET", "/ws", &headers).as_bytes())
            .await;
        let response = raw.upgrade_response().await;
        assert_eq!(response.status, 101);
        let accepted = response
            .header("sec-websocket-extensions")
            .map(str::to_owned);
        (
            Self {
                raw,
                counts: (0, 0),
            },
            accepted,
        )
    }

    async fn agreed(broker: &Broker) -> Self {
        let (client, accepted) = Self::connect(broker, OFFER).await;
        assert_eq!(
            accepted.as_deref(),
            Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover")
        );
        client
    }

    /// The next message, whatever its form.
    async fn recv(&mut self) -> Value {
        loop {
            let head = self.raw.wire.take(2, "a frame").await.expect("no end");
            let length = match head[1] {
                126 => self.raw.wire.take(2, "a length").await.expect("no end"),
                127 => self.raw.wire.take(8, "a length").await.expect("no end"),
                short => vec![short],
            };
            let length = length
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            let payload = self
                .raw
                .wire
                .take(length, "a payload")
                .await
                .expect("no end");
            if head[0] == FIN | PING {
                continue;
            }
            assert!(matches!(head[0] & !RSV1, 0x81), "{:x}", head[0]);
            let payload = if head[0] & RSV1 != 0 {
                self.counts.0 += 1;
                inflate(&payload)
            } else {
                self.counts.1 += 1;
                payload
            };
            return serde_json::from_slice(&payload).expect("JSON");
        }
    }

    async fn send(&mut self, command: &str) {
        self.raw
            .send(&masked(FIN | RSV1 | TEXT, &deflate(command)))
            .await;
    }

    async fn ask(&mut self, command: &str) -> Value {
        self.send(command).await;
        self.recv().await
    }
}

/// Alone, as without context takeover it must be.
fn inflate(payload: &[u8]) -> Vec<u8> {
    let payload = [payload, &[0, 0, 0xff, 0xff]].concat();
    let mut text = Vec::with_capacity(1 << 20);
    let inflated =
        Decompress::new(false).decompress_vec(&payload, &mut text, FlushDecompress::Sync);
    inflated.expect("deflated");
    text
}

fn deflate(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 100);
    let deflated = Compress::new(Compression::best(), false).compress_vec(
        text.as_bytes(),
        &mut out,
        FlushCompress::Sync,
    );
    deflated.expect("room");
    out.truncate(out.len() - 4);
    out
}

fn publish(payload: &str) -> String {
    let id = "550e8400-e29b-41d4-a716-446655440000";
    format!(r#"{{"type":"publish","topic":"t","message":{{"id":"{id}","payload":{payload}}}}}"#)
}

#[tokio::test]
async fn it_is_off_unless_it_is_switched_on() {
    let broker = Broker::start(&[]);
    let (mut client, accepted) = Deflating::connect(&broker, OFFER).await;
    assert_eq!(accepted, None);
    client.send(r#"{"type":"ping"}"#).await;
    assert_eq!(client.raw.expect_close().await, Some(1002));
}

#[tokio::test]
async fn what_the_server_cannot_keep_is_not_agreed_on() {
    let broker = Broker::start(&[("COMPRESSION", "true")]);
    for offer in [
        "permessage-deflate; server_max_window_bits=10",
        "permessage-deflate; no_such_thing",
        "permessage-bzip2",
    ] {
        let (mut client, accepted) = Deflating::connect(&broker, offer).await;
        assert_eq!(accepted, None, "{offer}");
        client.raw.send(&text(r#"{"type":"ping"}"#)).await;
        assert_eq!(client.recv().await["type"], "pong");
    }
    // And nobody gets it who has not asked.
    let mut plain = RawSocket::connect(&broker).await;
    plain
        .send(&masked(FIN | RSV1 | TEXT, &deflate(r#"{"type":"ping"}"#)))
        .await;
    assert_eq!(plain.expect_close().await, Some(1002));
}

#[tokio::test]
async fn events_that_get_smaller_are_deflated_for_those_who_agreed_and_for_nobody_else() {
    let broker = Broker::start(&[("COMPRESSION", "true"), ("COMPRESSION_MIN", "300")]);
    broker.create_topic("t").await;
    let mut deflating = Deflating::agreed(&broker).await;
    let mut plain = Client::subscribed(&broker, "t").await;
    let mut publisher = Client::connect(&broker).await;
    publisher.publish("t", "kept ".repeat(100)).await;
    let subscribe = r#"{"type":"subscribe","topic":"t","last_n":1}"#;
    assert_eq!(deflating.ask(subscribe).await["type"], "ack");
    assert_eq!(deflating.counts, (0, 1), "replies are plain");
    let random: Vec<_> = (0..200_u64)
        .map(|n| format!("{:016x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
        .collect();
    let random = random.concat();
    let payloads = [
        "kept ".repeat(100),
        "again ".repeat(1000),
        "short".to_owned(),
        random,
    ];
    for payload in &payloads[1..] {
        publisher.publish("t", payload.as_str()).await;
    }
    for (seq, payload) in payloads.iter().enumerate() {
        let event = deflating.recv().await;
        assert_eq!(
            (&event["seq"], &event["message"]["payload"]),
            (&(seq + 1).into(), &json!(payload))
        );
        assert_eq!(plain.expect_event("t").await, event);
    }
    // The replay, the long one, and digits, which have half the entropy of their bytes.
    assert_eq!(deflating.counts, (3, 2));
}

#[tokio::test]
async fn several_events_at_once_keep_their_order_and_their_drops() {
    let broker = Broker::start(&[("COMPRESSION", "true"), ("SUBSCRIBER_QUEUE_SIZE", "1000")]);
    broker.create_topic("t").await;
    let mut client = Deflating::agreed(&broker).await;
    client.ask(r#"{"type":"subscribe","topic":"t"}"#).await;
    let mut publisher = Client::connect(&broker).await;
    let payloads: Vec<_> = (0..500).map(|n| "x".repeat(n % 600)).collect();
    publisher
        .publish_all("t", payloads.iter().map(String::as_str), 100)
        .await;
    for (index, payload) in payloads.iter().enumerate() {
        let event = client.recv().await;
        assert_eq!(
            (&event["seq"], &event["message"]["payload"]),
            (&(index + 1).into(), &json!(payload))
        );
    }
    let (deflated, plain) = client.counts;
    assert!(deflated > 200 && plain > 100, "{deflated} {plain}");
}

#[tokio::test]
async fn commands_may_come_deflated_plain_and_in_fragments() {
    let broker = Broker::start(&[("COMPRESSION", "true")]);
    broker.create_topic("t").await;
    let mut client = Deflating::agreed(&broker).await;
    let command = publish(&format!("\"{}\"", "é".repeat(20_000)));
    let ack = client.ask(&command).await;
    assert_eq!((&ack["type"], &ack["seq"]), (&"ack".into(), &1.into()));
    client.raw.send(&text(&publish("2"))).await;
    assert_eq!(client.recv().await["seq"], 2);
    let deflated = deflate(&command);
    let (first, rest) = deflated.split_at(deflated.len() / 2);
    client.raw.send(&masked(RSV1 | TEXT, first)).await;
    client.raw.send(&masked(FIN | PING, b"between")).await;
    client.raw.send(&masked(FIN | CONTINUATION, rest)).await;
    let pong = client.raw.recv_frame().await.expect("a pong");
    assert_eq!(pong.payload, b"between");
    assert_eq!(client.recv().await["seq"], 3);
    // Many in one read.
    let many = masked(FIN | RSV1 | TEXT, &deflate(&publish("4"))).repeat(100);
    client.raw.send(&many).await;
    for seq in 4..104 {
        assert_eq!(client.recv().await["seq"], seq);
    }
}

#[tokio::test]
async fn what_breaks_the_extension_ends_the_connection_with_its_code() {
    let broker = Broker::start(&[("COMPRESSION", "true"), ("MAX_MESSAGE_SIZE", "1024")]);
    let bomb = deflate(&format!("\"{}\"", "0".repeat(10_000_000)));
    assert!(bomb.len() > 1024 && bomb.len() < 20_000);
    let small_bomb = deflate(&"0".repeat(200_000));
    assert!(small_bomb.len() < 1024);
    let fragments = [
        masked(RSV1 | TEXT, b"x"),
        masked(FIN | RSV1 | CONTINUATION, b"x"),
    ]
    .concat();
    for (bytes, code) in [
        (masked(FIN | RSV1 | TEXT, &bomb), 1009),
        (masked(FIN | RSV1 | TEXT, &small_bomb), 1009),
        (masked(FIN | RSV1 | TEXT, b"\xff\xff\xff\xff"), 1007),
        (
            masked(FIN | RSV1 | TEXT, &[0, 1, 0, 0xfe, 0xff, 0xe9]),
            1007,
        ),
        (masked(FIN | RSV1 | PING, b""), 1002),
        (fragments, 1002),
        (masked(FIN | RSV1 | 0x20 | TEXT, b""), 1002),
    ] {
        let mut client = Deflating::agreed(&broker).await;
        client.raw.send(&bytes).await;
        assert_eq!(client.raw.expect_close().await, Some(code), "{bytes:?}");
    }
    // As large as it may be, and one byte more, which deflate cannot make smaller.
    let ping = |bytes: usize| {
        let id: String = (0..bytes - 33)
            .map(|n| char::from(b'0' + u8::try_from(n * n * 7 % 73).expect("small")))
            .filter(|c| !matches!(c, '"' | '\\'))
            .collect();
        let command = format!(r#"{{"type":"ping","request_id":"{id}"}}"#);
        let padding = " ".repeat(bytes - command.len());
        command + &padding
    };
    let mut client = Deflating::agreed(&broker).await;
    assert_eq!(client.ask(&ping(1024)).await["type"], "pong");
    client.send(&ping(1025)).await;
    assert_eq!(client.raw.expect_close().await, Some(1009));
}

#[tokio::test]
async fn bombs_hold_up_nobody_and_take_no_memory() {
    let broker = Broker::start(&[("COMPRESSION", "true"), ("SHARDS", "1")]);
    broker.create_topic("t").await;
    let mut neighbour = Client::connect(&broker).await;
    let mut attacker = Deflating::agreed(&broker).await;
    // 64 KiB each out of 90 bytes: 40 MB of commands in a send of 56 KB.
    let command = format!(r#"{{"type":"ping"{}}}"#, " ".repeat(65_000));
    let bombs = masked(FIN | RSV1 | TEXT, &deflate(&command)).repeat(600);
    assert!(bombs.len() < 80_000, "{}", bombs.len());
    let before = broker.resident_kib();
    attacker.raw.send(&bombs).await;
    let started = std::time::Instant::now();
    for n in 0..20 {
        neighbour.publish("t", n).await;
    }
    let waited = started.elapsed();
    for _ in 0..600 {
        assert_eq!(attacker.recv().await["type"], "pong");
    }
    // A debug build inflates about 100 MB a second: all of them at once would be half a second.
    assert!(waited.as_millis() < 5000, "{waited:?}");
    let grown = broker.resident_kib().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB");
}
