"""Subscribing, publishing, replay."""

from __future__ import annotations

import asyncio
import uuid

import pytest

import shardcast
from shardcast import Event, Gap, ShardcastError
from tests.conftest import StartBroker
from tests.listener import Listener


async def test_what_is_published_comes_in_order(start_broker: StartBroker) -> None:
    broker = await start_broker()
    async with shardcast.connect(broker.url, client_id="test") as client:
        async with client.subscribe("orders") as orders:
            receipts = [await client.publish("orders", {"n": n, "ü": [None, 1.5]}) for n in range(5)]
            events = [await anext(orders) for _ in range(5)]
    assert [receipt.seq for receipt in receipts] == [1, 2, 3, 4, 5]
    assert all(receipt.matched == 1 and not receipt.duplicate for receipt in receipts)
    assert [(event.seq, event.id, event.payload["n"]) for event in events] == [
        (receipt.seq, receipt.id, n) for n, receipt in enumerate(receipts)
    ]
    assert events[0].payload["ü"] == [None, 1.5]
    assert len({event.epoch for event in events}) == 1
    assert events[0].epoch


async def test_a_replay_is_followed_by_live_events(start_broker: StartBroker) -> None:
    broker = await start_broker()
    await broker.post("orders", list(range(1, 11)))
    async with shardcast.connect(broker.url) as client:
        orders = client.subscribe("orders", last=3)
        assert [(await anext(orders)).seq for _ in range(3)] == [8, 9, 10]
        await client.publish("orders", 11)
        event = await anext(orders)
        assert (event.seq, event.payload) == (11, 11)


async def test_since_goes_on_behind_a_position(start_broker: StartBroker) -> None:
    broker = await start_broker()
    await broker.post("orders", list(range(1, 11)))
    async with shardcast.connect(broker.url) as client:
        first = await anext(client.subscribe("orders", last=4))
        assert first.seq == 7
        for since in (first.position, str(first.position)):
            async with client.subscribe("orders", since=since) as orders:
                assert [(await anext(orders)).seq for _ in range(3)] == [8, 9, 10]


async def test_subscriptions_to_one_topic_do_not_disturb_each_other(start_broker: StartBroker) -> None:
    broker = await start_broker()
    await broker.post("orders", list(range(1, 6)))
    async with shardcast.connect(broker.url) as client:
        live = Listener(client, "orders")
        await live.subscription.ready()
        late = Listener(client, "orders", last=3)
        await client.publish("orders", 6)
        assert await live.seqs(1) == [6]
        assert await late.seqs(4) == [3, 4, 5, 6]
        await late.subscription.unsubscribe()
        await client.publish("orders", 7)
        assert await live.seqs(2) == [6, 7]
        assert live.gaps == late.gaps == []


async def test_after_unsubscribe_nothing_comes(start_broker: StartBroker) -> None:
    broker = await start_broker()
    async with shardcast.connect(broker.url) as client:
        async with client.subscribe("orders") as orders:
            pass
        assert orders.state == "ended"
        receipt = await client.publish("orders", 1)
        assert receipt.matched == 0
        assert [event async for event in orders] == []


async def test_handlers_may_be_functions_or_coroutines(start_broker: StartBroker) -> None:
    broker = await start_broker()
    seen: list[Event] = []
    echoed = asyncio.Event()
    states: list[str] = []

    async with shardcast.connect(broker.url) as client:

        async def echo(event: Event) -> None:
            # A handler that publishes waits for an answer that lies behind events of its own.
            await client.publish("echo", event.payload)
            if event.payload == 9:
                echoed.set()

        async with client.subscribe("orders", on_event=echo, on_state=states.append):
            async with client.subscribe("echo", on_event=seen.append) as echoes:
                for n in range(10):
                    await client.publish("orders", n)
                await echoed.wait()
                with pytest.raises(RuntimeError):
                    await anext(echoes)
    assert [event.payload for event in seen] == list(range(10))
    assert states == ["live", "ended"]


async def test_a_handler_that_fails_gets_the_next_event(start_broker: StartBroker) -> None:
    broker = await start_broker()
    seen: list[int] = []
    done = asyncio.Event()

    def handle(event: Event) -> None:
        seen.append(event.seq)
        if event.seq == 3:
            done.set()
        raise ValueError("on purpose")

    async with shardcast.connect(broker.url) as client:
        async with client.subscribe("orders", on_event=handle):
            for n in range(3):
                await client.publish("orders", n)
            await done.wait()
    assert seen == [1, 2, 3]


async def test_a_message_with_a_known_id_is_published_once(start_broker: StartBroker) -> None:
    broker = await start_broker()
    message_id = uuid.uuid4()
    async with shardcast.connect(broker.url) as client:
        first = await client.publish("orders", 1, id=message_id)
        again = await client.publish("orders", 1, id=message_id)
        twice = await client.publish("orders", 1, id=message_id, once=False)
    assert (first.seq, first.duplicate) == (1, False)
    assert (again.seq, again.duplicate) == (1, True)
    assert (twice.seq, twice.duplicate) == (2, False)


async def test_what_the_broker_refuses_says_its_code(start_broker: StartBroker) -> None:
    broker = await start_broker(AUTO_CREATE_TOPICS="false")
    async with shardcast.connect(broker.url) as client:
        with pytest.raises(ShardcastError) as refused:
            await client.publish("nope", 1)
        assert refused.value.code == "TOPIC_NOT_FOUND"
        with pytest.raises(ShardcastError, match="TOPIC_NOT_FOUND"):
            await anext(client.subscribe("nope"))
        with pytest.raises(ShardcastError, match="TOPIC_NOT_FOUND"):
            async with client.subscribe("nope"):
                pass


async def test_a_topic_that_is_deleted_is_waited_for(start_broker: StartBroker) -> None:
    broker = await start_broker(AUTO_CREATE_TOPICS="false")
    await broker.call("POST", "/topics", {"name": "orders"})
    async with shardcast.connect(broker.url) as client:
        orders = Listener(client, "orders")
        await orders.subscription.ready()
        await client.publish("orders", 1)
        await broker.call("DELETE", "/topics/orders")
        await orders.reaches("waiting")
        await broker.call("POST", "/topics", {"name": "orders"})
        await orders.reaches("live")
        await client.publish("orders", "new")
        assert [event.payload for event in await orders.events(2)] == [1, "new"]
    (gap,) = orders.gaps
    assert (gap.first, gap.last, gap.count, gap.reason) == (2, None, None, "epoch")
    assert isinstance(gap, Gap)
