//! Nobody sleeps over something to do: neither a shard over a request, nor a connection over room.

use std::sync::Arc;

use loom::thread;

use super::inbox::{Bell, Inbox};
use super::request::Request;
use crate::{check, run};

/// A shard that takes `wanted` requests, one in a turn, and sleeps when it sees none.
fn work(inbox: &Inbox, bell: &Bell, wanted: usize) -> Vec<u32> {
    let mut taken = Vec::new();
    run(|waker| {
        bell.answer(waker);
        if let Some(Request(number)) = inbox.pop() {
            taken.push(number);
            inbox.wake_refused();
            if !inbox.is_empty() {
                bell.ring();
            }
        }
        taken.len() == wanted
    });
    taken.sort_unstable();
    taken
}

fn inbox(requests_max: usize) -> (Arc<Inbox>, Arc<Bell>) {
    let bell = Arc::new(Bell::default());
    let inbox = Inbox::new(requests_max, Arc::clone(&bell));
    (Arc::new(inbox), bell)
}

/// Fails where `Inbox::push` rings before it pushes, and where `Bell::ring` raises the flag first and
/// looks at it afterwards.
#[test]
fn a_request_is_never_slept_over() {
    check(None, || {
        let (inbox, bell) = inbox(2);
        let other = Arc::clone(&inbox);
        let pushing = thread::spawn(move || other.push(Request(1)).expect("there is room"));
        assert_eq!(work(&inbox, &bell, 1), [1]);
        pushing.join().expect("it pushes");
    });
}

/// As above, with two who ring at once: one of them finds it rung and trusts the other. Fails where
/// `Bell::answer` does not lower the flag.
#[test]
fn requests_of_two_threads_are_never_slept_over() {
    check(Some(3), || {
        let (inbox, bell) = inbox(2);
        let pushing = [1, 2].map(|number| {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || inbox.push(Request(number)).expect("there is room"))
        });
        assert_eq!(work(&inbox, &bell, 2), [1, 2]);
        for each in pushing {
            each.join().expect("it pushes");
        }
    });
}

/// Fails where `push_or_wait` does not push again, or does so before it has left its waker, and
/// where `wake_refused` wakes nobody.
#[test]
fn room_is_never_slept_over() {
    check(Some(3), || {
        let (inbox, bell) = inbox(1);
        inbox.push(Request(0)).expect("there is room");
        let other = Arc::clone(&inbox);
        let sending = thread::spawn(move || loom::future::block_on(other.send(Request(1))));
        assert_eq!(work(&inbox, &bell, 2), [0, 1]);
        sending.join().expect("it sends");
    });
}
