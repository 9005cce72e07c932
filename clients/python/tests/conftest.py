from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from shardcast import Settings
from tests.broker import Broker

StartBroker = Callable[..., Awaitable[Broker]]


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
        connect_timeout_s=1.0,
        heartbeat_s=0.3,
        heartbeat_timeout_s=0.6,
        backoff_min_s=0.02,
        backoff_max_s=0.2,
        close_timeout_s=0.5,
    )
