//! RFC 6455 as the Autobahn test suite asks for it, sections 6 and 7: UTF-8 however it is cut, and how connections close.

use serde_json::json;

use crate::harness::broker::Broker;
use crate::harness::json::{member, publish_text};
use crate::harness::raw::{
    BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, RawSocket, TEXT, close_payload, masked, text,
};

/// Code points at the edges of what UTF-8 can say, noncharacters among them.
const EDGES: [u32; 34] = [
    0x0, 0x7f, 0x80, 0x7ff, 0x800, 0xfff, 0x1000, 0xcfff, 0xd000, 0xd7ff, 0xe000, 0xfdd0, 0xfdef,
    0xfffd, 0xfffe, 0xffff, 0x1_0000, 0x1_fffe, 0x1_ffff, 0x2_fffe, 0x2_ffff, 0x3_ffff, 0x4_0000,
    0x7_ffff, 0x8_0000, 0xb_ffff, 0xc_0000, 0xf_0000, 0xf_fffe, 0xf_ffff, 0x10_0000, 0x10_fffd,
    0x10_fffe, 0x10_ffff,
];

/// Bytes that are no UTF-8: alone, cut, overlong, surrogates, and beyond what there is.
const NO_TEXT: [&[u8]; 44] = [
    b"\x80",
    b"\xbf",
    b"\x80\xbf",
    b"\x80\xbf\x80\xbf\x80\xbf",
    b"\xc0",
    b"\xc2",
    b"\xdf",
    b"\xe0",
    b"\xef",
    b"\xf0",
    b"\xf4",
    b"\xf5",
    b"\xf7",
    b"\xf8",
    b"\xfb",
    b"\xfc",
    b"\xfd",
    b"\xfe",
    b"\xff",
    b"\xfe\xfe\xff\xff",
    b"\xe0\xa0",
    b"\xef\xbf",
    b"\xf0\x90\x80",
    b"\xf4\x8f\xbf",
    b"\xc2\x20\x80",
    b"\xe1\x80\x20",
    b"\xf1\x80\x80\x20",
    b"\xc0\xaf",
    b"\xc1\xbf",
    b"\xc0\x80",
    b"\xe0\x80\xaf",
    b"\xe0\x9f\xbf",
    b"\xf0\x80\x80\xaf",
    b"\xf0\x8f\xbf\xbf",
    b"\xf8\x88\x80\x80\x80",
    b"\xfc\x84\x80\x80\x80\x80",
    b"\xed\xa0\x80",
    b"\xed\xad\xbf",
    b"\xed\xae\x80",
    b"\xed\xbf\xbf",
    b"\xed\xa0\x80\xed\xb0\x80",
    b"\xed\xaf\xbf\xed\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\xf7\xbf\xbf\xbf",
];

async fn assert_answered(socket: &mut RawSocket) {
    let error = socket.recv().await;
    assert_eq!(error["error"]["code"], "BAD_REQUEST", "{error}");
}

async fn code_after(broker: &Broker, bytes: &[u8]) -> Option<u16> {
    let mut socket = RawSocket::connect(broker).await;
    socket.wire.offer(bytes).await;
    socket.expect_close().await
}

#[tokio::test]
async fn every_code_point_at_an_edge_is_text() {
    let broker = Broker::start(&[]);
    let mut socket = RawSocket::connect(&broker).await;
    for code_point in EDGES {
        let text = char::from_u32(code_point)
            .expect("no surrogate")
            .to_string();
        for opcode in [TEXT, BINARY] {
            socket.send(&masked(FIN | opcode, text.as_bytes())).await;
            // No command, but text: the connection lives on.
            assert_answered(&mut socket).await;
        }
    }
}

#[tokio::test]
async fn text_cut_between_any_two_bytes_is_joined() {
    let broker = Broker::start(&[("SUBSCRIBER_QUEUE_SIZE", "1000")]);
    broker.create_topic("t").await;
    let mut socket = RawSocket::connect(&broker).await;
    socket.ask(r#"{"type":"subscribe","topic":"t"}"#).await;
    let payload = "\"Hello-µ@ßöäüàá-UTF-8!! κόσμε \u{800}\u{fffd}\u{ffff}\u{10000}\u{10ffff}\"";
    let message = publish_text("t", payload);
    let ping = masked(FIN | PING, b"");
    let mut pongs = 0;
    for cut in 0..=message.len() {
        let (head, tail) = message.as_bytes().split_at(cut);
        let frames = [
            masked(TEXT, head),
            ping.clone(),
            masked(FIN | CONTINUATION, tail),
        ];
        socket.send(&frames.concat()).await;
        let between = socket.recv_frame().await.expect("a pong");
        pongs += u32::from(between.opcode == PONG);
        let event = socket.recv_raw().await;
        let received = member(&member(&event, "message"), "payload");
        assert_eq!(received, payload, "cut at {cut}");
        assert_eq!(socket.recv().await["type"], "ack");
    }
    assert_eq!(pongs as usize, message.len() + 1);
    // And a frame for each byte.
    let mut frames = masked(TEXT, b"");
    for byte in message.as_bytes() {
        frames.extend(masked(CONTINUATION, &[*byte]));
    }
    frames.extend(masked(FIN | CONTINUATION, b""));
    socket.send(&frames).await;
    let event = socket.recv_raw().await;
    assert_eq!(member(&member(&event, "message"), "payload"), payload);
}

#[tokio::test]
async fn what_is_no_text_closes_with_1007_wherever_it_stands() {
    let broker = Broker::start(&[]);
    for bytes in NO_TEXT {
        for (head, tail) in [("", ""), ("κόσμε", ""), ("", "edited"), ("κόσμε", "edited")]
        {
            let message = [head.as_bytes(), bytes, tail.as_bytes()].concat();
            // Cut characters are no longer cut when a continuation byte follows; none does here.
            assert!(str::from_utf8(&message).is_err());
            let code = code_after(&broker, &masked(FIN | TEXT, &message)).await;
            assert_eq!(code, Some(1007), "{message:x?}");
        }
    }
}

#[tokio::test]
async fn what_is_no_text_closes_with_1007_however_it_is_cut() {
    let broker = Broker::start(&[]);
    for bytes in NO_TEXT {
        let message = ["κό".as_bytes(), bytes, b"x"].concat();
        for cut in 0..=message.len() {
            let (head, tail) = message.split_at(cut);
            let frames = [masked(TEXT, head), masked(FIN | CONTINUATION, tail)];
            let code = code_after(&broker, &frames.concat()).await;
            assert_eq!(code, Some(1007), "{message:x?} cut at {cut}");
        }
    }
}

#[tokio::test]
async fn a_close_of_each_legal_code_is_answered_with_it() {
    let broker = Broker::start(&[]);
    let codes = (1000..=1003).chain(1007..=1011).chain([1012, 1013, 1014]);
    for code in codes.chain([3000, 3999, 4000, 4999]) {
        let reason = "r".repeat(123);
        for reason in ["", "Hello World!", "κόσμε", &reason] {
            let close = masked(FIN | CLOSE, &close_payload(code, reason.as_bytes()));
            let answered = code_after(&broker, &close).await;
            assert_eq!(answered, Some(code), "{reason}");
        }
    }
}

#[tokio::test]
async fn a_close_of_any_other_code_is_a_violation() {
    let broker = Broker::start(&[]);
    let codes = [0, 1, 100, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999];
    for code in codes.into_iter().chain([2000, 2999, 5000, 65_535]) {
        for reason in ["", "reason"] {
            let close = masked(FIN | CLOSE, &close_payload(code, reason.as_bytes()));
            assert_eq!(code_after(&broker, &close).await, Some(1002), "{code}");
        }
    }
}

#[tokio::test]
async fn closes_with_broken_payloads_are_violations() {
    let broker = Broker::start(&[]);
    assert_eq!(code_after(&broker, &masked(FIN | CLOSE, b"")).await, None);
    let half = masked(FIN | CLOSE, b"a");
    assert_eq!(code_after(&broker, &half).await, Some(1002));
    let long = masked(FIN | CLOSE, &close_payload(1000, &[b'*'; 124]));
    assert_eq!(code_after(&broker, &long).await, Some(1002));
    for bytes in NO_TEXT {
        let close = masked(FIN | CLOSE, &close_payload(1000, bytes));
        assert_eq!(code_after(&broker, &close).await, Some(1007), "{bytes:x?}");
    }
}

#[tokio::test]
async fn nothing_behind_a_close_is_answered() {
    let broker = Broker::start(&[("MAX_MESSAGE_SIZE", "300000")]);
    let close = masked(FIN | CLOSE, &close_payload(1000, b""));
    let command = r#"{"type":"ping"}"#;
    let (head, tail) = command.as_bytes().split_at(5);
    for (front, behind, answers) in [
        (text(command), Vec::new(), 1),
        (Vec::new(), close.clone(), 0),
        (Vec::new(), masked(FIN | PING, b"x"), 0),
        (Vec::new(), text(command), 0),
        (masked(TEXT, head), masked(FIN | CONTINUATION, tail), 0),
        (text(&" ".repeat(262_144)), masked(FIN | PING, b"x"), 1),
        (Vec::new(), masked(FIN | 3, b"a violation"), 0),
    ] {
        let mut socket = RawSocket::connect(&broker).await;
        let bytes = [&front[..], &close, &behind].concat();
        socket.wire.offer(&bytes).await;
        let mut frames = Vec::new();
        // The broker hangs up by itself, whether or not its close is answered.
        while let Some(frame) = socket.recv_frame().await {
            frames.push(frame);
        }
        let last = frames.pop().expect("a close frame");
        assert_eq!(last.opcode, CLOSE);
        assert_eq!(last.payload.first_chunk(), Some(&1000_u16.to_be_bytes()));
        assert_eq!(frames.len(), answers, "{frames:?}");
    }
}

#[tokio::test]
async fn a_close_with_much_under_way_comes_after_all_answers() {
    let broker = Broker::start(&[]);
    broker.create_topic("t").await;
    let mut socket = RawSocket::connect(&broker).await;
    let mut bytes = Vec::new();
    for number in 0..100 {
        let command = json!({"type": "ping", "request_id": number.to_string()});
        bytes.extend(text(&command.to_string()));
    }
    bytes.extend(masked(FIN | CLOSE, &close_payload(4000, b"")));
    socket.wire.offer(&bytes).await;
    for number in 0..100 {
        assert_eq!(socket.recv().await["request_id"], number.to_string());
    }
    assert_eq!(socket.expect_close().await, Some(4000));
}
