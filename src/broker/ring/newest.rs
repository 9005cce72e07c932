//! Events of topics of which a subscription wants the newest alone.
//!
//! Each such topic has a place in which one event waits at most: one that comes takes the place of the
//! one before, and counts it as skipped. A place is *due* when its event stands in the order of the
//! ring, where it keeps its turn however often it is replaced. When its subscription changes, the event
//! is *sealed*: nothing that comes later may take that turn. One that has sent an event rests, if
//! there is a rate, and its next event is held back until then.

use std::num::NonZeroU16;
use std::sync::Arc;

use ahash::AHashMap;

use super::super::directory::TopicEntry;
use super::super::run::Run;

/// Which topic: where its entry lies in memory. A place is given up before its topic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(usize);

impl Place {
    /// That of `topic`.
    pub fn of(topic: &TopicEntry) -> Self {
        Self(std::ptr::from_ref(topic).addr())
    }
}

/// What became of a run of which the newest event was wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Events that will not be sent, because there is a newer one.
    pub skipped: u64,
    /// Events that fell out for want of room.
    pub dropped: u64,
    /// When [`Ring::is_rested`](super::Ring::is_rested) is to be called for its place, in microseconds.
    pub rests_until: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Newest {
    places: AHashMap<Place, Waiting>,
    /// Places in which an event waits.
    pub(super) events: u64,
    /// Of these, those whose event is held back.
    pub(super) held: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Nothing waits.
    #[default]
    Free,
    /// An event is held back until the place has rested.
    Resting,
    /// An event stands in the order of the ring.
    Due,
}

#[derive(Debug)]
struct Waiting {
    topic: Arc<str>,
    event: Option<Arc<Run>>,
    state: State,
    /// Replaced since an event was taken, and how many of them the event itself tells of.
    skipped: u64,
    told: u64,
    /// No event leaves before that, in microseconds.
    rested_at: u64,
    /// From one event to the next, in microseconds.
    interval: u64,
}

/// An event that will not be replaced any more, and how many were skipped before it.
pub(super) type Sealed = (Arc<Run>, u64);

/// What a place had whose subscription has changed.
pub(super) struct Ended {
    pub(super) place: Place,
    /// What waited in it, and what was counted for that, in bytes.
    pub(super) event: Option<(Sealed, usize)>,
    /// Events of which no event tells any more: what they were skipped for fell out.
    pub(super) untold: u64,
    /// It stands in the order of the ring.
    pub(super) is_due: bool,
}

impl Ended {
    fn is_held(&self) -> bool {
        self.event.is_some() && !self.is_due
    }
}

/// What a place wants of the ring for an event that has come.
pub(super) struct Put {
    pub(super) replaced: Replaced,
    /// Bytes that wait, more and less than before.
    pub(super) more: usize,
    pub(super) less: usize,
    /// The place is to stand in the order of the ring.
    pub(super) is_due: bool,
}

impl Newest {
    /// Puts the newest event of `run`, which came at `now`, in its place.
    pub(super) fn put(&mut self, run: &Arc<Run>, max_rate: Option<NonZeroU16>, now: u64) -> Put {
        let place = self.places.entry(Place::of(run.topic()));
        let place = place.or_insert_with(|| Waiting {
            topic: run.topic().shared_name(),
            event: None,
            state: State::Free,
            skipped: 0,
            told: 0,
            rested_at: 0,
            interval: 0,
        });
        place.interval = max_rate.map_or(0, |rate| 1_000_000_u64.div_ceil(rate.get().into()));
        let event = run.newest();
        let (mut skipped, more) = (run.events() as u64 - 1, event.bytes());
        place.told = skipped;
        let before = place.event.replace(event);
        let less = before.as_ref().map_or(0, |before| before.bytes());
        let is_first = before.is_none();
        if is_first {
            self.events += 1;
        } else {
            skipped += 1;
        }
        place.skipped += skipped;
        let (mut is_due, mut rests_until) = (false, None);
        if place.state == State::Free {
            is_due = now >= place.rested_at;
            rests_until = (!is_due).then_some(place.rested_at);
            place.state = if is_due { State::Due } else { State::Resting };
        }
        self.held += u64::from(is_first && place.state == State::Resting);
        Put {
            replaced: Replaced {
                skipped,
                dropped: 0,
                rests_until,
            },
            more,
            less,
            is_due,
        }
    }

    /// Takes the event out of a place whose turn has come at `now`, and its bytes; it says how many
    /// were skipped.
    pub(super) fn take(&mut self, place: Place, now: u64) -> Option<(Arc<Run>, usize)> {
        let waiting = self.places.get_mut(&place)?;
        let bytes = waiting.event.as_ref()?.bytes();
        let (event, _) = waiting.seal()?;
        self.events -= 1;
        waiting.state = State::Free;
        waiting.rested_at = now + waiting.interval;
        if waiting.interval == 0 {
            self.places.remove(&place);
        }
        Some((event, bytes))
    }

    /// The event in `place` falls out. If it was due, it has no turn any more.
    pub(super) fn let_go(&mut self, place: Place) -> Option<Arc<Run>> {
        let waiting = self.places.get_mut(&place)?;
        let event = waiting.event.take()?;
        self.events -= 1;
        if waiting.state == State::Due {
            waiting.state = State::Free;
        } else {
            self.held -= 1;
        }
        Some(event)
    }

    /// The same, if the event is held back.
    pub(super) fn let_go_if_held(&mut self, place: Place) -> Option<Arc<Run>> {
        let waiting = self.places.get(&place)?;
        if waiting.state == State::Resting {
            self.let_go(place)
        } else {
            None
        }
    }

    /// So many bytes of events that are held back fall out, or all of them.
    pub(super) fn let_go_held(&mut self, bytes: usize) -> Vec<Arc<Run>> {
        let (mut gone, mut freed) = (Vec::new(), 0);
        for waiting in self.places.values_mut() {
            if freed >= bytes {
                break;
            }
            if waiting.state == State::Resting
                && let Some(event) = waiting.event.take()
            {
                freed += event.bytes();
                gone.push(event);
            }
        }
        self.events -= gone.len() as u64;
        self.held -= gone.len() as u64;
        gone
    }

    /// What waits in `place`.
    pub(super) fn peek(&self, place: Place) -> Option<&Arc<Run>> {
        self.places.get(&place)?.event.as_ref()
    }

    /// A place has rested, if that was this rest of it: its subscription may have ended, and another
    /// have begun, since the rest did. Whether it is to stand in the order of the ring.
    pub(super) fn is_rested(&mut self, place: Place, now: u64) -> bool {
        let Some(waiting) = self.places.get_mut(&place) else {
            return false;
        };
        let is_due =
            waiting.state == State::Resting && waiting.rested_at <= now && waiting.hasten();
        self.held -= u64::from(is_due);
        is_due
    }

    /// Gives up one place, and what waits in it.
    pub(super) fn end(&mut self, place: Place) -> Option<Ended> {
        let ended = self.places.remove(&place)?.end(place);
        self.held -= u64::from(ended.is_held());
        Some(ended)
    }

    /// Gives up the places of all topics that `is_over` picks: what is held back in the order in which
    /// it would have come.
    pub(super) fn end_all(&mut self, is_over: impl Fn(&str) -> bool) -> Vec<Ended> {
        let over = self.places.extract_if(|_, waiting| is_over(&waiting.topic));
        let over = over.map(|(place, waiting)| (waiting.rested_at, place, waiting));
        let mut over: Vec<_> = over.collect();
        over.sort_unstable_by_key(|(rested_at, place, _)| (*rested_at, *place));
        let over = over.into_iter();
        let over: Vec<_> = over.map(|(_, place, waiting)| waiting.end(place)).collect();
        self.held -= over.iter().filter(|ended| ended.is_held()).count() as u64;
        over
    }

    /// Forgets places that have rested and have nothing to tell. Whether none is left.
    pub(super) fn shrink(&mut self, now: u64) -> bool {
        self.places.retain(|_, waiting| {
            waiting.state != State::Free || waiting.skipped > 0 || waiting.rested_at > now
        });
        self.places.shrink_to_fit();
        self.places.is_empty() && self.events == 0
    }

    /// What the places take in memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.places.capacity() * (size_of::<Place>() + size_of::<Waiting>())
    }
}

impl Waiting {
    fn end(mut self, place: Place) -> Ended {
        let bytes = self.event.as_ref().map_or(0, |event| event.bytes());
        let event = self.seal().map(|event| (event, bytes));
        Ended {
            place,
            event,
            untold: self.skipped,
            is_due: self.state == State::Due,
        }
    }

    /// Takes the event out, which says how many were skipped.
    fn seal(&mut self) -> Option<Sealed> {
        let event = self.event.take()?;
        let skipped = std::mem::take(&mut self.skipped);
        let is_told = self.told == skipped;
        let event = if is_told {
            event
        } else {
            event.skipping(skipped)
        };
        Some((event, skipped))
    }

    /// Waits no longer. Whether there is an event to be sent.
    fn hasten(&mut self) -> bool {
        let is_due = self.event.is_some();
        self.state = if is_due { State::Due } else { State::Free };
        is_due
    }
}

#[cfg(test)]
mod tests;
