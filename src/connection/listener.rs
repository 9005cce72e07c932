//! The task of an event stream: it subscribes, then waits for the end.
//!
//! Its client has said all in the request: whatever else it sends is thrown away, in the turns of
//! everybody else, and when it closes its side the stream is over. Who wakes the task is what the
//! [reader](super::reader) says of its own; a stream never pauses.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::flow::Flow;
use super::local::Local;
use super::reader::yield_turn;
use super::session::Admission;
use super::{Connection, Phase};
use crate::broker::request::{Replay, Request};
use crate::protocol::names::TopicName;
use crate::protocol::policy::Policy;

/// The task of one stream.
#[derive(Debug)]
pub(crate) struct Listener {
    local: Rc<Local>,
    connection: Rc<Connection>,
    flow: Flow,
    _admission: Admission,
}

impl Listener {
    /// The task of `connection`, which wants `topics`, all by one policy; of none, it ends at
    /// once.
    pub(crate) fn new(
        local: Rc<Local>,
        admission: Admission,
        connection: Rc<Connection>,
        topics: Vec<(TopicName<'static>, Replay)>,
        policy: Policy,
    ) -> Self {
        let mut flow = Flow::new(Rc::clone(&local), Rc::clone(&connection));
        connection.is_paused.set(false);
        let is_one = topics.len() == 1;
        if topics.is_empty() {
            connection.leave(&local);
        } else if !is_one {
            connection.ring.borrow_mut().hold();
        }
        for (topic, replay) in topics {
            let shard = local.process.broker.shard_of(&topic);
            flow.ask(
                shard,
                Request::Subscribe {
                    subscriber: connection.id,
                    topic: topic.into(),
                    replay,
                    policy,
                    // One piece of the past waits for a connection.
                    is_inline: is_one,
                    request_id: None,
                },
            );
        }
        Self {
            local,
            connection,
            flow,
            _admission: admission,
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let connection = &self.connection;
        if connection.phase.get() == Phase::Ended
            || connection.poll_unpark(&self.local, cx).is_err()
        {
            return Poll::Ready(());
        }
        self.flow.push_refused(cx);
        if !self.local.may_read() {
            self.local.ring();
            return yield_turn(cx);
        }
        loop {
            if ready!(connection.poll_readable(cx)).is_err() {
                return Poll::Ready(());
            }
            let mut buffer = self.local.read_buffer.borrow_mut();
            match connection.try_read(&self.local, &mut buffer) {
                Ok(read) if read > 0 => {
                    self.local.has_read(read);
                    connection.figures.came(read);
                    return yield_turn(cx);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl Future for Listener {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.connection.woken_by(cx);
        let polled = this.turn(cx);
        if this.connection.is_ready.get() {
            this.local.ring();
        }
        polled
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.connection.over(&self.local);
    }
}
