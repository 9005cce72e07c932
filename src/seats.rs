//! Who may be one of `MAX_CONNECTIONS`.
//!
//! Clients that have not proved anything yet sit in a share of their own: however many of them
//! there are, they take no seat from one with a valid key. A [`Seat`] is given back when it is
//! dropped, so a connection that ends in any way has made room.

use std::sync::Arc;

use crate::sync::{AtomicUsize, Ordering};

/// The seats of a process.
#[derive(Debug, Default)]
pub struct Seats {
    proven: Arc<Share>,
    unproven: Arc<Share>,
}

/// A number of seats. Relaxed throughout: the counts guard nothing but themselves.
#[derive(Debug, Default)]
struct Share {
    seats_max: AtomicUsize,
    taken: AtomicUsize,
}

impl Share {
    fn take(self: &Arc<Self>) -> Option<Seat> {
        let seats_max = self.seats_max.load(Ordering::Relaxed);
        let next = |taken| (taken < seats_max).then_some(taken + 1);
        let taken = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        taken.is_ok().then(|| Seat(Arc::clone(self)))
    }
}

impl Seats {
    /// Says how many there are. Until then there are none: what the process itself needs is
    /// counted once it has started.
    pub fn open(&self, proven_max: usize, unproven_max: usize) {
        self.proven.seats_max.store(proven_max, Ordering::Relaxed);
        self.unproven
            .seats_max
            .store(unproven_max, Ordering::Relaxed);
    }

    /// A seat for a client that may be here, if there is one.
    pub fn take(&self) -> Option<Seat> {
        self.proven.take()
    }

    /// A seat for a client that has still to send its key, if there is one.
    pub fn take_unproven(&self) -> Option<Seat> {
        self.unproven.take()
    }

    /// Seats for clients that may be here.
    pub fn proven_max(&self) -> usize {
        self.proven.seats_max.load(Ordering::Relaxed)
    }

    /// Seats for clients that have still to send their key.
    pub fn unproven_max(&self) -> usize {
        self.unproven.seats_max.load(Ordering::Relaxed)
    }
}

/// The right to be connected, given back when it is dropped.
#[derive(Debug)]
pub struct Seat(Arc<Share>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(broker_loom)))]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_seat_before_they_are_counted() {
        let seats = Seats::default();
        assert!(seats.take().is_none() && seats.take_unproven().is_none());
    }

    #[test]
    fn a_share_that_is_full_takes_nothing_from_the_other() {
        let seats = Seats::default();
        seats.open(1, 2);
        let waiting = [seats.take_unproven(), seats.take_unproven()];
        assert!(waiting.iter().all(Option::is_some) && seats.take_unproven().is_none());
        let mut seat = seats.take_unproven().or_else(|| seats.take());
        assert!(seat.is_some() && seats.take().is_none());
        seat = None;
        assert!(seat.is_none() && seats.take().is_some());
    }

    #[test]
    fn a_seat_that_is_exchanged_makes_room_for_the_next() {
        let seats = Seats::default();
        seats.open(1, 1);
        let mut seat = seats.take_unproven().expect("a free seat");
        assert!(seats.take_unproven().is_none());
        seat = seats.take().map_or(seat, |proven| proven);
        assert!(seats.take_unproven().is_some() && seats.take().is_none());
        drop(seat);
        assert!(seats.take().is_some());
    }
}
