//! One subscription, for its consumer.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use tokio::sync::{oneshot, watch};

use crate::client::Client;
use crate::error::Error;
use crate::event::{Item, Position};
use crate::followed::Followed;
use crate::pattern::is_pattern;

/// What is wanted of a topic or a pattern. The default: all that is published from now on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscribe {
    /// First the newest so many events that are kept.
    pub last: u64,
    /// First all events behind these positions: one for a topic, as [`Since::Topic`], or one for each topic of a
    /// pattern. Wins over `last`.
    pub since: Option<Since>,
    /// Where this consumer is slow, a newer event replaces one that waits; [`Event::skipped`](crate::Event::skipped) counts the
    /// replaced.
    pub latest: bool,
    /// At most so many events a second of each topic, 1 to 1,000: the newest of each interval.
    pub max_rate: Option<NonZeroU16>,
    /// Ends when its topic is deleted, instead of waiting for another one of that name. A pattern does not.
    pub until_deleted: bool,
    /// Keeps with each event the JSON that it came as, for who hands it on: [`Event::text`](crate::Event::text).
    pub keep_text: bool,
}

/// Where a subscription is to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// Behind this position of the topic.
    Topic(Position),
    /// Behind these positions of the topics of a pattern.
    Topics(BTreeMap<Arc<str>, Position>),
}

impl From<Position> for Since {
    fn from(position: Position) -> Self {
        Self::Topic(position)
    }
}

/// How a subscription is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionState {
    /// It is not acked on this connection yet.
    Connecting,
    /// Events come.
    Live,
    /// Its topic is not there any more, and is asked for again.
    Waiting,
    /// For good.
    Ended,
}

const MAX_RATE_MAX: u16 = 1000;

impl Subscribe {
    pub(crate) fn check(&self, name: &str) -> Result<(), Error> {
        let bad = |text: &str| Err(Error::new("BAD_REQUEST", text));
        let of_topic = matches!(self.since, Some(Since::Topic(_)));
        if self.since.is_some() && of_topic == is_pattern(name) {
            return bad(
                "since is a position for a topic, and a position of each topic for a pattern",
            );
        }
        if self.max_rate.is_some_and(|rate| rate.get() > MAX_RATE_MAX) {
            return bad("max_rate is 1 to 1000 events a second");
        }
        Ok(())
    }

    /// The topics whose positions are given.
    pub(crate) fn positions(&self, name: &str) -> BTreeMap<Arc<str>, Position> {
        match &self.since {
            None => BTreeMap::new(),
            Some(Since::Topic(position)) => BTreeMap::from([(name.into(), position.clone())]),
            Some(Since::Topics(positions)) => positions.clone(),
        }
    }
}

/// Gives the events of a topic or a pattern. Made by [`Client::subscribe`](crate::Client::subscribe).
///
/// Dropped, it is unsubscribed. What nobody takes fills up, and holds up the others of its client.
#[derive(Debug)]
pub struct Subscription {
    followed: Arc<Followed>,
    client: Client,
    state: watch::Receiver<SubscriptionState>,
    is_over: bool,
}

impl Subscription {
    pub(crate) fn new(followed: Arc<Followed>, client: Client) -> Self {
        let state = followed.state.subscribe();
        Self {
            followed,
            client,
            state,
            is_over: false,
        }
    }

    /// The topic or pattern, as it was asked for.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.followed.name
    }

    /// How it is, and how it comes to be.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<SubscriptionState> {
        self.followed.state.subscribe()
    }

    /// Waits until the broker has acked the subscription for the first time.
    ///
    /// # Errors
    ///
    /// The broker refuses it, or the client has ended.
    pub async fn ready(&mut self) -> Result<(), Error> {
        loop {
            let state = *self.state.borrow_and_update();
            {
                let course = self.followed.course();
                if course.was_live {
                    return Ok(());
                }
                if state == SubscriptionState::Ended {
                    let error = course.error.clone();
                    return Err(error.unwrap_or_else(closed));
                }
            }
            if self.state.changed().await.is_err() {
                return Err(closed());
            }
        }
    }

    /// The next event, or what is missing in front of it. `None` at the end: after an error, or when the client
    /// was closed. May be dropped half-way.
    ///
    /// # Errors
    ///
    /// The broker refuses the subscription, or has ended it; or the client has given up.
    pub async fn next(&mut self) -> Option<Result<Item, Error>> {
        poll_fn(|context| self.poll_item(context)).await
    }

    fn poll_item(&mut self, context: &Context<'_>) -> Poll<Option<Result<Item, Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        match ready!(self.followed.poll_take(context)) {
            Ok((item, has_room_again)) => {
                if has_room_again {
                    self.client.shared().wake();
                }
                Poll::Ready(Some(Ok(item)))
            }
            Err(error) => {
                self.is_over = true;
                Poll::Ready(error.map(Err))
            }
        }
    }

    /// Ends the subscription; what waits is thrown away. Returns when the broker has acked it, or is not there.
    pub async fn unsubscribe(mut self) {
        if let Some(done) = self.leave() {
            done.await.ok();
        }
    }

    fn leave(&mut self) -> Option<oneshot::Receiver<()>> {
        self.is_over = true;
        let was_over = self.followed.state() == SubscriptionState::Ended;
        self.followed.end(None);
        self.followed.course().inbox.clear();
        (!was_over).then(|| self.client.shared().leave(&self.followed))
    }
}

fn closed() -> Error {
    Error::new("CLOSED", "the subscription has ended")
}

impl Stream for Subscription {
    type Item = Result<Item, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_item(context)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.leave();
    }
}
