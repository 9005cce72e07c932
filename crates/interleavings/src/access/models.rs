//! A key has as many connections as it may, and no more. Who is told that keys have changed sees
//! that they have.

use std::sync::Arc;

use loom::thread;

use super::grant::{End, Grant, Holder, Rights};
use crate::broker::inbox::Bell;
use crate::core::mailbox::{Letter, Mailbox};
use crate::core::read;
use crate::{check, run};

fn one_at_once() -> Rights {
    Rights {
        connections_max: Some(1),
        ..Rights::default()
    }
}

/// Fails where `Holder::enter` looks first and counts afterwards, and where `Place` is not given
/// back.
#[test]
fn of_two_who_enter_at_once_one_gets_the_last_place() {
    check(None, || {
        let grant = Grant::Named(Arc::new(Holder::new("dashboard", one_at_once())));
        let other = grant.clone();
        let entering = thread::spawn(move || other.enter().ok());
        let mine = grant.enter().ok();
        let theirs = entering.join().expect("it asks");
        assert!(mine.is_some() != theirs.is_some());
        drop((mine, theirs));
        assert!(grant.enter().is_ok(), "the place is free again");
    });
}

/// Fails where `Holder::set_rights` does not reach who has the grant already.
#[test]
fn a_place_that_rights_have_taken_away_is_not_given_twice() {
    check(None, || {
        let holder = Arc::new(Holder::new("dashboard", Rights::default()));
        let other = Arc::clone(&holder);
        let narrowing = thread::spawn(move || other.set_rights(one_at_once()));
        let grant = Grant::Named(Arc::clone(&holder));
        let before = (grant.enter(), grant.enter());
        assert!(before.0.is_ok(), "there is always one");
        narrowing.join().expect("it narrows");
        assert!(grant.enter().is_err());
        drop(before);
        let after = (grant.enter(), grant.enter());
        assert!(after.0.is_ok() && after.1.is_err());
    });
}

/// Fails where `Mailbox::send` rings before it leaves the letter, and where the watch over the keys
/// tells before it withdraws: the two lines of `telling`, as in `server::renewal`.
#[test]
fn whoever_reads_of_a_review_sees_what_was_withdrawn() {
    check(None, || {
        let bell = Arc::new(Bell::default());
        let mailbox = Arc::new(Mailbox::new(1, Arc::clone(&bell)));
        let holder = Arc::new(Holder::new("dashboard", Rights::default()));
        let grant = Grant::Named(Arc::clone(&holder));
        let other = Arc::clone(&mailbox);
        let telling = thread::spawn(move || {
            holder.withdraw();
            other.send(Letter::Review);
        });
        run(|waker| {
            bell.answer(waker);
            let letter = read(&mailbox);
            if letter.is_some() {
                assert_eq!(grant.end(0), Some(End::Withdrawn));
            }
            letter.is_some()
        });
        telling.join().expect("it tells");
    });
}
