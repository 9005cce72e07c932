//! What comes on a connection, and whom it is for: the other half of a [`Conversation`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::conversation::{Asked, Conversation, HELD_UP, Held, Later, Lost, SETTLE};
use crate::error::Error;
use crate::event::Receipt;
use crate::followed::Followed;
use crate::frame::Frame;
use crate::notice::Notice;
use crate::pattern::matches;
use crate::subscription::SubscriptionState;

/// After so long a node is asked again whose log did not confirm a message in time: a log that is away is seldom
/// back at once.
const UNAVAILABLE_PAUSE: Duration = Duration::from_secs(1);

/// Topics of which it is remembered who follows them.
const ROUTES_MAX: usize = 10_000;

impl Conversation<'_> {
    /// Whether nothing more may be read.
    pub(crate) fn is_paused(&self) -> bool {
        self.held.is_some()
    }

    /// A frame has come.
    pub(crate) fn hear(&mut self, text: Utf8Bytes) -> Result<(), Lost> {
        let strange = |text: &Utf8Bytes, what: &dyn std::fmt::Display| {
            let shown: String = text.chars().take(200).collect();
            Lost::new(format!("this is not the protocol: {what} in {shown:?}"))
        };
        let frame = Frame::parse(&text).map_err(|error| strange(&text, &error))?;
        match &*frame.kind {
            "event" => {
                let topic = frame.topic.as_deref();
                let topic = topic.ok_or_else(|| strange(&text, &"no topic"))?;
                let mut to = self.route(topic).iter().cloned().collect();
                if !self.hand_on(&mut to, &frame, &text)? {
                    self.held = Some(Held { text, to });
                    self.after(HELD_UP, Later::Complain);
                }
                Ok(())
            }
            kind @ ("ack" | "pong" | "error") => {
                let request_id = frame.request_id.as_deref();
                let request_id = request_id.and_then(|id| id.parse().ok());
                let asked = request_id.and_then(|id: u64| self.unanswered.remove(&id));
                match asked {
                    Some((asked, is_awaited)) => {
                        self.awaited -= usize::from(is_awaited);
                        self.answered(asked, &frame);
                    }
                    None if kind == "error" => self.hear_error(frame.error()),
                    None => {}
                }
                Ok(())
            }
            "info" => {
                self.hear_info(&frame);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Hands on the event that waits, as far as there is room or has to be.
    pub(crate) fn deliver(&mut self) -> Result<(), Lost> {
        if let Some(mut held) = self.held.take() {
            let frame = Frame::parse(&held.text);
            let frame = frame.map_err(|error| Lost::new(error.to_string()))?;
            if !self.hand_on(&mut held.to, &frame, &held.text)? {
                self.held = Some(held);
            }
        }
        Ok(())
    }

    /// Hands an event to those whose turn it is. False where the first of them has no room.
    fn hand_on(
        &self,
        to: &mut VecDeque<Arc<Followed>>,
        frame: &Frame<'_>,
        text: &str,
    ) -> Result<bool, Lost> {
        while let Some(followed) = to.front() {
            if followed.state() == SubscriptionState::Live {
                if self.awaited == 0 && followed.is_full() {
                    return Ok(false);
                }
                let strange = || Lost::new("this is not the protocol: an event without a message");
                followed.receive(frame, text).ok_or_else(strange)?;
            }
            to.pop_front();
        }
        Ok(true)
    }

    fn route(&mut self, topic: &str) -> &[Arc<Followed>] {
        if !self.routes.contains_key(topic) {
            let mean = |of: &&Arc<Followed>| {
                of.name == topic || (of.is_pattern() && matches(&of.name, topic))
            };
            let route = self.live.iter().filter(mean).cloned().collect();
            if self.routes.len() >= ROUTES_MAX {
                self.routes.clear();
            }
            self.routes.insert(topic.to_owned(), route);
        }
        self.routes.get(topic).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn leave(&mut self, followed: &Arc<Followed>) {
        self.live.retain(|other| !Arc::ptr_eq(other, followed));
        self.routes.clear();
    }

    fn hear_error(&mut self, error: Error) {
        match &*error.code {
            "SLOW_CONSUMER" => {
                self.recheck_later();
                self.shared.tell(Notice::SlowConsumer(error.message));
            }
            "FORBIDDEN" => {
                // A right was withdrawn. The text is all that says of which topic.
                let mut state = self.shared.state();
                let over =
                    |of: &mut Arc<Followed>| error.message.ends_with(&format!("'{}'", of.name));
                let over: Vec<_> = state.subscriptions.extract_if(.., over).collect();
                drop(state);
                for followed in over {
                    self.leave(&followed);
                    followed.end(Some(error.clone()));
                }
            }
            _ => self.last_error = Some(error),
        }
    }

    fn hear_info(&mut self, frame: &Frame<'_>) {
        let topic = frame.topic.as_deref().unwrap_or_default();
        match frame.msg.as_deref() {
            Some("shutting_down") => {
                self.is_draining = true;
                let pause = frame.retry_after().unwrap_or_default();
                self.come_back_at = Some(Instant::now() + pause);
                self.shared.tell(Notice::ShuttingDown);
            }
            Some("topic_created") => {
                let epoch = frame.epoch.as_deref().unwrap_or_default();
                let patterns = self.route(topic).iter().filter(|of| of.is_pattern());
                patterns.for_each(|of| of.topic_created(topic, epoch));
                self.shared.tell(Notice::TopicCreated(topic.to_owned()));
            }
            Some("topic_deleted") => {
                let route = self.route(topic).to_vec();
                for followed in route {
                    match followed.topic_deleted(topic) {
                        SubscriptionState::Waiting => {
                            self.leave(&followed);
                            let pause = self.retry.pause(None);
                            self.after(pause, Later::Subscribe(followed));
                        }
                        SubscriptionState::Ended => {
                            self.leave(&followed);
                            self.shared.forget(&followed);
                        }
                        SubscriptionState::Connecting | SubscriptionState::Live => {}
                    }
                }
                self.shared.tell(Notice::TopicDeleted(topic.to_owned()));
            }
            _ => {}
        }
    }

    // Answers.

    fn answered(&mut self, asked: Asked, frame: &Frame<'_>) {
        let error = (frame.kind == "error").then(|| frame.error());
        match asked {
            Asked::Subscribe(followed) => self.subscribed(followed, frame, error),
            Asked::Publish(order) => self.published(order, frame, error),
            Asked::Unsubscribe(name, done) => {
                if let Some(wait) = error.and_then(|error| error.retry_after) {
                    self.slow_down(wait);
                    self.unsubscribe(name, done);
                } else if let Some(done) = done {
                    done.send(()).ok();
                }
            }
            Asked::Ping(done) => {
                done.send(()).ok();
            }
            Asked::Token(done) => {
                done.send(error).ok();
            }
        }
    }

    fn subscribed(&mut self, followed: Arc<Followed>, frame: &Frame<'_>, error: Option<Error>) {
        if followed.state() == SubscriptionState::Ended {
            return;
        }
        let Some(error) = error else {
            let positions = followed.acked(frame);
            let name = followed.name.clone();
            self.shared.tell(Notice::Subscribed { name, positions });
            self.retry.reset();
            if !self.live.iter().any(|other| Arc::ptr_eq(other, &followed)) {
                self.live.push(Arc::clone(&followed));
                self.routes.clear();
            }
            if followed.is_incomplete() {
                self.after(SETTLE, Later::Settle(followed));
            }
            return;
        };
        match (&*error.code, error.retry_after) {
            // The connection ends for it; without a key that is for good.
            ("UNAUTHORIZED", _) => self.last_error = Some(error),
            // The next connection asks for all of them.
            ("UNAVAILABLE", _) if self.is_draining => {}
            (_, Some(wait)) => {
                self.slow_down(wait);
                self.subscribe(followed);
            }
            _ if followed.is_refused(&error) => {
                let pause = self.retry.pause(None);
                self.after(pause, Later::Subscribe(followed));
            }
            _ => self.shared.forget(&followed),
        }
    }

    fn published(&mut self, order: u64, frame: &Frame<'_>, error: Option<Error>) {
        let mut state = self.shared.state();
        let answer = match error {
            None => None,
            // A broker that shuts down has done nothing. A node of a cluster may have, and stays.
            Some(error)
                if error.code == "UNAVAILABLE"
                    && (self.is_draining || state.outbox.may_repeat(order)) =>
            {
                state.outbox.take_back(order);
                drop(state);
                return self.hold(UNAVAILABLE_PAUSE);
            }
            Some(error) if error.code == "UNAUTHORIZED" => {
                self.last_error = Some(error);
                return state.outbox.take_back(order);
            }
            Some(error) => {
                if let Some(wait) = error.retry_after {
                    state.outbox.take_back(order);
                    drop(state);
                    return self.slow_down(wait);
                }
                Some(error)
            }
        };
        let Some(entry) = state.outbox.answered(order) else {
            return;
        };
        drop(state);
        self.shared.has_room.notify_waiters();
        let receipt = Receipt {
            id: entry.id,
            seq: frame.seq.unwrap_or_default(),
            matched: frame.matched.unwrap_or_default(),
            duplicate: frame.duplicate,
        };
        entry.done.send(answer.map_or(Ok(receipt), Err)).ok();
    }
}
