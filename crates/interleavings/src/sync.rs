//! Loom's atomics, and the queues of crossbeam, once and swap in terms of them.
//!
//! The queues follow crossbeam-queue 0.3.14 step by step, with the same orderings. Where crossbeam
//! has a `SeqCst` access, which loom takes for an acquire or release, a `SeqCst` fence stands beside
//! it. The bound of a `SegQueue` is not reached by any model.

use std::sync::Arc;

pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use loom::sync::{Mutex, MutexGuard};

/// A bounded queue. Places are counted on and on; the stamp of a slot is twice the place that may
/// be written there next, and one more once it is.
#[derive(Debug)]
pub(crate) struct ArrayQueue<T> {
    head: AtomicUsize,
    tail: AtomicUsize,
    slots: Box<[Slot<T>]>,
}

#[derive(Debug)]
struct Slot<T> {
    stamp: AtomicUsize,
    /// Never contended: the stamps see to it.
    value: std::sync::Mutex<Option<T>>,
}

impl<T> Slot<T> {
    fn put(&self, value: T) {
        let before = self.value.try_lock().expect("one at a time").replace(value);
        assert!(before.is_none(), "a slot was written twice");
    }

    fn take(&self) -> T {
        let value = self.value.try_lock().expect("one at a time").take();
        value.expect("a slot was read before it was written")
    }
}

impl<T> ArrayQueue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let slot = |place| Slot {
            stamp: AtomicUsize::new(2 * place),
            value: std::sync::Mutex::new(None),
        };
        Self {
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
            slots: (0..capacity).map(slot).collect(),
        }
    }

    pub(crate) fn push(&self, value: T) -> Result<(), T> {
        loop {
            let tail = self.tail.load(Ordering::Relaxed);
            let slot = &self.slots[tail % self.slots.len()];
            let stamp = slot.stamp.load(Ordering::Acquire);
            if stamp == 2 * tail {
                if advance(&self.tail, tail) {
                    slot.put(value);
                    slot.stamp.store(stamp + 1, Ordering::Release);
                    return Ok(());
                }
            } else if stamp + 2 * self.slots.len() == 2 * tail + 1 {
                fence(Ordering::SeqCst);
                if self.head.load(Ordering::Relaxed) + self.slots.len() == tail {
                    return Err(value);
                }
            }
            loom::thread::yield_now();
        }
    }

    pub(crate) fn pop(&self) -> Option<T> {
        loop {
            let head = self.head.load(Ordering::Relaxed);
            let slot = &self.slots[head % self.slots.len()];
            let stamp = slot.stamp.load(Ordering::Acquire);
            if stamp == 2 * head + 1 {
                if advance(&self.head, head) {
                    let value = slot.take();
                    let next = head + self.slots.len();
                    slot.stamp.store(2 * next, Ordering::Release);
                    return Some(value);
                }
            } else if stamp == 2 * head {
                fence(Ordering::SeqCst);
                if self.tail.load(Ordering::Relaxed) == head {
                    return None;
                }
            }
            loom::thread::yield_now();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        fence(Ordering::SeqCst);
        let tail = self.tail.load(Ordering::Acquire);
        let head = self.head.load(Ordering::Acquire);
        tail.saturating_sub(head)
    }
}

/// Takes place `at`, unless another thread was quicker.
fn advance(place: &AtomicUsize, at: usize) -> bool {
    let taken = place.compare_exchange(at, at + 1, Ordering::SeqCst, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    taken.is_ok()
}

/// An unbounded queue: for models, one of eight.
#[derive(Debug)]
pub(crate) struct SegQueue<T>(ArrayQueue<T>);

impl<T> SegQueue<T> {
    pub(crate) fn new() -> Self {
        Self(ArrayQueue::new(8))
    }

    pub(crate) fn push(&self, value: T) {
        assert!(self.0.push(value).is_ok(), "the model is too large");
    }

    pub(crate) fn pop(&self) -> Option<T> {
        self.0.pop()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// A value that is set once.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    is_set: AtomicBool,
    value: std::sync::OnceLock<T>,
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self {
            is_set: AtomicBool::new(false),
            value: std::sync::OnceLock::new(),
        }
    }
}

impl<T> OnceLock<T> {
    pub(crate) fn get(&self) -> Option<&T> {
        let is_set = self.is_set.load(Ordering::Acquire);
        is_set.then(|| self.value.get().expect("it is set before it is said"))
    }

    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        let value = self.value.get_or_init(make);
        self.is_set.store(true, Ordering::Release);
        value
    }
}

/// A value that is swapped whole. Readers see the newest, which is more than the real one says.
#[derive(Debug)]
pub(crate) struct ArcSwap<T>(Mutex<Arc<T>>);

impl<T: Default> Default for ArcSwap<T> {
    fn default() -> Self {
        Self::from_pointee(T::default())
    }
}

impl<T> ArcSwap<T> {
    pub(crate) fn from_pointee(value: T) -> Self {
        Self(Mutex::new(Arc::new(value)))
    }

    pub(crate) fn load(&self) -> Arc<T> {
        Arc::clone(&self.0.lock().expect("no model panics in it"))
    }

    pub(crate) fn store(&self, value: Arc<T>) {
        *self.0.lock().expect("no model panics in it") = value;
    }
}
