//! A WebSocket client that does everything by hand, and therefore also everything wrong.
//!
//! It answers nothing by itself: no pong, no close. Whoever does not read from it has a stalled client.

use std::time::Duration;

use serde_json::Value;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;

use crate::harness::broker::{Broker, UPGRADE_HEADERS};
use crate::harness::http::{Response, request_head};
use crate::harness::wire::Wire;
use crate::harness::within;

pub(crate) const FIN: u8 = 0x80;
pub(crate) const RSV1: u8 = 0x40;
pub(crate) const RSV2: u8 = 0x20;
pub(crate) const RSV3: u8 = 0x10;
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;

/// A frame of the server, known to be unmasked and without reserved bits.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) fin: bool,
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

/// A connection under the test's full control.
pub(crate) struct RawSocket {
    pub(crate) wire: Wire,
}

impl RawSocket {
    /// Connects and shakes hands.
    pub(crate) async fn connect(broker: &Broker) -> Self {
        let mut socket = Self::dial(broker).await;
        socket.upgrade().await;
        socket
    }

    /// Connects with the smallest receive buffer, so that a reader who stops is soon felt by the broker.
    pub(crate) async fn connect_small(broker: &Broker) -> Self {
        let mut socket = Self {
            wire: Wire::connect(broker.address(), Some(4096)).await,
        };
        socket.upgrade().await;
        socket
    }

    /// Connects without a word.
    pub(crate) async fn dial(broker: &Broker) -> Self {
        Self {
            wire: Wire::connect(broker.address(), None).await,
        }
    }

    /// Undoes the small receive buffer, so that catching up is quick.
    pub(crate) fn widen(&self) {
        SockRef::from(&self.wire.stream)
            .set_recv_buffer_size(1 << 20)
            .expect("any size is legal");
    }

    pub(crate) async fn upgrade(&mut self) {
        self.wire.send(upgrade_request("/ws").as_bytes()).await;
        let response = self.upgrade_response().await;
        assert_eq!(response.status, 101);
    }

    /// The answer to an upgrade request that was sent by hand.
    pub(crate) async fn upgrade_response(&mut self) -> Response {
        let head = self.wire.take_head("the answer to the upgrade").await;
        Response::parse_head(&head.expect("an answer to the upgrade"))
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.wire.send(bytes).await;
    }

    /// Sends a text message in one frame.
    pub(crate) async fn send_text(&mut self, text: &str) {
        self.wire.send(&masked(FIN | TEXT, text.as_bytes())).await;
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) async fn recv_frame(&mut self) -> Option<Frame> {
        let head = self.wire.take(2, "a frame").await?;
        assert_eq!(head[0] & 0x70, 0, "a server frame with reserved bits");
        assert_eq!(head[1] & 0x80, 0, "a masked server frame");
        let length = match head[1] {
            126 => big_endian(&self.wire.take(2, "a frame's length").await?),
            127 => big_endian(&self.wire.take(8, "a frame's length").await?),
            short => usize::from(short),
        };
        Some(Frame {
            fin: head[0] & FIN != 0,
            opcode: head[0] & 0x0F,
            payload: self.wire.take(length, "a frame's payload").await?,
        })
    }

    /// The next message; pings of the server before it stay without an answer.
    pub(crate) async fn recv_raw(&mut self) -> String {
        loop {
            let frame = self.recv_frame().await.expect("a message, not the end");
            match frame.opcode {
                PING | PONG => {}
                TEXT => {
                    assert!(frame.fin, "the broker does not fragment");
                    return String::from_utf8(frame.payload).expect("text is UTF-8");
                }
                other => panic!("opcode {other} instead of a message: {frame:?}"),
            }
        }
    }

    /// The next message, parsed.
    pub(crate) async fn recv(&mut self) -> Value {
        let text = self.recv_raw().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Sends a command and takes the next message for its answer.
    pub(crate) async fn ask(&mut self, command: &str) -> Value {
        self.send_text(command).await;
        self.recv().await
    }

    /// Reads up to the close frame, answers it, and waits for the end that must follow. `None`: a close without code.
    pub(crate) async fn expect_close(&mut self) -> Option<u16> {
        loop {
            let frame = self.recv_frame().await.expect("a close frame, not the end");
            if frame.opcode == CLOSE {
                self.wire.offer(&masked(FIN | CLOSE, &frame.payload)).await;
                let behind = self.wire.rest("the end after the close").await;
                assert_eq!(behind, b"", "bytes behind the close frame");
                return frame
                    .payload
                    .first_chunk()
                    .map(|code| u16::from_be_bytes(*code));
            }
        }
    }

    /// Reads whatever comes until the connection ends, and answers none of it. Heartbeats do not put the end off.
    pub(crate) async fn expect_end(&mut self) {
        within("the end of the connection", async {
            while self.recv_frame().await.is_some() {}
        })
        .await;
    }

    /// Sends bytes to see whether anybody is still there: an ended connection shows at the next attempt.
    pub(crate) async fn is_open(&mut self, bytes: &[u8]) -> bool {
        let ended = matches!(self.wire.stream.try_read(&mut [0; 512]), Ok(0));
        !ended && self.wire.stream.write_all(bytes).await.is_ok()
    }

    /// Sends what is taken at once or soon; 0 once the other side has stopped reading.
    pub(crate) async fn push(&mut self, bytes: &[u8]) -> usize {
        let soon = Duration::from_millis(300);
        match tokio::time::timeout(soon, self.wire.stream.write(bytes)).await {
            Ok(written) => written.expect("the broker holds the connection"),
            Err(_) => 0,
        }
    }
}

/// A correct request for an upgrade.
pub(crate) fn upgrade_request(path: &str) -> String {
    request_head("GET", path, &UPGRADE_HEADERS)
}

/// A client's frame; `first` holds FIN, reserved bits and opcode.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
    let mut frame = header(first, 0x80, payload.len());
    frame.extend(MASK);
    let key = MASK.iter().cycle();
    frame.extend(payload.iter().zip(key).map(|(byte, key)| byte ^ key));
    frame
}

/// A frame as only servers may send it.
pub(crate) fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, 0, payload.len());
    frame.extend(payload);
    frame
}

/// A text message in one frame.
pub(crate) fn text(message: &str) -> Vec<u8> {
    masked(FIN | TEXT, message.as_bytes())
}

/// The payload of a close frame.
pub(crate) fn close_payload(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), reason].concat()
}

fn header(first: u8, mask_bit: u8, length: usize) -> Vec<u8> {
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..126), _) => vec![first, mask_bit | short],
        (_, Ok(middle)) => [&[first, mask_bit | 0x7E][..], &middle.to_be_bytes()].concat(),
        _ => [&[first, mask_bit | 0x7F][..], &length.to_be_bytes()].concat(),
    }
}

fn big_endian(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |length, byte| length << 8 | usize::from(*byte))
}
