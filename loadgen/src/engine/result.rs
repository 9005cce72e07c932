//! What a lane hands over at the end, and the sum of several.

use hdrhistogram::Histogram;

use super::subscriber::{Books, latency_histogram};
use crate::check::Tally;

/// What a lane hands over at the end.
#[derive(Debug)]
pub(crate) struct LaneResult {
    pub(crate) healthy: Tally,
    pub(crate) stalled: Tally,
    /// Stalled subscribers that the server disconnected.
    pub(crate) stalled_ended: u64,
    /// Stalled subscribers that were told of at least one loss.
    pub(crate) stalled_told: u64,
    /// Every other connection that ended before the run did.
    pub(crate) endings: Vec<String>,
    pub(crate) failures: Vec<String>,
    pub(crate) latency: Histogram<u64>,
    pub(crate) lateness: Histogram<u64>,
    pub(crate) refusal: Option<String>,
    pub(crate) strange: u64,
    pub(crate) strangest: Option<String>,
    /// Due, but never sent.
    pub(crate) unsent: u64,
}

impl LaneResult {
    /// What the books say. Tallies and endings are the lane's own.
    pub(super) fn of(books: Books) -> Self {
        Self {
            latency: books.latency,
            lateness: books.lateness,
            refusal: books.refusal,
            strange: books.strange,
            strangest: books.strangest,
            ..Self::empty()
        }
    }

    pub(crate) fn empty() -> Self {
        Self {
            healthy: Tally::default(),
            stalled: Tally::default(),
            stalled_ended: 0,
            stalled_told: 0,
            endings: Vec::new(),
            failures: Vec::new(),
            latency: latency_histogram(),
            lateness: latency_histogram(),
            refusal: None,
            strange: 0,
            strangest: None,
            unsent: 0,
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.healthy.add(&other.healthy);
        self.stalled.add(&other.stalled);
        self.stalled_ended += other.stalled_ended;
        self.stalled_told += other.stalled_told;
        self.endings.extend(other.endings);
        self.failures.extend(other.failures);
        merge(&mut self.latency, &other.latency);
        merge(&mut self.lateness, &other.lateness);
        self.refusal = self.refusal.take().or(other.refusal);
        self.strange += other.strange;
        self.strangest = self.strangest.take().or(other.strangest);
        self.unsent += other.unsent;
    }
}

fn merge(sum: &mut Histogram<u64>, part: &Histogram<u64>) {
    sum.add(part).expect("all histograms have the same bounds");
}
