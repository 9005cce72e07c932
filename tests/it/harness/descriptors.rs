//! The files that the broker has open, and a moment in which it can open no more.

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

use crate::harness::broker::Broker;

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

/// Lowers the limit of the broker to what it has open; gives the one that it had.
pub(crate) fn starve(broker: &Broker) -> Rlimit {
    let numbers = numbers(broker);
    let taken = (0..).zip(&numbers).take_while(|(n, number)| n == *number);
    let lowered = Rlimit {
        current: Some(taken.count() as u64),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    let before = prlimit(Some(broker.pid()), Resource::Nofile, lowered);
    before.expect("the limit of a child can be lowered")
}

/// Gives it back the limit that it had.
pub(crate) fn feed(broker: &Broker, before: Rlimit) {
    prlimit(Some(broker.pid()), Resource::Nofile, before).expect("it can be raised again");
}
