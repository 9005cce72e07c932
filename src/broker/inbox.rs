//! What waits for a shard: a bounded queue, and the bell that wakes the thread behind it.
//!
//! A full inbox refuses. The connection that was refused stops reading its socket, leaves its
//! waker, and is woken when the shard has made room: TCP then slows its client.

use std::future::poll_fn;
use std::task::{Poll, Waker};

use super::request::Request;
use crate::sync::{ArrayQueue, AtomicBool, OnceLock, Ordering, SegQueue};

/// Wakes the worker of one thread, once for all that happens until it looks.
#[derive(Debug, Default)]
pub struct Bell {
    rung: AtomicBool,
    worker: OnceLock<Waker>,
}

impl Bell {
    /// Wakes the worker, unless it has been woken and has not looked yet. What it is to find must
    /// be in its place before.
    pub fn ring(&self) {
        // AcqRel: pairs with `answer`; whoever finds it rung knows that the worker will still look.
        if !self.rung.swap(true, Ordering::AcqRel)
            && let Some(worker) = self.worker.get()
        {
            worker.wake_by_ref();
        }
    }

    /// Called by the worker before it looks at its queues, with the waker of its task.
    pub fn answer(&self, worker: &Waker) {
        self.worker.get_or_init(|| worker.clone());
        self.rung.swap(false, Ordering::AcqRel);
    }
}

/// The bounded queue of one shard.
#[derive(Debug)]
pub struct Inbox {
    requests: ArrayQueue<Request>,
    /// Wakers of connections that were refused: one for each time that one was polled since the
    /// shard has last made room, which is about once for a flush of its core.
    refused: SegQueue<Waker>,
    bell: std::sync::Arc<Bell>,
}

impl Inbox {
    /// An inbox of `requests_max` requests that rings `bell`.
    pub fn new(requests_max: usize, bell: std::sync::Arc<Bell>) -> Self {
        Self {
            requests: ArrayQueue::new(requests_max.max(1)),
            refused: SegQueue::new(),
            bell,
        }
    }

    /// Puts `request` in, or gives it back if there is no room.
    pub fn push(&self, request: Request) -> Result<(), Request> {
        self.requests.push(request)?;
        self.bell.ring();
        Ok(())
    }

    /// As [`Self::push`]; if there is no room, `waker` is woken once there is.
    pub fn push_or_wait(&self, request: Request, waker: &Waker) -> Result<(), Request> {
        let Err(request) = self.push(request) else {
            return Ok(());
        };
        self.refused.push(waker.clone());
        // The shard may have emptied the queue before the waker was in its list.
        self.push(request)
    }

    /// Puts `request` in, waiting for room as long as it takes.
    pub async fn send(&self, request: Request) {
        let mut waiting = Some(request);
        poll_fn(|cx| {
            let pushed = waiting
                .take()
                .map(|request| self.push_or_wait(request, cx.waker()));
            match pushed {
                None | Some(Ok(())) => Poll::Ready(()),
                Some(Err(request)) => {
                    waiting = Some(request);
                    Poll::Pending
                }
            }
        })
        .await;
    }

    /// Takes the oldest request.
    pub(crate) fn pop(&self) -> Option<Request> {
        self.requests.pop()
    }

    /// Whether a request waits.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Wakes all that were refused; called when there is room.
    pub(crate) fn wake_refused(&self) {
        for _ in 0..self.refused.len() {
            if let Some(waker) = self.refused.pop() {
                waker.wake();
            }
        }
    }
}
