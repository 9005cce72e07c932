//! A snapshot as bytes: all topics as they were behind one entry of the log, deflated.
//!
//! ```text
//! picture = "SCPICT" version:u8  record*  end
//! record  = bytes:u32 (at least 1)  name:text epoch:text created:ts seq:u64
//!           messages:u32 (id:text payload:text ts)*  ids:u32 (id:u128 first:u64 last:u64)*
//! end     = 0:u32  records:u64
//! text    = bytes:u32 and so many bytes     ts = 24 bytes as clients see them
//! ```
//!
//! Whoever reads one is told if it is not whole: then the one before is taken.

use std::io::{self, Write};
use std::sync::mpsc::Receiver;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{ZlibDecoder, ZlibEncoder};
use shardcast_cluster::rest::Rest;
use tokio::sync::mpsc::Sender;

use crate::broker::request::{Restored, RestoredMessage};
use crate::broker::topic::Image;
use crate::protocol::names::TopicName;
use crate::protocol::time::Timestamp;

const MARK: &[u8] = b"SCPICT";
const VERSION: u8 = 1;

/// The largest record that is believed: all that one topic can keep would have to be larger than memory.
const RECORD_BYTES_MAX: usize = 1 << 31;

/// Writes all images into chunks of at most so many bytes, for as long as somebody takes them.
pub(super) fn write(
    images: &Receiver<Vec<Image>>,
    chunk_bytes: usize,
    chunks: Sender<Bytes>,
) -> io::Result<u64> {
    let out = Chunks {
        taken_by: chunks,
        chunk: Vec::new(),
        chunk_bytes,
    };
    let mut out = ZlibEncoder::new(out, Compression::fast());
    out.write_all(MARK)?;
    out.write_all(&[VERSION])?;
    let (mut records, mut record) = (0_u64, Vec::new());
    for image in images.iter().flatten() {
        record.clear();
        put_image(&image, &mut record);
        out.write_all(&length(record.len()))?;
        out.write_all(&record)?;
        records += 1;
    }
    out.write_all(&length(0))?;
    out.write_all(&records.to_le_bytes())?;
    out.finish()?.flush()?;
    Ok(records)
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes()
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&length(text.len()));
    out.extend_from_slice(text.as_bytes());
}

fn put_image(image: &Image, out: &mut Vec<u8>) {
    let entry = &image.entry;
    put_text(entry.name(), out);
    put_text(entry.epoch(), out);
    out.extend_from_slice(entry.created().as_bytes());
    out.extend_from_slice(&image.seq.to_le_bytes());
    let count_at = out.len();
    out.extend_from_slice(&length(0));
    let mut messages = 0;
    for run in &image.runs {
        for (seq, frame) in run.each(0) {
            let kept = (image.oldest..=image.seq).contains(&seq);
            if let Some((id, payload, ts)) = entry.template.parts(frame, seq).filter(|_| kept) {
                put_text(id, out);
                put_text(payload, out);
                out.extend_from_slice(ts.as_bytes());
                messages += 1;
            }
        }
    }
    if let Some(count) = out.get_mut(count_at..count_at + 4) {
        count.copy_from_slice(&length(messages));
    }
    out.extend_from_slice(&length(image.ids.len()));
    for (id, first, last) in &image.ids {
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&first.to_le_bytes());
        out.extend_from_slice(&last.to_le_bytes());
    }
}

/// Hands on what was written, a chunk at a time. Waits where nobody takes it yet.
struct Chunks {
    taken_by: Sender<Bytes>,
    chunk: Vec<u8>,
    chunk_bytes: usize,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= self.chunk_bytes {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = std::mem::take(&mut self.chunk);
        if chunk.is_empty() {
            return Ok(());
        }
        let sent = self.taken_by.blocking_send(chunk.into());
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// What is wrong with a picture.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadPicture {
    #[error("it is not deflated: {0}")]
    Deflated(#[from] io::Error),
    #[error("it is no snapshot of shardcast, or one of a later release")]
    Foreign,
    #[error("it is cut or garbled")]
    Garbled,
}

/// Reads a picture piece by piece.
#[derive(Debug)]
pub(super) struct Reading {
    inflating: ZlibDecoder<Vec<u8>>,
    has_begun: bool,
    records: u64,
    is_whole: bool,
}

impl Reading {
    pub(super) fn new() -> Self {
        Self {
            inflating: ZlibDecoder::new(Vec::new()),
            has_begun: false,
            records: 0,
            is_whole: false,
        }
    }

    /// Whether all of it was read.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The topics that are complete with these bytes.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Vec<Restored>, BadPicture> {
        self.inflating.write_all(bytes)?;
        self.inflating.flush()?;
        let inflated = self.inflating.get_mut();
        let (mut rest, mut topics) = (Rest(inflated), Vec::new());
        if !self.has_begun {
            match rest.0.split_at_checked(MARK.len() + 1) {
                None => return Ok(topics),
                Some((head, behind)) if head == [MARK, &[VERSION]].concat() => rest = Rest(behind),
                Some(_) => return Err(BadPicture::Foreign),
            }
            self.has_begun = true;
        }
        while !self.is_whole {
            let mut ahead = Rest(rest.0);
            let Some(bytes) = number(&mut ahead) else {
                break;
            };
            if bytes == 0 {
                let Some(records) = ahead.u64() else {
                    break;
                };
                if records != self.records {
                    return Err(BadPicture::Garbled);
                }
                self.is_whole = true;
            } else {
                if bytes > RECORD_BYTES_MAX {
                    return Err(BadPicture::Garbled);
                }
                let Some(record) = ahead.take(bytes) else {
                    break;
                };
                topics.push(restored(record).ok_or(BadPicture::Garbled)?);
                self.records += 1;
            }
            rest = Rest(ahead.0);
        }
        let read = inflated.len() - rest.0.len();
        inflated.drain(..read);
        Ok(topics)
    }
}

fn restored(record: &[u8]) -> Option<Restored> {
    let mut rest = Rest(record);
    let (name, epoch) = (text(&mut rest)?, text(&mut rest)?);
    TopicName::parse(name).ok()?;
    let (created, seq) = (ts(&mut rest)?, rest.u64()?);
    let mut messages = Vec::new();
    for _ in 0..number(&mut rest)? {
        let (id, payload, ts) = (text(&mut rest)?, text(&mut rest)?, ts(&mut rest)?);
        let (id, payload) = (id.into(), payload.into());
        messages.push(RestoredMessage { id, payload, ts });
    }
    let mut ids = Vec::new();
    for _ in 0..number(&mut rest)? {
        let id = u128::from_le_bytes(rest.take(16)?.try_into().ok()?);
        ids.push((id, rest.u64()?, rest.u64()?));
    }
    let (name, epoch) = (name.into(), epoch.into());
    rest.0.is_empty().then_some(Restored {
        name,
        epoch,
        created,
        seq,
        messages,
        ids,
    })
}

fn number(rest: &mut Rest<'_>) -> Option<usize> {
    usize::try_from(rest.u32()?).ok()
}

/// A text behind its length.
fn text<'a>(rest: &mut Rest<'a>) -> Option<&'a str> {
    let bytes = number(rest)?;
    rest.text(bytes)
}

fn ts(rest: &mut Rest<'_>) -> Option<Timestamp> {
    Timestamp::from_text(rest.text(Timestamp::LEN)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::broker::directory::tests::entry;
    use crate::broker::run::Run;
    use crate::protocol::time::Moment;

    fn image(name: &str, oldest: u64, seq: u64, bytes: usize) -> Image {
        let entry = entry(name);
        let runs = (1..=seq).map(|number| {
            let mut frame = Vec::new();
            let payload = format!("{{\"n\" : {number}, \"x\":\"{}\"}}", "ü".repeat(bytes));
            let ts = Timestamp::from_unix_ms(number);
            entry.template.encode(
                &mut frame,
                "550e8400-e29b-41d4-a716-446655440000",
                &payload,
                ts,
                number,
            );
            let end = u32::try_from(frame.len()).expect("small");
            Arc::new(Run::new(
                frame,
                &[end],
                number,
                Moment::default(),
                Arc::clone(&entry),
            ))
        });
        let runs = runs.collect();
        Image {
            runs,
            seq,
            oldest,
            ids: vec![(7, 1, 2)],
            entry,
        }
    }

    fn picture(images: Vec<Image>) -> Vec<u8> {
        let (send, receive) = std::sync::mpsc::channel();
        let (chunks, mut written) = tokio::sync::mpsc::channel(4096);
        send.send(images).expect("it is received");
        drop(send);
        write(&receive, 512, chunks).expect("somebody takes it");
        let mut bytes = Vec::new();
        while let Ok(chunk) = written.try_recv() {
            bytes.extend_from_slice(&chunk);
        }
        bytes
    }

    #[test]
    fn what_is_written_is_read_in_pieces_of_any_size() {
        let bytes = picture(vec![
            image("a", 3, 9, 5),
            image("empty", 1, 0, 0),
            image("b/ü", 1, 3, 40_000),
        ]);
        for size in [1, 7, 100, 1 << 20] {
            let (mut reading, mut topics) = (Reading::new(), Vec::new());
            for piece in bytes.chunks(size) {
                topics.extend(reading.take(piece).expect("ours"));
            }
            assert!(reading.is_whole());
            let names: Vec<_> = topics
                .iter()
                .map(|topic| (&*topic.name, topic.seq, topic.messages.len()))
                .collect();
            assert_eq!(names, [("a", 9, 7), ("empty", 0, 0), ("b/ü", 3, 3)]);
            assert_eq!(
                &*topics[0].messages[0].payload,
                "{\"n\" : 3, \"x\":\"üüüüü\"}"
            );
            assert_eq!(topics[0].messages[0].ts, Timestamp::from_unix_ms(3));
            assert_eq!((&*topics[0].epoch, &topics[0].ids), ("e", &vec![(7, 1, 2)]));
        }
    }

    #[test]
    fn what_is_cut_or_garbled_is_found_out() {
        let bytes = picture(vec![image("a", 1, 9, 5), image("b", 1, 3, 300)]);
        for end in 0..bytes.len() {
            let mut reading = Reading::new();
            let read = reading.take(&bytes[..end]);
            // All of it may be there before the checksum behind it is.
            let is_whole = reading.is_whole() && read.is_ok_and(|topics| topics.len() == 2);
            assert!(!reading.is_whole() || is_whole, "cut at {end}");
            assert!(!is_whole || end + 12 > bytes.len(), "cut at {end}");
        }
        for place in 0..bytes.len() {
            let mut garbled = bytes.clone();
            garbled[place] ^= 0x10;
            // It may be another picture, but reading it ends well.
            drop(Reading::new().take(&garbled));
        }
        assert!(matches!(
            Reading::new().take(b"hello"),
            Err(BadPicture::Deflated(_))
        ));
    }
}
