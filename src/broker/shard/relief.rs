//! Histories give way: to `HISTORY_BYTES_MAX`, and to `MEMORY_BUDGET`.

use super::Shard;

/// Topics that are looked at to find one that keeps much.
const FATTEST_OF: usize = 8;

/// Runs that histories lose at the start of a turn while the budget is used up.
const RELIEF_RUNS_MAX: usize = 256;

impl Shard {
    /// While histories keep more than they may, those that keep most lose their oldest: the topic
    /// at `place`, which has just grown, or one of a few others.
    pub(super) fn bound_histories(&mut self, place: usize) {
        while self.history_bytes() > self.limits.history_bytes_max {
            self.shorten_fattest(Some(place));
        }
    }

    /// The budget is used up: histories lose their oldest, so much in one turn, then connections
    /// that lag lose theirs. Returns whether that helps.
    pub(super) fn relieve(&mut self) -> bool {
        for _ in 0..RELIEF_RUNS_MAX {
            if self.history_bytes() == 0 {
                break;
            }
            self.shorten_fattest(None);
        }
        !self.shared.budget.is_over() || self.shared.budget.ask()
    }

    pub(super) fn history_bytes(&self) -> usize {
        usize::try_from(self.shared.counters.history_bytes.value()).unwrap_or(usize::MAX)
    }

    /// Takes the oldest run from the topic that keeps most: of `place` and a few others, others
    /// each time. To look at all topics would take too long.
    pub(super) fn shorten_fattest(&mut self, place: Option<usize>) {
        let mut fattest = (0, 0);
        for other in place.into_iter().chain(self.look_around()) {
            let slot = self.table.slot(other);
            fattest = fattest.max((slot.map_or(0, |slot| slot.topic.history_bytes()), other));
        }
        if let Some(slot) = self.table.slot(fattest.1) {
            slot.topic.forget_oldest();
            self.shared.counters.cut.add_owned(1);
        }
    }

    /// The next few places.
    pub(super) fn look_around(&mut self) -> impl Iterator<Item = usize> + use<> {
        let places = self.table.places().max(1);
        let from = self.looked_at;
        self.looked_at = (from + FATTEST_OF) % places;
        (0..FATTEST_OF).map(move |step| (from + step) % places)
    }
}
