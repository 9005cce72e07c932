"""A real broker on a port of its own, that can be killed, frozen and started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[3]
START_S = 10


def binary() -> Path:
    given = os.environ.get("SHARDCAST_BIN")
    candidates = [Path(given)] if given else [ROOT / "target" / kind / "shardcast" for kind in ("release", "debug")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"no broker at {', '.join(map(str, candidates))}: cargo build --release, or SHARDCAST_BIN")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Broker:
    def __init__(self, log: Path, settings: dict[str, str]) -> None:
        self.port = free_port()
        self._log = log
        self._settings = {"AUTO_CREATE_TOPICS": "true", "RECONNECT_SPREAD_SEC": "0", "SHARDS": "1"} | settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def start(self) -> None:
        environment = {**os.environ, **self._settings, "HOST": "127.0.0.1", "PORT": str(self.port)}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([binary()], env=environment, stdin=subprocess.DEVNULL, stderr=log)
        deadline = asyncio.get_running_loop().time() + START_S
        while True:
            try:
                await self.call("GET", "/ready")
                return
            except OSError:
                if self._process.poll() is not None or asyncio.get_running_loop().time() > deadline:
                    raise RuntimeError(f"the broker did not start: {self._log.read_text()}") from None
                await asyncio.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def freeze(self) -> None:
        """Returns when all of its threads stand still."""
        assert self._process is not None
        self.signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self._process.pid}/task")
        # The state is the first field behind the name, which may hold anything.
        while any((task / "stat").read_text().rpartition(")")[2].split()[0] != "T" for task in tasks.iterdir()):
            await asyncio.sleep(0.001)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL: no goodbye to anybody."""
        if self._process is not None:
            self._process.kill()
            await self.ended()

    async def drain(self) -> None:
        self.signal(signal.SIGTERM)
        await self.ended()

    async def ended(self) -> None:
        assert self._process is not None
        await asyncio.to_thread(self._process.wait, 15)
        self._process = None

    async def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """A REST call; raises `urllib.error.HTTPError` for what is refused."""

        def ask() -> Any:
            data = None if body is None else json.dumps(body).encode()
            url = f"http://127.0.0.1:{self.port}{path}"
            request = urllib.request.Request(url, data, headers or {}, method=method)
            with urllib.request.urlopen(request, timeout=5) as answer:
                return json.loads(answer.read() or b"null")

        return await asyncio.to_thread(ask)

    async def messages(self, topic: str) -> list[Any]:
        """The payloads that a topic keeps."""
        answer = await self.call("GET", f"/topics/{quote(topic, safe='')}/messages")
        return [event["message"]["payload"] for event in answer["messages"]]

    async def post(self, topic: str, payloads: list[Any]) -> None:
        for start in range(0, len(payloads), 500):
            part = [{"payload": payload} for payload in payloads[start : start + 500]]
            await self.call("POST", f"/topics/{quote(topic, safe='')}/messages", part)
