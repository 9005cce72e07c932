//! Tickets: for browsers, which can set no header on a `WebSocket`. Each acts once, soon, as the key
//! or token that it was bought with.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ahash::AHashMap;

use super::grant::Grant;
use super::key::{Digest, hex};

/// How long a ticket may be used.
pub const TICKET_TIME: Duration = Duration::from_secs(30);

/// Random bytes in a ticket: nothing that anybody could guess in that time.
const TICKET_BYTES: usize = 32;

/// Those that were given out and not used. Kept by digest, like keys.
#[derive(Debug)]
pub(super) struct Tickets {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    grants: AHashMap<u64, (Digest, Grant)>,
    /// In the order in which they end.
    ends: VecDeque<(Instant, u64)>,
}

impl State {
    fn forget_old(&mut self, now: Instant) {
        while let Some((end, index)) = self.ends.front().copied()
            && end <= now
        {
            self.grants.remove(&index);
            self.ends.pop_front();
        }
    }
}

impl Tickets {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            state: Mutex::default(),
        }
    }

    /// A ticket that acts as `grant`. `None` if too many are out.
    pub(super) fn sell(&self, grant: Grant, now: Instant) -> Option<String> {
        let mut random = [0; TICKET_BYTES];
        getrandom::fill(&mut random).ok()?;
        let ticket = hex(&random);
        let digest = Digest::of(ticket.as_bytes());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.forget_old(now);
        // Used ones count until their time is over: that bounds both lists.
        if state.ends.len() >= self.most {
            return None;
        }
        state.grants.insert(digest.index(), (digest, grant));
        state.ends.push_back((now + TICKET_TIME, digest.index()));
        Some(ticket)
    }

    /// What `ticket` would grant.
    pub(super) fn look(&self, ticket: &[u8], now: Instant) -> Option<Grant> {
        let digest = Digest::of(ticket);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.forget_old(now);
        let (found, grant) = state.grants.get(&digest.index())?;
        (*found == digest).then(|| grant.clone())
    }

    /// What `ticket` grants, once.
    pub(super) fn take(&self, ticket: &[u8], now: Instant) -> Option<Grant> {
        let digest = Digest::of(ticket);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.forget_old(now);
        let (found, grant) = state.grants.remove(&digest.index())?;
        (found == digest).then_some(grant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_acts_once_and_soon() {
        let tickets = Tickets::new(10);
        let start = Instant::now();
        let [first, second] = [(); 2].map(|()| {
            let ticket = tickets.sell(Grant::Everything, start);
            ticket.expect("there is room")
        });
        assert!(tickets.take(b"", start).is_none());
        assert!(tickets.take(first.as_bytes(), start).is_some());
        assert!(tickets.take(first.as_bytes(), start).is_none());
        let last = start + TICKET_TIME;
        assert!(tickets.take(second.as_bytes(), last).is_none());
    }

    #[test]
    fn so_many_and_no_more_are_out() {
        let tickets = Tickets::new(2);
        let start = Instant::now();
        for _ in 0..2 {
            assert!(tickets.sell(Grant::Everything, start).is_some());
        }
        assert!(tickets.sell(Grant::Everything, start).is_none());
        assert!(
            tickets
                .sell(Grant::Everything, start + TICKET_TIME)
                .is_some()
        );
    }
}
