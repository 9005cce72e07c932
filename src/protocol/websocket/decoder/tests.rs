use std::collections::HashSet;
use std::mem::discriminant;

use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader, coding::OpCode};

use super::*;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = FIN | 8;
const PING: u8 = FIN | 9;
const PONG: u8 = FIN | 0xA;

const BYTES_MAX: usize = 70_000;

/// What a stream came out as: a message that owns its bytes, or the violation that ended it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Text(String),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
    Violation(Violation),
}

/// A frame as tungstenite's client writes it, with FIN and opcode out of `first`.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        is_final: first & FIN != 0,
        opcode: OpCode::from(first & OPCODE),
        mask: Some([0x9D, 0x00, 0xFF, 0x42]),
        ..FrameHeader::default()
    };
    let mut bytes = Vec::new();
    Frame::from_payload(header, payload.to_vec().into())
        .format(&mut bytes)
        .expect("a Vec takes every write");
    bytes
}

/// Decodes as the reader does, chunk behind chunk, and checks at each step what holds for every stream.
fn feed<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, bytes_max: usize) -> Vec<Seen> {
    let mut decoder = Decoder::new();
    let mut input = Vec::new();
    let mut seen = Vec::new();
    for chunk in chunks {
        input.extend_from_slice(chunk);
        loop {
            let before = input.clone();
            let step = match decoder.decode(&mut input, bytes_max) {
                Ok(step) => step,
                Err(violation) => {
                    seen.push(Seen::Violation(violation));
                    return seen;
                }
            };
            let consumed = step.consumed;
            let is_close = matches!(step.message, Some(Message::Close(_)));
            seen.extend(step.message.map(|message| match message {
                Message::Deflated(_) => unreachable!("nobody has agreed on it"),
                Message::Text(text) => Seen::Text(text.to_owned()),
                Message::Ping(payload) => Seen::Ping(payload.to_vec()),
                Message::Pong => Seen::Pong,
                Message::Close(code) => Seen::Close(code),
            }));
            assert!(decoder.joined.capacity() <= bytes_max, "memory over limit");
            if is_close {
                return seen;
            }
            if consumed == 0 {
                assert_eq!(input, before, "an incomplete frame was touched");
                assert!(decoder.wanted() == 0 || decoder.wanted() > input.len());
                assert!(decoder.wanted() <= bytes_max.max(125) + 14);
                if !decoder.is_unfinished {
                    assert_eq!(decoder.joined.capacity(), 0, "memory kept while idle");
                }
                break;
            }
            assert_eq!(decoder.wanted(), consumed);
            input.drain(..consumed);
        }
    }
    seen
}

fn feed_at_once(stream: &[u8], bytes_max: usize) -> Vec<Seen> {
    feed([stream], bytes_max)
}

fn violation(stream: &[u8], bytes_max: usize) -> Option<Violation> {
    match feed_at_once(stream, bytes_max).last() {
        Some(Seen::Violation(violation)) => Some(*violation),
        _ => None,
    }
}

fn text_seen(text: &str) -> Seen {
    Seen::Text(text.to_owned())
}

/// Each kind of message, a fragmented one with pings in it, and each form of length.
fn every_kind() -> (Vec<u8>, Vec<Seen>) {
    let long = "ä".repeat(100);
    let stream = [
        frame(FIN | TEXT, b"hello"),
        frame(FIN | BINARY, "grün".as_bytes()),
        frame(FIN | TEXT, b""),
        frame(TEXT, b"one "),
        frame(PING, b"between"),
        frame(CONTINUATION, b"two "),
        frame(CONTINUATION, b""),
        frame(PING, b""),
        frame(PONG, b"late"),
        frame(FIN | CONTINUATION, b"three"),
        frame(BINARY, b""),
        frame(FIN | CONTINUATION, b""),
        frame(FIN | TEXT, long.as_bytes()),
        frame(CLOSE, b"\x03\xE8bye"),
    ];
    let seen = vec![
        text_seen("hello"),
        text_seen("grün"),
        text_seen(""),
        Seen::Ping(b"between".to_vec()),
        Seen::Ping(Vec::new()),
        Seen::Pong,
        text_seen("one two three"),
        text_seen(""),
        text_seen(&long),
        Seen::Close(Some(1000)),
    ];
    (stream.concat(), seen)
}

#[test]
fn every_cut_of_the_input_gives_the_same_messages() {
    let (stream, seen) = every_kind();
    assert_eq!(feed_at_once(&stream, BYTES_MAX), seen);
    assert_eq!(feed(stream.chunks(1), BYTES_MAX), seen);
    for cut in 0..=stream.len() {
        let (head, tail) = stream.split_at(cut);
        assert_eq!(feed([head, tail], BYTES_MAX), seen, "cut at {cut}");
    }
}

#[test]
fn a_fragment_is_consumed_without_a_message() {
    let mut input = frame(TEXT, b"part");
    let bytes = input.len();
    let mut decoder = Decoder::new();
    let step = decoder.decode(&mut input, BYTES_MAX).expect("legal");
    assert_eq!((step.consumed, step.message), (bytes, None));
}

#[test]
fn bytes_behind_a_frame_are_left_alone() {
    let next = frame(FIN | TEXT, b"next");
    let mut input = [frame(FIN | TEXT, b"first"), next.clone()].concat();
    let mut decoder = Decoder::new();
    let step = decoder.decode(&mut input, BYTES_MAX).expect("legal");
    assert_eq!(step.message, Some(Message::Text("first")));
    let consumed = step.consumed;
    assert_eq!(input.get(consumed..), Some(next.as_slice()));
}

#[test]
fn a_character_may_be_cut_by_a_fragment() {
    for text in ["ß", "€", "🦀", "a🦀ß€z"] {
        for cut in 0..=text.len() {
            let (head, tail) = text.as_bytes().split_at(cut);
            for kind in [TEXT, BINARY] {
                let stream = [frame(kind, head), frame(FIN | CONTINUATION, tail)].concat();
                assert_eq!(feed(stream.chunks(1), BYTES_MAX), [text_seen(text)]);
            }
        }
        let cut_short = text.as_bytes().split_last().expect("not empty").1;
        if str::from_utf8(cut_short).is_err() {
            let stream = frame(FIN | TEXT, cut_short);
            assert_eq!(violation(&stream, BYTES_MAX), Some(Violation::NotUtf8));
        }
    }
}

#[test]
fn every_first_byte_does_as_the_table_says() {
    use Violation::{
        FragmentedControl, ReservedBit, StrayContinuation, UnfinishedMessage, UnknownOpcode,
    };
    type Outcome = Result<Option<Seen>, Violation>;
    // With and without FIN at the start; then with and without FIN in a fragmented message.
    let row = |opcode: u8| -> [Outcome; 4] {
        let control = |seen: Seen| {
            let (whole, cut) = (Ok(Some(seen)), Err(FragmentedControl));
            [whole.clone(), cut.clone(), whole, cut]
        };
        #[rustfmt::skip]
        let row = match opcode {
            0 => [Err(StrayContinuation), Err(StrayContinuation), Ok(Some(text_seen("part"))), Ok(None)],
            1 | 2 => [Ok(Some(text_seen(""))), Ok(None), Err(UnfinishedMessage), Err(UnfinishedMessage)],
            8 => control(Seen::Close(None)),
            9 => control(Seen::Ping(Vec::new())),
            10 => control(Seen::Pong),
            _ => [(); 4].map(|()| Err(UnknownOpcode(opcode))),
        };
        row
    };

    for opcode in 0..16 {
        for (column, outcome) in row(opcode).into_iter().enumerate() {
            for reserved in 0..8 {
                let fin = if column % 2 == 0 { FIN } else { 0 };
                let first = fin | reserved << 4 | opcode;
                let prefix = if column < 2 {
                    Vec::new()
                } else {
                    frame(TEXT, b"part")
                };
                let expected = if reserved == 0 {
                    outcome.clone()
                } else {
                    Err(ReservedBit)
                };

                let masked = [prefix.as_slice(), &[first, MASKED, 1, 2, 3, 4]].concat();
                let seen = match expected.clone() {
                    Ok(seen) => Vec::from_iter(seen),
                    Err(violation) => vec![Seen::Violation(violation)],
                };
                assert_eq!(feed_at_once(&masked, BYTES_MAX), seen, "{first:#04x}");

                let unmasked = [prefix.as_slice(), &[first, 0]].concat();
                let violation = expected.err().unwrap_or(Violation::Unmasked);
                assert_eq!(
                    feed_at_once(&unmasked, BYTES_MAX),
                    [Seen::Violation(violation)]
                );
            }
        }
    }
}

#[test]
fn a_violation_shows_with_the_byte_that_makes_it() {
    let part = frame(TEXT, b"part");
    let after_part = |bytes: &[u8]| [part.as_slice(), bytes].concat();
    let with_length = |form: u8, bytes: &[u8]| [&[TEXT, MASKED | form], bytes].concat();
    let in_2_bytes = |n: u16| with_length(LENGTH_IN_2_BYTES, &n.to_be_bytes());
    let in_8_bytes = |n: u64| with_length(LENGTH_IN_8_BYTES, &n.to_be_bytes());
    let bytes_max = BYTES_MAX;
    #[rustfmt::skip]
    let table: Vec<(Vec<u8>, Violation)> = vec![
        (vec![FIN | 0x40 | TEXT], Violation::ReservedBit),
        (vec![FIN | 0x20 | TEXT], Violation::ReservedBit),
        (vec![FIN | 0x10 | TEXT], Violation::ReservedBit),
        (vec![FIN | 3], Violation::UnknownOpcode(3)),
        (vec![FIN], Violation::StrayContinuation),
        (vec![CONTINUATION], Violation::StrayContinuation),
        (after_part(&[TEXT]), Violation::UnfinishedMessage),
        (after_part(&[FIN | BINARY]), Violation::UnfinishedMessage),
        (vec![CLOSE & !FIN], Violation::FragmentedControl),
        (vec![PING & !FIN], Violation::FragmentedControl),
        (vec![PONG & !FIN], Violation::FragmentedControl),
        (vec![FIN | TEXT, 5], Violation::Unmasked),
        (vec![PING, 0], Violation::Unmasked),
        (vec![CLOSE, MASKED | LENGTH_IN_2_BYTES], Violation::ControlTooLarge),
        (vec![PING, MASKED | LENGTH_IN_2_BYTES], Violation::ControlTooLarge),
        (vec![PONG, MASKED | LENGTH_IN_8_BYTES], Violation::ControlTooLarge),
        (in_2_bytes(0), Violation::LengthNotMinimal),
        (in_2_bytes(125), Violation::LengthNotMinimal),
        (in_8_bytes(0), Violation::LengthNotMinimal),
        (in_8_bytes(65_535), Violation::LengthNotMinimal),
        (in_8_bytes(1 << 63), Violation::LengthTooLarge),
        (in_8_bytes(u64::MAX), Violation::LengthTooLarge),
        (in_8_bytes(u64::MAX >> 1), Violation::MessageTooLarge { bytes_max }),
        (frame(FIN | TEXT, b"\xFF"), Violation::NotUtf8),
        (frame(FIN | BINARY, b"\xC0\x80"), Violation::NotUtf8),
        (frame(FIN | TEXT, b"\xED\xA0\x80"), Violation::NotUtf8),
        (after_part(&frame(FIN | CONTINUATION, b"\xE2\x82")), Violation::NotUtf8),
        (frame(CLOSE, b"\x03"), Violation::CloseCodeCut),
        (frame(CLOSE, b"\x03\xEE"), Violation::IllegalCloseCode(1006)),
        (frame(CLOSE, b"\x03\xE8\xFF"), Violation::CloseReasonNotUtf8),
    ];
    for (stream, expected) in table {
        let all = feed(stream.chunks(1), BYTES_MAX);
        assert_eq!(all, [Seen::Violation(expected)], "{stream:x?}");
        let too_short = &stream[..stream.len() - 1];
        assert_eq!(feed_at_once(too_short, BYTES_MAX), [], "{too_short:x?}");
    }
}

#[test]
fn every_close_code_is_legal_or_refused() {
    for code in 0..=u16::MAX {
        let illegal = match code {
            0..=999 | 1004 | 1005 | 1006 | 1015 | 1016..=2999 | 5000.. => true,
            1000..=1003 | 1007..=1014 | 3000..=4999 => false,
        };
        let seen = if illegal {
            Seen::Violation(Violation::IllegalCloseCode(code))
        } else {
            Seen::Close(Some(code))
        };
        let stream = frame(CLOSE, &code.to_be_bytes());
        assert_eq!(feed_at_once(&stream, BYTES_MAX), [seen]);
    }
}

#[test]
fn a_close_may_be_empty_and_a_reason_fill_the_frame() {
    assert_eq!(feed_at_once(&frame(CLOSE, b""), 0), [Seen::Close(None)]);
    let mut payload = 4999_u16.to_be_bytes().to_vec();
    payload.extend_from_slice(&[b'x'; 123]);
    let stream = frame(CLOSE, &payload);
    assert_eq!(feed_at_once(&stream, 0), [Seen::Close(Some(4999))]);
}

#[test]
fn a_violation_fits_a_close_frame() {
    let bytes_max = usize::MAX;
    for (violation, code) in [
        (Violation::ReservedBit, 1002),
        (Violation::UnknownOpcode(u8::MAX), 1002),
        (Violation::StrayContinuation, 1002),
        (Violation::UnfinishedMessage, 1002),
        (Violation::FragmentedControl, 1002),
        (Violation::Unmasked, 1002),
        (Violation::ControlTooLarge, 1002),
        (Violation::LengthNotMinimal, 1002),
        (Violation::LengthTooLarge, 1002),
        (Violation::MessageTooLarge { bytes_max }, 1009),
        (Violation::NotUtf8, 1007),
        (Violation::CloseCodeCut, 1002),
        (Violation::IllegalCloseCode(u16::MAX), 1002),
        (Violation::CloseReasonNotUtf8, 1007),
    ] {
        assert_eq!(violation.close_code().0, code);
        assert!(violation.to_string().len() <= 123);
    }
    let violation = Violation::MessageTooLarge { bytes_max: 65_536 };
    assert!(violation.to_string().contains("65536"));
}

#[test]
fn a_message_of_the_limit_passes_and_one_byte_more_is_refused_at_its_header() {
    for bytes_max in [0, 1, 125, 126, 65_535, 65_536] {
        let exact = "x".repeat(bytes_max);
        let stream = frame(FIN | TEXT, exact.as_bytes());
        assert_eq!(feed_at_once(&stream, bytes_max), [text_seen(&exact)]);

        let stream = frame(FIN | TEXT, &vec![b'x'; bytes_max + 1]);
        let header_bytes = stream.len() - (bytes_max + 1);
        let header = &stream[..header_bytes];
        let too_large = Violation::MessageTooLarge { bytes_max };
        assert_eq!(violation(header, bytes_max), Some(too_large));
    }
}

#[test]
fn fragments_together_keep_the_limit() {
    for bytes_max in [1, 125, 126, 65_535, 65_536] {
        let exact = "x".repeat(bytes_max);
        for cut in [0, 1, bytes_max / 2, bytes_max - 1, bytes_max] {
            let (head, tail) = exact.split_at(cut);
            let head = frame(TEXT, head.as_bytes());
            let fits = [head.clone(), frame(FIN | CONTINUATION, tail.as_bytes())].concat();
            assert_eq!(feed_at_once(&fits, bytes_max), [text_seen(&exact)]);

            let over = format!("{tail}x");
            let over = frame(FIN | CONTINUATION, over.as_bytes());
            let header_bytes = over.len() - (tail.len() + 1);
            let stream = [head.as_slice(), &over[..header_bytes]].concat();
            let too_large = Violation::MessageTooLarge { bytes_max };
            assert_eq!(violation(&stream, bytes_max), Some(too_large));
        }
    }
}

#[test]
fn control_frames_do_not_count_for_the_limit() {
    let stream = [
        frame(TEXT, b"ab"),
        frame(PING, &[b'p'; 125]),
        frame(FIN | CONTINUATION, b"cd"),
    ];
    let seen = [Seen::Ping(vec![b'p'; 125]), text_seen("abcd")];
    assert_eq!(feed_at_once(&stream.concat(), 4), seen);
}

#[test]
fn empty_fragments_take_no_memory() {
    let mut decoder = Decoder::new();
    let mut first = frame(TEXT, b"");
    decoder.decode(&mut first, BYTES_MAX).expect("legal");
    for _ in 0..100_000 {
        let mut next = frame(CONTINUATION, b"");
        decoder.decode(&mut next, BYTES_MAX).expect("legal");
    }
    assert!(decoder.is_unfinished);
    assert_eq!(decoder.joined.capacity(), 0);
}

#[test]
fn tiny_fragments_are_joined_within_the_limit() {
    let bytes_max = 1000;
    let mut stream = frame(TEXT, b"");
    for _ in 0..bytes_max {
        stream.extend(frame(CONTINUATION, b"x"));
    }
    stream.extend(frame(FIN | CONTINUATION, b""));
    let seen = [text_seen(&"x".repeat(bytes_max))];
    assert_eq!(feed_at_once(&stream, bytes_max), seen);
}

#[test]
fn a_joined_message_gives_its_memory_back_without_more_input() {
    let stream = [frame(TEXT, b"ab"), frame(FIN | CONTINUATION, b"c")];
    let mut decoder = Decoder::new();
    for mut input in stream {
        decoder.decode(&mut input, BYTES_MAX).expect("legal");
    }
    assert_ne!(decoder.joined.capacity(), 0);
    let step = decoder.decode(&mut [], BYTES_MAX).expect("legal");
    assert_eq!((step.consumed, step.message), (0, None));
    assert_eq!(decoder.joined.capacity(), 0);
}

#[test]
fn what_an_unfinished_frame_wants_is_known_with_its_header_and_never_before_it_is_legal() {
    for (payload_bytes, header_bytes) in [(1, 6), (125, 6), (126, 8), (65_535, 8), (65_536, 14)] {
        let mut stream = frame(FIN | TEXT, &vec![b'x'; payload_bytes]);
        let mut decoder = Decoder::new();
        let wants = |decoder: &mut Decoder, stream: &mut [u8]| {
            assert_eq!(
                decoder.decode(stream, BYTES_MAX).expect("legal").consumed,
                0
            );
            decoder.wanted()
        };
        assert_eq!(wants(&mut decoder, &mut stream[..header_bytes - 1]), 0);
        let bytes = header_bytes + payload_bytes;
        assert_eq!(wants(&mut decoder, &mut stream[..header_bytes]), bytes);
    }
    for length in [1 << 62, u64::MAX >> 1, BYTES_MAX as u64 + 1] {
        let mut decoder = Decoder::new();
        let mut header = vec![FIN | TEXT, 0xFF];
        header.extend(length.to_be_bytes());
        header.extend([0; 4]);
        assert!(decoder.decode(&mut header, BYTES_MAX).is_err());
        assert_eq!(decoder.wanted(), 0);
    }
}

/// Pseudo-random numbers with a seed (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % sides as u64).expect("less than sides")
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.roll(256)).expect("less than 256")
    }

    fn text(&mut self) -> String {
        let chars = if self.roll(8) == 0 { 300 } else { 20 };
        (0..self.roll(chars))
            .map(|_| ['a', '"', 'ß', '€', '🦀'][self.roll(5)])
            .collect()
    }

    /// A legal message, in frames cut anywhere with control frames between, and what it must come out as.
    fn message(&mut self) -> (Vec<Vec<u8>>, Vec<Seen>) {
        let text = self.text();
        let kind = [TEXT, BINARY][self.roll(2)];
        let mut rest = text.as_bytes();
        let mut frames = Vec::new();
        let mut seen = Vec::new();
        let mut opcode = kind;
        while self.roll(3) == 0 {
            let (head, tail) = rest.split_at(self.roll(rest.len() + 1));
            frames.push(frame(opcode, head));
            (opcode, rest) = (CONTINUATION, tail);
            if self.roll(2) == 0 {
                let payload = vec![self.byte(); self.roll(126)];
                frames.push(frame(PING, &payload));
                seen.push(Seen::Ping(payload));
            }
            if self.roll(4) == 0 {
                frames.push(frame(PONG, b"still here"));
                seen.push(Seen::Pong);
            }
        }
        frames.push(frame(FIN | opcode, rest));
        seen.push(Seen::Text(text));
        (frames, seen)
    }

    fn stream(&mut self) -> (Vec<Vec<u8>>, Vec<Seen>) {
        let mut frames = Vec::new();
        let mut seen = Vec::new();
        for _ in 0..self.roll(6) {
            let (more_frames, more_seen) = self.message();
            frames.extend(more_frames);
            seen.extend(more_seen);
        }
        if self.roll(2) == 0 {
            frames.push(frame(CLOSE, &1001_u16.to_be_bytes()));
            seen.push(Seen::Close(Some(1001)));
        }
        (frames, seen)
    }

    fn cut<'a>(&mut self, mut stream: &'a [u8]) -> Vec<&'a [u8]> {
        let mut chunks = Vec::new();
        while !stream.is_empty() {
            let bytes = 1 + self.roll(stream.len().min(100));
            let (chunk, rest) = stream.split_at(bytes);
            chunks.push(chunk);
            stream = rest;
        }
        chunks
    }

    /// Breaks the header of a frame, loses or repeats a frame, or breaks bytes anywhere.
    fn mutate(&mut self, frames: &mut Vec<Vec<u8>>) {
        if frames.is_empty() {
            return;
        }
        let at = self.roll(frames.len());
        match self.roll(5) {
            0 => drop(frames.remove(at)),
            1 => frames.insert(at, frames[at].clone()),
            2 => {
                let byte = self.roll(frames[at].len().min(14));
                frames[at][byte] ^= 1 << self.roll(8);
            }
            3 => {
                let byte = self.roll(frames[at].len());
                frames[at][byte] = self.byte();
            }
            _ => {
                let bytes = 1 + self.roll(frames[at].len());
                frames[at].truncate(bytes);
            }
        }
    }
}

#[test]
fn random_streams_come_out_as_a_client_of_another_make_put_them_in() {
    let mut dice = Dice(1);
    for _ in 0..2000 {
        let (frames, seen) = dice.stream();
        let stream = frames.concat();
        assert_eq!(feed(dice.cut(&stream), BYTES_MAX), seen);
    }
}

#[test]
fn broken_streams_neither_panic_nor_depend_on_their_cut() {
    let mut dice = Dice(2);
    let mut kinds = HashSet::new();
    let mut messages = 0;
    for _ in 0..20_000 {
        let (mut frames, _) = dice.stream();
        for _ in 0..=dice.roll(3) {
            dice.mutate(&mut frames);
        }
        let stream = frames.concat();
        let bytes_max = [40, 200, BYTES_MAX][dice.roll(3)];
        let seen = feed_at_once(&stream, bytes_max);
        assert_eq!(feed(dice.cut(&stream), bytes_max), seen);
        for seen in seen {
            match seen {
                Seen::Violation(violation) => drop(kinds.insert(discriminant(&violation))),
                _ => messages += 1,
            }
        }
    }
    assert!(messages > 10_000, "{messages} messages");
    assert!(kinds.len() >= 12, "{} kinds of violation", kinds.len());
}

#[test]
fn noise_does_not_panic() {
    let mut dice = Dice(3);
    for _ in 0..20_000 {
        let noise: Vec<u8> = (0..dice.roll(40)).map(|_| dice.byte()).collect();
        assert_eq!(feed(noise.chunks(1), 64), feed_at_once(&noise, 64));
    }
}
