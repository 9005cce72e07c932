//! Memory is short and histories have given what they had: the connections that lag most lose the
//! older half of what waits for them, announced as ever, until there is room or nobody lags.
//!
//! A core goes through its connections in passes, a bounded part of one in each round. The first
//! pass after the call only looks. Those after it take from whoever lags at least half as much as
//! the worst of *all* cores, so that a small lag costs nothing while there is a larger one anywhere,
//! and each pass halves the worst.

use std::cell::Cell;

use super::table::Table;
use crate::budget::Call;
use crate::connection::local::Local;

/// A connection for which less waits does not lag: one send takes it.
const LAG_BYTES_MIN: usize = 64 * 1024;

/// Connections looked at in one round: some tenths of a millisecond where each is a cache miss.
const LOOKED_AT_MAX: usize = 4096;

/// Where the pass of one core is.
#[derive(Debug, Default)]
pub(super) struct Relief {
    /// The call that it is a pass of.
    call: Cell<Option<Call>>,
    place: Cell<usize>,
    /// The largest lag that is left in this pass.
    most: Cell<usize>,
}

impl Relief {
    /// Does this round's part.
    pub(super) fn go_on(&self, local: &Local, table: &Table, call: Call) {
        let budget = &local.process.budget;
        if !budget.is_over() {
            budget.settle();
            return;
        }
        if self.call.replace(Some(call)) != Some(call) {
            // Another core may have seen room before this one was through.
            self.place.set(0);
            self.most.set(0);
        }
        let worst_half = budget.most_lag(call) / 2;
        let first = self.place.get();
        let end = table.places().min(first + LOOKED_AT_MAX);
        for place in first..end {
            let slot = u32::try_from(place).unwrap_or(u32::MAX);
            let Some(connection) = table.at(slot) else {
                continue;
            };
            let lag = connection.lag_bytes();
            if lag >= LAG_BYTES_MIN.max(worst_half) {
                connection.give_way(local);
            }
            let left = connection.lag_bytes();
            if left >= LAG_BYTES_MIN {
                self.most.set(self.most.get().max(left));
            }
        }
        self.place.set(end);
        if end >= table.places() {
            self.place.set(0);
            budget.note_lag(local.index, call, self.most.take());
        }
        if budget.most_lag(call) > 0 {
            local.ring();
        }
    }
}
