//! The client: keeps a connection, and what outlives one: subscriptions and messages on their way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::command;
use crate::conversation::{Conversation, Lost};
use crate::credentials::{Credentials, Proof, lifetime};
use crate::error::Error;
use crate::event::Receipt;
use crate::frame::Frame;
use crate::link::{LinkError, LinkOptions, LinkReceiver, LinkSender, connect};
use crate::options::{Limits, Options};
use crate::outbox::{Entry, Outbox};
use crate::pattern::check_name;
use crate::subscription::{Followed, Subscribe, Subscription, SubscriptionState};
use crate::tls::Trust;
use crate::url::ServerUrl;

/// A source of tokens may give one that has just ended; a key that is given once does not get better.
const REFUSALS_OF_FRESH_MAX: u32 = 3;

/// How a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientState {
    /// A connection is being made.
    Connecting,
    /// There is one.
    Open,
    /// For the moment of the next attempt.
    Waiting,
    /// Given up, because the key was refused.
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

/// What callers ask of the connection.
#[derive(Debug)]
pub(crate) enum Ask {
    Subscribe(Arc<Followed>),
    Unsubscribe(Arc<Followed>, oneshot::Sender<()>),
    Ping(oneshot::Sender<()>),
}

/// What callers and the connection both work on.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) outbox: Outbox,
    /// In the order in which they were made.
    pub(crate) subscriptions: Vec<Arc<Followed>>,
    /// Only while there is a connection: a new one asks for all subscriptions by itself.
    pub(crate) asks: Vec<Ask>,
    is_open: bool,
    error: Option<Error>,
    last_loss: String,
}

/// See [`State`].
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    state: Mutex<State>,
    /// There is something to do for the connection.
    work: Notify,
    /// There may be room for a message.
    pub(crate) has_room: Notify,
    is_closing: watch::Sender<bool>,
    moved: watch::Sender<ClientState>,
}

impl Shared {
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

    fn move_to(&self, state: ClientState) {
        self.moved.send_if_modified(|before| {
            let moves = *before != state;
            *before = state;
            moves
        });
    }

    fn end_all(&self, error: &Error, told: Option<&Error>) {
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
    /// [`open_timeout`](Limits::open_timeout).
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let url = ServerUrl::of_broker(&options.url);
        let mut url = url.map_err(|error| Error::new("BAD_URL", error.to_string()))?;
        if let Some(client_id) = &options.client_id {
            url = url.with_query("client_id", client_id);
        }
        let credentials = Credentials::of(&options)?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                outbox: Outbox::new(&options.limits),
                subscriptions: Vec::new(),
                asks: Vec::new(),
                is_open: false,
                error: None,
                last_loss: "nothing has been tried".to_owned(),
            }),
            limits: options.limits,
            work: Notify::new(),
            has_room: Notify::new(),
            is_closing: watch::Sender::new(false),
            moved: watch::Sender::new(ClientState::Connecting),
        });
        let supervisor = Supervisor {
            shared: Arc::clone(&shared),
            url,
            trust: options.trust,
            credentials,
        };
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
        let settled = states.wait_for(|state| {
            !matches!(state, ClientState::Connecting | ClientState::Waiting)
        });
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
        let longest = command::numbered(&command, u64::MAX).len();
        if longest > limit {
            let text = format!("{longest} bytes; message_bytes_max is {limit}");
            return Err(Error::new("MESSAGE_TOO_LARGE", text));
        }
        let (done, answer) = oneshot::channel();
        let order = self.put(id, command, how.once, done).await?;
        let waiting = Discards { shared, order };
        let answer = answer.await;
        std::mem::forget(waiting);
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
        let mut state = shared.state();
        if let Some(error) = &state.error {
            return Err(error.clone());
        }
        if state.is_open {
            state.asks.push(Ask::Ping(done));
        } else {
            drop(done);
        }
        drop(state);
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
        let is_over = |state: &ClientState| matches!(state, ClientState::Failed | ClientState::Closed);
        states.wait_for(is_over).await.ok();
        shared.move_to(ClientState::Closed);
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

/// Nobody waits for a message any more.
struct Discards<'a> {
    shared: &'a Shared,
    order: u64,
}

impl Drop for Discards<'_> {
    fn drop(&mut self) {
        self.shared.state().outbox.discard(self.order);
        self.shared.has_room.notify_waiters();
    }
}

/// Makes one connection after the other.
struct Supervisor {
    shared: Arc<Shared>,
    url: ServerUrl,
    trust: Trust,
    credentials: Credentials,
}

impl Supervisor {
    async fn work(self) {
        match self.keep_link().await {
            Some(refusal) => {
                // Whoever is told of the state finds the reason.
                self.shared.state().error = Some(refusal.clone());
                self.shared.move_to(ClientState::Failed);
                self.shared.end_all(&refusal, Some(&refusal));
            }
            None => {
                let closed = Error::new("CLOSED", "the client was closed");
                self.shared.end_all(&closed, None);
                self.shared.move_to(ClientState::Closed);
            }
        }
    }

    /// Returns when no further attempt makes sense: why, or None where the client is closed.
    async fn keep_link(&self) -> Option<Error> {
        let limits = &self.shared.limits;
        let mut backoff = Backoff::new(limits.backoff_min, limits.backoff_max);
        let mut refusals = 0;
        loop {
            self.shared.move_to(ClientState::Connecting);
            let (lost, lived) = self.live_through().await;
            let lost = lost?;
            if let Some(lived) = lived {
                refusals = 0;
                if lived >= limits.stable {
                    backoff.reset();
                }
            }
            if let Some(refusal) = lost.refusal {
                refusals += 1;
                if !self.credentials.can_change() || refusals >= REFUSALS_OF_FRESH_MAX {
                    return Some(refusal);
                }
            }
            let pause = backoff.pause(lost.retry_after);
            tracing::info!(?pause, "no connection to the broker: {}", lost.reason);
            self.shared.state().last_loss = lost.reason;
            self.shared.move_to(ClientState::Waiting);
            self.unless_closing(sleep(pause)).await?;
        }
    }

    /// What `work` gives; None where the client is closed meanwhile.
    async fn unless_closing<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut closing = self.shared.is_closing.subscribe();
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => None,
            done = work => Some(done),
        }
    }

    /// How a connection ended, and for how long it was open. None where the client is closed.
    async fn live_through(&self) -> (Option<Lost>, Option<Duration>) {
        let (mut link, proof) = match self.unless_closing(self.open()).await {
            None => return (None, None),
            Some(Err(lost)) => return (Some(lost), None),
            Some(Ok(open)) => open,
        };
        let opened = Instant::now();
        let mut conversation = link.conversation;
        {
            let mut state = self.shared.state();
            state.is_open = true;
            state.asks.clear();
            let all = state.subscriptions.clone();
            drop(state);
            all.into_iter().for_each(|followed| conversation.subscribe(followed));
        }
        self.shared.move_to(ClientState::Open);
        let talked = self.talk(&mut conversation, &link.sender, &mut link.receiver, &proof);
        let ended = self.unless_closing(talked).await;
        if ended.is_none() {
            let patience = self.shared.limits.close_timeout;
            link.sender.close(link.receiver, patience).await;
        }
        let mut state = self.shared.state();
        state.is_open = false;
        state.asks.clear();
        state.outbox.link_lost();
        let all = state.subscriptions.clone();
        drop(state);
        for followed in all {
            followed.move_to(SubscriptionState::Connecting);
        }
        self.shared.has_room.notify_waiters();
        let lost = ended.map(|mut lost| {
            let error = conversation.last_error.take();
            lost.refusal = error.filter(|error| self.credentials.is_final(error, &proof));
            lost
        });
        (lost, Some(opened.elapsed()))
    }

    async fn open(&self) -> Result<(Link<'_>, Proof), Lost> {
        let proof = self.credentials.proof().await;
        let proof = proof.map_err(|error| {
            Lost::new(format!("the key or token could not be had: {error}"))
        })?;
        let limits = &self.shared.limits;
        let options = LinkOptions {
            api_key: None,
            trust: &self.trust,
            connect_timeout: limits.connect_timeout,
            heartbeat: limits.heartbeat,
            heartbeat_timeout: limits.heartbeat_timeout,
            frame_bytes_max: limits.frame_bytes_max,
        };
        let opening = async {
            let connected = connect(&self.url, &options).await;
            let (sender, receiver) = connected.map_err(|error| self.not_connected(error, &proof))?;
            let mut link = Link {
                sender,
                receiver,
                conversation: Conversation::new(&self.shared),
            };
            self.show(&mut link, &proof).await?;
            Ok(link)
        };
        let opened = timeout(limits.connect_timeout, opening).await;
        let link = opened.unwrap_or_else(|_| Err(Lost::new("no answer in time")))?;
        Ok((link, proof))
    }

    fn not_connected(&self, error: LinkError, proof: &Proof) -> Lost {
        let lost = Lost::new(error.to_string());
        match error {
            LinkError::Refused {
                error, retry_after, ..
            } => Lost {
                retry_after,
                refusal: error.filter(|error| self.credentials.is_final(error, proof)),
                ..lost
            },
            _ => lost,
        }
    }

    /// Says who asks, before anything else.
    async fn show(&self, link: &mut Link<'_>, proof: &Proof) -> Result<(), Lost> {
        let command = match proof {
            Proof::Nothing => return Ok(()),
            Proof::Key(key) => command::auth_key(key),
            Proof::Token(token) => command::auth_token(token),
        };
        let ended = |error: LinkError| Lost::new(error.to_string());
        let command = command::numbered(&command, 0);
        link.sender.send(command).await.map_err(ended)?;
        loop {
            let text = link.receiver.next().await.map_err(ended)?;
            let frame = Frame::parse(&text);
            let frame = frame.map_err(|error| Lost::new(format!("not the protocol: {error}")))?;
            match &*frame.kind {
                "ack" => return Ok(()),
                "error" => {
                    let error = frame.error();
                    return Err(Lost {
                        retry_after: error.retry_after,
                        refusal: Some(error.clone())
                            .filter(|error| self.credentials.is_final(error, proof)),
                        ..Lost::new(format!("refused: {error}"))
                    });
                }
                _ => link.conversation.hear(text.clone())?,
            }
        }
    }

    /// Works until the connection is lost.
    async fn talk(
        &self,
        conversation: &mut Conversation<'_>,
        sender: &LinkSender,
        receiver: &mut LinkReceiver,
        proof: &Proof,
    ) -> Lost {
        let (fresh, mut tokens) = mpsc::channel(1);
        let mut renewal = std::pin::pin!(self.renew(proof, fresh));
        let mut life = tokio::time::interval(self.shared.limits.heartbeat);
        loop {
            conversation.take_asks();
            if let Err(lost) = conversation.deliver() {
                return lost;
            }
            let has_text = conversation.has_next(&self.shared.state());
            let is_paused = conversation.is_paused();
            let next_time = conversation.next_time();
            tokio::select! {
                () = self.shared.work.notified() => {}
                // Room in the queue of the writer is asked for only where there is something to say.
                room = sender.room(), if has_text => match room {
                    Ok(room) => {
                        if let Some(text) = conversation.next_text() {
                            room.send(Message::text(text));
                        }
                    }
                    // The reader tells why, behind what has still come.
                    Err(_) => loop {
                        if conversation.is_paused() {
                            return conversation.lost(LOST_WHILE_FULL.to_owned(), None);
                        }
                        if let Some(lost) = hear(conversation, receiver.next().await) {
                            return lost;
                        }
                    },
                },
                heard = receiver.next(), if !is_paused => {
                    if let Some(lost) = hear(conversation, heard) {
                        return lost;
                    }
                }
                // To read what is left would drop events that the next connection can have again.
                () = sender.closed(), if is_paused => {
                    return conversation.lost(LOST_WHILE_FULL.to_owned(), None);
                }
                _ = life.tick(), if is_paused => sender.show_life(),
                () = at(next_time) => conversation.on_time(),
                Some((token, done)) = tokens.recv() => {
                    let token: String = token;
                    conversation.show_token(&token, done);
                }
                () = &mut renewal => {}
            }
        }
    }

    /// Shows a fresh token before the one in use ends, so that the connection does not. Never returns.
    async fn renew(
        &self,
        proof: &Proof,
        fresh: mpsc::Sender<(String, oneshot::Sender<Option<Error>>)>,
    ) {
        let limits = &self.shared.limits;
        let mut pause = Backoff::new(Duration::from_secs(1), limits.backoff_max);
        let mut token = match proof {
            Proof::Token(token) if self.credentials.can_change() => token.clone(),
            _ => return std::future::pending().await,
        };
        while let Some(left) = lifetime(&token) {
            let early = limits.token_refresh.min(left / 5);
            sleep(left.saturating_sub(early)).await;
            match self.fresh_token(&token, &fresh).await {
                Ok(next) => {
                    token = next;
                    pause.reset();
                }
                Err(reason) => {
                    tracing::warn!("no fresh token: {reason}");
                    sleep(pause.pause(None)).await;
                }
            }
        }
        std::future::pending().await
    }

    async fn fresh_token(
        &self,
        old: &str,
        fresh: &mpsc::Sender<(String, oneshot::Sender<Option<Error>>)>,
    ) -> Result<String, String> {
        let proof = self.credentials.proof().await;
        let Proof::Token(token) = proof.map_err(|error| error.to_string())? else {
            return Err("there is none".to_owned());
        };
        if token == old {
            return Err("it is the old one".to_owned());
        }
        let (done, answer) = oneshot::channel();
        let gone = "the connection has ended";
        let asked = fresh.send((token.clone(), done)).await;
        asked.map_err(|_| gone.to_owned())?;
        match answer.await {
            Ok(None) => Ok(token),
            Ok(Some(error)) => Err(format!("the broker refuses it: {error}")),
            Err(_) => Err(gone.to_owned()),
        }
    }
}

const LOST_WHILE_FULL: &str = "it was lost while a consumer had no room";

/// One connection.
struct Link<'a> {
    sender: LinkSender,
    receiver: LinkReceiver,
    conversation: Conversation<'a>,
}

fn hear(
    conversation: &mut Conversation<'_>,
    heard: Result<tokio_tungstenite::tungstenite::Utf8Bytes, LinkError>,
) -> Option<Lost> {
    match heard {
        Ok(text) => conversation.hear(text).err(),
        Err(error) => {
            let code = match &error {
                LinkError::Closed(reason) => reason.code,
                _ => None,
            };
            Some(conversation.lost(error.to_string(), code))
        }
    }
}

/// Waits until then; for ever without a time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
