"""Patterns and policies, on brokers that have them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Literal

import pytest

import shardcast
from shardcast import Position, Settings, ShardcastError
from tests.conftest import StartBroker
from tests.listener import Listener
from tests.proxy import Proxy

FLOOD = 2000

pytestmark = pytest.mark.needs("patterns")


async def test_a_pattern_gets_the_topics_that_are_and_that_come(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker()
    await broker.post("orders.eu", [1])
    await broker.post("orders.eu.de", [1])
    async with shardcast.connect(broker.url, settings=quick) as client:
        orders = Listener(client, "orders.*")
        everything = Listener(client, "orders.>", last=1)
        await orders.subscription.ready()
        await everything.subscription.ready()
        await client.publish("orders.eu", 2)
        await client.publish("orders.us", 1)
        await client.publish("orders.eu.de", 2)
        await orders.events(2)
        await everything.events(5)
    assert [(event.topic, event.seq) for event in orders.received] == [("orders.eu", 2), ("orders.us", 1)]
    assert all(event.epoch for event in orders.received)
    assert sorted((event.topic, event.seq) for event in everything.received) == [
        ("orders.eu", 1),
        ("orders.eu", 2),
        ("orders.eu.de", 1),
        ("orders.eu.de", 2),
        ("orders.us", 1),
    ]
    assert orders.gaps == everything.gaps == []


async def test_subscriptions_that_overlap_each_get_each_event_once(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker()
    async with shardcast.connect(broker.url, settings=quick) as client:
        listeners = [Listener(client, name) for name in ("a.b", "a.*", "a.>", ">", "a.b")]
        for listener in listeners:
            await listener.subscription.ready()
        for n in range(1, 4):
            assert (await client.publish("a.b", n)).matched == 1
        for listener in listeners:
            assert await listener.seqs(3) == [1, 2, 3]
        await listeners[0].subscription.unsubscribe()
        await listeners[2].subscription.unsubscribe()
        await client.publish("a.b", 4)
        for listener in (listeners[1], listeners[3], listeners[4]):
            assert await listener.seqs(4) == [1, 2, 3, 4]
        assert len(listeners[0].received) == len(listeners[2].received) == 3


async def test_a_pattern_goes_on_behind_each_topic(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker(RING_BUFFER_SIZE="10")
    await broker.post("orders.again", ["old"])
    async with Proxy(broker.port) as proxy, shardcast.connect(proxy.url, settings=quick) as client:
        orders = Listener(client, "orders.*")
        await orders.subscription.ready()
        await broker.post("orders.short", [1])
        await broker.post("orders.long", [1])
        await orders.events(2)
        proxy.refuse()
        proxy.cut()
        await broker.post("orders.short", [2, 3])
        await broker.post("orders.long", list(range(2, 31)))
        await broker.post("orders.new", [1, 2])
        await broker.call("DELETE", "/topics/orders.again")
        await broker.post("orders.again", ["new"])
        proxy.refuse(False)
        await orders.events(2 + 2 + 10 + 2 + 1)
    seqs: dict[str, list[int]] = {}
    for event in orders.received:
        seqs.setdefault(event.topic, []).append(event.seq)
    assert seqs == {
        "orders.short": [1, 2, 3],
        "orders.long": [1, *range(21, 31)],
        "orders.new": [1, 2],
        "orders.again": [1],
    }
    gaps = sorted((gap.topic, gap.first, gap.last, gap.reason) for gap in orders.gaps)
    assert gaps == [("orders.again", 2, None, "epoch"), ("orders.long", 2, 20, "history")]
    orders.assert_complete()


async def test_more_topics_than_positions_that_fit_into_a_command(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker(MAX_MESSAGE_SIZE="4096", RING_BUFFER_SIZE="3", SUBSCRIBER_QUEUE_SIZE="5000")
    topics = [f"orders.{n}" for n in range(200)]
    settings = replace(quick, message_bytes_max=4096)
    states: list[str] = []
    async with Proxy(broker.port) as proxy:
        async with shardcast.connect(proxy.url, settings=settings, on_state=states.append) as client:
            orders = Listener(client, "orders.*")
            await orders.subscription.ready()
            for topic in topics:
                await client.publish(topic, 1)
            await orders.events(200)
            proxy.refuse()
            proxy.cut()
            for topic in topics:
                await broker.post(topic, [2])
            await broker.post(topics[-1], [3, 4, 5])
            proxy.refuse(False)
            await orders.events(200 + 199 + 3)
            await client.publish(topics[0], 3)
            await orders.events(200 + 199 + 3 + 1)
    orders.assert_complete()
    assert [(gap.topic, gap.first, gap.last) for gap in orders.gaps] == [(topics[-1], 2, 2)]


async def test_a_pattern_outlives_a_restart(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker()
    async with shardcast.connect(broker.url, settings=quick) as client:
        orders = Listener(client, "orders.*")
        await orders.subscription.ready()
        await client.publish("orders.eu", 1)
        await orders.events(1)
        await broker.kill()
        await broker.start()
        await client.publish("orders.eu", "back")
        await orders.payload("back")
    assert [(gap.topic, gap.first, gap.reason) for gap in orders.gaps] == [("orders.eu", 2, "epoch")]


async def test_a_topic_that_is_deleted_and_created_again_is_no_gap(start_broker: StartBroker, quick: Settings) -> None:
    """The last event had come before the notice, and the first of the new one follows it."""
    broker = await start_broker()
    async with shardcast.connect(broker.url, settings=quick) as client:
        orders = Listener(client, "orders.*")
        await orders.subscription.ready()
        await client.publish("orders.eu", 1)
        await broker.call("DELETE", "/topics/orders.eu")
        await client.publish("orders.eu", 2)
        assert await orders.seqs(2) == [1, 1]
        assert orders.subscription.state == "live"
    assert orders.gaps == []


async def test_positions_of_before(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker()
    await broker.post("a.x", [1, 2, 3])
    await broker.post("a.y", [1, 2, 3])
    async with shardcast.connect(broker.url, settings=quick) as client:
        at: dict[str, Position] = {}
        async with client.subscribe("a.*", last=3) as events:
            while len(at) < 2:
                event = await anext(events)
                if event.seq == 2:
                    at[event.topic] = event.position
        again = Listener(client, "a.*", since=at)
        await again.events(2)
    assert sorted((event.topic, event.seq) for event in again.received) == [("a.x", 3), ("a.y", 3)]


@pytest.mark.needs("policies")
async def test_only_the_newest_where_that_is_wanted(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker()
    settings = replace(quick, event_queue_max=5)
    async with shardcast.connect(broker.url, settings=settings) as client:
        prices = client.subscribe("prices", policy="latest", on_gap=lambda gap: pytest.fail(f"{gap}"))
        await prices.ready()
        for start in range(0, FLOOD, 100):
            await broker.post("prices", [{"n": start + n, "text": "x" * 8000} for n in range(100)])
        at = skipped = 0
        async for event in prices:
            assert event.seq == at + event.skipped + 1
            at, skipped = event.seq, skipped + event.skipped
            if at == FLOOD:
                break
    assert skipped > 0


@pytest.mark.needs("policies")
@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_so_many_a_second(start_broker: StartBroker, quick: Settings, transport: Literal["ws", "sse"]) -> None:
    broker = await start_broker()
    async with shardcast.connect(broker.url, transport=transport, settings=quick) as client:
        prices = Listener(client, "prices", max_rate=5)
        await prices.subscription.ready()
        for n in range(1, 101):
            await client.publish("prices", n)
            await asyncio.sleep(0.01)
        await prices.payload(100)
    assert len(prices.received) < 20
    assert sum(event.skipped + 1 for event in prices.received) == 100
    assert prices.gaps == []


async def test_patterns_are_for_websockets(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker()
    async with shardcast.connect(broker.url, transport="sse", settings=quick) as client:
        with pytest.raises(ShardcastError):
            await anext(client.subscribe("orders.*"))
