//! What is said on one connection: which answer belongs to which command, and who is told of what comes.
//!
//! The reader stops where the consumer of an event has no room, so that the broker, not this process, holds what
//! is too much; but never while somebody here waits for an answer, which may lie behind that event.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::backoff::Backoff;
use crate::client::{Ask, Shared, State};
use crate::command;
use crate::error::Error;
use crate::event::Receipt;
use crate::frame::Frame;
use crate::pattern::matches;
use crate::subscription::{Followed, SubscriptionState};

/// How long an acked subscription may show nothing of a replay before what is missing is taken for lost.
const SETTLE: Duration = Duration::from_secs(1);

/// How long a consumer may hold up a connection before the log says so.
const HELD_UP: Duration = Duration::from_secs(10);

/// Topics of which it is remembered who follows them.
const ROUTES_MAX: usize = 10_000;

/// What a command is, for the one who hears its answer.
enum Asked {
    Subscribe(Arc<Followed>),
    Unsubscribe(String, Option<oneshot::Sender<()>>),
    Publish(u64),
    Ping(oneshot::Sender<()>),
    Token(oneshot::Sender<Option<Error>>),
}

/// What is to be done later.
enum Later {
    Subscribe(Arc<Followed>),
    Settle(Arc<Followed>),
    /// Ask for all topics from where they are.
    Recheck,
    /// A pause is over.
    GoOn,
    /// Nobody has taken this event for long.
    Complain,
}

/// An event that waits for room with its consumers.
struct Held {
    text: Utf8Bytes,
    to: VecDeque<Arc<Followed>>,
}

/// Why a conversation ends.
pub(crate) struct Lost {
    pub(crate) reason: String,
    pub(crate) retry_after: Option<Duration>,
    /// It would be refused for ever.
    pub(crate) refusal: Option<Error>,
}

impl Lost {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            retry_after: None,
            refusal: None,
        }
    }
}

/// See the module.
pub(crate) struct Conversation<'a> {
    shared: &'a Shared,
    request_ids: u64,
    unanswered: HashMap<u64, (Asked, bool)>,
    /// Of these, those whose answer somebody may be waiting for.
    awaited: usize,
    commands: VecDeque<String>,
    live: Vec<Arc<Followed>>,
    routes: HashMap<String, Vec<Arc<Followed>>>,
    held: Option<Held>,
    later: BTreeMap<(Instant, u64), Later>,
    recheck: Option<(Instant, u64)>,
    laters: u64,
    retry: Backoff,
    not_before: Instant,
    pace: Duration,
    is_draining: bool,
    come_back_at: Option<Instant>,
    pub(crate) last_error: Option<Error>,
}

impl<'a> Conversation<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        let limits = &shared.limits;
        Self {
            shared,
            request_ids: 0,
            unanswered: HashMap::new(),
            awaited: 0,
            commands: VecDeque::new(),
            live: Vec::new(),
            routes: HashMap::new(),
            held: None,
            later: BTreeMap::new(),
            recheck: None,
            laters: 0,
            retry: Backoff::new(limits.backoff_min, limits.backoff_max),
            not_before: Instant::now(),
            pace: Duration::ZERO,
            is_draining: false,
            come_back_at: None,
            last_error: None,
        }
    }

    // What is asked.

    /// Carries out what callers have asked for.
    pub(crate) fn take_asks(&mut self) {
        let asks = std::mem::take(&mut self.shared.state().asks);
        for ask in asks {
            match ask {
                Ask::Subscribe(followed) => self.subscribe(followed),
                Ask::Unsubscribe(followed, done) => {
                    self.leave(&followed);
                    self.unsubscribe(followed.name.clone(), Some(done));
                }
                Ask::Ping(done) => self.ask(command::PING, Asked::Ping(done), true),
            }
        }
    }

    pub(crate) fn subscribe(&mut self, followed: Arc<Followed>) {
        if followed.state() == SubscriptionState::Ended {
            return;
        }
        let is_awaited = !followed.has_position();
        let command = followed.command();
        self.ask(&command, Asked::Subscribe(followed), is_awaited);
    }

    fn unsubscribe(&mut self, name: String, done: Option<oneshot::Sender<()>>) {
        // Another subscription to the topic, which may have come meanwhile, still wants its events.
        let state = self.shared.state();
        let is_wanted = state.subscriptions.iter().any(|other| other.name == name);
        drop(state);
        if is_wanted {
            if let Some(done) = done {
                done.send(()).ok();
            }
            return;
        }
        let command = command::unsubscribe(&name);
        self.ask(&command, Asked::Unsubscribe(name, done), true);
    }

    /// Shows a fresh token; `done` is told what the broker minds.
    pub(crate) fn show_token(&mut self, token: &str, done: oneshot::Sender<Option<Error>>) {
        self.ask(&command::auth_token(token), Asked::Token(done), true);
    }

    fn ask(&mut self, command: &str, asked: Asked, is_awaited: bool) {
        let request_id = self.expect(asked, is_awaited);
        self.commands
            .push_back(command::numbered(command, request_id));
    }

    fn expect(&mut self, asked: Asked, is_awaited: bool) -> u64 {
        self.request_ids += 1;
        self.unanswered
            .insert(self.request_ids, (asked, is_awaited));
        self.awaited += usize::from(is_awaited);
        self.request_ids
    }

    /// Whether there is something to be sent now.
    pub(crate) fn has_next(&self, state: &State) -> bool {
        let may = self.not_before <= Instant::now();
        may && (!self.commands.is_empty() || (!self.is_draining && state.outbox.has_next()))
    }

    /// What is to be sent next.
    pub(crate) fn next_text(&mut self) -> Option<String> {
        let text = match self.commands.pop_front() {
            Some(text) => text,
            None if self.is_draining => return None,
            None => {
                let mut state = self.shared.state();
                let (order, command) = state.outbox.take()?;
                let text = command::numbered(command, self.request_ids + 1);
                drop(state);
                self.expect(Asked::Publish(order), true);
                text
            }
        };
        if !self.pace.is_zero() {
            self.hold(self.pace);
        }
        Some(text)
    }

    /// Keeps to the rate that a refusal shows, for the rest of this connection: one that goes on above it is ended.
    fn slow_down(&mut self, retry_after: Duration) {
        self.pace = self.pace.max(retry_after);
        self.hold(retry_after);
    }

    fn hold(&mut self, pause: Duration) {
        self.not_before = Instant::now() + pause;
        self.after(pause, Later::GoOn);
    }

    // Time.

    fn after(&mut self, pause: Duration, later: Later) -> (Instant, u64) {
        self.laters += 1;
        let key = (Instant::now() + pause, self.laters);
        self.later.insert(key, later);
        key
    }

    /// When [`on_time`](Self::on_time) is to be called.
    pub(crate) fn next_time(&self) -> Option<Instant> {
        self.later.first_key_value().map(|((at, _), _)| *at)
    }

    /// Does what was to be done by now.
    pub(crate) fn on_time(&mut self) {
        let now = Instant::now();
        while let Some(first) = self.later.first_entry()
            && first.key().0 <= now
        {
            match first.remove() {
                Later::Subscribe(followed) => self.subscribe(followed),
                Later::Settle(followed) => followed.settle(),
                Later::Recheck => self.recheck_now(),
                Later::GoOn => {}
                Later::Complain => self.complain(),
            }
        }
    }

    fn complain(&self) {
        if let Some(first) = self.held.as_ref().and_then(|held| held.to.front()) {
            tracing::warn!(
                topic = first.name,
                "nobody takes the events, and its connection waits"
            );
        }
    }

    // What comes.

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
                let to = self.route(topic).iter().cloned().collect();
                self.held = Some(Held { text, to });
                self.deliver()
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
        let Some(mut held) = self.held.take() else {
            return Ok(());
        };
        let mut frame = None;
        while let Some(followed) = held.to.pop_front() {
            if followed.state() != SubscriptionState::Live {
                continue;
            }
            if followed.is_full() && self.awaited == 0 {
                held.to.push_front(followed);
                let waits = self.later.values();
                if !waits.into_iter().any(|of| matches!(of, Later::Complain)) {
                    self.after(HELD_UP, Later::Complain);
                }
                self.held = Some(held);
                return Ok(());
            }
            if frame.is_none() {
                frame = Frame::parse(&held.text).ok();
            }
            let received = frame
                .as_ref()
                .and_then(|frame| followed.receive(frame, held.text.len()));
            if received.is_none() {
                return Err(Lost::new(
                    "this is not the protocol: an event without a message",
                ));
            }
        }
        Ok(())
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

    fn leave(&mut self, followed: &Arc<Followed>) {
        self.live.retain(|other| !Arc::ptr_eq(other, followed));
        self.routes.clear();
    }

    fn hear_error(&mut self, error: Error) {
        match &*error.code {
            "SLOW_CONSUMER" => self.recheck_later(),
            "FORBIDDEN" => {
                // A right was withdrawn. The text is all that says of which topic.
                let mut state = self.shared.state();
                let over = |of: &mut Arc<Followed>| {
                    error.message.ends_with(&format!("'{}'", of.name))
                };
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
                let pause = frame.retry_after_ms.unwrap_or_default();
                self.come_back_at = Some(Instant::now() + Duration::from_millis(pause));
            }
            Some("topic_created") => {
                let epoch = frame.epoch.as_deref().unwrap_or_default();
                let patterns = self.route(topic).iter().filter(|of| of.is_pattern());
                patterns.for_each(|of| of.topic_created(topic, epoch));
            }
            Some("topic_deleted") => {
                let route = self.route(topic).to_vec();
                for followed in route {
                    if followed.topic_deleted(topic) {
                        self.leave(&followed);
                        let pause = self.retry.pause(None);
                        self.after(pause, Later::Subscribe(followed));
                    }
                }
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
            followed.acked(frame);
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
            ("UNAVAILABLE", _) => self.is_draining = true,
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
            Some(error) if error.code == "UNAVAILABLE" => {
                self.is_draining = true;
                return state.outbox.take_back(order);
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

    // Losses of which no later event tells.

    /// The newest event of a topic may be among the dropped, and then nothing shows it until the next one comes. When
    /// the notices have stopped, each topic is asked for from where it is: what is kept of the rest comes then.
    fn recheck_later(&mut self) {
        if let Some(before) = self.recheck.take() {
            self.later.remove(&before);
        }
        self.recheck = Some(self.after(SETTLE, Later::Recheck));
    }

    fn recheck_now(&mut self) {
        self.recheck = None;
        if self.is_paused() {
            self.recheck_later();
            return;
        }
        for followed in self.live.clone() {
            self.subscribe(followed);
        }
    }

    // The end.

    /// The connection has ended, with this close code if with any.
    pub(crate) fn lost(&mut self, reason: String, code: Option<u16>) -> Lost {
        const TOO_LONG: u16 = 1009;
        if code == Some(TOO_LONG) {
            // It does not say which. The longest is one of those, and each repeat of it would end the link again.
            let mut state = self.shared.state();
            let longest = state.outbox.longest_in_flight();
            if let Some(entry) = longest.and_then(|order| state.outbox.answered(order)) {
                let text = "longer than the broker's MAX_MESSAGE_SIZE";
                let error = Error::new("MESSAGE_TOO_LARGE", text);
                entry.done.send(Err(error)).ok();
            }
        }
        let wait = self
            .come_back_at
            .map(|at| at.saturating_duration_since(Instant::now()));
        let reason = match &self.last_error {
            Some(error) => format!("{reason} ({error})"),
            None => reason,
        };
        Lost {
            retry_after: wait,
            ..Lost::new(reason)
        }
    }
}
