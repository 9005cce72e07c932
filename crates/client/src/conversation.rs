//! What is said on one connection: which answer belongs to which command, and who is told of what comes.
//!
//! The reader stops where the consumer of an event has no room, so that the broker, not this process, holds what
//! is too much; but never while somebody here waits for an answer, which may lie behind that event.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::backoff::Backoff;
use crate::command;
use crate::error::Error;
use crate::followed::Followed;
use crate::shared::{Ask, Shared, State};
use crate::subscription::SubscriptionState;

/// How long an acked subscription may show nothing of a replay before what is missing is taken for lost.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);

/// How long a consumer may hold up a connection before the log says so.
pub(crate) const HELD_UP: Duration = Duration::from_secs(10);

/// What a command is, for the one who hears its answer.
pub(crate) enum Asked {
    Subscribe(Arc<Followed>),
    Unsubscribe(String, Option<oneshot::Sender<()>>),
    Publish(u64),
    Ping(oneshot::Sender<()>),
    Token(oneshot::Sender<Option<Error>>),
}

/// What is to be done later.
pub(crate) enum Later {
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
pub(crate) struct Held {
    pub(crate) text: Utf8Bytes,
    pub(crate) to: VecDeque<Arc<Followed>>,
}

/// Why a conversation ends.
pub(crate) struct Lost {
    pub(crate) reason: String,
    pub(crate) retry_after: Option<Duration>,
    /// What the broker has said last about the connection.
    pub(crate) error: Option<Error>,
    /// It would say so for ever.
    pub(crate) is_final: bool,
}

impl Lost {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            retry_after: None,
            error: None,
            is_final: false,
        }
    }
}

/// See the module.
pub(crate) struct Conversation<'a> {
    pub(crate) shared: &'a Shared,
    request_ids: u64,
    pub(crate) unanswered: BTreeMap<u64, (Asked, bool)>,
    /// Of these, those whose answer somebody may be waiting for.
    pub(crate) awaited: usize,
    commands: VecDeque<String>,
    pub(crate) live: Vec<Arc<Followed>>,
    pub(crate) routes: BTreeMap<String, Vec<Arc<Followed>>>,
    pub(crate) held: Option<Held>,
    pub(crate) later: BTreeMap<(Instant, u64), Later>,
    recheck: Option<(Instant, u64)>,
    laters: u64,
    pub(crate) retry: Backoff,
    not_before: Instant,
    pace: Duration,
    pub(crate) is_draining: bool,
    pub(crate) come_back_at: Option<Instant>,
    pub(crate) last_error: Option<Error>,
}

impl<'a> Conversation<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        let limits = &shared.limits;
        Self {
            shared,
            request_ids: 0,
            unanswered: BTreeMap::new(),
            awaited: 0,
            commands: VecDeque::new(),
            live: Vec::new(),
            routes: BTreeMap::new(),
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

    pub(crate) fn unsubscribe(&mut self, name: String, done: Option<oneshot::Sender<()>>) {
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
    pub(crate) fn slow_down(&mut self, retry_after: Duration) {
        self.pace = self.pace.max(retry_after);
        self.hold(retry_after);
    }

    /// Sends nothing for a while.
    pub(crate) fn hold(&mut self, pause: Duration) {
        self.not_before = Instant::now() + pause;
        self.after(pause, Later::GoOn);
    }

    // Time.

    pub(crate) fn after(&mut self, pause: Duration, later: Later) -> (Instant, u64) {
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

    // Losses of which no later event tells.

    /// The newest event of a topic may be among the dropped, and then nothing shows it until the next one comes. When
    /// the notices have stopped, each topic is asked for from where it is: what is kept of the rest comes then.
    pub(crate) fn recheck_later(&mut self) {
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
