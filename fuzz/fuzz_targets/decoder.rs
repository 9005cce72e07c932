//! Whatever the cut of the input into reads, the same messages and the same violation come out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardcast::protocol::websocket::decoder::{Decoder, Message, Violation};
use shardcast::protocol::websocket::deflate::Inflater;

const MESSAGE_BYTES_MAX: usize = 512;

/// What a connection hears of `bytes`, when they come in reads as long as `cuts` says, over and over.
fn hear(bytes: &[u8], cuts: &[u8], takes_deflated: bool) -> (Vec<String>, Option<Violation>) {
    let mut decoder = Decoder::with_deflate(takes_deflated);
    let mut inflater = Inflater::default();
    let (mut heard, mut carry, mut rest) = (Vec::new(), Vec::new(), bytes);
    let mut cuts = cuts.iter().cycle();
    loop {
        let read = cuts
            .next()
            .map_or(rest.len(), |cut| usize::from(*cut).max(1));
        let (now, later) = rest.split_at(read.min(rest.len()));
        carry.extend_from_slice(now);
        rest = later;
        loop {
            let step = match decoder.decode(&mut carry, MESSAGE_BYTES_MAX) {
                Ok(step) => step,
                Err(violation) => return (heard, Some(violation)),
            };
            assert!(step.message.is_none() || step.consumed > 0);
            let consumed = step.consumed;
            if let Some(message) = step.message {
                if let Message::Text(text) = message {
                    assert!(text.len() <= MESSAGE_BYTES_MAX);
                }
                if let Message::Deflated(message) = message {
                    match inflater.inflate(message, MESSAGE_BYTES_MAX) {
                        Ok(text) => assert!(text.len() <= MESSAGE_BYTES_MAX),
                        Err(violation) => return (heard, Some(violation)),
                    }
                }
                heard.push(format!("{message:?}"));
                if matches!(message, Message::Close(_)) {
                    return (heard, None);
                }
            }
            if consumed == 0 {
                assert!(decoder.wanted() <= MESSAGE_BYTES_MAX + 64 + 14);
                break;
            }
            carry.drain(..consumed);
        }
        if rest.is_empty() {
            return (heard, None);
        }
    }
}

fuzz_target!(|input: (Vec<u8>, &[u8])| {
    let (cuts, bytes) = input;
    for takes_deflated in [false, true] {
        let whole = hear(bytes, &[], takes_deflated);
        assert_eq!(hear(bytes, &cuts, takes_deflated), whole);
        assert_eq!(hear(bytes, &[1], takes_deflated), whole);
    }
});
