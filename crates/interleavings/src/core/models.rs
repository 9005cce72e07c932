//! A shard takes its next turn only when all have flushed the last, and then it does take it.

use std::sync::Arc;

use loom::thread;

use super::mailbox::{Mailbox, may_turn, settle};
use crate::broker::delivery::Delivery;
use crate::broker::inbox::Bell;
use crate::{check, run};

struct Cores {
    mailboxes: Arc<[Mailbox]>,
    bells: Vec<Arc<Bell>>,
}

impl Cores {
    fn new(cores: usize) -> Arc<Self> {
        let bells: Vec<_> = (0..cores).map(|_| Arc::new(Bell::default())).collect();
        let mailboxes = bells
            .iter()
            .map(|bell| Mailbox::new(cores, Arc::clone(bell)));
        Arc::new(Self {
            mailboxes: mailboxes.collect(),
            bells,
        })
    }

    /// Core 0: its shard takes so many turns, each with something for every other core.
    fn shard(&self, turns: usize) {
        let mut turn = 0;
        run(|waker| {
            self.bells[0].answer(waker);
            if may_turn(&self.mailboxes, 0) {
                if turn == turns {
                    return true;
                }
                for mailbox in &self.mailboxes[1..] {
                    mailbox.deliver(Delivery { shard: 0, turn });
                }
                turn += 1;
                self.bells[0].ring();
            }
            false
        });
    }

    /// Another core: flushes so many turns, and never finds two of them before it.
    fn flush(&self, core: usize, turns: usize) {
        let mut flushed = 0;
        run(|waker| {
            self.bells[core].answer(waker);
            while let Some(delivery) = self.mailboxes[core].next_delivery() {
                assert_eq!(delivery.turn, flushed, "turns come in their order");
                let ahead = self.mailboxes[core].next_delivery();
                assert!(ahead.is_none(), "a shard ran ahead of the flushing");
                settle(&self.mailboxes, core, delivery.shard);
                flushed += 1;
            }
            flushed == turns
        });
    }
}

/// Fails where `settle` looks at the flag before it lowers the count, where `may_turn` does not
/// look again behind the flag or stores it in the place of the exchange, where one of the two
/// exchanges is relaxed, and where `deliver` does not ring, or does so before it has delivered.
#[test]
fn a_shard_neither_runs_ahead_nor_sleeps_over_the_flushing() {
    check(Some(3), || {
        let cores = Cores::new(2);
        let other = Arc::clone(&cores);
        let flushing = thread::spawn(move || other.flush(1, 2));
        cores.shard(2);
        flushing.join().expect("it flushes");
    });
}

/// As above, with two who have to flush: the shard waits for both. Fails where `may_turn` takes one
/// that has flushed for all.
#[test]
fn a_shard_waits_for_the_last_of_two_who_flush() {
    check(Some(2), || {
        let cores = Cores::new(3);
        let flushing = [1, 2].map(|core| {
            let cores = Arc::clone(&cores);
            thread::spawn(move || cores.flush(core, 1))
        });
        cores.shard(1);
        for each in flushing {
            each.join().expect("it flushes");
        }
    });
}
