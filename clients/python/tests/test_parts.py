"""The parts that need no broker: what is new and what is missing, what waits, what was sent in which form."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

import shardcast
from shardcast import Event, Gap, Position, Settings, ShardcastError
from shardcast.backoff import Backoff
from shardcast.credentials import Proof, lifetime_s
from shardcast.endpoint import Endpoint
from shardcast.event_stream import EventParser, StreamEvent
from shardcast.inbox import Inbox
from shardcast.outbox import Entry, Outbox
from shardcast.tracker import Tracker
from tests.listener import end_of
from tests.tokens import token


def event(seq: int, topic: str = "t") -> Event:
    return Event(topic, "id", seq, seq, "e", "ts")


def inbox(events_max: int = 3, bytes_max: int = 1000) -> Inbox:
    return Inbox(events_max=events_max, bytes_max=bytes_max, room=asyncio.Event())


def drained(box: Inbox) -> list[Event | Gap]:
    items = []
    while (item := box.pop()) is not None:
        items.append(item)
    return items


def test_an_inbox_that_overflows_says_what_it_dropped() -> None:
    box = inbox()
    for seq in range(1, 6):
        box.put(event(seq))
    assert drained(box) == [Gap("t", "e", 1, 2, 2, "slow"), event(3), event(4), event(5)]
    assert drained(box) == []


def test_a_gap_in_front_of_what_is_dropped_becomes_part_of_a_longer_one() -> None:
    box = inbox(events_max=2)
    box.put(event(1))
    box.put(event(1, "u"))
    box.put(Gap("t", "e", 2, 4, 3, "history"))
    box.put(event(5))
    box.put(event(6))
    box.put(event(7))
    assert drained(box) == [Gap("u", "e", 1, 1, 1, "slow"), Gap("t", "e", 1, 5, 5, "slow"), event(6), event(7)]


def test_an_inbox_is_bounded_in_bytes_and_takes_one_that_is_longer() -> None:
    box = inbox(events_max=10, bytes_max=100)
    box.put(event(1), 500)
    assert box.is_full
    box.put(event(2), 60)
    assert not box.is_full
    box.put(event(3), 60)
    assert box.is_full
    assert drained(box) == [Gap("t", "e", 1, 1, 1, "slow"), event(2), event(3)]


def test_the_inbox_loses_nothing_without_a_word() -> None:
    dice = random.Random(1)
    box, seq, told = inbox(events_max=5), 0, []
    for _ in range(5000):
        if dice.random() < 0.6:
            seq += 1
            if dice.random() < 0.1:
                box.put(Gap("t", "e", seq, seq + 2, 3, "history"))
                seq += 3
            box.put(event(seq), 10)
        elif (item := box.pop()) is not None:
            told.append(item)
    told += drained(box)
    assert end_of(told) == seq


def test_a_replay_for_another_subscription_is_not_new() -> None:
    tracker = Tracker()
    assert tracker.subscribed("t", "e", 10, recovered=True, resumed=False) is None
    assert tracker.event("t", 11) == (True, None)
    for seq in range(5, 12):
        assert tracker.event("t", seq) == (False, None)
    assert tracker.event("t", 12) == (True, None)


def test_an_ack_that_promises_nothing_settles_what_is_lost() -> None:
    tracker = Tracker()
    tracker.subscribed("t", "e", 10, recovered=True, resumed=False)
    tracker.subscribed("t", "e", 15, recovered=False, resumed=True)
    assert tracker.is_incomplete
    assert tracker.settle() == [Gap("t", "e", 11, 15, 5, "history")]
    assert tracker.settle() == []
    assert tracker.event("t", 16) == (True, None)


def test_a_pattern_goes_on_where_each_topic_was() -> None:
    tracker = Tracker({"a": Position("e", 5), "b": Position("e", 7)})
    tracker.subscribed("a", "e", 9, recovered=True, resumed=True)
    gap = tracker.subscribed("b", "f", 2, recovered=False, resumed=True)
    assert gap == Gap("b", "e", 8, None, None, "epoch")
    tracker.subscribed("new", "g", 4, recovered=True, resumed=True)
    assert tracker.event("a", 6) == (True, None)
    assert tracker.event("b", 1) == (True, None)
    # All that is kept of a new topic is replayed; what came before that is lost.
    assert tracker.event("new", 3) == (True, Gap("new", "g", 1, 2, 2, "history"))
    assert tracker.positions() == {"a": Position("e", 6), "b": Position("f", 1), "new": Position("g", 3)}


async def test_what_is_in_flight_waits_again_in_its_old_order() -> None:
    outbox = Outbox(messages_max=10, bytes_max=1000, in_flight_max=3)
    entries = [Entry("t", "id", "{}", once=n != 1) for n in range(5)]
    for entry in entries:
        outbox.put(entry)
    sent = [outbox.take() for _ in range(3)]
    assert sent == entries[:3]
    assert outbox.take() is None
    outbox.answered(entries[0])
    outbox.take_back(entries[2])
    outbox.link_lost()
    with pytest.raises(ShardcastError, match="CONNECTION_LOST"):
        await entries[1].future
    assert [outbox.take() for _ in range(4)] == [*entries[2:], None]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("step", [1, 2, 3, 1000])
def test_event_streams_in_pieces_of_any_size(newline: str, step: int) -> None:
    text = ': comment\n\nid: e:1\ndata: {"a":\ndata: "ü☃"}\n\nevent: ack\ndata:x\nretry: 5\n\nid: only\n\n'
    data = text.replace("\n", newline).encode()
    parser = EventParser(event_chars_max=1000)
    events = [found for start in range(0, len(data), step) for found in parser.feed(data[start : start + step])]
    # A CR at the very end may be half of a CRLF, so nothing is lost but the last, empty block.
    assert events == [StreamEvent("message", '{"a":\n"ü☃"}', "e:1"), StreamEvent("ack", "x", "e:1")]


@pytest.mark.parametrize("part", [b"data: " + b"x" * 50, b"data: " + b"x" * 50 + b"\n"])
def test_an_event_without_an_end_is_not_kept(part: bytes) -> None:
    parser = EventParser(event_chars_max=1000)

    def feed_for_ever() -> None:
        for _ in range(100):
            parser.feed(part)

    with pytest.raises(ValueError, match="without an end"):
        feed_for_ever()


def test_the_pause_grows_to_its_ceiling_and_is_random() -> None:
    backoff = Backoff(1, 8)
    for ceiling in (1, 2, 4, 8, 8, 8):
        assert 0 <= backoff.pause_s() <= ceiling
    assert len({backoff.pause_s() for _ in range(20)}) > 15
    assert backoff.pause_s(3.5) == 3.5
    backoff.reset()
    assert backoff.pause_s() <= 1


def test_a_secret_is_not_shown() -> None:
    assert "hush" not in repr(Proof(key="hush")) + repr(Proof(token="hush"))


def test_the_life_of_a_token() -> None:
    left_s = lifetime_s(token(100))
    assert left_s is not None
    assert 95 < left_s <= 100
    for opaque in ("", "a.b.c", "a", "a.e30.c"):
        assert lifetime_s(opaque) is None


@pytest.mark.parametrize(
    ("url", "websocket", "events"),
    [
        ("ws://h:1/ws", "ws://h:1/ws", "/topics/a%2Fb/events?last=1"),
        ("https://h/live/", "wss://h:443/live/ws", "/live/topics/a%2Fb/events?last=1"),
        ("http://[::1]:80/live/ws", "ws://[::1]:80/live/ws", "/live/topics/a%2Fb/events?last=1"),
    ],
)
def test_urls(url: str, websocket: str, events: str) -> None:
    endpoint = Endpoint.parse(url, client_id=None, ssl_context=None)
    assert endpoint.websocket_url == websocket
    assert endpoint.events_target("a/b", {"last": "1"}) == events
    named = Endpoint.parse(url, client_id="a&b", ssl_context=None)
    assert named.websocket_url == websocket + "?client_id=a%26b"


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://h/ws", "ws:///ws", "ws://h/ws?key=1", "ws://u:p@h/ws"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ValueError, match="a URL"):
        shardcast.connect(url)


@pytest.mark.parametrize(
    "options",
    [{"heartbeat_s": 0}, {"event_queue_max": -1}, {"open_timeout_s": -1}, {"backoff_min_s": 5, "backoff_max_s": 1}],
)
def test_settings_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="settings must be positive"):
        Settings(**options)


def test_a_key_and_a_token() -> None:
    with pytest.raises(ValueError, match="not both"):
        shardcast.connect("ws://h/ws", key="k", token="t")
    with pytest.raises(ValueError, match="transport"):
        shardcast.connect("ws://h/ws", transport="carrier pigeon")  # type: ignore[arg-type]
