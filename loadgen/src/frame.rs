//! Server frames out of a byte stream, and masked client frames into one.
//!
//! A complete frame is handed on as a slice of the bytes it came in; only a frame cut by the end of a read is copied. It
//! never touches a socket. [`Client`](crate::client::Client) feeds it. What a server may not send is an error, not a guess.

use std::mem;

/// More than any server should ever send in one message.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// The mask of every frame that leaves. Not zero, so that the server really has to unmask.
pub(crate) const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// One thing the server said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Message(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    Close { code: u16, reason: &'a [u8] },
}

/// What no server may send.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("the server masked a frame")]
    Masked,
    #[error("a reserved bit is set")]
    ReservedBit,
    #[error("unknown opcode {0}")]
    Opcode(u8),
    #[error("a control frame is fragmented or too long")]
    Control,
    #[error("a continuation without a beginning, or a beginning inside a message")]
    Continuation,
    #[error("a message of more than {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
}

/// The bytes of an unfinished frame and of an unfinished fragmented message.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    partial: Vec<u8>,
    message: Vec<u8>,
    in_message: bool,
}

impl FrameReader {
    /// Takes the next bytes of the stream and hands on every frame they complete.
    pub(crate) fn feed(
        &mut self,
        mut chunk: &[u8],
        mut on_frame: impl FnMut(Frame<'_>),
    ) -> Result<(), FrameError> {
        while !self.partial.is_empty() && !chunk.is_empty() {
            chunk = self.complete_partial(chunk, &mut on_frame)?;
        }
        while let Some(header) = Header::parse(chunk)? {
            if chunk.len() < header.frame_bytes() {
                break;
            }
            let (frame, rest) = chunk.split_at(header.frame_bytes());
            self.accept(&header, &frame[header.bytes..], &mut on_frame)?;
            chunk = rest;
        }
        self.partial.extend_from_slice(chunk);
        Ok(())
    }

    /// Copies no more than the unfinished frame still lacks; returns what is left of the chunk.
    fn complete_partial<'a>(
        &mut self,
        chunk: &'a [u8],
        on_frame: &mut impl FnMut(Frame<'_>),
    ) -> Result<&'a [u8], FrameError> {
        let wanted = Header::parse(&self.partial)?
            .map_or(self.partial.len() + 1, |header| header.frame_bytes());
        let (taken, rest) = chunk.split_at((wanted - self.partial.len()).min(chunk.len()));
        self.partial.extend_from_slice(taken);
        if let Some(header) = Header::parse(&self.partial)?
            && self.partial.len() == header.frame_bytes()
        {
            let mut frame = mem::take(&mut self.partial);
            self.accept(&header, &frame[header.bytes..], on_frame)?;
            frame.clear();
            self.partial = frame;
        }
        Ok(rest)
    }

    fn accept(
        &mut self,
        header: &Header,
        payload: &[u8],
        on_frame: &mut impl FnMut(Frame<'_>),
    ) -> Result<(), FrameError> {
        match header.opcode {
            1 | 2 if self.in_message => return Err(FrameError::Continuation),
            1 | 2 if header.last => on_frame(Frame::Message(payload)),
            1 | 2 => {
                self.in_message = true;
                self.message.extend_from_slice(payload);
            }
            0 if !self.in_message => return Err(FrameError::Continuation),
            0 => self.continue_message(header.last, payload, on_frame)?,
            8 => on_frame(close_frame(payload)),
            9 => on_frame(Frame::Ping(payload)),
            10 => on_frame(Frame::Pong),
            other => return Err(FrameError::Opcode(other)),
        }
        Ok(())
    }

    fn continue_message(
        &mut self,
        last: bool,
        payload: &[u8],
        on_frame: &mut impl FnMut(Frame<'_>),
    ) -> Result<(), FrameError> {
        if self.message.len() + payload.len() > MESSAGE_BYTES_MAX {
            return Err(FrameError::TooLong);
        }
        self.message.extend_from_slice(payload);
        if last {
            on_frame(Frame::Message(&self.message));
            self.message.clear();
            self.in_message = false;
        }
        Ok(())
    }
}

struct Header {
    last: bool,
    opcode: u8,
    bytes: usize,
    payload_bytes: usize,
}

impl Header {
    /// `None` while the header itself is not complete.
    fn parse(input: &[u8]) -> Result<Option<Self>, FrameError> {
        let [first, second, rest @ ..] = input else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(FrameError::ReservedBit);
        }
        if second & 0x80 != 0 {
            return Err(FrameError::Masked);
        }
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        let (bytes, payload_bytes) = match (second & 0x7f, rest) {
            (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
            (127, long) => match long.first_chunk() {
                Some(length) => {
                    let length = u64::from_be_bytes(*length);
                    (10, usize::try_from(length).unwrap_or(usize::MAX))
                }
                None => return Ok(None),
            },
            (126, _) => return Ok(None),
            (short, _) => (2, usize::from(short)),
        };
        if payload_bytes > MESSAGE_BYTES_MAX {
            return Err(FrameError::TooLong);
        }
        if opcode >= 8 && (!last || payload_bytes > 125) {
            return Err(FrameError::Control);
        }
        Ok(Some(Self {
            last,
            opcode,
            bytes,
            payload_bytes,
        }))
    }

    fn frame_bytes(&self) -> usize {
        self.bytes + self.payload_bytes
    }
}

fn close_frame(payload: &[u8]) -> Frame<'_> {
    match payload {
        [high, low, reason @ ..] => Frame::Close {
            code: u16::from_be_bytes([*high, *low]),
            reason,
        },
        // 1005 is what RFC 6455 calls a close without a code.
        _ => Frame::Close {
            code: 1005,
            reason: &[],
        },
    }
}

pub(crate) const TEXT: u8 = 1;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PONG: u8 = 10;

/// Appends one complete masked frame; returns where its payload begins.
pub(crate) fn append_masked(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) -> usize {
    out.push(0x80 | opcode);
    let length = payload.len();
    if let Ok(short) = u8::try_from(length)
        && short < 126
    {
        out.push(0x80 | short);
    } else if let Ok(medium) = u16::try_from(length) {
        out.push(0xfe);
        out.extend_from_slice(&medium.to_be_bytes());
    } else {
        out.push(0xff);
        out.extend_from_slice(&(length as u64).to_be_bytes());
    }
    out.extend_from_slice(&MASK);
    let start = out.len();
    let masked = payload.iter().zip(MASK.iter().cycle());
    out.extend(masked.map(|(byte, key)| byte ^ key));
    start
}

#[cfg(test)]
mod tests {
    use super::{Frame, FrameError, FrameReader, MASK, TEXT, append_masked};

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            short @ 0..126 => out.push(u8::try_from(short).expect("short")),
            medium @ 126..65_536 => {
                out.push(126);
                out.extend(u16::try_from(medium).expect("medium").to_be_bytes());
            }
            long => {
                out.push(127);
                out.extend((long as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(payload);
        out
    }

    fn conversation() -> Vec<u8> {
        [
            frame(0x81, b"hello"),
            frame(0x89, b"beat"),
            frame(0x01, b"one "),
            frame(0x8a, b""),
            frame(0x00, b"two "),
            frame(0x80, b"three"),
            frame(0x81, &[b'm'; 300]),
            frame(0x82, b""),
            frame(0x81, &vec![b'l'; 70_000]),
            frame(0x88, b"\x03\xe9going away"),
        ]
        .concat()
    }

    fn told(frame: &Frame<'_>) -> String {
        match frame {
            Frame::Message(text) if text.len() > 20 => format!("message of {}", text.len()),
            Frame::Message(text) => format!("message {}", String::from_utf8_lossy(text)),
            Frame::Ping(text) => format!("ping {}", String::from_utf8_lossy(text)),
            Frame::Pong => "pong".into(),
            Frame::Close { code, reason } => {
                format!("close {code} {}", String::from_utf8_lossy(reason))
            }
        }
    }

    const EXPECTED: [&str; 8] = [
        "message hello",
        "ping beat",
        "pong",
        "message one two three",
        "message of 300",
        "message ",
        "message of 70000",
        "close 1001 going away",
    ];

    fn read(chunks: &[&[u8]]) -> Vec<String> {
        let mut reader = FrameReader::default();
        let mut frames = Vec::new();
        for chunk in chunks {
            reader
                .feed(chunk, |frame| frames.push(told(&frame)))
                .expect("a legal conversation");
        }
        frames
    }

    #[test]
    fn whole_stream_at_once() {
        assert_eq!(read(&[&conversation()]), EXPECTED);
    }

    #[test]
    fn stream_cut_at_every_byte() {
        let stream = conversation();
        // The two long payloads look the same at every cut, so that only their ends matter.
        for cut in (0..400).chain(stream.len() - 40..=stream.len()) {
            let (left, right) = stream.split_at(cut);
            assert_eq!(read(&[left, right]), EXPECTED, "cut at {cut}");
        }
    }

    #[test]
    fn stream_byte_by_byte() {
        let stream = conversation();
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(read(&bytes), EXPECTED);
    }

    #[test]
    fn illegal_frames_are_refused() {
        let refused = |bytes: &[u8]| {
            let outcome = FrameReader::default().feed(bytes, |_| {});
            outcome.expect_err("an illegal frame")
        };
        assert_eq!(refused(&[0x81, 0x80]), FrameError::Masked);
        assert_eq!(refused(&[0xc1, 0]), FrameError::ReservedBit);
        assert_eq!(refused(&[0x83, 0]), FrameError::Opcode(3));
        assert_eq!(refused(&[0x09, 0]), FrameError::Control);
        assert_eq!(refused(&[0x89, 126, 0, 126]), FrameError::Control);
        assert_eq!(refused(&[0x80, 0]), FrameError::Continuation);
        assert_eq!(refused(&[0x01, 0, 0x81, 0]), FrameError::Continuation);
        let huge = [0x81, 127, 0, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(refused(&huge), FrameError::TooLong);
    }

    #[test]
    fn client_frames_are_masked_in_every_length_form() {
        for length in [0, 5, 125, 126, 65_535, 65_536] {
            let payload = vec![b'p'; length];
            let mut out = Vec::new();
            let start = append_masked(&mut out, TEXT, &payload);
            assert_eq!(out[0], 0x81);
            assert_eq!(out[1] & 0x80, 0x80);
            assert_eq!(out[start - 4..start], MASK);
            let unmasked: Vec<u8> = out[start..]
                .iter()
                .zip(MASK.iter().cycle())
                .map(|(byte, key)| byte ^ key)
                .collect();
            assert_eq!(unmasked, payload);
        }
    }
}
