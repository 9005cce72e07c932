from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from websockets.asyncio.client import connect

from shardcast import Settings
from tests.broker import Broker

ABILITIES = {
    # What a broker without the ability answers to this command with something else.
    "patterns": ({"type": "subscribe", "topic": "a.*"}, "ack"),
    "policies": ({"type": "subscribe", "topic": "a", "policy": "unheard of"}, "error"),
}

StartBroker = Callable[..., Awaitable[Broker]]


@pytest.fixture(scope="session")
def abilities(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What the broker under test can do of what is being built."""

    async def ask() -> set[str]:
        broker = Broker(tmp_path_factory.mktemp("abilities") / "broker.log", {})
        await broker.start()
        try:
            async with connect(broker.url) as socket:
                answers = {}
                for ability, (command, _) in ABILITIES.items():
                    await socket.send(json.dumps(command))
                    answers[ability] = json.loads(await socket.recv())["type"]
        finally:
            await broker.kill()
        return {ability for ability, (_, expected) in ABILITIES.items() if answers[ability] == expected}

    return asyncio.run(ask())


@pytest.fixture(autouse=True)
def needs(request: pytest.FixtureRequest) -> None:
    """Tests marked `needs("…")` wait until the broker can."""
    for mark in request.node.iter_markers("needs"):
        if mark.args[0] not in request.getfixturevalue("abilities"):
            pytest.skip(f"this broker has no {mark.args[0]} yet")


@pytest_asyncio.fixture
async def start_broker(tmp_path: Path) -> AsyncIterator[StartBroker]:
    """Starts brokers, with settings as `start_broker(RING_BUFFER_SIZE="10")`, and ends them after the test."""
    brokers: list[Broker] = []

    async def start(**settings: str) -> Broker:
        broker = Broker(tmp_path / f"broker-{len(brokers)}.log", settings)
        brokers.append(broker)
        await broker.start()
        return broker

    yield start
    for broker in brokers:
        await broker.kill()


@pytest.fixture
def quick() -> Settings:
    """Times that are short enough for a test to wait for."""
    return Settings(
        connect_timeout_s=2.0,
        heartbeat_s=0.3,
        heartbeat_timeout_s=1.0,
        backoff_min_s=0.02,
        backoff_max_s=0.2,
        close_timeout_s=0.5,
    )
