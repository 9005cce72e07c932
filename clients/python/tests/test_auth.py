"""Keys and tokens: shown, refused, renewed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import shardcast
from shardcast import Settings, ShardcastError
from tests.conftest import StartBroker
from tests.listener import Listener
from tests.tokens import SECRET, token

KEYS = {"AUTH_ENABLED": "true", "API_KEYS": "secret"}


@pytest.fixture
def jwt(tmp_path: Path) -> dict[str, str]:
    secret = tmp_path / "jwt-secret"
    secret.write_text(SECRET)
    return {"AUTH_ENABLED": "true", "JWT_SECRET_FILE": str(secret)}


async def test_a_key_may_be_a_value_or_be_asked_for(start_broker: StartBroker) -> None:
    broker = await start_broker(**KEYS)

    async def later() -> str:
        await asyncio.sleep(0)
        return "secret"

    for key in ("secret", lambda: "secret", later):
        async with shardcast.connect(broker.url, key=key) as client:
            assert (await client.publish("orders", 1)).seq


@pytest.mark.parametrize("transport", ["auto", "ws"])
async def test_a_wrong_key_is_final(start_broker: StartBroker, quick: Settings, transport: str) -> None:
    broker = await start_broker(**KEYS)
    states: list[str] = []
    for key, code in (("guess", "INVALID_API_KEY"),):
        with pytest.raises(ShardcastError) as refused:
            async with shardcast.connect(
                broker.url,
                key=key,
                settings=quick,
                on_state=states.append,
                transport=transport,  # type: ignore[arg-type]
            ):
                pass
        assert refused.value.code == code
    assert states == ["failed", "closed"]


async def test_no_key_where_one_is_wanted_is_final(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker(**KEYS)
    async with shardcast.connect(broker.url, settings=quick) as client:
        subscription = client.subscribe("orders")
        with pytest.raises(ShardcastError, match="UNAUTHORIZED"):
            await anext(subscription)
        with pytest.raises(ShardcastError, match="UNAUTHORIZED"):
            await client.publish("orders", 1)
        assert client.state == "failed"
        with pytest.raises(ShardcastError, match="UNAUTHORIZED"):
            client.subscribe("orders")


async def test_a_token_is_renewed_before_it_ends(
    start_broker: StartBroker, quick: Settings, jwt: dict[str, str]
) -> None:
    broker = await start_broker(**jwt)
    asked = 0

    async def fresh() -> str:
        nonlocal asked
        asked += 1
        return token(3)

    states: list[str] = []
    async with shardcast.connect(broker.url, token=fresh, settings=quick, on_state=states.append) as client:
        orders = Listener(client, "orders")
        await orders.subscription.ready()
        for n in range(12):
            await client.publish("orders", n)
            await asyncio.sleep(0.4)
        await orders.events(12)
    assert states == ["open", "closed"]
    assert asked >= 2
    assert orders.gaps == []


async def test_a_token_that_ends_is_replaced_by_a_new_link(
    start_broker: StartBroker, quick: Settings, jwt: dict[str, str]
) -> None:
    broker = await start_broker(**jwt)
    tokens = iter([token(2), *[token(60)] * 9])
    # The source gives the same token until it is too late.
    shown = next(tokens)

    def current() -> str:
        return shown

    async with shardcast.connect(broker.url, token=current, settings=quick) as client:
        orders = Listener(client, "orders")
        await orders.subscription.ready()
        while client.state == "open":
            await asyncio.sleep(0.05)
        shown = next(tokens)
        await client.publish("orders", 1)
        await orders.events(1)


async def test_a_wrong_token_is_final(start_broker: StartBroker, quick: Settings, jwt: dict[str, str]) -> None:
    broker = await start_broker(**jwt)
    asked = 0

    def wrong() -> str:
        nonlocal asked
        asked += 1
        return token(60, secret="another-secret-of-thirty-two-bytes")

    for given in (token(60, secret="another-secret-of-thirty-two-bytes"), wrong):
        with pytest.raises(ShardcastError) as refused:
            async with shardcast.connect(broker.url, token=given, settings=quick):
                pass
        assert refused.value.code == "INVALID_TOKEN"
    assert asked == 3, "a source of tokens gets a few more tries"


async def test_what_a_key_may_not_do(start_broker: StartBroker, quick: Settings, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"

    def allow(topics: str) -> None:
        digest = hashlib.sha256(b"reader-key").hexdigest()
        keys.write_text(f'[[key]]\nname = "reader"\nsha256 = "{digest}"\nsubscribe = [{topics}]\n')

    allow('"orders", "prices"')
    broker = await start_broker(AUTH_ENABLED="true", API_KEYS_FILE=str(keys))
    async with shardcast.connect(broker.url, key="reader-key", settings=quick) as client:
        with pytest.raises(ShardcastError, match="FORBIDDEN"):
            await client.publish("orders", 1)
        with pytest.raises(ShardcastError, match="FORBIDDEN"):
            await anext(client.subscribe("invoices"))
        orders, prices = client.subscribe("orders"), client.subscribe("prices")
        await orders.ready()
        await prices.ready()
        allow('"prices"')
        with pytest.raises(ShardcastError, match="FORBIDDEN"):
            await anext(orders)
        assert prices.state == "live"


async def test_a_source_of_keys_that_fails_is_asked_again(start_broker: StartBroker, quick: Settings) -> None:
    broker = await start_broker(**KEYS)
    answers: Iterator[str | Exception] = iter([OSError("no route to the vault"), "secret"])

    def ask() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with shardcast.connect(broker.url, key=ask, settings=replace(quick, open_timeout_s=5)) as client:
        assert (await client.publish("orders", 1)).seq == 1
