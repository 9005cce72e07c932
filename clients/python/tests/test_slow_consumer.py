"""Consumers that do not keep up: bounded memory, exact gaps, and no deadlock."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import shardcast
from shardcast import Event, Gap, Settings
from tests.broker import Broker
from tests.conftest import StartBroker
from tests.listener import Listener, end_of

# More than the sockets on both sides hold.
FLOOD = 2000
PAYLOAD = "x" * 8000


async def flood(broker: Broker, topic: str = "orders", count: int = FLOOD) -> None:
    for start in range(0, count, 100):
        await broker.post(topic, [{"n": start + n, "text": PAYLOAD} for n in range(100)])


async def test_a_slow_consumer_gets_the_exact_range_that_it_lost(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker()
    settings = replace(quick, event_queue_max=10)
    story: list[Event | Gap] = []
    async with shardcast.connect(broker.url, settings=settings) as client:
        orders = client.subscribe("orders", on_gap=story.append)
        await orders.ready()
        await flood(broker)
        assert client.state == "open"
        stats = await broker.call("GET", "/stats")
        dropped = stats["topics"]["orders"]["dropped"]
        assert dropped > 0, "the broker was to keep what this client does not read, and to drop"
        async for event in orders:
            story.append(event)
            if event.seq == FLOOD:
                break
    assert end_of(story) == FLOOD
    gaps = [item for item in story if isinstance(item, Gap)]
    assert sum(gap.count or 0 for gap in gaps) == dropped
    assert {gap.reason for gap in gaps} == {"slow"}


async def test_a_consumer_that_stands_still_does_not_end_the_link(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker(PING_PERIOD_SEC="1", PONG_WAIT_SEC="2", WRITE_WAIT_SEC="20")
    settings = replace(quick, event_queue_max=5)
    async with shardcast.connect(broker.url, settings=settings) as client:
        orders = client.subscribe("orders")
        await orders.ready()
        await broker.post("orders", list(range(100)))
        states = []
        for _ in range(35):
            await asyncio.sleep(0.1)
            states.append(client.state)
        assert set(states) == {"open"}, "its heartbeat, or that of the broker, has ended the link"
        assert [(await anext(orders)).seq for _ in range(100)] == list(range(1, 101))


async def test_a_full_inbox_does_not_withhold_answers(start_broker: StartBroker, quick: Settings) -> None:
    """A consumer that publishes for each event waits for answers that lie behind more events than its inbox holds."""
    broker = await start_broker()
    settings = replace(quick, event_queue_max=5)
    story: list[Event | Gap] = []
    async with shardcast.connect(broker.url, settings=settings) as client:
        orders = client.subscribe("orders", on_gap=story.append)
        await orders.ready()
        await broker.post("orders", list(range(1, 81)))
        async for event in orders:
            story.append(event)
            await client.publish("copies", event.payload)
            if event.seq == 80:
                break
        copies = await broker.messages("copies")
    assert end_of(story) == 80
    assert {item.topic for item in story} == {"orders"}
    assert copies == [item.payload for item in story if isinstance(item, Event)]


async def test_the_lost_end_of_a_quiet_topic_is_told(start_broker: StartBroker, quick: Settings) -> None:
    """What is dropped of a topic on which nothing follows shows in no jump; the client asks after it."""
    broker = await start_broker(SUBSCRIBER_QUEUE_SIZE="20", RING_BUFFER_SIZE="20")
    settings = replace(quick, event_queue_max=5)
    busy_seen = asyncio.Event()
    hold = asyncio.Event()

    async def slow(event: Event) -> None:
        await hold.wait()
        if event.seq == FLOOD:
            busy_seen.set()

    async with shardcast.connect(broker.url, settings=settings) as client:
        quiet = Listener(client, "quiet")
        await quiet.subscription.ready()
        async with client.subscribe("busy", on_event=slow, on_gap=lambda gap: None):
            await flood(broker, "busy", FLOOD // 2)
            await broker.post("quiet", list(range(1, 31)))
            await flood(broker, "busy", FLOOD // 2)
            assert quiet.story == []
            hold.set()
            await busy_seen.wait()
            await quiet.told(1)
            while not quiet.received or quiet.received[-1].seq < 30:
                await quiet.told(len(quiet.story) + 1)
    quiet.assert_complete()
    assert [event.seq for event in quiet.received] == list(range(11, 31))
    assert [(gap.first, gap.last) for gap in quiet.gaps] == [(1, 10)]


async def test_a_policy_that_disconnects_loses_only_what_the_history_has_not(
    start_broker: StartBroker, quick: Settings
) -> None:
    broker = await start_broker(SLOW_CONSUMER_POLICY="disconnect", RING_BUFFER_SIZE="5000")
    settings = replace(quick, event_queue_max=10)
    async with shardcast.connect(broker.url, settings=settings) as client:
        orders = client.subscribe("orders")
        await orders.ready()
        await flood(broker)
        seqs = [(await anext(orders)).seq for _ in range(FLOOD)]
    assert seqs == list(range(1, FLOOD + 1))
