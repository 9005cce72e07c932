"""What a caller gets wrong shows where it was done, and harms nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import shardcast
from shardcast import Position, Settings, ShardcastError
from tests.conftest import StartBroker
from tests.listener import Listener


@pytest.mark.parametrize("topic", ["", "a" * 256, "ü" * 128, "a\nb", "a\x00", "a\x85", "\ud800", "orders*", ">.a"])
async def test_names_that_are_none(start_broker: StartBroker, topic: str) -> None:
    broker = await start_broker()
    async with shardcast.connect(broker.url) as client:
        with pytest.raises(ShardcastError, match="BAD_REQUEST"):
            await client.publish(topic, 1)
        with pytest.raises(ShardcastError, match="BAD_REQUEST"):
            client.subscribe(topic)


@pytest.mark.parametrize("topic", ["a" * 255, "ü" * 127, "größe ☃/🦀", 'quote" \\', "a..b", "."])
async def test_names_that_look_wrong_and_are_not(start_broker: StartBroker, topic: str) -> None:
    broker = await start_broker()
    async with shardcast.connect(broker.url) as client:
        async with client.subscribe(topic) as events:
            await client.publish(topic, topic)
            assert (await anext(events)).payload == topic


@pytest.mark.parametrize("payload", [float("nan"), float("inf"), object(), {1, 2}, b"bytes", {("a",): 1}, "\ud800"])
async def test_payloads_that_are_no_json(start_broker: StartBroker, payload: Any) -> None:
    broker = await start_broker()
    async with shardcast.connect(broker.url) as client:
        with pytest.raises(ShardcastError, match="BAD_REQUEST"):
            await client.publish("orders", payload)
        assert (await client.publish("orders", None)).seq == 1


@pytest.mark.parametrize("payload", [None, True, 0, -0.5, 10**40, "", '\x00\u2028"\\', [], {}, {"": [[]]}, "🦀"])
async def test_payloads_come_as_they_were(start_broker: StartBroker, payload: Any) -> None:
    broker = await start_broker()
    async with shardcast.connect(broker.url) as client:
        async with client.subscribe("orders") as orders:
            await client.publish("orders", payload)
            received = (await anext(orders)).payload
    assert received == payload
    assert type(received) is type(payload)


async def test_nesting_that_python_cannot_encode(start_broker: StartBroker) -> None:
    broker = await start_broker()
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    async with shardcast.connect(broker.url) as client:
        with pytest.raises(ShardcastError, match="BAD_REQUEST"):
            await client.publish("orders", deep)


@pytest.mark.parametrize("message_id", ["", "7", "550e8400-e29b-41d4-a716-44665544000g", '"', "\n"])
async def test_ids_that_are_none(start_broker: StartBroker, message_id: str) -> None:
    broker = await start_broker()
    async with shardcast.connect(broker.url) as client:
        with pytest.raises(ShardcastError, match="BAD_REQUEST"):
            await client.publish("orders", 1, id=message_id)


@pytest.mark.parametrize(
    "options",
    [
        {"last": -1},
        {"last": "5"},
        {"last": True},
        {"since": "41"},
        {"since": "e:x"},
        {"since": {"orders": Position("e", 1)}},
        {"policy": "newest"},
        {"max_rate": 0},
        {"max_rate": 1001},
        {"max_rate": 1.5},
        {"max_rate": True},
    ],
)
async def test_options_that_make_no_sense(start_broker: StartBroker, options: dict[str, Any]) -> None:
    broker = await start_broker()
    async with shardcast.connect(broker.url) as client:
        with pytest.raises(ValueError, match=r"since|last|policy|max_rate|position"):
            client.subscribe("orders", **options)


async def test_messages_that_are_too_long(start_broker: StartBroker, quick: Settings) -> None:
    """What is longer than the client's limit is not sent; over a smaller one of the broker the link ends, once."""
    broker = await start_broker(MAX_MESSAGE_SIZE="4096")
    states: list[str] = []
    async with shardcast.connect(broker.url, settings=quick, on_state=states.append) as client:
        orders = Listener(client, "orders")
        await orders.subscription.ready()
        with pytest.raises(ShardcastError, match="MESSAGE_TOO_LARGE"):
            await client.publish("orders", "x" * 65536)
        assert client.state == "open"
        short = [asyncio.create_task(client.publish("orders", n)) for n in range(5)]
        with pytest.raises(ShardcastError, match="MESSAGE_TOO_LARGE"):
            await client.publish("orders", "x" * 5000)
        short += [asyncio.create_task(client.publish("orders", n)) for n in range(5, 10)]
        assert [(await receipt).seq for receipt in short] == list(range(1, 11))
        await orders.events(10)
    assert [event.payload for event in orders.received] == list(range(10))
    assert states.count("waiting") == 1


async def test_a_client_outside_of_its_block(start_broker: StartBroker) -> None:
    broker = await start_broker()
    client = shardcast.connect(broker.url)
    with pytest.raises(RuntimeError):
        await client.publish("orders", 1)
    with pytest.raises(RuntimeError):
        client.subscribe("orders")
    async with client:
        orders = client.subscribe("orders")
        await orders.ready()
        with pytest.raises(RuntimeError):
            await client.__aenter__()
    assert [event async for event in orders] == []
    with pytest.raises(ShardcastError, match="CLOSED"):
        await client.publish("orders", 1)
    with pytest.raises(ShardcastError, match="CLOSED"):
        client.subscribe("orders")
    await client.close()


async def test_what_waits_when_the_client_is_closed(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker()
    async with shardcast.connect(broker.url, settings=quick) as client:
        await client.publish("orders", 1)
        await broker.freeze()
        publishing = asyncio.create_task(client.publish("orders", 2))
        await asyncio.sleep(0.05)
    broker.thaw()
    with pytest.raises(ShardcastError, match="CLOSED"):
        await publishing


async def test_rates_are_kept_to(start_broker: StartBroker, quick: Settings) -> None:
    """More commands than the rate allows before the broker's patience ends are all carried out, on one link."""
    broker = await start_broker(RATE_MESSAGES_PER_SEC="50", RATE_BURST_MESSAGES="5", RATE_PATIENCE_SEC="1")
    states: list[str] = []
    async with shardcast.connect(broker.url, settings=quick, on_state=states.append) as client:
        listeners = [Listener(client, f"topic {n}") for n in range(60)]
        receipts = await asyncio.gather(*(client.publish("orders", n) for n in range(60)))
        for listener in listeners:
            await listener.subscription.ready()
        assert sorted(receipt.seq for receipt in receipts) == list(range(1, 61))
        assert sorted(await broker.messages("orders")) == list(range(60))
    assert states == ["open", "closed"]
