//! How fast does the decoder turn a 64 KiB read of masked frames into messages, for 128 B, 290 B, 1 KiB and 16 KiB?

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use shardcast::protocol::websocket::decoder::{Decoder, Message};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

const READ_BYTES: usize = 64 * 1024;
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for payload_bytes in [128, 290, 1024, 16 * 1024] {
        let (read, messages) = read_of_frames(payload_bytes);
        // Payload only: headers and the frame that is cut off at the end of the read are not counted.
        group.throughput(Throughput::Bytes((messages * payload_bytes) as u64));
        group.bench_function(format!("{payload_bytes} B"), |bencher| {
            // Unmasking is in place, so each run gets a fresh copy. One at a time: it is then as warm in the cache as
            // bytes that the kernel has just copied.
            bencher.iter_batched_ref(
                || read.clone(),
                |read| assert_eq!(decode_all(read, payload_bytes), messages),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// The messages in `read`, each looked at as far as its length.
fn decode_all(mut read: &mut [u8], payload_bytes: usize) -> usize {
    let mut decoder = Decoder::new();
    let mut messages = 0;
    loop {
        let step = decoder
            .decode(read, MESSAGE_BYTES_MAX)
            .expect("the frames are legal");
        if step.consumed == 0 {
            return messages;
        }
        if let Some(Message::Text(text)) = step.message {
            assert_eq!(black_box(text).len(), payload_bytes);
            messages += 1;
        }
        let consumed = step.consumed;
        read = read.get_mut(consumed..).expect("consumed is within");
    }
}

/// What one read of a pipelining publisher holds: whole frames, and at the end the start of one more.
fn read_of_frames(payload_bytes: usize) -> (Vec<u8>, usize) {
    let head = r#"{"type":"publish","topic":"orders","message":{"payload":""#;
    let filler = "x".repeat(payload_bytes - head.len() - 3);
    let text = format!("{head}{filler}\"}}}}");

    let mut read = Vec::new();
    let mut messages = 0;
    loop {
        let mut frame = Frame::message(text.clone(), OpCode::Data(Data::Text), true);
        frame.header_mut().mask = Some(mask(messages));
        frame.format(&mut read).expect("a Vec takes every write");
        if read.len() > READ_BYTES {
            read.truncate(READ_BYTES);
            return (read, messages);
        }
        messages += 1;
    }
}

/// Another mask for each frame, the same ones in each run.
fn mask(frame: usize) -> [u8; 4] {
    let frame = u32::try_from(frame).expect("a read holds few frames");
    frame.wrapping_mul(0x9E37_79B9).to_le_bytes()
}

criterion_group!(benches, decode);
criterion_main!(benches);
