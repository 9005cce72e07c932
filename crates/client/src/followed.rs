//! What becomes of a subscription, whatever happens to the connections below.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use serde_json::value::RawValue;
use tokio::sync::watch;

use crate::command::{self, Past};
use crate::error::Error;
use crate::event::{Event, Item, Position};
use crate::frame::Frame;
use crate::inbox::Inbox;
use crate::options::Limits;
use crate::pattern::is_pattern;
use crate::subscription::{Subscribe, SubscriptionState};
use crate::tracker::{Ack, Tracker};

/// What a subscribe has beside its positions: a name, spelled at its longest, and options. In bytes.
const AROUND_POSITIONS_BYTES: usize = 1024;

/// What a connection and the consumer of a subscription both know of it.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) name: String,
    wish: Subscribe,
    positions_bytes_max: usize,
    course: Mutex<Course>,
    pub(crate) state: watch::Sender<SubscriptionState>,
}

/// How far a subscription has come.
#[derive(Debug)]
pub(crate) struct Course {
    pub(crate) inbox: Inbox,
    tracker: Tracker,
    pub(crate) was_live: bool,
    pub(crate) error: Option<Error>,
    /// Of the consumer, while it waits for something.
    waker: Option<Waker>,
}

impl Followed {
    pub(crate) fn new(name: &str, wish: Subscribe, limits: &Limits) -> Self {
        let positions_bytes_max = limits.message_bytes_max;
        Self {
            name: name.to_owned(),
            positions_bytes_max: positions_bytes_max.saturating_sub(AROUND_POSITIONS_BYTES),
            course: Mutex::new(Course {
                inbox: Inbox::new(limits),
                tracker: Tracker::new(wish.positions(name), wish.last),
                was_live: false,
                error: None,
                waker: None,
            }),
            wish,
            state: watch::Sender::new(SubscriptionState::Connecting),
        }
    }

    pub(crate) fn course(&self) -> MutexGuard<'_, Course> {
        // Nothing in here panics half-way through a change.
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_pattern(&self) -> bool {
        is_pattern(&self.name)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.course().inbox.is_full()
    }

    pub(crate) fn state(&self) -> SubscriptionState {
        *self.state.borrow()
    }

    /// Whether a new connection goes on from somewhere, rather than begins.
    pub(crate) fn has_position(&self) -> bool {
        self.wish.since.is_some() || self.course().was_live
    }

    /// What asks for it.
    pub(crate) fn command(&self) -> String {
        let past = if !self.has_position() {
            Past::Begins
        } else if self.is_pattern() {
            let positions = self.course().tracker.positions();
            Past::AfterAll(command::fitting(positions, self.positions_bytes_max))
        } else {
            let position = self.course().tracker.position(&self.name);
            position.map_or(Past::Begins, Past::After)
        };
        command::subscribe(&self.name, &self.wish, &past)
    }

    /// The broker has acked it. Returns where it says that each topic is.
    pub(crate) fn acked(&self, ack: &Frame<'_>) -> BTreeMap<Arc<str>, Position> {
        let is_resumed = self.has_position();
        let lost = ack.lost.iter().flatten().map(|topic| &**topic);
        let mut lost: HashSet<&str> = lost.collect();
        let positions = if self.is_pattern() {
            let all = ack.positions.iter().flatten();
            all.map(|(topic, at)| (Arc::from(&**topic), at.position()))
                .collect()
        } else {
            if ack.recovered == Some(false) {
                lost.insert(&self.name);
            }
            let epoch = ack.epoch.as_deref().unwrap_or_default().into();
            let seq = ack.seq.unwrap_or_default();
            BTreeMap::from([(Arc::from(&*self.name), Position { epoch, seq })])
        };
        let mut course = self.course();
        if self.is_pattern() && is_resumed {
            let told = positions.keys().map(|topic| &**topic).collect();
            course.tracker.resumed_without_positions(&told, &lost);
        }
        for (topic, at) in &positions {
            let gap = course.tracker.subscribed(Ack {
                topic,
                epoch: &at.epoch,
                newest: at.seq,
                is_recovered: !lost.contains(&**topic),
                is_resumed,
            });
            course.inbox.put_gap(gap);
        }
        course.was_live = true;
        drop(course);
        self.wake();
        self.move_to(SubscriptionState::Live);
        positions
    }

    /// The broker does not take it. True if it is worth asking again later: it was live before, and may be again.
    pub(crate) fn is_refused(&self, error: &Error) -> bool {
        let may_be_again = matches!(
            &*error.code,
            "TOPIC_NOT_FOUND" | "LIMIT_EXCEEDED" | "INTERNAL"
        );
        // A node of a cluster without its log cannot say whether there is such a topic.
        if error.code == "UNAVAILABLE" || (may_be_again && self.course().was_live) {
            self.move_to(SubscriptionState::Waiting);
            return true;
        }
        self.end(Some(error.clone()));
        false
    }

    /// An event of the wire, `text`, of a topic that this stands for. None if it is not one.
    pub(crate) fn receive(&self, frame: &Frame<'_>, text: &str) -> Option<()> {
        let (topic, seq) = (frame.topic.as_deref()?, frame.seq?);
        let message = frame.message.as_ref()?;
        let mut course = self.course();
        let Some(new) = course.tracker.event(topic, seq, frame.skipped) else {
            return Some(());
        };
        course.inbox.put_gap(new.gap);
        let payload = message.payload.map(ToOwned::to_owned);
        let event = Event {
            topic: new.topic,
            id: message.id.to_string(),
            payload: payload.unwrap_or_else(|| RawValue::NULL.to_owned()),
            seq,
            epoch: new.epoch,
            ts: frame.ts.as_deref().unwrap_or_default().to_owned(),
            skipped: frame.skipped,
            text: self.wish.keep_text.then(|| text.into()),
        };
        let copies = 1 + usize::from(self.wish.keep_text);
        course.inbox.put(Item::Event(event), copies * text.len());
        drop(course);
        self.wake();
        Some(())
    }

    /// A pattern has come to match a topic.
    pub(crate) fn topic_created(&self, topic: &str, epoch: &str) {
        let mut course = self.course();
        let gap = course.tracker.created(topic, epoch);
        course.inbox.put_gap(gap);
        drop(course);
        self.wake();
    }

    /// Whether it has to be asked for again, goes on, or has ended with its topic.
    pub(crate) fn topic_deleted(&self, topic: &str) -> SubscriptionState {
        if self.is_pattern() {
            self.course().tracker.forget(topic);
        } else if self.wish.until_deleted {
            self.end(None);
        } else {
            self.move_to(SubscriptionState::Waiting);
        }
        self.state()
    }

    /// Whether an ack has said that something is missing.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.course().tracker.is_incomplete()
    }

    /// What was missing is not kept.
    pub(crate) fn settle(&self) {
        let mut course = self.course();
        for gap in course.tracker.settle() {
            course.inbox.put_gap(Some(gap));
        }
        drop(course);
        self.wake();
    }

    pub(crate) fn move_to(&self, state: SubscriptionState) {
        self.state.send_if_modified(|before| {
            let moves = *before != SubscriptionState::Ended && *before != state;
            if moves {
                *before = state;
            }
            moves
        });
    }

    /// No more events. The consumer gets what waits, and then `error` if there is one.
    pub(crate) fn end(&self, error: Option<Error>) {
        let mut course = self.course();
        if self.state() == SubscriptionState::Ended {
            return;
        }
        course.error = error;
        drop(course);
        self.move_to(SubscriptionState::Ended);
        self.wake();
    }

    /// Lets the consumer look again.
    fn wake(&self) {
        let waker = self.course().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next item, and whether there is room again behind it; or the end.
    pub(crate) fn poll_take(
        &self,
        context: &Context<'_>,
    ) -> Poll<Result<(Item, bool), Option<Error>>> {
        let mut course = self.course();
        let was_full = course.inbox.is_full();
        match course.inbox.pop() {
            Some(item) => Poll::Ready(Ok((item, was_full && !course.inbox.is_full()))),
            None if self.state() == SubscriptionState::Ended => {
                Poll::Ready(Err(course.error.take()))
            }
            None => {
                course.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
