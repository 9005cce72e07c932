//! Makes one connection after the other, and works on each until it is lost.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::backoff::Backoff;
use crate::client::ClientState;
use crate::command;
use crate::conversation::{Conversation, Lost};
use crate::credentials::{Credentials, Proof, lifetime};
use crate::error::Error;
use crate::frame::Frame;
use crate::link::{LinkError, LinkOptions, LinkReceiver, LinkSender, connect};
use crate::notice::Notice;
use crate::shared::Shared;
use crate::subscription::SubscriptionState;
use crate::tls::Trust;
use crate::url::ServerUrl;

/// A source of tokens may give one that has just ended; a key that is given once does not get better.
const REFUSALS_OF_FRESH_MAX: u32 = 3;

const LOST_WHILE_FULL: &str = "it was lost while a consumer had no room";

/// A token to be shown, and who is told what the broker minds.
type Fresh = (String, oneshot::Sender<Option<Error>>);

/// See the module.
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    url: ServerUrl,
    trust: Trust,
    credentials: Credentials,
}

/// A source of keys that panics ends this one, or the runtime does: nobody is to wait for it.
impl Drop for Supervisor {
    fn drop(&mut self) {
        let error = Error::new("INTERNAL", "the client has ended");
        if self.shared.state().error.is_none() {
            self.shared.end_all(&error, Some(&error));
            self.shared.move_to(ClientState::Failed);
        }
    }
}

impl Supervisor {
    pub(crate) fn new(
        shared: Arc<Shared>,
        url: ServerUrl,
        trust: Trust,
        credentials: Credentials,
    ) -> Self {
        Self {
            shared,
            url,
            trust,
            credentials,
        }
    }

    /// Works until the client is closed, or no further attempt makes sense.
    pub(crate) async fn work(self) {
        if let Some(refusal) = self.keep_link().await {
            // Whoever is told of the state finds the reason.
            self.shared.state().error = Some(refusal.clone());
            self.shared.move_to(ClientState::Failed);
            self.shared.end_all(&refusal, Some(&refusal));
        } else {
            let closed = Error::new("CLOSED", "the client was closed");
            self.shared.end_all(&closed, None);
            self.shared.move_to(ClientState::Closed);
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
            if !self.shared.reconnect {
                let own = || Error::new("CONNECTION_LOST", lost.reason);
                return Some(lost.error.unwrap_or_else(own));
            }
            if lost.is_final {
                refusals += 1;
                if !self.credentials.can_change() || refusals >= REFUSALS_OF_FRESH_MAX {
                    return lost.error;
                }
            }
            let pause = backoff.pause(lost.retry_after);
            tracing::info!(?pause, "no connection to the broker: {}", lost.reason);
            self.shared.state().last_loss.clone_from(&lost.reason);
            self.shared.tell(Notice::Disconnected {
                reason: lost.reason,
                retry_in: pause,
            });
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
            for followed in all {
                conversation.subscribe(followed);
            }
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
        if self.shared.reconnect {
            state.outbox.link_lost();
        }
        let all = state.subscriptions.clone();
        drop(state);
        for followed in all {
            followed.move_to(SubscriptionState::Connecting);
        }
        self.shared.has_room.notify_waiters();
        let lost = ended.map(|mut lost| {
            let error = conversation.last_error.take();
            lost.is_final = self.is_final(error.as_ref(), &proof);
            lost.error = error;
            lost
        });
        (lost, Some(opened.elapsed()))
    }

    async fn open(&self) -> Result<(Link<'_>, Proof), Lost> {
        let proof = self.credentials.proof().await;
        let proof = proof
            .map_err(|error| Lost::new(format!("the key or token could not be had: {error}")))?;
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
            let (sender, receiver) =
                connected.map_err(|error| self.not_connected(error, &proof))?;
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

    fn is_final(&self, error: Option<&Error>, proof: &Proof) -> bool {
        error.is_some_and(|error| self.credentials.is_final(error, proof))
    }

    fn not_connected(&self, error: LinkError, proof: &Proof) -> Lost {
        let lost = Lost::new(error.to_string());
        match error {
            LinkError::Refused {
                error, retry_after, ..
            } => Lost {
                retry_after,
                is_final: self.is_final(error.as_ref(), proof),
                error,
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
                        is_final: self.is_final(Some(&error), proof),
                        error: Some(error.clone()),
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
        let (fresh, mut tokens) = mpsc::channel::<Fresh>(1);
        let mut renewal = std::pin::pin!(self.renew(proof, fresh));
        let mut life = interval(self.shared.limits.heartbeat);
        life.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
                    conversation.show_token(&token, done);
                }
                () = &mut renewal => {}
            }
        }
    }

    /// Shows a fresh token before the one in use ends, so that the connection does not. Never returns.
    async fn renew(&self, proof: &Proof, fresh: mpsc::Sender<Fresh>) {
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
        std::future::pending::<()>().await;
    }

    async fn fresh_token(&self, old: &str, fresh: &mpsc::Sender<Fresh>) -> Result<String, String> {
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

/// One connection.
struct Link<'a> {
    sender: LinkSender,
    receiver: LinkReceiver,
    conversation: Conversation<'a>,
}

fn hear(conversation: &mut Conversation<'_>, heard: Result<Utf8Bytes, LinkError>) -> Option<Lost> {
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
