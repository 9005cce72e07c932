//! HTTP at the end of the process: which connections are still owed an answer.
//!
//! Shared by all cores. Every connection is counted from its first poll until its last answer has
//! left; once [`Ending::finish`] has been called, the idle ones end, and the others do after the
//! answer that they are owed. So the count only falls, and the process can wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The count of connections that speak HTTP, and whether they are to end.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    finishing: AtomicBool,
    open: AtomicUsize,
    /// Wakes the connections: they are to end.
    begun: Notify,
    /// Wakes the process: none is left.
    done: Notify,
}

/// One connection's part in the count, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Underway(Arc<Ending>);

impl Ending {
    /// Counts a connection; not one that comes when the others end: it may ask, and is answered
    /// while there is time, but nobody waits for it.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Underway> {
        if self.is_finishing() {
            return None;
        }
        self.open.fetch_add(1, Ordering::SeqCst);
        Some(Underway(Arc::clone(self)))
    }

    /// Whether connections are to end once nothing is owed to them.
    fn is_finishing(&self) -> bool {
        self.finishing.load(Ordering::SeqCst)
    }

    /// Returns when connections are to end.
    pub(crate) async fn begun(&self) {
        let mut begun = std::pin::pin!(self.begun.notified());
        // In the list before the flag is read: a beginning after that wakes.
        begun.as_mut().enable();
        if !self.is_finishing() {
            begun.await;
        }
    }

    /// Tells the connections to end and waits until all have.
    pub(crate) async fn finish(&self) {
        self.finishing.store(true, Ordering::SeqCst);
        self.begun.notify_waiters();
        loop {
            let mut done = std::pin::pin!(self.done.notified());
            done.as_mut().enable();
            if self.open.load(Ordering::SeqCst) == 0 {
                return;
            }
            done.await;
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.done.notify_waiters();
        }
    }
}
