"""The service of `examples/order-feed`, run as its README says."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import shardcast
from shardcast import Settings
from tests.broker import ROOT
from tests.conftest import StartBroker
from tests.listener import Listener

PROGRAM = ROOT / "examples" / "order-feed" / "orders.py"


async def start(url: str, *options: str, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROGRAM),
        "--url",
        url,
        *options,
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
    )


async def test_orders_move_on_one_state_at_a_time(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker(AUTH_ENABLED="true", API_KEYS="secret")
    async with shardcast.connect(broker.url, key="secret", settings=quick) as client:
        orders = Listener(client, "orders")
        await orders.subscription.ready()
        shop = await start(broker.url, "--per-second", "1000", "--count", "60", SHARDCAST_API_KEY="secret")
        said, _ = await shop.communicate()
        changes = [event.payload for event in await orders.events(60)]
    lines = said.decode().splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("open", "closed", 62)
    assert lines[1] == f"#1 to 1: {changes[0]}"
    states: dict[int, Any] = {}
    for change in changes:
        following = {None: "placed", "placed": "paid", "paid": "packed", "packed": "shipped"}
        assert change["state"] == following[states.get(change["order"])]
        states[change["order"]] = change["state"]


async def test_it_goes_on_when_the_broker_is_back(start_broker: StartBroker) -> None:
    broker = await start_broker()
    shop = await start(broker.url, "--per-second", "200", "--count", "100")
    assert shop.stdout is not None
    while not (await shop.stdout.readline()).startswith(b"#10 "):
        pass
    await broker.kill()
    await broker.start()
    said, _ = await shop.communicate()
    numbers = [line for line in said.decode().splitlines() if line.startswith("#")]
    assert len(numbers) == 90
    assert shop.returncode == 0
    messages = await broker.messages("orders")
    assert numbers[-1] == f"#{len(messages)} to 0: {messages[-1]}"
