//! RFC 6455 as the Autobahn test suite asks for it: its sections 1 to 7, as far as a server can be asked.
//!
//! Autobahn expects echoes. Here a client hears what it says by publishing to a topic that it is subscribed to; where
//! it says no JSON it is told so, and shows by a `ping` that the connection lives on.

use serde_json::json;

use crate::harness::broker::Broker;
use crate::harness::eventually;
use crate::harness::json::number;
use crate::harness::json::{member, message_id, padded, publish_text};
use crate::harness::raw::{
    BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, RawSocket, TEXT, masked, text,
};

/// Longer than every message here.
fn broker() -> Broker {
    Broker::start(&[("MAX_MESSAGE_SIZE", "300000"), ("HEARTBEAT_INFO", "false")])
}

/// A client that hears what it publishes.
async fn echoing(broker: &Broker) -> RawSocket {
    broker.post_topic("echo").await;
    let mut socket = RawSocket::connect(broker).await;
    let ack = socket.ask(r#"{"type":"subscribe","topic":"echo"}"#).await;
    assert_eq!(ack["type"], "ack");
    socket
}

/// Its own event, and the ack behind it.
async fn expect_echo(socket: &mut RawSocket, payload: &str) {
    let event = socket.recv_raw().await;
    assert_eq!(member(&member(&event, "message"), "payload"), payload);
    assert_eq!(socket.recv().await["type"], "ack");
}

/// Shows that the connection is as it should be.
async fn assert_alive(socket: &mut RawSocket) {
    let id = message_id();
    let pong = socket
        .ask(&json!({"type": "ping", "request_id": id}).to_string())
        .await;
    assert_eq!(pong["request_id"], id.as_str(), "{pong}");
}

async fn expect_pong(socket: &mut RawSocket, payload: &[u8]) {
    let frame = socket.recv_frame().await.expect("a pong");
    assert_eq!((frame.opcode, frame.fin), (PONG, true));
    assert_eq!(frame.payload, payload);
}

/// Sends bytes so many at a time.
async fn send_chopped(socket: &mut RawSocket, bytes: &[u8], piece_bytes: usize) {
    for piece in bytes.chunks(piece_bytes) {
        socket.wire.offer(piece).await;
    }
}

/// The close code that these bytes lead to, in one write and byte by byte, behind a message that is answered.
async fn assert_violation(broker: &Broker, bytes: &[u8], code: u16) {
    for piece_bytes in [bytes.len(), 1] {
        let mut socket = RawSocket::connect(broker).await;
        assert_alive(&mut socket).await;
        send_chopped(&mut socket, bytes, piece_bytes).await;
        assert_eq!(socket.expect_close().await, Some(code), "{bytes:x?}");
    }
}

#[tokio::test]
async fn messages_of_every_length_of_length_are_echoed() {
    let broker = broker();
    let mut socket = echoing(&broker).await;
    let shortest = publish_text("echo", "1").len();
    for length in [0, 125, 126, 127, 128, 65_535, 65_536, 131_072] {
        for first in [TEXT, BINARY] {
            // By the payload, and by the whole message where that is long enough for one.
            let payload = format!("\"{}\"", "*".repeat(length));
            let message = publish_text("echo", &payload);
            socket.send(&masked(FIN | first, message.as_bytes())).await;
            expect_echo(&mut socket, &payload).await;
            if length >= shortest {
                let message = padded(&publish_text("echo", "1"), length);
                socket.send(&masked(FIN | first, message.as_bytes())).await;
                expect_echo(&mut socket, "1").await;
            } else {
                let message = padded(r"", length);
                socket.send(&masked(FIN | first, message.as_bytes())).await;
                assert_eq!(socket.recv().await["error"]["code"], "BAD_REQUEST");
            }
        }
    }
}

#[tokio::test]
async fn messages_in_chops_of_every_size_are_echoed() {
    let broker = broker();
    let mut socket = echoing(&broker).await;
    for (length, piece_bytes) in [(300, 1), (5000, 7), (65_536, 997), (65_536, 4097)] {
        let payload = format!("\"{}\"", "*".repeat(length));
        let message = text(&publish_text("echo", &payload));
        send_chopped(&mut socket, &message, piece_bytes).await;
        expect_echo(&mut socket, &payload).await;
    }
}

#[tokio::test]
async fn pings_are_answered_with_what_they_carry() {
    let broker = broker();
    let mut socket = RawSocket::connect(&broker).await;
    let payloads = [
        &b""[..],
        b"Hello, world!",
        b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff",
        &[0xfe; 125],
    ];
    for payload in payloads {
        for piece_bytes in [200, 1] {
            let ping = masked(FIN | PING, payload);
            send_chopped(&mut socket, &ping, piece_bytes).await;
            expect_pong(&mut socket, payload).await;
        }
    }
    assert_violation(&broker, &masked(FIN | PING, &[0xfe; 126]), 1002).await;
}

#[tokio::test]
async fn unasked_pongs_are_ignored_and_the_ping_behind_them_is_answered() {
    let broker = broker();
    let mut socket = RawSocket::connect(&broker).await;
    for payload in [&b""[..], b"unsolicited pong payload"] {
        let unasked = masked(FIN | PONG, payload);
        let ping = masked(FIN | PING, b"ping payload");
        socket.send(&[unasked, ping].concat()).await;
        expect_pong(&mut socket, b"ping payload").await;
    }
}

#[tokio::test]
async fn ten_pings_at_once_are_answered_in_their_order() {
    let broker = broker();
    let mut socket = RawSocket::connect(&broker).await;
    let payload = |number: u8| format!("payload-{number}").into_bytes();
    let pings: Vec<_> = (0..10)
        .flat_map(|number| masked(FIN | PING, &payload(number)))
        .collect();
    for piece_bytes in [pings.len(), 1] {
        send_chopped(&mut socket, &pings, piece_bytes).await;
        for number in 0..10 {
            expect_pong(&mut socket, &payload(number)).await;
        }
    }
}

#[tokio::test]
async fn reserved_bits_are_a_violation_in_every_frame() {
    let broker = broker();
    for bits in 1..=7_u8 {
        for (opcode, payload) in [
            (TEXT, &b""[..]),
            (TEXT, b"Hello, world!"),
            (BINARY, &[0xff; 8]),
            (PING, b"ping"),
            (PONG, b""),
            (CLOSE, &[3, 232]),
        ] {
            let bytes = masked(FIN | bits << 4 | opcode, payload);
            assert_violation(&broker, &bytes, 1002).await;
        }
    }
}

#[tokio::test]
async fn reserved_opcodes_are_a_violation_with_and_without_payload() {
    let broker = broker();
    for opcode in (3..=7).chain(11..=15) {
        for payload in [&b""[..], b"reserved opcode payload"] {
            assert_violation(&broker, &masked(FIN | opcode, payload), 1002).await;
        }
    }
}

#[tokio::test]
async fn what_comes_in_front_of_a_violation_is_carried_out_and_nothing_behind_it_is() {
    let broker = broker();
    broker.create_topic("front").await;
    let violations = [masked(FIN | 3, b"x"), masked(FIN | 0x40 | PING, b"")];
    for (violation, count) in violations.into_iter().zip(1..) {
        let mut socket = RawSocket::connect(&broker).await;
        let command = text(r#"{"type":"ping"}"#);
        let publish = text(&publish_text("front", "1"));
        let bytes = [&command, &publish, &violation, &publish, &command];
        socket.wire.offer(&bytes.map(Vec::as_slice).concat()).await;
        assert_eq!(socket.recv().await["type"], "pong");
        assert_eq!(socket.expect_close().await, Some(1002));
        // The shard may be on another core than the close.
        eventually("what came in front to be accepted", async || {
            let stats = broker.get("/stats").await.json();
            let accepted = number(&stats["topics"]["front"], "messages");
            assert!(accepted <= count, "nothing behind it is");
            accepted == count
        })
        .await;
    }
}

#[tokio::test]
async fn fragmented_control_frames_are_a_violation() {
    let broker = broker();
    for opcode in [PING, PONG, CLOSE] {
        let bytes = [masked(opcode, b"fr"), masked(FIN | CONTINUATION, b"ag")].concat();
        assert_violation(&broker, &bytes, 1002).await;
    }
}

/// A message in at most so many fragments of equal length, with something between any two.
fn fragmented(message: &str, fragments: usize, between: &[u8]) -> Vec<u8> {
    let bytes = message.as_bytes();
    let pieces: Vec<_> = bytes.chunks(bytes.len().div_ceil(fragments)).collect();
    let mut frames = Vec::new();
    for (place, piece) in pieces.iter().enumerate() {
        let first = if place == 0 { TEXT } else { CONTINUATION };
        let fin = if place + 1 == pieces.len() { FIN } else { 0 };
        frames.extend(masked(fin | first, piece));
        if fin == 0 {
            frames.extend(between);
        }
    }
    frames
}

#[tokio::test]
async fn fragments_are_joined_with_pings_between_them_in_chops_of_any_size() {
    let broker = broker();
    let mut socket = echoing(&broker).await;
    let ping = masked(FIN | PING, b"between");
    let message = publish_text("echo", r#""fragment κόσμε""#);
    for fragments in [2, 3, 5, 20] {
        for between in [&[][..], &ping, &masked(FIN | PONG, b"")] {
            let bytes = fragmented(&message, fragments, between);
            for piece_bytes in [bytes.len(), 11, 1] {
                send_chopped(&mut socket, &bytes, piece_bytes).await;
                if between == ping {
                    let piece_bytes = message.len().div_ceil(fragments);
                    for _ in 1..message.len().div_ceil(piece_bytes) {
                        expect_pong(&mut socket, b"between").await;
                    }
                }
                expect_echo(&mut socket, r#""fragment κόσμε""#).await;
            }
        }
    }
}

#[tokio::test]
async fn empty_fragments_count_for_nothing() {
    let broker = broker();
    let mut socket = echoing(&broker).await;
    let message = publish_text("echo", "1");
    let (empty, full) = (masked(CONTINUATION, b""), message.as_bytes());
    for frames in [
        [
            masked(TEXT, b""),
            empty.clone(),
            masked(FIN | CONTINUATION, full),
        ],
        [
            masked(TEXT, full),
            empty.clone(),
            masked(FIN | CONTINUATION, b""),
        ],
        [
            masked(BINARY, b""),
            masked(CONTINUATION, full),
            masked(FIN | CONTINUATION, b""),
        ],
    ] {
        socket.send(&frames.concat()).await;
        expect_echo(&mut socket, "1").await;
    }
    let nothing = [masked(TEXT, b""), empty, masked(FIN | CONTINUATION, b"")];
    socket.send(&nothing.concat()).await;
    assert_eq!(socket.recv().await["error"]["code"], "BAD_REQUEST");
    assert_alive(&mut socket).await;
}

#[tokio::test]
async fn a_continuation_needs_something_to_continue() {
    let broker = broker();
    let whole = text(r#"{"type":"ping"}"#);
    for first in [FIN | CONTINUATION, CONTINUATION] {
        let stray = masked(first, b"non-continuation payload");
        assert_violation(&broker, &stray, 1002).await;
        // Behind a whole message, and behind a fragmented one that has ended.
        let mut socket = RawSocket::connect(&broker).await;
        socket
            .wire
            .offer(&[whole.clone(), stray.clone()].concat())
            .await;
        assert_eq!(socket.recv().await["type"], "pong");
        assert_eq!(socket.expect_close().await, Some(1002));
        let ended = fragmented(r#"{"type":"ping"}"#, 3, b"");
        let mut socket = RawSocket::connect(&broker).await;
        socket.wire.offer(&[ended, stray].concat()).await;
        assert_eq!(socket.recv().await["type"], "pong");
        assert_eq!(socket.expect_close().await, Some(1002));
    }
}

#[tokio::test]
async fn a_message_may_not_begin_inside_another() {
    let broker = broker();
    for (outer, inner) in [(TEXT, TEXT), (TEXT, BINARY), (BINARY, TEXT)] {
        for fin in [0, FIN] {
            let bytes = [
                masked(outer, b"fragment1"),
                masked(fin | inner, b"fragment2"),
            ];
            assert_violation(&broker, &bytes.concat(), 1002).await;
        }
    }
}
