//! `MAX_CONNECTIONS` is kept, and every seat comes back.

use std::sync::Arc;

use loom::thread;

use crate::check;
use crate::seats::Seats;

/// Fails where `Share::take` looks first and counts afterwards, and where a `Seat` is not given
/// back.
#[test]
fn of_two_who_take_the_last_seat_at_once_one_gets_it() {
    check(None, || {
        let seats = Arc::new(Seats::default());
        seats.open(1, 1);
        let other = Arc::clone(&seats);
        let taking = thread::spawn(move || other.take());
        let mine = seats.take();
        let theirs = taking.join().expect("it asks");
        assert!(mine.is_some() != theirs.is_some());
        drop((mine, theirs));
        assert!(seats.take().is_some(), "the seat is free again");
    });
}

/// A client without a key that has proved itself gets up from one share and sits down in the other.
/// Fails where `take_unproven` takes from the share of the others.
#[test]
fn who_changes_seats_takes_none_from_anybody() {
    check(Some(3), || {
        let seats = Arc::new(Seats::default());
        seats.open(2, 1);
        let changing = [0, 1].map(|_| {
            let seats = Arc::clone(&seats);
            thread::spawn(move || {
                let waiting = seats.take_unproven();
                let proven = seats.take();
                assert!(proven.is_some(), "there is one for each");
                (waiting.is_some(), proven)
            })
        });
        let changed = changing.map(|changing| changing.join().expect("it takes"));
        assert!(changed[0].0 || changed[1].0, "one of them got to wait");
        assert!(seats.take().is_none() && seats.take_unproven().is_some());
        drop(changed);
        assert!(seats.take().is_some());
    });
}
