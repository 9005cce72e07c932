//! Consecutive events of one topic, encoded once and shared by every ring and by the history.
//!
//! A run is what a ring entry refers to. Under load it holds many events, so that a subscriber
//! costs one push and one write for all of them; when it is quiet it holds one. Bounds, drops and
//! order are still counted per event: a run knows where each of its frames ends. Its bytes are
//! booked on the budget from its making until nobody holds it any more.

use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::directory::TopicEntry;
use crate::budget::Kind;
use crate::protocol::sse;
use crate::protocol::time::Moment;
use crate::protocol::websocket::deflate::Deflater;
use crate::protocol::websocket::frame;

/// Most bytes of frames in one run of more than one event.
pub(crate) const RUN_BYTES_MAX: usize = 64 * 1024;

/// What a run takes beside its frames: itself, two reference counts, the allocator's rounding.
const OVERHEAD_BYTES: usize = 120;

/// Complete `WebSocket` frames of consecutive events of one topic, immutable once made.
#[derive(Debug)]
pub struct Run {
    frames: Box<[u8]>,
    /// Where each frame ends in `frames`; empty for a run of one event, which ends at the end.
    ends: Box<[u32]>,
    first_seq: u64,
    /// What it takes in memory: reckoned once, asked for by every ring.
    bytes: usize,
    /// When the first of its messages was read.
    read_at: Moment,
    topic: Arc<TopicEntry>,
    /// What it is besides, once somebody needs that.
    forms: OnceLock<Box<Forms>>,
}

/// The same events for others than plain `WebSocket`s: each made for the first that needs it, then
/// shared by all.
#[derive(Debug, Default)]
struct Forms {
    sse: OnceLock<Rendered>,
    deflated: OnceLock<Rendered>,
    /// Kept by those for whom it waits: a history holds the run alone.
    newest: Mutex<Weak<Run>>,
}

/// Another form than frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Server-Sent Events, each with the empty line that ends it.
    Sse,
    /// Frames of which those that are worth it are deflated.
    Deflated,
}

/// The events of a run in another form.
#[derive(Debug)]
pub struct Rendered {
    text: Box<[u8]>,
    /// Where each event ends in `text`.
    ends: Box<[u32]>,
}

impl Run {
    /// Takes over `frames`; `ends` has the end of each frame, in order. The first of them has the
    /// sequence number `first_seq`, and was read at `read_at`.
    pub fn new(
        frames: Vec<u8>,
        ends: &[u32],
        first_seq: u64,
        read_at: Moment,
        topic: Arc<TopicEntry>,
    ) -> Self {
        let ends = if ends.len() > 1 {
            ends.into()
        } else {
            Box::default()
        };
        let bytes = frames.len() + size_of_val(&*ends) + OVERHEAD_BYTES;
        topic.budget.book(topic.shard, Kind::Frames, bytes);
        Self {
            frames: frames.into_boxed_slice(),
            ends,
            first_seq,
            bytes,
            read_at,
            topic,
            forms: OnceLock::new(),
        }
    }

    /// Its newest event alone, which says that the others were skipped: for who wants no more of them.
    /// Shared by all for whom it waits at the same time.
    pub fn newest(&self) -> Arc<Self> {
        let mut newest = self
            .forms()
            .newest
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        newest.upgrade().unwrap_or_else(|| {
            let (index, skipped) = (self.events() - 1, self.events() as u64 - 1);
            let event = self.frames.get(self.start_of(index)..).unwrap_or_default();
            let made = self.alone(event.len(), |out| frame::skipping(out, event, skipped));
            *newest = Arc::downgrade(&made);
            made
        })
    }

    /// One that [`newest`](Self::newest) has made, with another number of events that were skipped.
    pub fn skipping(&self, skipped: u64) -> Arc<Self> {
        let bytes = self.frames.len();
        self.alone(bytes, |out| {
            frame::skipping_other(out, &self.frames, skipped);
        })
    }

    /// What `append` makes of an event of so many bytes.
    fn alone(&self, bytes: usize, append: impl FnOnce(&mut Vec<u8>)) -> Arc<Self> {
        // A name, a number, and a header that may be longer.
        let mut frames = Vec::with_capacity(bytes + 40);
        append(&mut frames);
        let (seq, topic) = (self.last_seq(), Arc::clone(&self.topic));
        Arc::new(Self::new(frames, &[], seq, self.read_at, topic))
    }

    /// Events in this run: at least 1.
    pub fn events(&self) -> usize {
        self.ends.len().max(1)
    }

    /// Sequence number of its first event.
    pub fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// Sequence number of its last event.
    pub fn last_seq(&self) -> u64 {
        self.first_seq + self.events() as u64 - 1
    }

    /// When the first of its messages was read from a socket.
    pub fn read_at(&self) -> Moment {
        self.read_at
    }

    /// What it takes in memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The byte at which event `index` starts; the length of all frames for an index past the end.
    pub(crate) fn start_of(&self, index: usize) -> usize {
        match index {
            0 => 0,
            n => self
                .ends
                .get(n - 1)
                .map_or(self.frames.len(), |end| *end as usize),
        }
    }

    /// Each event from byte `start` on: its sequence number and its frame.
    pub fn each(&self, start: usize) -> impl Iterator<Item = (u64, &[u8])> {
        let events = (0..self.events()).map(|index| (index, self.start_of(index)));
        let events = events.skip_while(move |(_, at)| *at < start);
        events.map(|(index, at)| {
            let frame = self.frames.get(at..self.start_of(index + 1));
            (self.first_seq + index as u64, frame.unwrap_or_default())
        })
    }

    /// The event that starts at byte `start` of the frames: its index.
    pub(crate) fn index_of(&self, start: usize) -> usize {
        self.ends.partition_point(|end| *end as usize <= start)
    }

    /// The same events as Server-Sent Events.
    pub fn sse(&self) -> &Rendered {
        self.forms().sse.get_or_init(|| {
            // Beside its frame an event has an id of up to 37 bytes and two names of fields.
            self.render(52, |out, seq, event| {
                sse::event(out, self.topic.epoch(), seq, frame::body(event));
                sse::end(out);
            })
        })
    }

    /// The same frames, those with a body of at least `bytes_min` deflated if that makes them smaller.
    /// `None` if that is so for none.
    pub fn deflated(&self, deflater: &mut Deflater, bytes_min: usize) -> Option<&Rendered> {
        let rendered = self.forms().deflated.get_or_init(|| {
            let is_worth = |event: &[u8]| frame::body(event).len() >= bytes_min;
            if !self.each(0).any(|(_, event)| is_worth(event)) {
                return Rendered::default();
            }
            let mut is_smaller = false;
            let rendered = self.render(0, |out, _, event| {
                if is_worth(event) && deflater.deflate(event, out) {
                    is_smaller = true;
                } else {
                    out.extend_from_slice(event);
                }
            });
            if is_smaller {
                return rendered;
            }
            let TopicEntry { budget, shard, .. } = &*self.topic;
            budget.release(*shard, Kind::Frames, rendered.bytes());
            Rendered::default()
        });
        (!rendered.text.is_empty()).then_some(rendered)
    }

    /// What was made of it in that form.
    pub fn rendered(&self, form: Form) -> Option<&Rendered> {
        let forms = self.forms.get()?;
        match form {
            Form::Sse => forms.sse.get(),
            Form::Deflated => forms.deflated.get(),
        }
    }

    fn forms(&self) -> &Forms {
        self.forms.get_or_init(Box::default)
    }

    /// What `put` makes of each event, which takes up to `more` bytes beside its frame.
    fn render(&self, more: usize, mut put: impl FnMut(&mut Vec<u8>, u64, &[u8])) -> Rendered {
        let events = self.events();
        let mut text = Vec::with_capacity(self.frames.len() + events * more);
        let mut ends = Vec::with_capacity(events);
        for (seq, event) in self.each(0) {
            put(&mut text, seq, event);
            ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
        }
        let (text, ends) = (text.into_boxed_slice(), ends.into_boxed_slice());
        let rendered = Rendered { text, ends };
        let TopicEntry { budget, shard, .. } = &*self.topic;
        budget.book(*shard, Kind::Frames, rendered.bytes());
        rendered
    }

    /// All frames, back to back.
    pub fn frames(&self) -> &[u8] {
        &self.frames
    }

    /// The topic that these events belong to.
    pub fn topic(&self) -> &TopicEntry {
        &self.topic
    }
}

impl Default for Rendered {
    fn default() -> Self {
        let (text, ends) = (Box::default(), Box::default());
        Self { text, ends }
    }
}

impl Rendered {
    /// Where event `index` is in [`text`](Self::text).
    pub(crate) fn span(&self, index: usize) -> Range<usize> {
        let end = |index: usize| self.ends.get(index).map(|end| *end as usize);
        let start = index.checked_sub(1).map_or(Some(0), end);
        let start = start.unwrap_or(self.text.len());
        start..end(index).unwrap_or(start)
    }

    /// The same without its first line.
    pub(crate) fn behind_line(&self, index: usize) -> Range<usize> {
        let Range { start, end } = self.span(index);
        let line = self.text.get(start..end).unwrap_or_default();
        let line = line.iter().position(|byte| *byte == b'\n');
        start + line.map_or(0, |end| end + 1)..end
    }

    /// All events, back to back.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    fn bytes(&self) -> usize {
        self.text.len() + size_of_val(&*self.ends)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let mut bytes = self.bytes;
        if let Some(forms) = self.forms.get() {
            let forms = [&forms.sse, &forms.deflated].into_iter();
            bytes += forms
                .filter_map(OnceLock::get)
                .map(Rendered::bytes)
                .sum::<usize>();
        }
        let TopicEntry { budget, shard, .. } = &*self.topic;
        budget.release(*shard, Kind::Frames, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::super::directory::tests::entry;
    use super::*;

    #[test]
    fn each_event_starts_where_the_one_before_ends() {
        let run = Run::new(
            b"aabbbc".to_vec(),
            &[2, 5, 6],
            7,
            Moment::default(),
            entry("t"),
        );
        assert_eq!(run.events(), 3);
        let starts: Vec<_> = (0..4).map(|i| run.start_of(i)).collect();
        assert_eq!(starts, [0, 2, 5, 6]);
        assert_eq!((run.first_seq(), run.last_seq()), (7, 9));
    }

    #[test]
    fn a_single_event_needs_no_table_of_ends() {
        let run = Run::new(b"abc".to_vec(), &[3], 7, Moment::default(), entry("t"));
        assert_eq!((run.events(), run.start_of(0), run.start_of(1)), (1, 0, 3));
        assert!(run.ends.is_empty());
    }

    #[test]
    fn its_bytes_are_booked_while_anybody_holds_it() {
        let topic = entry("t");
        let run = Arc::new(Run::new(
            vec![0; 1000],
            &[1000],
            1,
            Moment::default(),
            Arc::clone(&topic),
        ));
        let held = Arc::clone(&run);
        assert!(topic.budget.bytes(Kind::Frames) >= 1000);
        drop(run);
        assert!(topic.budget.bytes(Kind::Frames) >= 1000);
        drop(held);
        assert_eq!(topic.budget.bytes(Kind::Frames), 0);
    }

    #[test]
    fn other_forms_are_made_once_and_booked_while_the_run_lives() {
        let topic = entry("t");
        let (mut frames, mut ends) = (Vec::new(), Vec::new());
        for body in ["x".repeat(500), "{}".to_owned()] {
            frame::text(&mut frames, |out| out.extend_from_slice(body.as_bytes()));
            ends.push(u32::try_from(frames.len()).expect("small"));
        }
        let run = Run::new(frames, &ends, 7, Moment::default(), Arc::clone(&topic));
        let booked = topic.budget.bytes(Kind::Frames);
        assert!(run.rendered(Form::Sse).is_none());
        let sse = std::ptr::from_ref(run.sse());
        assert_eq!(sse, std::ptr::from_ref(run.sse()));
        let text = run.sse().text();
        let second = format!("id: {}:8\ndata: {{}}\n\n", topic.epoch());
        assert!(text[run.sse().span(1)] == *second.as_bytes());
        assert!(text[run.sse().behind_line(1)] == *b"data: {}\n\n");
        assert!(topic.budget.bytes(Kind::Frames) > booked + 500);

        let mut deflater = Deflater::default();
        let rendered = run.deflated(&mut deflater, 100).expect("smaller");
        assert!(rendered.text().len() < 100);
        assert_eq!(
            rendered.text()[rendered.span(1)],
            run.frames()[run.start_of(1)..]
        );
        drop(run);
        assert_eq!(topic.budget.bytes(Kind::Frames), 0);

        let run = Run::new(
            vec![0x81, 2, b'{', b'}'],
            &[4],
            1,
            Moment::default(),
            Arc::clone(&topic),
        );
        assert!(run.deflated(&mut deflater, 0).is_none(), "not smaller");
        drop(run);
        assert_eq!(topic.budget.bytes(Kind::Frames), 0);
    }
}
