//! What one client may do, and until when.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::rate::{Buckets, Limit};
use crate::pattern::Pattern;
use crate::sync::{ArcSwap, AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering};

/// What a client may do. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Grant {
    /// No key is asked for, or it is one that opens everything.
    Everything,
    /// What its key or token says.
    Named(Arc<Holder>),
}

impl Grant {
    /// Whether the right on `topic` is granted, or why not, in words for the client.
    pub fn check(&self, right: Right, topic: &str) -> Result<(), String> {
        match self {
            Self::Everything => Ok(()),
            Self::Named(holder) => holder.check(right, topic),
        }
    }

    /// Whether all topics that `pattern` means may be received, or why not, in words for the client.
    pub fn check_pattern(&self, pattern: &Pattern) -> Result<(), String> {
        match self {
            Self::Named(holder) if !holder.rights.load().covers(pattern) => {
                Err(holder.refusal(Right::Subscribe, pattern.as_str()))
            }
            _ => Ok(()),
        }
    }

    /// Whether figures may be seen.
    pub fn check_observe(&self) -> Result<(), String> {
        match self {
            Self::Named(holder) if !holder.rights.load().may_observe() => {
                Err(format!("Key '{}' may not observe", holder.name))
            }
            _ => Ok(()),
        }
    }

    /// Whether connections of others may be closed.
    pub fn check_admin(&self) -> Result<(), String> {
        match self {
            Self::Named(holder) if !holder.rights.load().admin => {
                Err(format!("Key '{}' may not close connections", holder.name))
            }
            _ => Ok(()),
        }
    }

    /// Whether there is anything that may be done with `topic`: others do not hear of it.
    pub fn may_see(&self, topic: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Named(holder) => {
                let rights = holder.rights.load();
                Right::ALL.iter().any(|right| rights.has(*right, topic))
            }
        }
    }

    /// As [`Self::may_see`], or why not, in words for the client.
    pub fn check_see(&self, topic: &str) -> Result<(), String> {
        if self.may_see(topic) {
            return Ok(());
        }
        let name = self.name().unwrap_or_default();
        Err(format!("Key '{name}' may not see '{topic}'"))
    }

    /// Whether it comes from a token, and a fresh one may follow.
    pub fn is_of_token(&self) -> bool {
        matches!(self, Self::Named(holder) if holder.is_of_token)
    }

    /// The holder's name, if it has one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Everything => None,
            Self::Named(holder) => Some(&holder.name),
        }
    }

    /// Why it holds no longer at `now_ms`, if that is so.
    pub fn end(&self, now_ms: u64) -> Option<End> {
        match self {
            Self::Everything => None,
            Self::Named(holder) => holder.end(now_ms),
        }
    }

    /// When it ends by itself, in milliseconds of the Unix clock.
    pub fn expires_ms(&self) -> Option<u64> {
        match self {
            Self::Everything => None,
            Self::Named(holder) => holder.rights.load().expires_ms,
        }
    }

    /// Whether the key has a rate.
    pub fn is_limited(&self) -> bool {
        matches!(self, Self::Named(holder) if holder.is_limited.load(Ordering::Relaxed))
    }

    /// Counts commands of so many bytes together against the key's rate, `now` after the start of the
    /// process; or says how long it has to wait.
    pub fn count(&self, messages: u64, bytes: usize, now: Duration) -> Result<(), Duration> {
        match self {
            Self::Named(holder) if self.is_limited() => {
                holder.buckets().count(messages, bytes, now)
            }
            _ => Ok(()),
        }
    }

    /// A place among the connections of this key, or in words for the client that there is none.
    pub fn enter(&self) -> Result<Place, String> {
        match self {
            Self::Everything => Ok(Place::default()),
            Self::Named(holder) => holder.enter(),
        }
    }
}

/// What can be done with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Receive its events.
    Subscribe,
    /// Send messages to it.
    Publish,
    /// Create and delete it.
    Manage,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Subscribe, Self::Publish, Self::Manage];

    /// The name in a file of keys, and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::Manage => "manage",
        }
    }

    /// As the words go: "may not …".
    pub fn verb(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe to",
            Self::Publish => "publish to",
            Self::Manage => "manage",
        }
    }
}

/// The rights of a key or token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// Topics whose events may be received.
    pub subscribe: Vec<Pattern>,
    /// Topics that may be published to.
    pub publish: Vec<Pattern>,
    /// Topics that may be created and deleted.
    pub manage: Vec<Pattern>,
    /// Figures may be seen.
    pub observe: bool,
    /// Everything.
    pub admin: bool,
    /// When it ends, in milliseconds of the Unix clock.
    pub expires_ms: Option<u64>,
    /// Connections at once.
    pub connections_max: Option<u64>,
    /// Commands in a second, of all its connections.
    pub messages_per_sec: Option<u64>,
    /// Bytes in a second, of all its connections.
    pub bytes_per_sec: Option<u64>,
}

impl Rights {
    /// Whether `right` on `topic` is among them.
    pub fn has(&self, right: Right, topic: &str) -> bool {
        let patterns = match right {
            Right::Subscribe => &self.subscribe,
            Right::Publish => &self.publish,
            Right::Manage => &self.manage,
        };
        self.admin || patterns.iter().any(|pattern| pattern.matches(topic))
    }

    /// Whether a subscription to `pattern` lies inside one that is among them.
    pub fn covers(&self, pattern: &Pattern) -> bool {
        self.admin || self.subscribe.iter().any(|of| of.covers(pattern))
    }

    /// Whether figures may be seen.
    pub fn may_observe(&self) -> bool {
        self.observe || self.admin
    }
}

/// Why a grant has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The key is no longer in its file.
    Withdrawn,
    /// Its time is over.
    Expired,
}

impl End {
    /// The words for the client.
    pub fn describe(self, grant: &Grant) -> String {
        let how = match self {
            Self::Withdrawn => "was withdrawn",
            Self::Expired => "has expired",
        };
        format!("Key '{}' {how}", grant.name().unwrap_or_default())
    }
}

/// Why a command is not carried out.
#[derive(Debug, PartialEq, Eq)]
pub enum Denial {
    /// The grant does not say so, in words for the client.
    Forbidden(String),
    /// There is no grant any more.
    Ended(End),
}

/// Who holds a key or token. One for all its connections, so that they see changes at once.
#[derive(Debug)]
pub struct Holder {
    name: Box<str>,
    is_of_token: bool,
    rights: ArcSwap<Rights>,
    is_withdrawn: AtomicBool,
    connections: AtomicU64,
    /// What all its connections say together. The lock is held for some nanoseconds, and taken
    /// only where the key has a rate.
    buckets: Mutex<Buckets>,
    is_limited: AtomicBool,
}

impl Holder {
    /// The holder of a key.
    pub fn new(name: &str, rights: Rights) -> Self {
        let holder = Self {
            name: name.into(),
            is_of_token: false,
            rights: ArcSwap::default(),
            is_withdrawn: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            buckets: Mutex::default(),
            is_limited: AtomicBool::new(false),
        };
        holder.set_rights(rights);
        holder
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The holder of a token, of one connection.
    pub fn of_token(name: &str, rights: Rights) -> Self {
        Self {
            is_of_token: true,
            ..Self::new(name, rights)
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Says that the rights are now these; they hold from the next command on.
    pub(super) fn set_rights(&self, rights: Rights) {
        let limit = |per_second: Option<u64>| {
            let per_second = per_second.unwrap_or(0);
            Limit::new(per_second, per_second)
        };
        let (messages, bytes) = (rights.messages_per_sec, rights.bytes_per_sec);
        let mut buckets = self.buckets();
        buckets.limit(limit(messages), limit(bytes));
        self.is_limited
            .store(buckets.is_limited(), Ordering::Relaxed);
        drop(buckets);
        self.rights.store(Arc::new(rights));
    }

    /// Says that the key is gone. Relaxed: who must act on it is told behind this, by a letter.
    pub(super) fn withdraw(&self) {
        self.is_withdrawn.store(true, Ordering::Relaxed);
    }

    /// Why it holds no longer at `now_ms`, if that is so.
    pub fn end(&self, now_ms: u64) -> Option<End> {
        self.end_of(&self.rights.load(), || now_ms)
    }

    /// The clock is looked at only where the key ends by itself.
    fn end_of(&self, rights: &Rights, now_ms: impl FnOnce() -> u64) -> Option<End> {
        if self.is_withdrawn.load(Ordering::Relaxed) {
            return Some(End::Withdrawn);
        }
        let expires = rights.expires_ms?;
        (expires <= now_ms()).then_some(End::Expired)
    }

    /// Why a command is not carried out; asked once for each. `now_ms` is the time in milliseconds of
    /// the Unix clock.
    pub fn denial(
        &self,
        right: Right,
        topic: &str,
        now_ms: impl FnOnce() -> u64,
    ) -> Option<Denial> {
        let rights = self.rights.load();
        if let Some(end) = self.end_of(&rights, now_ms) {
            return Some(Denial::Ended(end));
        }
        (!rights.has(right, topic)).then(|| Denial::Forbidden(self.refusal(right, topic)))
    }

    /// The same for a subscription to a pattern.
    pub fn denial_of_pattern(
        &self,
        pattern: &Pattern,
        now_ms: impl FnOnce() -> u64,
    ) -> Option<Denial> {
        let rights = self.rights.load();
        if let Some(end) = self.end_of(&rights, now_ms) {
            return Some(Denial::Ended(end));
        }
        let refusal = || Denial::Forbidden(self.refusal(Right::Subscribe, pattern.as_str()));
        (!rights.covers(pattern)).then(refusal)
    }

    fn refusal(&self, right: Right, topic: &str) -> String {
        format!("Key '{}' may not {} '{topic}'", self.name, right.verb())
    }

    /// See [`Grant::check`].
    pub fn check(&self, right: Right, topic: &str) -> Result<(), String> {
        if self.rights.load().has(right, topic) {
            return Ok(());
        }
        Err(self.refusal(right, topic))
    }

    fn enter(self: &Arc<Self>) -> Result<Place, String> {
        let most = self.rights.load().connections_max.unwrap_or(u64::MAX);
        let next = |count| (count < most).then_some(count + 1);
        // Relaxed: the count guards nothing but itself.
        let entered = self
            .connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        match entered {
            Ok(_) => Ok(Place(Some(Arc::clone(self)))),
            Err(_) => Err(format!(
                "Key '{}' has no room for another connection: connections_max is {most}",
                self.name
            )),
        }
    }
}

/// A place among the connections of a key, given back when it is dropped.
#[derive(Debug, Default)]
pub struct Place(Option<Arc<Holder>>);

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(holder) = &self.0 {
            holder.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(broker_loom)))]
mod tests {
    use super::*;

    fn grant(rights: Rights) -> (Arc<Holder>, Grant) {
        let holder = Arc::new(Holder::new("dashboard", rights));
        (Arc::clone(&holder), Grant::Named(holder))
    }

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        let parsed = texts.iter().map(|text| Pattern::parse(text));
        parsed.collect::<Result<_, _>>().expect("patterns")
    }

    #[test]
    fn a_grant_is_what_its_rights_say_at_this_moment() {
        let (holder, grant) = grant(Rights {
            subscribe: patterns(&["orders.*"]),
            ..Rights::default()
        });
        assert_eq!(grant.check(Right::Subscribe, "orders.eu"), Ok(()));
        assert_eq!(
            grant.check(Right::Publish, "orders.eu"),
            Err("Key 'dashboard' may not publish to 'orders.eu'".into())
        );
        assert!(grant.may_see("orders.eu") && !grant.may_see("prices"));
        for (pattern, is_allowed) in [("orders.*", true), ("orders.>", false), ("*.eu", false)] {
            let pattern = Pattern::parse(pattern).expect("a pattern");
            assert_eq!(grant.check_pattern(&pattern).is_ok(), is_allowed);
            let denial = holder.denial_of_pattern(&pattern, || 0);
            assert_eq!(denial.is_none(), is_allowed);
        }
        assert!(grant.check_observe().is_err());
        holder.set_rights(Rights {
            admin: true,
            ..Rights::default()
        });
        for right in Right::ALL {
            assert_eq!(grant.check(right, "anything"), Ok(()));
        }
        assert!(grant.check_observe().is_ok() && grant.may_see("prices"));
    }

    #[test]
    fn a_grant_ends_with_its_key_or_its_time() {
        let (holder, grant) = grant(Rights {
            expires_ms: Some(1000),
            ..Rights::default()
        });
        assert_eq!(grant.end(999), None);
        let end = grant.end(1000).expect("it is over");
        assert_eq!(end.describe(&grant), "Key 'dashboard' has expired");
        holder.withdraw();
        let end = grant.end(0).expect("it is over");
        assert_eq!(end.describe(&grant), "Key 'dashboard' was withdrawn");
    }

    #[test]
    fn a_place_that_is_given_up_is_free_again() {
        let (_, grant) = grant(Rights {
            connections_max: Some(1),
            ..Rights::default()
        });
        let place = grant.enter();
        assert!(
            grant
                .enter()
                .is_err_and(|text| text.ends_with("connections_max is 1"))
        );
        drop(place);
        assert!(grant.enter().is_ok());
    }
}
