//! What callers and the connection both work on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot, watch};

use crate::client::ClientState;
use crate::error::Error;
use crate::followed::Followed;
use crate::notice::{Notice, OnNotice};
use crate::options::{Limits, Options};
use crate::outbox::Outbox;

/// What callers ask of the connection.
#[derive(Debug)]
pub(crate) enum Ask {
    Subscribe(Arc<Followed>),
    Unsubscribe(Arc<Followed>, oneshot::Sender<()>),
    Ping(oneshot::Sender<()>),
}

/// What changes, under one lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) outbox: Outbox,
    /// In the order in which they were made.
    pub(crate) subscriptions: Vec<Arc<Followed>>,
    /// Only while there is a connection: a new one asks for all subscriptions by itself.
    pub(crate) asks: Vec<Ask>,
    pub(crate) is_open: bool,
    pub(crate) error: Option<Error>,
    pub(crate) last_loss: String,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) reconnect: bool,
    on_notice: Option<OnNotice>,
    state: Mutex<State>,
    /// There is something to do for the connection.
    pub(crate) work: Notify,
    /// There may be room for a message.
    pub(crate) has_room: Notify,
    pub(crate) is_closing: watch::Sender<bool>,
    pub(crate) moved: watch::Sender<ClientState>,
}

impl Shared {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            limits: options.limits.clone(),
            reconnect: options.reconnect,
            on_notice: options.on_notice.clone(),
            state: Mutex::new(State {
                outbox: Outbox::new(&options.limits),
                subscriptions: Vec::new(),
                asks: Vec::new(),
                is_open: false,
                error: None,
                last_loss: "nothing has been tried".to_owned(),
            }),
            work: Notify::new(),
            has_room: Notify::new(),
            is_closing: watch::Sender::new(false),
            moved: watch::Sender::new(ClientState::Connecting),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the connection look again.
    pub(crate) fn wake(&self) {
        self.work.notify_one();
    }

    pub(crate) fn forget(&self, followed: &Arc<Followed>) {
        let mut state = self.state();
        let is_other = |of: &Arc<Followed>| !Arc::ptr_eq(of, followed);
        state.subscriptions.retain(is_other);
    }

    /// Takes a subscription away. What it gives ends when the broker knows it.
    pub(crate) fn leave(&self, followed: &Arc<Followed>) -> oneshot::Receiver<()> {
        self.forget(followed);
        let (done, answer) = oneshot::channel();
        let mut state = self.state();
        if state.is_open {
            state
                .asks
                .push(Ask::Unsubscribe(Arc::clone(followed), done));
        }
        drop(state);
        self.wake();
        answer
    }

    pub(crate) fn tell(&self, notice: Notice) {
        if let Some(told) = &self.on_notice {
            told.tell(notice);
        }
    }

    pub(crate) fn move_to(&self, state: ClientState) {
        self.moved.send_if_modified(|before| {
            let moves = *before != state;
            *before = state;
            moves
        });
    }

    pub(crate) fn end_all(&self, error: &Error, told: Option<&Error>) {
        let mut state = self.state();
        state.error = Some(error.clone());
        state.outbox.close(error);
        state.asks.clear();
        let over = std::mem::take(&mut state.subscriptions);
        drop(state);
        for followed in over {
            followed.end(told.cloned());
        }
        self.has_room.notify_waiters();
    }
}
