//! The files that the broker has open, and a moment in which it can open no more.

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

use crate::harness::broker::Broker;
use crate::harness::raw::RawSocket;

fn numbers(broker: &Broker) -> Vec<u64> {
    let files = format!("/proc/{}/fd", broker.pid().as_raw_nonzero());
    let mut numbers: Vec<u64> = std::fs::read_dir(files)
        .expect("the broker runs")
        .filter_map(|file| file.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// How many it has open.
pub(crate) fn descriptors_of(broker: &Broker) -> usize {
    numbers(broker).len()
}

/// A broker that can open no file any more.
pub(crate) struct Starved {
    before: Rlimit,
    _served: Vec<RawSocket>,
}

/// Lowers the limit of the broker to what it has open, and takes what is free below that until three clients in a row
/// are closed, and not left hanging.
pub(crate) async fn starve(broker: &Broker) -> Starved {
    let highest = numbers(broker).last().copied();
    let lowered = Rlimit {
        current: highest.map(|highest| highest + 1),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    let (before, mut served, mut in_a_row) = (set(broker, lowered), Vec::new(), 0);
    while in_a_row < 3 {
        let mut socket = RawSocket::dial(broker).await;
        socket
            .wire
            .offer(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
            .await;
        if socket
            .wire
            .take_head("an answer or a close")
            .await
            .is_some()
        {
            // One file was closed meanwhile, or the descriptor for this one was set aside before.
            served.push(socket);
            in_a_row = 0;
        } else {
            in_a_row += 1;
        }
    }
    Starved {
        before,
        _served: served,
    }
}

impl Starved {
    /// Gives it back the limit that it had.
    pub(crate) fn feed(self, broker: &Broker) {
        set(broker, self.before);
    }
}

fn set(broker: &Broker, limit: Rlimit) -> Rlimit {
    prlimit(Some(broker.pid()), Resource::Nofile, limit).expect("the limit of a child can be set")
}
