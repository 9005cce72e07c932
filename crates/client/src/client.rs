//! The client: keeps a connection, and what outlives one: subscriptions and messages on their way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use uuid::Uuid;

use crate::command;
use crate::credentials::Credentials;
use crate::error::Error;
use crate::event::Receipt;
use crate::followed::Followed;
use crate::options::Options;
use crate::outbox::Entry;
use crate::pattern::check_name;
use crate::shared::{Ask, Shared};
use crate::subscription::{Subscribe, Subscription};
use crate::supervisor::Supervisor;
use crate::url::ServerUrl;

/// How a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientState {
    /// A connection is being made.
    Connecting,
    /// There is one.
    Open,
    /// For the moment of the next attempt.
    Waiting,
    /// Given up: the key was refused, or no other connection is to be made.
    Failed,
    /// By [`Client::close`].
    Closed,
}

/// How a message is published. The default: under a fresh id, and repeated until the broker answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// A UUID of your own, so that your process may repeat it after a crash.
    pub id: Option<Uuid>,
    /// It is sent again under its id when a connection ends without an answer, and is accepted once, as long as the
    /// topic keeps it. False sends it once, and [`CONNECTION_LOST`](Error) says that nobody knows what became
    /// of it.
    pub once: bool,
}

impl Default for Publish {
    fn default() -> Self {
        Self {
            id: None,
            once: true,
        }
    }
}

/// A client of one broker; its clones are the same one.
///
/// With the last of them and of its subscriptions it is closed without a goodbye.
#[derive(Debug, Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

/// Closes when the last holder has gone.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.is_closing.send_replace(true);
    }
}

impl Client {
    /// A client of the broker that `options` name, connected once.
    ///
    /// # Errors
    ///
    /// The options are wrong, the key is refused, or there is no connection within
    /// [`open_timeout`](crate::Limits::open_timeout).
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let url = ServerUrl::of_broker(&options.url);
        let mut url = url.map_err(|error| Error::new("BAD_URL", error.to_string()))?;
        if let Some(client_id) = &options.client_id {
            url = url.with_query("client_id", client_id);
        }
        let credentials = Credentials::of(&options)?;
        let shared = Arc::new(Shared::new(&options));
        let supervisor = Supervisor::new(Arc::clone(&shared), url, options.trust, credentials);
        let client = Self {
            handle: Arc::new(Handle {
                shared: Arc::clone(&shared),
            }),
        };
        tokio::spawn(supervisor.work());
        client.first_link().await?;
        Ok(client)
    }

    async fn first_link(&self) -> Result<(), Error> {
        let shared = &self.handle.shared;
        let patience = shared.limits.open_timeout;
        if patience.is_some_and(|patience| patience.is_zero()) {
            return Ok(());
        }
        let mut states = self.state();
        let settled = states
            .wait_for(|state| !matches!(state, ClientState::Connecting | ClientState::Waiting));
        let settled = match patience {
            Some(patience) => timeout(patience, settled).await.is_ok(),
            None => settled.await.is_ok(),
        };
        if settled {
            return self.check_usable();
        }
        let last = shared.state().last_loss.clone();
        let patience = patience.unwrap_or_default().as_secs_f64();
        Err(Error::new(
            "TIMEOUT",
            format!("no connection in {patience} s: {last}"),
        ))
    }

    /// How it is, and how it comes to be.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<ClientState> {
        self.handle.shared.moved.subscribe()
    }

    fn check_usable(&self) -> Result<(), Error> {
        self.handle.shared.state().error.clone().map_or(Ok(()), Err)
    }

    /// Subscribes to a topic or a pattern: at once if there is a connection, else as soon as there is one.
    ///
    /// # Errors
    ///
    /// The broker would never take it, or the client has ended. What the broker says of it is told by the
    /// subscription.
    pub fn subscribe(&self, name: &str, wish: Subscribe) -> Result<Subscription, Error> {
        self.check_usable()?;
        check_name(name, true)?;
        wish.check(name)?;
        let shared = &self.handle.shared;
        let followed = Arc::new(Followed::new(name, wish, &shared.limits));
        let mut state = shared.state();
        state.subscriptions.push(Arc::clone(&followed));
        if state.is_open {
            state.asks.push(Ask::Subscribe(Arc::clone(&followed)));
        }
        drop(state);
        shared.wake();
        Ok(Subscription::new(followed, self.clone()))
    }

    /// Publishes `payload`, any JSON, and waits until the broker has accepted it, over as many connections as that
    /// takes. Dropped half-way, it may have been accepted.
    ///
    /// Messages of one task keep their order. Those that the broker refuses for the moment are sent again when it
    /// says, and may change places with later ones.
    ///
    /// # Errors
    ///
    /// The broker refuses it, or it is no JSON, too long, or too much waits without a connection.
    pub async fn publish(
        &self,
        topic: &str,
        payload: &impl Serialize,
        how: Publish,
    ) -> Result<Receipt, Error> {
        let payload = serde_json::to_string(payload);
        let no_json = |error| Error::new("BAD_REQUEST", format!("not JSON: {error}"));
        let payload = payload.map_err(no_json)?;
        self.check_usable()?;
        check_name(topic, false)?;
        let shared = &self.handle.shared;
        let id = how.id.unwrap_or_else(Uuid::new_v4).to_string();
        let command = command::publish(topic, &id, &payload, how.once);
        let limit = shared.limits.message_bytes_max;
        let bytes = command.len() + command::REQUEST_ID_BYTES_MAX;
        if bytes > limit {
            let text = format!("{bytes} bytes; message_bytes_max is {limit}");
            return Err(Error::new("MESSAGE_TOO_LARGE", text));
        }
        let (done, answer) = oneshot::channel();
        let order = self.put(id, command, how.once, done).await?;
        let mut waiting = Discards {
            shared,
            order: Some(order),
        };
        let answer = answer.await;
        waiting.order = None;
        answer.unwrap_or_else(|_| Err(Error::new("CLOSED", "the client was closed")))
    }

    /// While there is a connection, a full outbox is emptied by it, and the caller waits. Without one it is refused.
    async fn put(
        &self,
        id: String,
        command: String,
        once: bool,
        done: oneshot::Sender<Result<Receipt, Error>>,
    ) -> Result<u64, Error> {
        let shared = &self.handle.shared;
        loop {
            let has_room = shared.has_room.notified();
            let mut has_room = std::pin::pin!(has_room);
            has_room.as_mut().enable();
            {
                let mut state = shared.state();
                if let Some(error) = &state.error {
                    return Err(error.clone());
                }
                if state.outbox.has_room(command.len()) {
                    let order = state.outbox.put(Entry {
                        id,
                        command,
                        once,
                        done,
                    });
                    drop(state);
                    shared.wake();
                    return Ok(order);
                }
                if !state.is_open {
                    let text = "too much waits for a connection to the broker";
                    return Err(Error::new("QUEUE_FULL", text));
                }
            }
            has_room.await;
        }
    }

    /// Asks the broker for a sign of life, and says how long that took.
    ///
    /// # Errors
    ///
    /// There is no connection, or it has ended meanwhile.
    pub async fn ping(&self) -> Result<Duration, Error> {
        let shared = &self.handle.shared;
        let (done, answer) = oneshot::channel();
        let began = Instant::now();
        self.check_usable()?;
        {
            let mut state = shared.state();
            if state.is_open {
                state.asks.push(Ask::Ping(done));
            } else {
                drop(done);
            }
        }
        shared.wake();
        let lost = |_| Error::new("CONNECTION_LOST", "there is no connection");
        answer.await.map_err(lost)?;
        Ok(began.elapsed())
    }

    /// Ends everything: messages without an answer are refused as `CLOSED`, subscriptions end.
    pub async fn close(&self) {
        let shared = &self.handle.shared;
        shared.is_closing.send_replace(true);
        let mut states = self.state();
        let is_over =
            |state: &ClientState| matches!(state, ClientState::Failed | ClientState::Closed);
        states.wait_for(is_over).await.ok();
        shared.move_to(ClientState::Closed);
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

/// Lets go of a message for which nobody waits any more.
struct Discards<'a> {
    shared: &'a Shared,
    order: Option<u64>,
}

impl Drop for Discards<'_> {
    fn drop(&mut self) {
        if let Some(order) = self.order {
            self.shared.state().outbox.discard(order);
            self.shared.has_room.notify_waiters();
        }
    }
}
