"""Links that end: what is told, what comes again, and that nothing comes twice."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

import shardcast
from shardcast import Settings, ShardcastError
from tests.conftest import StartBroker
from tests.listener import Listener
from tests.proxy import Proxy


async def test_after_a_cut_it_goes_on_behind_the_last_event(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker()
    async with Proxy(broker.port) as proxy, shardcast.connect(proxy.url, settings=quick) as client:
        orders = Listener(client, "orders")
        await orders.subscription.ready()
        for round_ in range(5):
            await broker.post("orders", [round_] * 5)
            await orders.events(10 * round_ + 5)
            proxy.cut()
            await broker.post("orders", [round_] * 5)
            await orders.events(10 * round_ + 10)
    assert [event.seq for event in orders.received] == list(range(1, 51))
    assert orders.gaps == []


async def test_a_cut_in_the_middle_of_a_frame(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker(RING_BUFFER_SIZE="1000", SUBSCRIBER_QUEUE_SIZE="1000")
    dice = random.Random(7)
    async with Proxy(broker.port) as proxy, shardcast.connect(proxy.url, settings=quick) as client:
        orders = Listener(client, "orders")
        await orders.subscription.ready()
        for round_ in range(20):
            proxy.cut_after(dice.randrange(1, 3000))
            await broker.post("orders", [{"round": round_, "text": "x" * 150}] * 20)
            await orders.events(20 * (round_ + 1))
    assert [event.seq for event in orders.received] == list(range(1, 401))
    assert orders.gaps == []


async def test_what_the_history_has_let_go_of_is_a_gap(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker(RING_BUFFER_SIZE="10")
    async with Proxy(broker.port) as proxy, shardcast.connect(proxy.url, settings=quick) as client:
        orders = Listener(client, "orders")
        await orders.subscription.ready()
        await broker.post("orders", [1, 2, 3])
        await orders.events(3)
        proxy.refuse()
        proxy.cut()
        await broker.post("orders", list(range(4, 31)))
        proxy.refuse(False)
        await orders.events(13)
        await broker.post("orders", [31])
        await orders.payload(31)
    assert [event.seq for event in orders.received] == [1, 2, 3, *range(21, 32)]
    (gap,) = orders.gaps
    assert (gap.topic, gap.first, gap.last, gap.count, gap.reason) == ("orders", 4, 20, 17, "history")
    orders.assert_complete()


async def test_without_a_history_the_gap_is_told_all_the_same(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker(RING_BUFFER_SIZE="0")
    async with Proxy(broker.port) as proxy, shardcast.connect(proxy.url, settings=quick) as client:
        orders = Listener(client, "orders")
        await orders.subscription.ready()
        await broker.post("orders", [1])
        await orders.events(1)
        proxy.refuse()
        proxy.cut()
        await broker.post("orders", [2, 3])
        proxy.refuse(False)
        # No event follows that would show the jump.
        await orders.told(2)
    (gap,) = orders.gaps
    assert (gap.first, gap.last, gap.reason) == (2, 3, "history")


async def test_a_broker_that_is_killed_and_started_again(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker()
    async with shardcast.connect(broker.url, settings=quick) as client:
        orders = Listener(client, "orders")
        await orders.subscription.ready()
        for n in range(3):
            await client.publish("orders", n)
        await orders.events(3)
        await broker.kill()
        publishing = [asyncio.create_task(client.publish("orders", f"offline {n}")) for n in range(3)]
        await broker.start()
        assert [receipt.seq for receipt in await asyncio.gather(*publishing)] == [1, 2, 3]
        events = await orders.events(6)
    assert [event.payload for event in events] == [0, 1, 2, "offline 0", "offline 1", "offline 2"]
    assert events[0].epoch != events[3].epoch
    (gap,) = orders.gaps
    assert (gap.epoch, gap.first, gap.last, gap.reason) == (events[0].epoch, 4, None, "epoch")
    assert orders.story.index(gap) == 3
    orders.assert_complete()


async def test_a_topic_that_a_restart_has_forgotten_is_waited_for(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker(AUTO_CREATE_TOPICS="false")
    await broker.call("POST", "/topics", {"name": "orders"})
    async with shardcast.connect(broker.url, settings=quick) as client:
        orders = Listener(client, "orders")
        await orders.subscription.ready()
        await broker.kill()
        await broker.start()
        await orders.reaches("waiting")
        await broker.call("POST", "/topics", {"name": "orders"})
        await broker.post("orders", ["back"])
        await orders.payload("back")
    assert [gap.reason for gap in orders.gaps] == ["epoch"]


async def test_a_frozen_broker_is_found_out_and_awaited(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker()
    states: list[str] = []
    async with shardcast.connect(broker.url, settings=quick, on_state=states.append) as client:
        orders = Listener(client, "orders")
        await orders.subscription.ready()
        await client.publish("orders", 1)
        await broker.freeze()
        while client.state == "open":
            await asyncio.sleep(0.02)
        publishing = asyncio.create_task(client.publish("orders", 2))
        await asyncio.sleep(0.5)
        assert not publishing.done()
        broker.thaw()
        assert (await publishing).seq == 2
        await orders.events(2)
    assert [event.payload for event in orders.received] == [1, 2]
    assert orders.gaps == []
    assert states[:2] == ["open", "waiting"]


async def test_a_black_hole_is_found_out(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker()
    async with Proxy(broker.port) as proxy, shardcast.connect(proxy.url, settings=quick) as client:
        orders = Listener(client, "orders")
        await orders.subscription.ready()
        proxy.swallow()
        publishing = asyncio.create_task(client.publish("orders", 1))
        while client.state == "open":
            await asyncio.sleep(0.02)
        proxy.cut()
        proxy.swallow(False)
        assert (await publishing).seq == 1
        await orders.events(1)
    orders.assert_complete()


async def test_nothing_is_lost_and_nothing_doubled(start_broker: StartBroker, quick: Settings) -> None:
    """Hundreds of messages across many cuts: each is in the topic once, and in order."""
    count = 400
    broker = await start_broker(RING_BUFFER_SIZE="1000", SUBSCRIBER_QUEUE_SIZE="1000")
    dice = random.Random(11)
    async with Proxy(broker.port) as proxy, shardcast.connect(proxy.url, settings=quick) as client:
        orders = Listener(client, "orders")
        await orders.subscription.ready()

        async def cut_again_and_again() -> None:
            while True:
                proxy.cut_after(dice.randrange(50, 4000))
                await asyncio.sleep(dice.uniform(0.01, 0.06))
                proxy.cut()

        cutting = asyncio.create_task(cut_again_and_again())
        receipts = []
        for start in range(0, count, 40):
            batch = [client.publish("orders", n) for n in range(start, start + 40)]
            receipts += await asyncio.gather(*batch)
            await asyncio.sleep(0.02)
        cutting.cancel()
        await orders.events(count)
        assert await broker.messages("orders") == list(range(count))
        assert proxy.accepted > 5
    assert [receipt.seq for receipt in receipts] == list(range(1, count + 1))
    assert [event.payload for event in orders.received] == list(range(count))
    assert any(receipt.duplicate for receipt in receipts), "no cut has come between a message and its answer"
    assert orders.gaps == []


async def test_a_message_that_may_not_be_repeated_is_given_up(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker()
    async with Proxy(broker.port) as proxy, shardcast.connect(proxy.url, settings=quick) as client:
        await client.publish("orders", 0)
        proxy.swallow()
        publishing = asyncio.create_task(client.publish("orders", 1, once=False))
        await asyncio.sleep(0.05)
        proxy.cut()
        with pytest.raises(ShardcastError, match="CONNECTION_LOST"):
            await publishing


async def test_what_waits_offline_is_bounded(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker()
    for limits in ({"publish_queue_max": 5}, {"publish_queue_bytes_max": 5 * 1100}):
        settings = replace(quick, **limits)
        async with shardcast.connect(broker.url, settings=settings) as client:
            await broker.kill()
            while client.state == "open":
                await asyncio.sleep(0.01)
            waiting = [asyncio.create_task(client.publish("orders", "x" * 1000)) for _ in range(5)]
            await asyncio.sleep(0)
            with pytest.raises(ShardcastError) as full:
                await client.publish("orders", "x" * 1000)
            assert full.value.code == "QUEUE_FULL"
            # Who gives up makes room for another.
            waiting.pop().cancel()
            await asyncio.sleep(0)
            waiting.append(asyncio.create_task(client.publish("orders", "x" * 1000)))
            await broker.start()
            assert sorted(receipt.seq for receipt in await asyncio.gather(*waiting)) == [1, 2, 3, 4, 5]


async def test_a_full_queue_makes_publishers_wait_while_there_is_a_link(
    start_broker: StartBroker, quick: Settings
) -> None:
    broker = await start_broker(RING_BUFFER_SIZE="1000")
    settings = replace(quick, publish_queue_max=8, in_flight_max=4)
    async with shardcast.connect(broker.url, settings=settings) as client:
        await asyncio.gather(*(client.publish("orders", n) for n in range(200)))
        assert await broker.messages("orders") == list(range(200))


async def test_a_draining_broker_says_when_to_come_back(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker(RECONNECT_SPREAD_SEC="3600", DRAIN_GRACE_MS="100")
    async with (
        shardcast.connect(broker.url, settings=quick) as one,
        shardcast.connect(broker.url, settings=quick) as other,
    ):
        await broker.drain()
        await broker.start()
        # The slots of two are at once and in half an hour. The first may meet the end of the old broker, whose refusal
        # names the whole hour; the backoff of both would have ended long ago.
        await asyncio.sleep(1)
        assert "waiting" in (one.state, other.state)


async def test_a_restart_is_survived(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker(RECONNECT_SPREAD_SEC="1", DRAIN_GRACE_MS="200")
    async with shardcast.connect(broker.url, settings=quick) as client:
        await client.publish("orders", 1)
        results = []
        for n in range(20):
            if n == 5:
                draining = asyncio.create_task(broker.drain())
            results.append(asyncio.create_task(client.publish("orders", n)))
            await asyncio.sleep(0.01)
        await draining
        await broker.start()
        await asyncio.gather(*results)
        # Each was taken by one of the two, in order; those of the old one are forgotten with it.
        kept = await broker.messages("orders")
    assert kept
    assert kept == list(range(20 - len(kept), 20))


async def test_a_refusal_says_when_to_come_back(quick: Settings) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        response = connection.respond(503, json.dumps({"error": "server is shutting down", "code": "UNAVAILABLE"}))
        response.headers["Retry-After"] = "3600"
        return response

    async def never(connection: ServerConnection) -> None:
        raise AssertionError("it is refused")

    async with serve(never, "127.0.0.1", 0, process_request=refuse) as server:
        (socket,) = server.sockets
        url = f"ws://127.0.0.1:{socket.getsockname()[1]}/ws"
        async with shardcast.connect(url, settings=replace(quick, open_timeout_s=0)) as client:
            while client.state != "waiting":
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)
            assert client.state == "waiting"


async def test_no_broker_is_an_error_in_time(quick: Settings) -> None:
    settings = replace(quick, open_timeout_s=0.3)
    with pytest.raises(ShardcastError) as refused:
        async with shardcast.connect("ws://127.0.0.1:9/ws", settings=settings):
            pass
    assert refused.value.code == "TIMEOUT"


async def test_a_client_that_gives_up_at_any_moment_ends(quick: Settings) -> None:
    """Of asyncio's ways to lose a cancellation, those that the end of an attempt can meet."""
    dice = random.Random(13)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
        for _ in range(150):
            settings = replace(
                quick, open_timeout_s=dice.uniform(0.001, 0.02), backoff_min_s=0.0001, backoff_max_s=0.001
            )
            with pytest.raises(ShardcastError, match="TIMEOUT"):
                async with shardcast.connect(url, settings=settings):
                    pass


async def test_a_client_may_be_there_before_its_broker(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker()
    await broker.kill()
    async with shardcast.connect(broker.url, settings=replace(quick, open_timeout_s=0)) as client:
        orders = Listener(client, "orders")
        publishing = asyncio.create_task(client.publish("orders", "early"))
        await asyncio.sleep(0.1)
        await broker.start()
        assert (await publishing).seq == 1
        await orders.subscription.ready()
    assert client.state == "closed"
