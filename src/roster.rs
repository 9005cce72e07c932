//! What is told of a connection, and the ledger of those that have ended.
//!
//! "Which client is slow, and what did it lose?" is asked most after the client has gone. The
//! ledger is written once for each connection and read when somebody asks; its lock is held for
//! a push or for a copy of pointers.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Connections that the ledger remembers: about half a megabyte.
const REMEMBERED: usize = 1000;

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number, which no other has had since the start.
    pub id: u64,
    /// Where the client is.
    pub address: SocketAddr,
    /// What the client calls itself, or what logs call it.
    pub client_id: Box<str>,
    /// How it is spoken to.
    pub transport: &'static str,
    /// The name of its key or token, if it has one.
    pub key: Option<Box<str>>,
    /// Milliseconds from the start of the process to the upgrade.
    pub since_ms: u64,
    /// Topics that it is subscribed to.
    pub subscriptions: usize,
    /// What waits for it.
    pub lag: Lag,
    /// What it has done.
    pub done: Done,
}

/// What waits for a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Live events.
    pub events: u64,
    /// Milliseconds since the oldest of them was read from its publisher.
    pub age_ms: u64,
}

/// What a connection has done since its upgrade.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Live events that fell out of its ring.
    pub dropped: u64,
    /// Bytes of frames that came from it.
    pub bytes_in: u64,
    /// Bytes of frames that the kernel took for it.
    pub bytes_out: u64,
    /// Messages that it has sent to topics.
    pub events_in: u64,
    /// Live events that the kernel took for it.
    pub events_out: u64,
    /// Milliseconds from the start of the process to when the kernel took something last; 0 is
    /// never.
    pub last_write_ms: u64,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Farewell {
    /// The code of the close frame; as RFC 6455 has it, 1005 for one without and 1006 for none.
    pub code: u16,
    /// In words.
    pub reason: Box<str>,
}

/// A connection that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// As it was when its end began: with what waited for it, and will not come any more.
    pub entry: Entry,
    /// Why.
    pub farewell: Farewell,
    /// Milliseconds from the start of the process to the end of the socket.
    pub ended_ms: u64,
    /// Counts the ends of the process.
    pub number: u64,
}

/// The newest of those that have ended.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Newest>);

#[derive(Debug, Default)]
struct Newest {
    ended: VecDeque<Arc<Ended>>,
    number: u64,
}

impl Ledger {
    /// Remembers one more, and forgets the oldest beyond a thousand.
    pub fn remember(&self, entry: Entry, farewell: Farewell, ended_ms: u64) {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        newest.number += 1;
        let number = newest.number;
        if newest.ended.len() == REMEMBERED {
            newest.ended.pop_front();
        }
        newest.ended.push_back(Arc::new(Ended {
            entry,
            farewell,
            ended_ms,
            number,
        }));
    }

    /// The newest first: so many of those with a smaller number than `before`.
    pub fn newest(&self, before: u64, count: usize) -> Vec<Arc<Ended>> {
        let newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = newest.ended.iter().rev();
        let earlier = earlier.skip_while(|ended| ended.number >= before);
        earlier.take(count).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64) -> Entry {
        Entry {
            id,
            address: ([127, 0, 0, 1], 1).into(),
            client_id: "c".into(),
            transport: "ws",
            key: None,
            since_ms: 0,
            subscriptions: 0,
            lag: Lag::default(),
            done: Done::default(),
        }
    }

    #[test]
    fn the_ledger_keeps_the_newest_thousand() {
        let ledger = Ledger::default();
        let farewell = Farewell {
            code: 1000,
            reason: "".into(),
        };
        for id in 1..=1500 {
            ledger.remember(entry(id), farewell.clone(), id);
        }
        let all = ledger.newest(u64::MAX, usize::MAX);
        assert_eq!(all.len(), 1000);
        assert_eq!((all[0].entry.id, all[999].entry.id), (1500, 501));
        let page = ledger.newest(all[9].number, 10);
        assert_eq!((page[0].entry.id, page[9].entry.id), (1490, 1481));
        assert!(ledger.newest(501, 10).is_empty());
    }
}
