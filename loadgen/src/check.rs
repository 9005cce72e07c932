//! What one subscriber got, held against what it should have got.
//!
//! Pure arithmetic over sequence numbers: no clock, no socket. The engine calls it for every event and every
//! `SLOW_CONSUMER` notice. A loss is *announced* if the notices in front of an event cover the gap before it exactly;
//! anything else is a break, and breaks are never forgiven here: whether one is excusable is the caller's question.

/// What went right and wrong, summed over any number of subscribers.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) received: u64,
    /// Lost, and told so exactly.
    pub(crate) announced: u64,
    /// Lost without a word.
    pub(crate) unannounced: u64,
    /// Told as lost, but it was not.
    pub(crate) overstated: u64,
    pub(crate) repeated: u64,
    pub(crate) disordered: u64,
    /// Neither arrived nor announced when the run was over.
    pub(crate) missing: u64,
    pub(crate) notices: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.announced += other.announced;
        self.unannounced += other.unannounced;
        self.overstated += other.overstated;
        self.repeated += other.repeated;
        self.disordered += other.disordered;
        self.missing += other.missing;
        self.notices += other.notices;
    }

    /// Everything that breaks the contract.
    pub(crate) fn broken(&self) -> u64 {
        self.unannounced + self.overstated + self.repeated + self.disordered + self.missing
    }

    /// One sentence for each kind of break.
    pub(crate) fn breaks(&self, who: &str) -> Vec<String> {
        let kinds = [
            (self.unannounced, "lost without a SLOW_CONSUMER notice"),
            (self.overstated, "announced as dropped, but not missing"),
            (self.repeated, "delivered twice"),
            (self.disordered, "delivered out of order"),
            (self.missing, "neither delivered nor announced at the end"),
        ];
        kinds
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{who}: {count} messages {what}"))
            .collect()
    }
}

/// The state of one subscriber of one topic.
#[derive(Debug)]
pub(crate) struct SubscriberCheck {
    pub(crate) tally: Tally,
    /// The server's `seq` before the first event; `None` where the server has none.
    last_seq: Option<u64>,
    /// The last number of each publisher of the topic.
    last_numbers: Box<[u64]>,
    /// Announced as dropped since the last event.
    pending: u64,
}

impl SubscriberCheck {
    pub(crate) fn new(publishers: usize) -> Self {
        Self {
            tally: Tally::default(),
            last_seq: None,
            last_numbers: vec![0; publishers].into(),
            pending: 0,
        }
    }

    /// The subscribe ack says where the topic stands.
    pub(crate) fn subscribed_at(&mut self, seq: Option<u64>) {
        self.last_seq = seq;
    }

    /// A notice says how many fell out.
    pub(crate) fn on_notice(&mut self, dropped: u64) {
        self.tally.notices += 1;
        self.pending += dropped;
    }

    /// An event with the server's `seq`, if it gives one, and the publisher's own number.
    pub(crate) fn on_event(&mut self, seq: Option<u64>, publisher: usize, number: u64) {
        let last_number = self.last_numbers[publisher];
        let gap = match (seq, self.last_seq) {
            (Some(seq), Some(last)) => forward_gap(last, seq),
            // The server counts, but did not say from where: the first event is the start.
            (Some(_), None) if self.tally.received == 0 => Some(number.saturating_sub(1)),
            _ => forward_gap(last_number, number),
        };
        let Some(gap) = gap.filter(|_| number > last_number) else {
            if number == last_number || seq.is_some() && seq == self.last_seq {
                self.tally.repeated += 1;
            } else {
                self.tally.disordered += 1;
            }
            return;
        };
        self.tally.received += 1;
        self.last_numbers[publisher] = number;
        self.last_seq = seq.or(self.last_seq);
        if gap != 0 || self.pending != 0 {
            self.settle(gap);
        }
    }

    fn settle(&mut self, gap: u64) {
        self.tally.announced += gap.min(self.pending);
        self.tally.unannounced += gap.saturating_sub(self.pending);
        self.tally.overstated += self.pending.saturating_sub(gap);
        self.pending = 0;
    }

    /// The last number that came from the publisher. Drop-oldest always delivers the newest, so that a subscriber whose last
    /// number is the last that was sent has nothing more to wait for.
    pub(crate) fn last_number(&self, publisher: usize) -> u64 {
        self.last_numbers[publisher]
    }

    /// Closes the books: of `accepted` messages, each must have been received or counted as lost.
    pub(crate) fn finish(&mut self, accepted: u64) {
        let tally = &mut self.tally;
        let known = tally.received + tally.announced + tally.unannounced;
        let absent = accepted.saturating_sub(known);
        tally.announced += absent.min(self.pending);
        tally.missing = absent.saturating_sub(self.pending);
        tally.overstated += self.pending.saturating_sub(absent);
        self.pending = 0;
    }
}

/// How many are missing between two numbers; `None` where the second does not follow the first.
fn forward_gap(last: u64, next: u64) -> Option<u64> {
    next.checked_sub(last)?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::{SubscriberCheck, Tally};

    fn subscribed() -> SubscriberCheck {
        let mut check = SubscriberCheck::new(1);
        check.subscribed_at(Some(0));
        check
    }

    fn deliver(check: &mut SubscriberCheck, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            check.on_event(Some(number), 0, number);
        }
    }

    #[test]
    fn an_unbroken_run_is_clean() {
        let mut check = subscribed();
        deliver(&mut check, 1..=100);
        check.finish(100);
        assert_eq!(check.tally.received, 100);
        assert_eq!(check.tally.broken(), 0);
    }

    #[test]
    fn a_gap_that_the_notice_covers_exactly_is_announced() {
        let mut check = subscribed();
        deliver(&mut check, 1..=3);
        check.on_notice(5);
        deliver(&mut check, 9..=10);
        check.finish(10);
        assert_eq!(check.tally.announced, 5);
        assert_eq!(check.tally.notices, 1);
        assert_eq!(check.tally.broken(), 0);
    }

    #[test]
    fn two_notices_may_cover_one_gap() {
        let mut check = subscribed();
        check.on_notice(2);
        check.on_notice(3);
        deliver(&mut check, [6]);
        assert_eq!((check.tally.announced, check.tally.broken()), (5, 0));
    }

    #[test]
    fn a_silent_gap_is_a_break() {
        let mut check = subscribed();
        deliver(&mut check, [1, 2, 6]);
        assert_eq!(check.tally.unannounced, 3);
        assert_eq!(check.tally.broken(), 3);
    }

    #[test]
    fn a_notice_that_counts_too_few_or_too_many_is_a_break() {
        let mut check = subscribed();
        check.on_notice(2);
        deliver(&mut check, [4]);
        assert_eq!((check.tally.announced, check.tally.unannounced), (2, 1));
        check.on_notice(7);
        deliver(&mut check, [10]);
        assert_eq!((check.tally.announced, check.tally.overstated), (7, 2));
    }

    #[test]
    fn a_notice_behind_the_gap_comes_too_late() {
        let mut check = subscribed();
        deliver(&mut check, [1, 4]);
        check.on_notice(2);
        deliver(&mut check, [5]);
        assert_eq!((check.tally.unannounced, check.tally.overstated), (2, 2));
    }

    #[test]
    fn repeats_and_disorder_are_told_apart() {
        let mut check = subscribed();
        deliver(&mut check, [1, 2, 2, 3, 1]);
        assert_eq!((check.tally.repeated, check.tally.disordered), (1, 1));
        assert_eq!(check.tally.received, 3);
    }

    #[test]
    fn a_repeat_under_a_new_seq_is_seen() {
        let mut check = subscribed();
        check.on_event(Some(1), 0, 1);
        check.on_event(Some(2), 0, 1);
        assert_eq!(check.tally.repeated, 1);
    }

    #[test]
    fn what_never_came_is_missing() {
        let mut check = subscribed();
        deliver(&mut check, 1..=7);
        check.finish(10);
        assert_eq!(check.tally.missing, 3);
    }

    #[test]
    fn a_notice_that_no_event_follows_still_counts() {
        let mut check = subscribed();
        deliver(&mut check, 1..=7);
        check.on_notice(2);
        check.finish(10);
        assert_eq!((check.tally.announced, check.tally.missing), (2, 1));
    }

    #[test]
    fn without_seq_the_publishers_number_is_checked() {
        let mut check = SubscriberCheck::new(1);
        check.subscribed_at(None);
        for number in [1, 2, 5, 5] {
            check.on_event(None, 0, number);
        }
        assert_eq!((check.tally.unannounced, check.tally.repeated), (2, 1));
    }

    #[test]
    fn several_publishers_interleave_freely() {
        let mut check = SubscriberCheck::new(2);
        check.subscribed_at(Some(0));
        for (seq, publisher, number) in [(1, 0, 1), (2, 1, 1), (3, 1, 2), (4, 0, 2)] {
            check.on_event(Some(seq), publisher, number);
        }
        check.finish(4);
        assert_eq!(check.tally.broken(), 0);
        assert_eq!((check.last_number(0), check.last_number(1)), (2, 2));
    }

    #[test]
    fn a_topic_that_was_not_empty_starts_where_the_ack_says() {
        let mut check = SubscriberCheck::new(1);
        check.subscribed_at(Some(41));
        check.on_event(Some(42), 0, 1);
        check.on_event(Some(43), 0, 2);
        assert_eq!(check.tally.broken(), 0);
    }

    #[test]
    fn breaks_are_named() {
        let tally = Tally {
            repeated: 2,
            ..Tally::default()
        };
        assert_eq!(
            tally.breaks("subscribers"),
            ["subscribers: 2 messages delivered twice"]
        );
    }
}
