//! RFC 6455 to the letter: fragments, control frames, and the close code of each violation.

use serde_json::json;

use crate::harness::broker::Broker;
use crate::harness::json::{padded, publish_text};
use crate::harness::raw::{
    BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, RSV1, RSV2, RSV3, RawSocket, TEXT, close_payload,
    masked, text, unmasked,
};

const PING_COMMAND: &str = r#"{"type":"ping","request_id":"é"}"#;

async fn close_code_after(broker: &Broker, bytes: &[u8]) -> Option<u16> {
    let mut socket = RawSocket::connect(broker).await;
    socket.wire.offer(bytes).await;
    socket.expect_close().await
}

/// A `ping` command padded with white space to this many bytes.
fn ping_of(bytes: usize) -> String {
    padded(r#"{"type":"ping"}"#, bytes)
}

#[tokio::test]
async fn fragments_are_joined() {
    let broker = Broker::start(&[]);
    let mut socket = RawSocket::connect(&broker).await;
    for (first, last) in [(TEXT, "text"), (BINARY, "binary")] {
        socket.send(&masked(first, &[])).await;
        for byte in PING_COMMAND.as_bytes() {
            socket.send(&masked(CONTINUATION, &[*byte])).await;
        }
        socket.send(&masked(FIN | CONTINUATION, &[])).await;
        let pong = socket.recv().await;
        assert_eq!(pong["request_id"], "é", "{last}");
    }
}

#[tokio::test]
async fn a_message_of_exactly_the_limit_is_taken() {
    let broker = Broker::start(&[("MAX_MESSAGE_SIZE", "1024")]);
    let mut socket = RawSocket::connect(&broker).await;
    assert_eq!(socket.ask(&ping_of(1024)).await["type"], "pong");
    let (half, rest) = (ping_of(1024), 512);
    socket.send(&masked(TEXT, &half.as_bytes()[..rest])).await;
    let last = masked(FIN | CONTINUATION, &half.as_bytes()[rest..]);
    socket.send(&last).await;
    assert_eq!(socket.recv().await["type"], "pong");
}

#[tokio::test]
async fn a_message_over_the_limit_closes_with_1009() {
    let broker = Broker::start(&[("MAX_MESSAGE_SIZE", "1024")]);
    let code = close_code_after(&broker, &text(&ping_of(1025))).await;
    assert_eq!(code, Some(1009));
}

#[tokio::test]
async fn the_default_limit_is_64_kib() {
    let broker = Broker::start(&[]);
    let mut socket = RawSocket::connect(&broker).await;
    assert_eq!(socket.ask(&ping_of(65_536)).await["type"], "pong");
    socket.wire.offer(&text(&ping_of(65_537))).await;
    assert_eq!(socket.expect_close().await, Some(1009));
}

#[tokio::test]
async fn the_limit_holds_for_joined_fragments() {
    let broker = Broker::start(&[("MAX_MESSAGE_SIZE", "1024")]);
    let mut bytes = masked(TEXT, &[b' '; 400]);
    bytes.extend(masked(CONTINUATION, &[b' '; 400]));
    bytes.extend(masked(CONTINUATION, &[b' '; 400]));
    assert_eq!(close_code_after(&broker, &bytes).await, Some(1009));
}

#[tokio::test]
async fn a_length_over_the_limit_is_refused_before_its_payload() {
    let broker = Broker::start(&[]);
    let mut header = vec![FIN | TEXT, 0x80 | 127];
    header.extend((1_u64 << 40).to_be_bytes());
    header.extend([0; 4]);
    assert_eq!(close_code_after(&broker, &header).await, Some(1009));
}

#[tokio::test]
async fn a_length_with_its_top_bit_set_ends_the_connection() {
    let broker = Broker::start(&[]);
    let mut header = vec![FIN | TEXT, 0x80 | 127];
    header.extend(u64::MAX.to_be_bytes());
    header.extend([0; 4]);
    let code = close_code_after(&broker, &header).await;
    assert!(matches!(code, Some(1002 | 1009)), "{code:?}");
}

#[tokio::test]
async fn an_unmasked_frame_closes_with_1002() {
    let broker = Broker::start(&[]);
    let bytes = unmasked(FIN | TEXT, PING_COMMAND.as_bytes());
    assert_eq!(close_code_after(&broker, &bytes).await, Some(1002));
}

#[tokio::test]
async fn a_reserved_bit_closes_with_1002() {
    let broker = Broker::start(&[]);
    for bit in [RSV1, RSV2, RSV3] {
        let bytes = masked(FIN | bit | TEXT, PING_COMMAND.as_bytes());
        assert_eq!(
            close_code_after(&broker, &bytes).await,
            Some(1002),
            "{bit:#x}"
        );
    }
}

#[tokio::test]
async fn an_unknown_opcode_closes_with_1002() {
    let broker = Broker::start(&[]);
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        let bytes = masked(FIN | opcode, b"");
        let code = close_code_after(&broker, &bytes).await;
        assert_eq!(code, Some(1002), "{opcode:#x}");
    }
}

#[tokio::test]
async fn a_fragmented_control_frame_closes_with_1002() {
    let broker = Broker::start(&[]);
    for opcode in [PING, PONG, CLOSE] {
        let bytes = masked(opcode, b"");
        let code = close_code_after(&broker, &bytes).await;
        assert_eq!(code, Some(1002), "{opcode:#x}");
    }
}

#[tokio::test]
async fn a_control_frame_over_125_bytes_closes_with_1002() {
    let broker = Broker::start(&[]);
    for opcode in [PING, PONG, CLOSE] {
        let bytes = masked(FIN | opcode, &[b'x'; 126]);
        let code = close_code_after(&broker, &bytes).await;
        assert_eq!(code, Some(1002), "{opcode:#x}");
    }
}

#[tokio::test]
async fn a_continuation_of_nothing_closes_with_1002() {
    let broker = Broker::start(&[]);
    for first in [CONTINUATION, FIN | CONTINUATION] {
        let code = close_code_after(&broker, &masked(first, b"x")).await;
        assert_eq!(code, Some(1002), "{first:#x}");
    }
}

#[tokio::test]
async fn a_new_message_inside_a_fragmented_one_closes_with_1002() {
    let broker = Broker::start(&[]);
    let bytes = [masked(TEXT, b"{"), text(PING_COMMAND)].concat();
    assert_eq!(close_code_after(&broker, &bytes).await, Some(1002));
}

#[tokio::test]
async fn text_that_is_not_utf8_closes_with_1007() {
    let broker = Broker::start(&[]);
    let not_utf8: [&[u8]; 5] = [
        b"\xff",
        b"{\"type\":\"ping\",\"request_id\":\"\xc0\x80\"}",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"{\"type\":\"ping\"}\xe2\x82",
    ];
    for bytes in not_utf8 {
        let code = close_code_after(&broker, &masked(FIN | TEXT, bytes)).await;
        assert_eq!(code, Some(1007), "{bytes:x?}");
    }
}

#[tokio::test]
async fn fragments_that_join_to_no_utf8_close_with_1007() {
    let broker = Broker::start(&[]);
    let bytes = [
        masked(TEXT, b"\xe2"),
        masked(CONTINUATION, b"\x82"),
        masked(FIN | CONTINUATION, b"{"),
    ];
    assert_eq!(close_code_after(&broker, &bytes.concat()).await, Some(1007));
}

#[tokio::test]
async fn a_close_is_answered_with_its_code() {
    let broker = Broker::start(&[]);
    for code in [1000, 1001, 1003, 1008, 1011, 3000, 4999] {
        let bytes = masked(FIN | CLOSE, &close_payload(code, "bye, größe".as_bytes()));
        assert_eq!(close_code_after(&broker, &bytes).await, Some(code));
    }
}

#[tokio::test]
async fn a_close_without_code_is_answered() {
    let broker = Broker::start(&[]);
    let code = close_code_after(&broker, &masked(FIN | CLOSE, b"")).await;
    assert!(matches!(code, None | Some(1000)), "{code:?}");
}

#[tokio::test]
async fn an_illegal_close_is_answered_with_1002() {
    let broker = Broker::start(&[]);
    for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, u16::MAX] {
        let bytes = masked(FIN | CLOSE, &close_payload(code, b""));
        let answer = close_code_after(&broker, &bytes).await;
        assert_eq!(answer, Some(1002), "{code}");
    }
    let half_a_code = masked(FIN | CLOSE, &[3]);
    assert_eq!(close_code_after(&broker, &half_a_code).await, Some(1002));
}

#[tokio::test]
async fn a_close_reason_that_is_not_utf8_is_a_violation() {
    let broker = Broker::start(&[]);
    let bytes = masked(FIN | CLOSE, &close_payload(1000, b"\xff\xfe"));
    let code = close_code_after(&broker, &bytes).await;
    assert!(matches!(code, Some(1002 | 1007)), "{code:?}");
}

#[tokio::test]
async fn commands_before_a_close_are_answered_before_it() {
    let broker = Broker::start(&[]);
    let mut socket = RawSocket::connect(&broker).await;
    let close = masked(FIN | CLOSE, &close_payload(1000, b""));
    socket.send(&[text(PING_COMMAND), close].concat()).await;
    assert_eq!(socket.recv().await["type"], "pong");
    assert_eq!(socket.expect_close().await, Some(1000));
}

#[tokio::test]
async fn commands_behind_a_close_are_not_carried_out() {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    let mut socket = RawSocket::connect(&broker).await;
    let publish = publish_text("orders", "1");
    let close = masked(FIN | CLOSE, &close_payload(1000, b""));
    socket.wire.offer(&[close, text(&publish)].concat()).await;
    assert_eq!(socket.expect_close().await, Some(1000));
    let stats = broker.get("/stats").await.json();
    assert_eq!(stats["topics"]["orders"]["messages"], 0);
}

#[tokio::test]
async fn a_ping_is_answered_with_its_payload() {
    let broker = Broker::start(&[]);
    let mut socket = RawSocket::connect(&broker).await;
    for payload in [&b""[..], b"x", &[0xFF; 125]] {
        socket.send(&masked(FIN | PING, payload)).await;
        let pong = socket.recv_frame().await.expect("a pong");
        assert_eq!((pong.opcode, pong.payload.as_slice()), (PONG, payload));
    }
}

#[tokio::test]
async fn a_ping_inside_a_fragmented_message_is_answered_at_once() {
    let broker = Broker::start(&[]);
    let mut socket = RawSocket::connect(&broker).await;
    let (head, tail) = PING_COMMAND.as_bytes().split_at(10);
    socket.send(&masked(TEXT, head)).await;
    socket.send(&masked(FIN | PING, b"between")).await;
    let pong = socket.recv_frame().await.expect("a pong");
    assert_eq!(
        (pong.opcode, pong.payload.as_slice()),
        (PONG, &b"between"[..])
    );
    socket.send(&masked(FIN | CONTINUATION, tail)).await;
    assert_eq!(socket.recv().await["request_id"], "é");
}

#[tokio::test]
async fn a_close_inside_a_fragmented_message_is_answered() {
    let broker = Broker::start(&[]);
    let close = masked(FIN | CLOSE, &close_payload(1000, b""));
    let bytes = [masked(TEXT, b"{"), close].concat();
    assert_eq!(close_code_after(&broker, &bytes).await, Some(1000));
}

#[tokio::test]
async fn a_pong_that_nobody_asked_for_is_ignored() {
    let broker = Broker::start(&[]);
    let mut socket = RawSocket::connect(&broker).await;
    socket.send(&masked(FIN | PONG, b"hello")).await;
    let pong = socket.ask(&json!({"type": "ping"}).to_string()).await;
    assert_eq!(pong["type"], "pong");
}

#[tokio::test]
async fn a_violation_by_one_connection_touches_no_other() {
    let broker = Broker::start(&[]);
    let mut bystander = RawSocket::connect(&broker).await;
    close_code_after(&broker, &masked(FIN | 0xF, b"")).await;
    assert_eq!(bystander.ask(PING_COMMAND).await["type"], "pong");
}

#[tokio::test]
async fn garbage_ends_its_own_connection_at_most() {
    let broker = Broker::start(&[("MAX_MESSAGE_SIZE", "1024")]);
    let mut bystander = RawSocket::connect(&broker).await;
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..200 {
        let mut socket = RawSocket::connect(&broker).await;
        let noise = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        });
        socket
            .wire
            .offer(&noise.take(300).collect::<Vec<_>>())
            .await;
    }
    assert_eq!(bystander.ask(PING_COMMAND).await["type"], "pong");
}
