//! What a socket is sent that does not take frames as they are: deflated ones, or an event stream,
//! and which position stands with each event of it.
//!
//! A stream of one topic shares every byte with all others of that topic. In one of several topics an
//! event's `id:` has the position in each of them, as this stream has come to it: that line is its
//! own, the rest is shared.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use super::Connection;
use super::local::Local;
use super::outgoing::Segment;
use crate::broker::delivery::Said;
use crate::broker::directory::TopicEntry;
use crate::broker::run::{Form, Rendered, Run};
use crate::budget::{Booked, Budget, Kind};
use crate::protocol::answer::Answer;
use crate::protocol::dialect::Dialect;
use crate::protocol::sse;

/// Where a stream of several topics is in each, in the order in which the client has named them.
#[derive(Debug)]
pub(super) struct Positions {
    places: RefCell<Vec<Place>>,
    /// They are kept as long as the connection.
    _booked: Booked,
}

/// One topic of a stream.
#[derive(Debug)]
enum Place {
    /// Its shard has not answered about the topic of this name.
    Asked(Box<str>),
    /// It was gone before the subscribe came to it.
    Absent,
    Present {
        topic: Arc<TopicEntry>,
        /// Of the newest event that there was when the stream began.
        newest: u64,
        /// Of the newest event that the stream was sent, or that it did not ask for.
        seq: u64,
        recovered: Option<bool>,
    },
}

impl Positions {
    /// Of topics of these names, each named once, on `core`. None of one: its position is the same
    /// for everybody.
    pub(super) fn of(
        topics: Vec<Box<str>>,
        budget: &Arc<Budget>,
        core: usize,
    ) -> Option<Box<Self>> {
        if topics.len() < 2 {
            return None;
        }
        let bytes = topics.len() * size_of::<Place>();
        Some(Box::new(Self {
            places: RefCell::new(topics.into_iter().map(Place::Asked).collect()),
            _booked: Booked::new(Arc::clone(budget), core, Kind::Connections, bytes),
        }))
    }

    /// Notes what a shard has answered about the topic `name`. Shards answer in any order, but each
    /// topic once. Whether none is left to answer.
    fn answered(&self, name: &str, said: &Said) -> bool {
        let mut places = self.places.borrow_mut();
        let is_it = |place: &&mut Place| matches!(place, Place::Asked(of) if **of == *name);
        if let Some(place) = places.iter_mut().find(is_it) {
            *place = match said {
                Said::Subscribed {
                    topic,
                    seq,
                    recovered,
                    replay,
                    ..
                } => Place::Present {
                    topic: Arc::clone(topic),
                    newest: *seq,
                    // A replay that has not left is still to come.
                    seq: replay.as_ref().map_or(*seq, |(_, of)| of.first - 1),
                    recovered: *recovered,
                },
                _ => Place::Absent,
            };
        }
        !places.iter().any(|place| matches!(place, Place::Asked(_)))
    }

    /// The newest event of `topic` that was sent is `seq`. Appends the `id:` that goes with it.
    fn note(&self, topic: &TopicEntry, seq: u64, out: &mut Vec<u8>) {
        let mut places = self.places.borrow_mut();
        for place in places.iter_mut() {
            if let Place::Present {
                topic: of, seq: at, ..
            } = place
                && std::ptr::eq(&raw const **of, topic)
            {
                *at = seq;
            }
        }
        let positions = places.iter().map(|place| match place {
            Place::Present { topic, seq, .. } => (topic.epoch(), *seq),
            // No epoch is like this: who resumes from it gets all that is kept.
            Place::Asked(_) | Place::Absent => ("0", 0),
        });
        sse::id(out, positions);
    }
}

impl Connection {
    /// Whether it is an event stream.
    pub(super) fn is_stream(&self) -> bool {
        self.dialect == Dialect::Sse
    }

    /// Gives `add` what the socket is sent, other than frames as they are, for the events of `run`
    /// from `first` on.
    pub(super) fn render(
        &self,
        local: &Local,
        run: &Arc<Run>,
        first: usize,
        is_live: bool,
        mut add: impl FnMut(Segment),
    ) {
        let events = run.events();
        let live = if is_live { events - first } else { 0 };
        let rest = |rendered: &Rendered| rendered.span(first).start..rendered.text().len();
        if !self.is_stream() {
            let bytes_min = local.config().compression_bytes_min;
            let mut deflater = local.deflater.borrow_mut();
            let rendered = run.deflated(deflater.get_or_insert_default(), bytes_min);
            add(match rendered {
                Some(rendered) => segment(run, Form::Deflated, rest(rendered), live),
                None => Segment::Events {
                    run: Arc::clone(run),
                    start: run.start_of(first),
                    live,
                },
            });
            return;
        }
        let Some(positions) = &self.positions else {
            add(segment(run, Form::Sse, rest(run.sse()), live));
            return;
        };
        for index in first..events {
            let mut id = Vec::new();
            positions.note(run.topic(), run.first_seq() + index as u64, &mut id);
            let part = run.sse().behind_line(index);
            add(Segment::Replies(id));
            add(segment(run, Form::Sse, part, usize::from(is_live)));
        }
    }

    /// What a stream does with the answer to its subscribe: one of several topics acks them all
    /// together, in front of everything that came meanwhile.
    pub(super) fn stream_answered(&self, local: &Local, said: &Said) {
        let Some(positions) = &self.positions else {
            return;
        };
        let name = match said {
            Said::Subscribed { topic, .. } => topic.name(),
            Said::Refused { topic, .. } => topic,
            _ => return,
        };
        if !positions.answered(name, said) {
            return;
        }
        let places = positions.places.borrow();
        let (mut known, mut lost) = (Vec::new(), None);
        for place in &*places {
            let Place::Present {
                topic,
                newest,
                recovered: of,
                ..
            } = place
            else {
                continue;
            };
            known.push(topic.position(*newest));
            if let Some(is_recovered) = of {
                let lost = lost.get_or_insert_with(Vec::new);
                lost.extend((!is_recovered).then(|| topic.name()));
            }
        }
        let answer = Answer::SubscribedToMany {
            request_id: None,
            topic: None,
            matched: known.len() as u64,
            positions: Some(&known),
            lost: lost.as_deref(),
        };
        let mut ring = self.ring.borrow_mut();
        ring.release(|out| self.dialect.encode(out, &answer, local.timestamp()));
    }
}

fn segment(run: &Arc<Run>, form: Form, part: Range<usize>, live: usize) -> Segment {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Segment::Rendered {
        run: Arc::clone(run),
        form,
        part: number(part.start)..number(part.end),
        live: number(live),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_booked_for_as_long_as_they_are_kept() {
        let budget = Arc::new(Budget::new(usize::MAX, 1));
        let names = |count: usize| (0..count).map(|n| n.to_string().into()).collect();
        assert!(Positions::of(names(1), &budget, 0).is_none());
        assert_eq!(budget.total(), 0);
        let positions = Positions::of(names(64), &budget, 0);
        assert!(budget.bytes(Kind::Connections) >= 64 * size_of::<Place>());
        drop(positions);
        assert_eq!(budget.total(), 0);
    }
}
