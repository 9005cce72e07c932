//! What a connection may do: its grant, and what follows when that changes or ends.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::local::Local;
use super::timers::Tick;
use super::{Connection, error, leave_topics};
use crate::access::grant::{Denial, End, Grant, Right};
use crate::access::now_ms;
use crate::broker::delivery::Said;
use crate::broker::directory::TopicEntry;
use crate::pattern::Pattern;
use crate::protocol::codes::ErrorCode;

impl Connection {
    /// Asks the grant. Who may do everything pays one branch.
    pub(super) fn denial(&self, right: Right, topic: &str) -> Option<Denial> {
        let grant = self.grant.borrow();
        match &*grant {
            Grant::Everything => None,
            Grant::Named(holder) => holder.denial(right, topic, now_ms),
        }
    }

    /// The same for a subscription to a pattern.
    pub(super) fn denial_of_pattern(&self, pattern: &Pattern) -> Option<Denial> {
        match &*self.grant.borrow() {
            Grant::Everything => None,
            Grant::Named(holder) => holder.denial_of_pattern(pattern, now_ms),
        }
    }

    /// Takes a grant, in the place of the one that it had.
    pub(super) fn hold(self: &Rc<Self>, local: &Local, grant: Grant) {
        self.is_authenticated.set(true);
        self.grant.replace(grant);
        self.review(local);
    }

    /// When the grant ends by itself.
    pub(super) fn grant_ends_at(&self, local: &Local) -> Option<Tick> {
        let expires_ms = self.grant.borrow().expires_ms()?;
        let left = Duration::from_millis(expires_ms.saturating_sub(now_ms()));
        Some(local.after(left))
    }

    /// Ends the connection if its grant has ended. Whether that is so.
    pub(super) fn ends_with_grant(self: &Rc<Self>, local: &Local) -> bool {
        let end = self.grant.borrow().end(now_ms());
        end.inspect(|end| self.end_grant(local, *end)).is_some()
    }

    /// The grant has ended, and the connection ends with it.
    pub(super) fn end_grant(self: &Rc<Self>, local: &Local, end: End) {
        let text = end.describe(&self.grant.borrow());
        tracing::info!(client = self.label(), "disconnected: {text}");
        self.refuse(local, &error(ErrorCode::Unauthorized, &text), &text);
    }

    /// The rights may have changed: what they do not allow any more ends. The core then looks at
    /// the connection when the grant ends.
    pub(crate) fn review(self: &Rc<Self>, local: &Local) {
        if self.is_over() || self.ends_with_grant(local) {
            return;
        }
        let topics = self
            .topics
            .borrow()
            .entries(|topic| self.is_forbidden(topic));
        leave_topics(local, self.id, topics, true);
        self.review_patterns(local);
        self.watch(local);
    }

    pub(super) fn is_forbidden(&self, topic: &TopicEntry) -> bool {
        let grant = self.grant.borrow();
        grant.check(Right::Subscribe, topic.name()).is_err()
    }

    /// What a shard has said is held against rights that may have changed since it was asked.
    pub(super) fn mind(self: &Rc<Self>, local: &Local, said: &Said) {
        match said {
            Said::Subscribed { topic, .. } if self.is_forbidden(topic) => {
                leave_topics(local, self.id, vec![Arc::clone(topic)], true);
            }
            Said::Left(topic) => {
                let entry: *const TopicEntry = &raw const **topic;
                let is_it = |of: &TopicEntry| std::ptr::eq(of, entry);
                self.ring.borrow_mut().end_replays(is_it);
                let checked = self.grant.borrow().check(Right::Subscribe, topic.name());
                // Allowed again in the meantime: the subscription has ended all the same.
                let name = topic.name();
                let text = checked.err().unwrap_or_else(|| {
                    format!("The subscription to '{name}' has ended: rights have changed")
                });
                self.say(local, &error(ErrorCode::Forbidden, &text));
            }
            _ => {}
        }
    }
}
