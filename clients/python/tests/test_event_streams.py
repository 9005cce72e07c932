"""The way over HTTP, where WebSockets are blocked."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Literal

import pytest

import shardcast
from shardcast import Client, Event, Gap, Settings, ShardcastError
from tests.conftest import StartBroker
from tests.listener import Listener, end_of
from tests.proxy import Proxy
from tests.test_auth import KEYS


def transport_of(client: Client) -> str | None:
    """For mypy, which does not know that it changes."""
    return client.transport


async def test_events_and_messages_over_http(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker()
    await broker.post("größe/ä b", [1, 2, 3])
    async with shardcast.connect(broker.url, transport="sse", settings=quick) as client:
        assert client.transport == "sse"
        async with client.subscribe("größe/ä b", last=2) as events:
            receipt = await client.publish("größe/ä b", {"lines": "a\nb\r\nc", "ü": "☃𝄞"})
            assert (receipt.seq, receipt.matched, receipt.duplicate) == (4, 1, False)
            again = await client.publish("größe/ä b", "ignored", id=receipt.id)
            assert (again.seq, again.duplicate) == (4, True)
            received = [await anext(events) for _ in range(3)]
    assert [event.seq for event in received] == [2, 3, 4]
    assert received[2].payload == {"lines": "a\nb\r\nc", "ü": "☃𝄞"}
    assert received[2].id == receipt.id


@pytest.mark.parametrize("how", ["answer", "reset", "silence"])
async def test_where_websockets_are_blocked_it_falls_back(
    start_broker: StartBroker, quick: Settings, how: Literal["answer", "reset", "silence"]
) -> None:
    broker = await start_broker()
    async with Proxy(broker.port) as proxy:
        proxy.blocks_websockets = how
        async with shardcast.connect(proxy.url, settings=replace(quick, connect_timeout_s=0.5)) as client:
            assert transport_of(client) == "sse"
            orders = Listener(client, "orders")
            await orders.subscription.ready()
            await client.publish("orders", 1)
            await orders.events(1)
            # When they are allowed, the next link is one again, and goes on where the stream was.
            proxy.blocks_websockets = "no"
            proxy.cut()
            await client.publish("orders", 2)
            await orders.events(2)
            assert transport_of(client) == "ws"
    assert [event.seq for event in orders.received] == [1, 2]
    assert orders.gaps == []


async def test_only_a_websocket_means_no_fallback(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker()
    async with Proxy(broker.port) as proxy:
        proxy.blocks_websockets = "answer"
        with pytest.raises(ShardcastError, match=r"TIMEOUT.*HTTP_403"):
            async with shardcast.connect(proxy.url, transport="ws", settings=replace(quick, open_timeout_s=2)):
                pass


async def test_a_stream_that_is_cut_goes_on(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker(RING_BUFFER_SIZE="1000", SUBSCRIBER_QUEUE_SIZE="1000")
    dice = random.Random(3)
    async with Proxy(broker.port) as proxy:
        async with shardcast.connect(proxy.url, transport="sse", settings=quick) as client:
            orders = Listener(client, "orders")
            await orders.subscription.ready()
            for round_ in range(10):
                proxy.cut_after(dice.randrange(1, 3000))
                await broker.post("orders", [{"round": round_, "text": "x" * 150}] * 20)
                await orders.events(20 * (round_ + 1))
    assert [event.seq for event in orders.received] == list(range(1, 201))
    assert orders.gaps == []


async def test_messages_across_cuts_are_there_once(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker(RING_BUFFER_SIZE="1000")
    dice = random.Random(5)
    async with Proxy(broker.port) as proxy:
        async with shardcast.connect(proxy.url, transport="sse", settings=quick) as client:

            async def cut_again_and_again() -> None:
                while True:
                    proxy.cut_after(dice.randrange(1, 2000))
                    await asyncio.sleep(0.05)

            cutting = asyncio.create_task(cut_again_and_again())
            await asyncio.gather(*(client.publish("orders", n) for n in range(60)))
            cutting.cancel()
    assert await broker.messages("orders") == list(range(60))


async def test_a_restart_is_a_gap_without_an_end(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker(AUTO_CREATE_TOPICS="false")
    await broker.call("POST", "/topics", {"name": "orders"})
    async with shardcast.connect(broker.url, transport="sse", settings=quick) as client:
        orders = Listener(client, "orders")
        await orders.subscription.ready()
        await client.publish("orders", 1)
        await orders.events(1)
        await broker.kill()
        await broker.start()
        await orders.reaches("waiting")
        await broker.call("POST", "/topics", {"name": "orders"})
        await broker.post("orders", ["back"])
        await orders.payload("back")
        await broker.call("DELETE", "/topics/orders")
        await orders.reaches("waiting")
    assert [(gap.first, gap.reason) for gap in orders.gaps] == [(2, "epoch")]


async def test_a_draining_broker(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker(DRAIN_GRACE_MS="100")
    async with shardcast.connect(broker.url, transport="sse", settings=quick) as client:
        orders = Listener(client, "orders")
        await orders.subscription.ready()
        await broker.drain()
        publishing = asyncio.create_task(client.publish("orders", "back"))
        await broker.start()
        await publishing
        await orders.payload("back")


async def test_a_slow_consumer_of_a_stream(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker()
    story: list[Event | Gap] = []
    async with shardcast.connect(broker.url, transport="sse", settings=replace(quick, event_queue_max=10)) as client:
        orders = client.subscribe("orders", on_gap=story.append)
        await orders.ready()
        for start in range(0, 2000, 100):
            await broker.post("orders", [{"n": start + n, "text": "x" * 8000} for n in range(100)])
        async for event in orders:
            story.append(event)
            if event.seq == 2000:
                break
    assert end_of(story) == 2000
    assert any(isinstance(item, Gap) for item in story)


async def test_keys_over_http(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker(**KEYS)
    async with shardcast.connect(broker.url, key="secret", transport="sse", settings=quick) as client:
        async with client.subscribe("orders") as orders:
            await client.publish("orders", 1)
            assert (await anext(orders)).payload == 1
    for key, code in (("guess", "INVALID_API_KEY"), (None, "MISSING_API_KEY")):
        with pytest.raises(ShardcastError) as refused:
            async with shardcast.connect(broker.url, key=key, transport="sse", settings=quick):
                pass
        assert refused.value.code == code


async def test_what_is_refused_over_http(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker(AUTO_CREATE_TOPICS="false", MAX_MESSAGE_SIZE="2000")
    await broker.call("POST", "/topics", {"name": "orders"})
    async with shardcast.connect(broker.url, transport="sse", settings=quick) as client:
        with pytest.raises(ShardcastError, match="TOPIC_NOT_FOUND"):
            await client.publish("nope", 1)
        with pytest.raises(ShardcastError, match="TOPIC_NOT_FOUND"):
            await anext(client.subscribe("nope"))
        with pytest.raises(ShardcastError, match="MESSAGE_TOO_LARGE"):
            await client.publish("orders", "x" * 5000)
        assert (await client.publish("orders", 1)).seq == 1
