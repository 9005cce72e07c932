//! What is booked is counted, and nobody is refused memory before those who lag were looked at.

use std::sync::Arc;

use loom::thread;

use crate::broker::inbox::Bell;
use crate::budget::{Booked, Budget, Kind};
use crate::{check, run};

/// Frames are made on one core and freed on another. Fails where `Booked::set` does not keep what
/// it has booked.
#[test]
fn no_look_at_the_books_finds_more_than_was_booked_or_less_than_is() {
    check(None, || {
        let budget = Arc::new(Budget::new(100, 2));
        budget.book(1, Kind::Frames, 7);
        let booked = Booked::new(Arc::clone(&budget), 1, Kind::Frames, 60);
        let freeing = thread::spawn(move || {
            let mut booked = booked;
            booked.set(20);
        });
        budget.book(0, Kind::Frames, 30);
        assert!((37..=97).contains(&budget.bytes(Kind::Frames)));
        budget.release(0, Kind::Frames, 30);
        freeing.join().expect("it frees");
        assert_eq!(budget.bytes(Kind::Frames), 7);
    });
}

/// Two shards find the budget used up at once, each on its own core, with what was noted the last
/// time still in the cells. Neither may hear "nobody lags" before both cores have looked. Fails
/// where `most_lag` minds notes of an earlier call, as it did while `ask` made them unknown behind
/// the flag that says it.
#[test]
fn nobody_is_told_that_nobody_lags_before_all_have_looked() {
    check(None, || {
        let budget = Arc::new(Budget::new(0, 2));
        budget.ask();
        let before = budget.call().expect("it has been asked");
        budget.note_lag(0, before, 0);
        budget.note_lag(1, before, 0);
        assert!(!budget.ask(), "all have looked, and nobody lags");
        budget.settle();

        let other = Arc::clone(&budget);
        let asking = thread::spawn(move || assert!(other.ask(), "core 1 has not looked"));
        assert!(budget.ask(), "core 1 has not looked");
        let call = budget.call().expect("it has been asked");
        budget.note_lag(0, call, 0);
        assert!(budget.ask(), "core 1 has not looked");
        asking.join().expect("it asks");
        budget.note_lag(1, call, 0);
        assert!(!budget.ask(), "all have looked, and nobody lags");
    });
}

/// A core that is woken behind the call does look. Fails where `ask` does not begin the call.
#[test]
fn a_core_that_is_woken_looks() {
    check(None, || {
        let budget = Arc::new(Budget::new(0, 2));
        let bells = Arc::new([(); 2].map(|()| Bell::default()));
        let (others_budget, others_bells) = (Arc::clone(&budget), Arc::clone(&bells));
        let looking = thread::spawn(move || {
            run(|waker| {
                others_bells[1].answer(waker);
                let call = others_budget.call();
                if let Some(call) = call {
                    others_budget.note_lag(1, call, 0);
                    others_bells[0].ring();
                }
                call.is_some()
            });
        });
        run(|waker| {
            bells[0].answer(waker);
            let may_help = budget.ask();
            if let Some(call) = budget.call() {
                budget.note_lag(0, call, 0);
            }
            bells[1].ring();
            !may_help
        });
        looking.join().expect("it looks");
    });
}

/// Cores that see room end the call that they know, once. Fails where `settle` counts on whatever
/// it finds.
#[test]
fn a_call_is_ended_once() {
    check(None, || {
        let budget = Arc::new(Budget::new(100, 2));
        budget.ask();
        let other = Arc::clone(&budget);
        let settling = thread::spawn(move || other.settle());
        budget.settle();
        settling.join().expect("it settles");
        assert_eq!(budget.call(), None);
    });
}
