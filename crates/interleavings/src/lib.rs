//! Every order in which threads of the broker can meet, tried by loom.
//!
//! The files under test are those of `src/`, by their paths, letter for letter. They take what
//! threads share from `crate::sync`, and here that is loom's. What they name besides, a request or
//! a socket, stands in as the smallest thing that does. `.ci/interleavings` runs it.
//!
//! Each model says which line of the real code was broken to see it fail. Loom takes `SeqCst`
//! loads and stores for weaker than they are (only its fences are whole): what passes here does not
//! lean on them.

#![cfg(test)]
#![allow(dead_code, reason = "the shared files offer more than the models use")]

mod sync;

mod broker;
mod core;

#[path = "../../../src/budget.rs"]
mod budget;
#[path = "../../../src/seats.rs"]
mod seats;

mod access;

mod bookings;
mod places;

/// What a core can be sent, for the mailbox.
mod wire {
    #[derive(Debug)]
    pub(crate) struct Arrival;
}

/// What rights are made of, for the grant.
mod pattern {
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub(crate) struct Pattern(bool);

    impl Pattern {
        pub(crate) fn matches(&self, _: &str) -> bool {
            self.0
        }

        pub(crate) fn covers(&self, _: &Self) -> bool {
            self.0
        }

        pub(crate) fn as_str(&self) -> &'static str {
            if self.0 { ">" } else { "none" }
        }
    }
}

/// Tries every order of a model in which threads are preempted so often at most. Small models are
/// tried without a bound; two unwanted switches find what larger ones have been seen to hide.
fn check(preemptions_max: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions_max;
    builder.check(model);
}

/// Polls until it is ready, as the runtime does: at first, and whenever it has been woken.
fn run(mut poll: impl FnMut(&std::task::Waker) -> bool) {
    loom::future::block_on(std::future::poll_fn(|cx| {
        if poll(cx.waker()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    }));
}
