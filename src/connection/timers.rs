//! One coarse timer for all connections of a thread: a wheel of ticks.
//!
//! A connection stands in the wheel at the tick of its next deadline, whichever that is. When the
//! tick comes it is looked at, and put back where it then belongs. Nothing here knows what a
//! deadline means, and no connection has a timer of its own.

use std::time::Duration;

/// How often the wheel turns. Timers are kept to within one tick, late but never early.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Ticks in one turn of the wheel: 102.4 s, more than the default heartbeat.
const SLOTS: usize = 1024;

/// A moment in ticks since the thread started.
pub(crate) type Tick = u32;

/// The ticks in `duration`, rounded up, and at least 1.
pub(crate) fn ticks(duration: Duration) -> Tick {
    Tick::try_from(duration.as_millis().div_ceil(TICK.as_millis()))
        .unwrap_or(Tick::MAX)
        .max(1)
}

#[derive(Debug)]
pub(crate) struct Timers {
    slots: Vec<Vec<(Tick, u32)>>,
    now: Tick,
}

impl Timers {
    pub(crate) fn new() -> Self {
        Self {
            slots: vec![Vec::new(); SLOTS],
            now: 0,
        }
    }

    /// The last tick that was turned to.
    pub(crate) fn now(&self) -> Tick {
        self.now
    }

    /// Puts `who` at tick `at`, or at the next one if that is past.
    pub(crate) fn insert(&mut self, at: Tick, who: u32) {
        let at = at.max(self.now.saturating_add(1));
        if let Some(slot) = self.slots.get_mut(at as usize % SLOTS) {
            slot.push((at, who));
        }
    }

    /// Turns the wheel to `to` and moves all that is due by then into `due`, with its tick.
    pub(crate) fn turn(&mut self, to: Tick, due: &mut Vec<(Tick, u32)>) {
        while self.now < to {
            self.now += 1;
            let now = self.now;
            if let Some(slot) = self.slots.get_mut(now as usize % SLOTS) {
                slot.retain(|entry| {
                    let later = entry.0 > now;
                    if !later {
                        due.push(*entry);
                    }
                    later
                });
                if slot.is_empty() && slot.capacity() > 64 {
                    *slot = Vec::new();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_comes_up_once_and_at_his_tick() {
        let mut wheel = Timers::new();
        let wanted: Vec<Tick> = (0..5000).map(|i| 1 + i * 7919 % 4000).collect();
        for (who, at) in wanted.iter().enumerate() {
            wheel.insert(*at, u32::try_from(who).expect("small"));
        }
        let mut seen = vec![0; wanted.len()];
        let mut due = Vec::new();
        for tick in 1..=4000 {
            wheel.turn(tick, &mut due);
            for (at, who) in due.drain(..) {
                assert_eq!(at, tick);
                assert_eq!(wanted[who as usize], tick);
                seen[who as usize] += 1;
            }
        }
        assert!(seen.iter().all(|times| *times == 1));
    }

    #[test]
    fn the_past_comes_up_at_the_next_tick() {
        let mut wheel = Timers::new();
        let mut due = Vec::new();
        wheel.turn(10, &mut due);
        wheel.insert(3, 7);
        wheel.turn(11, &mut due);
        assert_eq!(due, [(11, 7)]);
    }

    #[test]
    fn a_duration_is_rounded_up_to_ticks() {
        assert_eq!(ticks(Duration::ZERO), 1);
        assert_eq!(ticks(Duration::from_millis(101)), 2);
        assert_eq!(ticks(Duration::from_secs(10)), 100);
    }
}
