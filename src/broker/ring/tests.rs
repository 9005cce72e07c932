//! The ring by hand; `tests/model` drives it at random against a plain list.

use super::super::directory::tests::entry;
use super::*;

fn limits(events_max: usize) -> RingLimits {
    RingLimits {
        events_max,
        bytes_max: usize::MAX,
    }
}

fn run_of(name: u8, events: usize) -> Arc<Run> {
    let ends: Vec<u32> = (1..=u32::try_from(events).expect("a small test")).collect();
    Arc::new(Run::new(
        vec![name; events],
        &ends,
        1,
        Moment::default(),
        entry("t"),
    ))
}

/// First byte of the next run, what to skip of it, what was lost before.
fn take(ring: &mut Ring) -> (u8, usize, u64) {
    match ring.take() {
        Next::Events { run, skip, lost } => (run.frames()[0], skip, lost),
        other => panic!("{other:?} in place of a run"),
    }
}

fn reply(ring: &mut Ring, name: u8) {
    ring.push_replies(|frames| frames.push(name));
}

fn take_replies(ring: &mut Ring) -> Vec<u8> {
    match ring.take() {
        Next::Replies(frames) => frames,
        other => panic!("{other:?} in place of replies"),
    }
}

fn fetch(first: u64, last: u64) -> Fetch {
    Fetch {
        topic: entry("t"),
        first,
        last,
        further: Vec::new(),
    }
}

fn piece(next: u64) -> Piece {
    Piece {
        next,
        ..Piece::default()
    }
}

#[test]
fn the_oldest_falls_out_and_is_announced_with_the_next() {
    let mut ring = Ring::default();
    let drops: Vec<_> = (0..5)
        .map(|i| ring.push(&run_of(i, 1), limits(2)))
        .collect();
    assert_eq!(drops, [0, 0, 1, 1, 1]);
    assert_eq!(take(&mut ring), (3, 0, 3));
    assert_eq!(take(&mut ring), (4, 0, 0));
    assert!(ring.is_empty());
}

#[test]
fn part_of_a_run_falls_out() {
    let mut ring = Ring::default();
    assert_eq!(ring.push(&run_of(0, 3), limits(4)), 0);
    assert_eq!(ring.push(&run_of(1, 3), limits(4)), 2);
    assert_eq!(take(&mut ring), (0, 2, 2));
    assert_eq!(take(&mut ring), (1, 0, 0));
}

#[test]
fn a_run_longer_than_the_ring_keeps_its_newest() {
    let mut ring = Ring::default();
    assert_eq!(ring.push(&run_of(0, 7), limits(4)), 3);
    assert_eq!(take(&mut ring), (0, 3, 3));
}

#[test]
fn runs_that_fell_out_whole_are_announced_together() {
    let mut ring = Ring::default();
    ring.push(&run_of(0, 5), limits(2));
    for name in 1..6 {
        ring.push(&run_of(name, 1), limits(2));
    }
    assert_eq!(take(&mut ring), (4, 0, 8));
    assert_eq!(take(&mut ring), (5, 0, 0));
}

#[test]
fn bytes_are_bounded_as_events_are_but_the_newest_run_stays() {
    let mut ring = Ring::default();
    let one = run_of(0, 1).bytes();
    let few = RingLimits {
        events_max: 100,
        bytes_max: 3 * one,
    };
    let drops: Vec<_> = (0..5).map(|i| ring.push(&run_of(i, 1), few)).collect();
    assert_eq!(drops, [0, 0, 0, 1, 1]);
    assert_eq!((ring.run_bytes(), ring.events()), (3 * one, 3));
    assert_eq!(ring.push(&run_of(9, 50), few), 3);
    assert_eq!(take(&mut ring), (9, 0, 5));
    assert_eq!((ring.run_bytes(), ring.events()), (0, 0));
}

#[test]
fn a_queue_that_widens_keeps_its_order() {
    let mut ring = Ring::default();
    for name in 0..100 {
        assert_eq!(ring.push(&run_of(name, 1), limits(1000)), 0);
    }
    for name in 0..100 {
        assert_eq!(take(&mut ring), (name, 0, 0));
    }
    ring.shrink(0);
    assert!(ring.runs.is_none());
}

#[test]
fn a_reply_keeps_its_place_whatever_falls_out() {
    let mut ring = Ring::default();
    ring.push(&run_of(0, 2), limits(3));
    reply(&mut ring, 1);
    ring.push(&run_of(1, 3), limits(3));
    reply(&mut ring, 2);
    reply(&mut ring, 3);
    assert_eq!(take_replies(&mut ring), [1]);
    assert_eq!(take(&mut ring), (1, 0, 2));
    assert_eq!(
        (take_replies(&mut ring), ring.reply_bytes()),
        (vec![2, 3], 0)
    );
    assert!(matches!(ring.take(), Next::Nothing));
}

#[test]
fn replies_are_gathered_in_buffers_that_do_not_grow_for_ever() {
    let mut ring = Ring::default();
    for _ in 0..10_000 {
        ring.push_replies(|frames| frames.extend([7; 100]));
    }
    assert_eq!(ring.reply_bytes(), 1_000_000);
    let first = take_replies(&mut ring);
    assert!(first.len() < REPLY_BUFFER_BYTES + 100);
    assert_eq!(ring.reply_bytes(), 1_000_000 - first.len());
}

#[test]
fn a_replay_is_fetched_piece_by_piece_and_holds_up_what_came_after() {
    let mut ring = Ring::default();
    reply(&mut ring, 1);
    ring.push_replay(None, fetch(3, 9));
    ring.push(&run_of(2, 1), limits(3));
    assert_eq!(take_replies(&mut ring), [1]);
    assert!(ring.is_ready());
    assert!(matches!(
        ring.take(),
        Next::Fetch(Fetch {
            first: 3,
            last: 9,
            ..
        })
    ));
    assert!(!ring.is_ready());
    assert!(matches!(ring.take(), Next::Nothing));
    ring.arrived(piece(7));
    assert!(matches!(ring.take(), Next::Replay(Piece { next: 7, .. })));
    assert!(matches!(ring.take(), Next::Fetch(Fetch { first: 7, .. })));
    ring.arrived(piece(10));
    assert!(matches!(ring.take(), Next::Replay(_)));
    assert_eq!(take(&mut ring), (2, 0, 0));
    assert!(ring.is_empty());
}

#[test]
fn what_is_given_up_is_counted() {
    let mut ring = Ring::default();
    for name in 0..5 {
        ring.push(&run_of(name, 2), limits(4));
    }
    reply(&mut ring, 1);
    ring.push_replay(None, fetch(1, 2));
    assert_eq!(ring.give_up_events(), (4, 6));
    assert_eq!((take_replies(&mut ring), ring.reply_bytes()), (vec![1], 0));
    assert!(ring.is_empty());
    ring.push(&run_of(1, 1), limits(4));
    assert_eq!(take(&mut ring), (1, 0, 0));
}

#[test]
fn half_falls_out_when_memory_is_short() {
    let mut ring = Ring::default();
    for name in 0..8 {
        ring.push(&run_of(name, 1), limits(10));
    }
    assert_eq!(ring.drop_half(), 4);
    assert_eq!(take(&mut ring), (4, 0, 4));
}

#[test]
fn a_replay_that_is_ended_sends_nothing_more_and_holds_nothing_up() {
    for is_fetching in [false, true] {
        let mut ring = Ring::default();
        let topic = entry("t");
        let rest = Fetch {
            topic: Arc::clone(&topic),
            first: 1,
            last: 50,
            further: Vec::new(),
        };
        ring.push_replay(None, rest);
        ring.push_replies(|out| out.extend_from_slice(b"behind"));
        if is_fetching {
            assert!(matches!(ring.take(), Next::Fetch(_)));
        }
        ring.end_replays(|_| false);
        ring.end_replays(|of| std::ptr::eq(of, &raw const *topic));
        if is_fetching {
            assert!(!ring.is_ready());
            let run = Arc::new(Run::new(
                vec![0; 9],
                &[9],
                1,
                Moment::default(),
                Arc::clone(&topic),
            ));
            ring.arrived(Piece {
                kept: vec![Kept { run, start: 0 }],
                next: 2,
                ..Piece::default()
            });
        }
        assert!(matches!(ring.take(), Next::Replay(piece) if piece.kept.is_empty()));
        assert!(matches!(ring.take(), Next::Replies(frames) if frames == b"behind"));
        assert!(ring.is_empty() && ring.reply_bytes() == 0);
    }
}

#[test]
fn what_waits_for_an_answer_that_is_being_made_is_bounded_in_bytes_alone() {
    let mut ring = Ring::default();
    ring.push(&run_of(0, 1), limits(4));
    ring.hold();
    reply(&mut ring, b'z');
    ring.note_held(1000);
    assert_eq!(ring.reply_bytes(), 1001);
    assert_eq!(take(&mut ring), (0, 0, 0));
    for name in 1..=10 {
        assert_eq!(ring.push(&run_of(name, 1), limits(4)), 0);
    }
    assert!(!ring.is_ready() && !ring.is_empty());
    ring.release_with(|out| out.push(b'a'), std::iter::once(fetch(1, 2)));
    // What has waited for the answer stays, and what comes now counts as ever.
    for name in 11..=14 {
        assert_eq!(ring.push(&run_of(name, 1), limits(4)), 0);
    }
    assert_eq!(ring.push(&run_of(15, 1), limits(4)), 1);
    assert_eq!(take_replies(&mut ring), b"a");
    assert!(matches!(ring.take(), Next::Fetch(_)));
    ring.arrived(piece(3));
    assert!(matches!(ring.take(), Next::Replay(_)));
    assert_eq!(take_replies(&mut ring), b"z");
    assert_eq!(ring.reply_bytes(), 0);
    assert_eq!(take(&mut ring), (2, 0, 1));
    for name in 3..=15 {
        assert_eq!(take(&mut ring), (name, 0, 0));
    }
    let mut ring = Ring::default();
    ring.hold();
    let tight = RingLimits {
        bytes_max: 3 * run_of(0, 1).bytes(),
        ..limits(4)
    };
    let lost: u64 = (1..=10)
        .map(|name| ring.push(&run_of(name, 1), tight))
        .sum();
    assert_eq!((lost, ring.events()), (7, 3));
    ring.give_up_events();
    assert!(ring.is_empty() && ring.reply_bytes() == 0);
}

/// A replay of three topics: 1 to 10, 1 to 5 and 1 to 2.
fn of_three() -> (Ring, Vec<Fetch>) {
    let further = vec![fetch(1, 5), fetch(1, 2)];
    let rest = Fetch {
        further: further.clone(),
        ..fetch(1, 10)
    };
    let all = vec![rest.clone(), further[0].clone(), further[1].clone()];
    let mut ring = Ring::default();
    ring.push_replay(None, rest);
    (ring, all)
}

/// What is asked for: the first number of each topic.
fn asked(ring: &mut Ring) -> Vec<u64> {
    match ring.take() {
        Next::Fetch(of) => [of.first]
            .into_iter()
            .chain(of.further.iter().map(|of| of.first))
            .collect(),
        other => panic!("{other:?} in place of a question"),
    }
}

#[test]
fn a_replay_of_several_topics_goes_on_where_the_piece_has_ended() {
    let (mut ring, _) = of_three();
    assert_eq!(asked(&mut ring), [1, 1, 1]);
    assert!(!ring.is_ready());
    ring.arrived(piece(8));
    assert!(matches!(ring.take(), Next::Replay(_)));
    assert_eq!(asked(&mut ring), [8, 1, 1]);
    ring.arrived(Piece {
        through: 1,
        ..piece(3)
    });
    assert!(matches!(ring.take(), Next::Replay(_)));
    assert_eq!(asked(&mut ring), [3, 1]);
    ring.arrived(Piece {
        through: 1,
        ..piece(3)
    });
    assert!(matches!(ring.take(), Next::Replay(_)));
    assert!(ring.is_empty() && ring.reply_bytes() == 0);
}

#[test]
fn a_topic_that_is_ended_leaves_the_others_of_its_replay() {
    for ended in 0..3_usize {
        let (mut ring, all) = of_three();
        assert_eq!(asked(&mut ring), [1, 1, 1]);
        ring.end_replays(|of| std::ptr::eq(of, &raw const *all[ended].topic));
        let run = |of: &Fetch| {
            let topic = Arc::clone(&of.topic);
            let run = Arc::new(Run::new(vec![0; 9], &[9], 1, Moment::default(), topic));
            Kept { run, start: 0 }
        };
        // The piece has the first two topics, the second not to its end.
        ring.arrived(Piece {
            kept: all.iter().take(2).map(run).collect(),
            through: 1,
            ..piece(2)
        });
        let Next::Replay(piece) = ring.take() else {
            panic!("there is a piece");
        };
        let kept = piece.kept.iter().map(|of| &raw const *of.run.topic());
        let wanted = (0..2).filter(|of| *of != ended);
        let wanted = wanted.map(|of| &raw const *all[of].topic);
        assert!(kept.eq(wanted));
        let rest = match ended {
            0 => vec![2, 1],
            1 => vec![1],
            _ => vec![2, 3],
        };
        assert_eq!(asked(&mut ring), rest);
    }
}
