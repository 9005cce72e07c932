//! When the next message may leave: a window over the slowest subscriber, or a timetable.
//!
//! Pure arithmetic. [`Floor`] knows how far the slowest of a thread's subscribers is without looking at all of them for
//! each event; [`Timetable`] knows when message i is due, whatever happened to the ones before it.

/// What decides when a publisher sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// Nobody publishes.
    Silent,
    /// So many messages of each stream on their way to the slowest subscriber.
    Window(u64),
    /// As fast as TCP takes them.
    Flood,
    /// So many messages each second over all streams, on a timetable.
    Rate(f64),
}

/// The lowest of many positions that only grow.
#[derive(Debug, Default)]
pub(crate) struct Floor {
    positions: Vec<u64>,
    level: u64,
    /// How many positions stand on the floor; the floor rises when none is left.
    standing: usize,
}

/// A position that nobody waits for.
pub(crate) const ABSENT: u64 = u64::MAX;

impl Floor {
    /// Adds a position; returns its place.
    pub(crate) fn join(&mut self) -> usize {
        self.positions.push(0);
        self.standing += 1;
        self.positions.len() - 1
    }

    /// The lowest position, [`ABSENT`] where there is none.
    pub(crate) fn level(&self) -> u64 {
        if self.standing == 0 {
            ABSENT
        } else {
            self.level
        }
    }

    /// Moves one position on; true if that raised the floor.
    pub(crate) fn advance(&mut self, place: usize, to: u64) -> bool {
        let from = self.positions[place];
        if to <= from {
            return false;
        }
        self.positions[place] = to;
        if from != self.level {
            return false;
        }
        self.standing -= 1;
        if self.standing > 0 {
            return false;
        }
        // Every position was passed at least once since the last scan, so a scan costs each event about one step.
        self.level = self.positions.iter().copied().min().unwrap_or(ABSENT);
        if self.level != ABSENT {
            let standing = self.positions.iter().filter(|at| **at == self.level);
            self.standing = standing.count();
        }
        true
    }

    /// Takes a position out: what it lacks holds nobody back any more.
    pub(crate) fn leave(&mut self, place: usize) -> bool {
        self.advance(place, ABSENT)
    }
}

/// Message i of all is due at `start + i / rate` and belongs to stream `i % streams`.
#[derive(Debug)]
pub(crate) struct Timetable {
    start_ns: u64,
    rate: f64,
    streams: u64,
    /// The streams of this thread, ascending, and how far it is in the round.
    own: Vec<u64>,
    next: usize,
    round: u64,
}

impl Timetable {
    pub(crate) fn new(start_ns: u64, rate: f64, streams: u64, own: Vec<u64>) -> Self {
        Self {
            start_ns,
            rate,
            streams,
            own,
            next: 0,
            round: 0,
        }
    }

    /// The stream and the time of the next message of this thread; `None` if it has no stream.
    pub(crate) fn peek(&self) -> Option<(u64, u64)> {
        let stream = *self.own.get(self.next)?;
        let index = crate::units::float(self.round * self.streams + stream);
        let offset = crate::units::nanos(index / self.rate);
        Some((stream, self.start_ns + offset))
    }

    pub(crate) fn step(&mut self) {
        self.next += 1;
        if self.next == self.own.len() {
            self.next = 0;
            self.round += 1;
        }
    }

    /// How many messages are due before `end_ns` and were not taken.
    pub(crate) fn left_before(&mut self, end_ns: u64) -> u64 {
        let mut left = 0;
        while let Some((_, due)) = self.peek()
            && due < end_ns
        {
            left += 1;
            self.step();
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::{ABSENT, Floor, Timetable};

    #[test]
    fn floor_follows_the_slowest() {
        let mut floor = Floor::default();
        let places: Vec<usize> = (0..3).map(|_| floor.join()).collect();
        assert!(!floor.advance(places[0], 5));
        assert!(!floor.advance(places[1], 2));
        assert_eq!(floor.level(), 0);
        assert!(floor.advance(places[2], 4));
        assert_eq!(floor.level(), 2);
        assert!(floor.leave(places[1]));
        assert_eq!(floor.level(), 4);
        assert!(floor.leave(places[2]));
        assert!(floor.leave(places[0]));
        assert_eq!(floor.level(), ABSENT);
    }

    #[test]
    fn floor_agrees_with_a_plain_minimum() {
        let mut floor = Floor::default();
        let mut plain = [0_u64; 17];
        for _ in 0..plain.len() {
            floor.join();
        }
        let mut seed = 7_u64;
        for _ in 0..10_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let place = usize::try_from(seed >> 33).expect("31 bits") % plain.len();
            plain[place] += (seed >> 20) % 4;
            floor.advance(place, plain[place]);
            assert_eq!(Some(&floor.level()), plain.iter().min());
        }
    }

    #[test]
    fn threads_share_one_timetable() {
        let mut first = Timetable::new(1_000, 1_000.0, 3, vec![0, 2]);
        let mut second = Timetable::new(1_000, 1_000.0, 3, vec![1]);
        let mut due: Vec<(u64, u64)> = Vec::new();
        for _ in 0..2 {
            for table in [&mut first, &mut second] {
                due.extend(table.peek());
                table.step();
            }
            due.extend(first.peek());
            first.step();
        }
        due.sort_by_key(|(_, time)| *time);
        let expected = [0, 1, 2, 0, 1, 2].into_iter().zip(0_u64..);
        let expected: Vec<(u64, u64)> = expected
            .map(|(stream, index)| (stream, 1_000 + index * 1_000_000))
            .collect();
        assert_eq!(due, expected);
    }

    #[test]
    fn what_was_due_and_never_left_is_known() {
        let mut table = Timetable::new(0, 10.0, 1, vec![0]);
        table.step();
        assert_eq!(table.left_before(1_000_000_000), 9);
        assert_eq!(Timetable::new(0, 10.0, 1, Vec::new()).peek(), None);
    }
}
