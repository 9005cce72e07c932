"""TLS, both ways."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

import shardcast
from shardcast import Settings, ShardcastError
from tests.broker import free_port
from tests.conftest import StartBroker


async def certificate(folder: Path) -> tuple[Path, Path]:
    """As the README of the broker makes one."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    extensions = ["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"]
    making = await asyncio.create_subprocess_exec(
        *command.split(),
        *extensions,
        "-keyout",
        str(key),
        "-out",
        str(cert),
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await making.wait() == 0
    return cert, key


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_tls(start_broker: StartBroker, quick: Settings, tmp_path: Path, transport: Literal["ws", "sse"]) -> None:
    cert, key = await certificate(tmp_path)
    port = free_port()
    await start_broker(TLS_CERT=str(cert), TLS_KEY=str(key), TLS_PORT=str(port))
    url = f"wss://localhost:{port}/ws"
    trusting = ssl.create_default_context(cafile=str(cert))
    async with shardcast.connect(url, transport=transport, ssl_context=trusting, settings=quick) as client:
        async with client.subscribe("orders") as orders:
            await client.publish("orders", 1)
            assert (await anext(orders)).payload == 1
    # Nobody has said that this certificate is to be trusted.
    with pytest.raises(ShardcastError, match=r"TIMEOUT.*certificate"):
        async with shardcast.connect(url, transport=transport, settings=replace(quick, open_timeout_s=2)):
            pass
