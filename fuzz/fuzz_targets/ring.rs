//! A ring against a plain list of what waits.
#![no_main]

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use shardcast::broker::Shared;
use shardcast::broker::directory::TopicEntry;
use shardcast::broker::inbox::{Bell, Inbox};
use shardcast::broker::request::Request;
use shardcast::broker::ring::{Fetch, Next, Piece, Ring, RingLimits};
use shardcast::broker::run::Run;
use shardcast::broker::shard::{Shard, ShardLimits};
use shardcast::protocol::time::{Moment, Timestamp};

#[derive(Debug, Arbitrary)]
enum Step {
    Push { events: u8, bytes: u8 },
    Reply(u8),
    Replay { events: u8, has_piece: bool },
    Take,
    DropHalf,
    GiveUp,
}

#[derive(Debug, PartialEq)]
enum Item {
    /// Its number, its events, those of them that fell out, its bytes.
    Run {
        number: u64,
        events: u64,
        skip: u64,
        bytes: usize,
    },
    Reply(u8),
    Replay {
        first: u64,
        last: u64,
        piece: Option<u64>,
        is_fetching: bool,
    },
}

/// What waits, oldest first.
#[derive(Default)]
struct Plain {
    items: VecDeque<Item>,
    lost: u64,
}

impl Plain {
    fn runs(&self) -> (u64, usize, usize) {
        self.items
            .iter()
            .fold((0, 0, 0), |(waiting, bytes, runs), item| match item {
                Item::Run {
                    events,
                    skip,
                    bytes: more,
                    ..
                } => (waiting + events - skip, bytes + more, runs + 1),
                _ => (waiting, bytes, runs),
            })
    }

    fn drop_event(&mut self) {
        let oldest = self
            .items
            .iter()
            .position(|item| matches!(item, Item::Run { .. }));
        let oldest = oldest.expect("an event waits");
        if let Item::Run { events, skip, .. } = &mut self.items[oldest] {
            *skip += 1;
            self.lost += 1;
            if events == skip {
                self.items.remove(oldest);
            }
        }
    }

    fn drop_run(&mut self) {
        let before = self.runs().2;
        while self.runs().2 == before {
            self.drop_event();
        }
    }

    fn bound(&mut self, limits: RingLimits) {
        while self.runs().0 > limits.events_max as u64 {
            self.drop_event();
        }
        self.shrink(limits.bytes_max);
    }

    fn shrink(&mut self, bytes_max: usize) {
        while self.runs().1 > bytes_max && self.runs().2 > 1 {
            self.drop_run();
        }
    }
}

/// A topic, as a shard makes it.
fn topic() -> Arc<TopicEntry> {
    static TOPIC: OnceLock<Arc<TopicEntry>> = OnceLock::new();
    let make = || {
        let inbox = Arc::new(Inbox::new(4, Arc::new(Bell::default())));
        let limits = ShardLimits {
            history_events_max: 1,
            history_bytes_max: usize::MAX,
            run_events_max: 1,
            turn_topic_events_max: 1,
            turn_events_max: 1,
            turn_bytes_max: 1,
            turn_requests_max: 1,
            topics_max: 1,
            auto_create: false,
        };
        let shared = Shared::default();
        let mut shard = Shard::new(0, 1, Arc::clone(&inbox), limits, shared.clone());
        let (reply, _created) = tokio::sync::oneshot::channel();
        let name = "t".into();
        inbox
            .push(Request::Create { name, reply })
            .expect("there is room");
        shard.turn(Timestamp::from_unix_ms(0), &mut |_, _| {});
        let directory = shared.directory.snapshot();
        Arc::clone(directory.iter().next().expect("it was made"))
    };
    Arc::clone(TOPIC.get_or_init(make))
}

fuzz_target!(|input: (u8, u16, Vec<Step>)| {
    let (events_max, bytes_max, steps) = input;
    let limits = RingLimits {
        events_max: usize::from(events_max).max(1),
        bytes_max: usize::from(bytes_max),
    };
    let (mut ring, mut plain) = (Ring::default(), Plain::default());
    let mut number = 0_u64;
    for step in steps {
        match step {
            Step::Push { events, bytes } => {
                let events = usize::from(events % 8).min(limits.events_max - 1) + 1;
                number += 1;
                let frames = vec![0; events.max(bytes.into())];
                let whole = u32::try_from(frames.len()).expect("few");
                let mut ends: Vec<u32> = (1..=u32::try_from(events).expect("few")).collect();
                *ends.last_mut().expect("one at least") = whole;
                let run = Arc::new(Run::new(frames, &ends, number, Moment::default(), topic()));
                let lost = plain.lost;
                let events = events as u64;
                plain.items.push_back(Item::Run {
                    number,
                    events,
                    skip: 0,
                    bytes: run.bytes(),
                });
                plain.bound(limits);
                assert_eq!(ring.push(&run, limits), plain.lost - lost);
            }
            Step::Reply(byte) => {
                ring.push_replies(|frames| frames.push(byte));
                plain.items.push_back(Item::Reply(byte));
            }
            Step::Replay { events, has_piece } => {
                let (first, last) = (1, u64::from(events) + 1);
                let rest = Fetch {
                    topic: topic(),
                    first,
                    last,
                    further: Vec::new(),
                };
                let piece = has_piece.then(|| Piece {
                    next: first + 1,
                    ..Piece::default()
                });
                ring.push_replay(piece, rest);
                let piece = has_piece.then_some(first + 1);
                plain.items.push_back(Item::Replay {
                    first,
                    last,
                    piece,
                    is_fetching: false,
                });
            }
            Step::Take => take(&mut ring, &mut plain),
            Step::DropHalf => {
                let lost = plain.lost;
                plain.shrink(plain.runs().1 / 2);
                assert_eq!(ring.drop_half(), plain.lost - lost);
            }
            Step::GiveUp => {
                let (waiting, _, _) = plain.runs();
                plain.items.retain(|item| matches!(item, Item::Reply(_)));
                assert_eq!(
                    ring.give_up_events(),
                    (waiting, std::mem::take(&mut plain.lost))
                );
            }
        }
        let (waiting, bytes, runs) = plain.runs();
        assert_eq!((ring.events(), ring.run_bytes()), (waiting, bytes));
        assert!(waiting <= limits.events_max as u64);
        assert!(bytes <= limits.bytes_max || runs <= 1);
        assert_eq!(ring.is_empty(), plain.items.is_empty());
        assert_eq!(ring.lag_bytes(), if runs > 1 { bytes } else { 0 });
    }
    // Nothing stays behind for ever.
    while !plain.items.is_empty() {
        take(&mut ring, &mut plain);
    }
    assert!(ring.is_empty() && matches!(ring.take(), Next::Nothing));
});

fn take(ring: &mut Ring, plain: &mut Plain) {
    let is_ready = ring.is_ready();
    let next = ring.take();
    assert_eq!(is_ready, !matches!(next, Next::Nothing));
    match next {
        Next::Nothing => match plain.items.front_mut() {
            None => {}
            Some(Item::Replay {
                first,
                last,
                piece,
                is_fetching,
            }) if *is_fetching => {
                // The shard answers with two events, or with what is left.
                let next = (*first + 2).min(*last + 1);
                ring.arrived(Piece {
                    next,
                    ..Piece::default()
                });
                (*piece, *is_fetching) = (Some(next), false);
            }
            Some(other) => panic!("nothing in place of {other:?}"),
        },
        Next::Replies(frames) => {
            assert!(!frames.is_empty());
            for byte in frames {
                assert_eq!(plain.items.pop_front(), Some(Item::Reply(byte)));
            }
        }
        Next::Events { run, skip, lost } => {
            let Some(Item::Run {
                number,
                skip: skipped,
                ..
            }) = plain.items.pop_front()
            else {
                panic!("a run in place of something else");
            };
            assert_eq!((run.first_seq(), skip as u64), (number, skipped));
            assert_eq!(lost, std::mem::take(&mut plain.lost));
        }
        Next::Newest(_) => unreachable!("nothing here is wanted by a policy"),
        Next::Fetch(fetch) => {
            let Some(Item::Replay {
                first,
                last,
                piece: None,
                is_fetching,
            }) = plain.items.front_mut()
            else {
                panic!("a fetch in place of something else");
            };
            assert!(!*is_fetching);
            assert_eq!((fetch.first, fetch.last), (*first, *last));
            *is_fetching = true;
        }
        Next::Replay(piece) => {
            let Some(Item::Replay {
                first,
                last,
                piece: kept,
                ..
            }) = plain.items.front_mut()
            else {
                panic!("a replay in place of something else");
            };
            assert_eq!(kept.take(), Some(piece.next));
            *first = piece.next;
            if *first > *last {
                plain.items.pop_front();
            }
        }
    }
}
