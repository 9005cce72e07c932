"""The vectors that all clients share: `tests/contract/README.md` says how they are read."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

import shardcast
from shardcast import Client, Event, Gap, Position, Settings, ShardcastError, commands
from shardcast.patterns import check_name, matches
from tests.broker import ROOT

CONTRACT = ROOT / "tests" / "contract"
REQUEST_ID = re.compile(r',"request_id":"([^"]*)"}$')
QUIET_S = 0.05


def load(name: str, part: str) -> list[Any]:
    vectors: list[Any] = json.loads((CONTRACT / name).read_text())[part]
    return vectors


@pytest.mark.parametrize("vector", load("patterns.json", "vectors"), ids=lambda v: f"{v['pattern']} {v['name']}")
def test_patterns(vector: Any) -> None:
    check_name(vector["pattern"], pattern_allowed=True)
    assert matches(vector["pattern"], vector["name"]) is vector["matches"]


@pytest.mark.parametrize("name", load("patterns.json", "invalid"))
def test_names_that_are_no_pattern_and_no_topic(name: str) -> None:
    with pytest.raises(ShardcastError, match="BAD_REQUEST"):
        check_name(name, pattern_allowed=True)


@pytest.mark.parametrize("vector", load("frames.json", "commands"), ids=lambda v: v["name"])
def test_frames(vector: Any) -> None:
    call = vector["call"]
    if "subscribe" in call:
        options = options_of(call)
        frame = commands.subscribe(call["subscribe"], **options)
    elif "unsubscribe" in call:
        frame = commands.unsubscribe(call["unsubscribe"])
    elif "publish" in call:
        payload = commands.encode(call["payload"])
        frame = commands.publish(call["publish"], commands.message(call["id"], payload, once=call["once"]))
    elif "auth" in call:
        frame = commands.auth(key=call["auth"].get("key"), token=call["auth"].get("token"))
    else:
        frame = commands.ping()
    assert frame == vector["frame"]


@pytest.mark.parametrize("session", load("sessions.json", "sessions"), ids=lambda s: s["name"])
async def test_sessions(session: Any, quick: Settings) -> None:
    async with Stage() as stage:
        settings = replace(quick, open_timeout_s=0, heartbeat_s=20, connect_timeout_s=20)
        options = session.get("options", {})
        async with shardcast.connect(
            stage.url, settings=settings, transport="ws", on_state=stage.client_moved, **options
        ) as client:
            for step in session["steps"]:
                await stage.play(client, step)


def options_of(call: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if "since" in call:
        since = call["since"]
        options["since"] = (
            Position(since["epoch"], since["seq"])
            if isinstance(since.get("epoch"), str)
            else {topic: Position(at["epoch"], at["seq"]) for topic, at in since.items()}
        )
    options |= {ours: call[theirs] for theirs, ours in OPTIONS.items() if theirs in call}
    return options


OPTIONS = {"last": "last", "policy": "policy", "maxRate": "max_rate"}


class Stage:
    """A server that does what the steps say, and keeps what the caller is told."""

    def __init__(self) -> None:
        self._server: Server | None = None
        self._may_open = asyncio.Semaphore(0)
        self._opened: asyncio.Queue[ServerConnection] = asyncio.Queue()
        self._socket: ServerConnection | None = None
        self._request_ids: list[str] = []
        self._told: list[dict[str, Any]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Stage:
        self._server = await serve(self._accept, "127.0.0.1", 0, process_request=self._hold, ping_interval=None)
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # A handshake that still waits for its step would hold up the end.
        for _ in range(100):
            self._may_open.release()
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        assert self._server is not None
        (socket,) = self._server.sockets
        port = socket.getsockname()[1]
        return f"ws://127.0.0.1:{port}/ws"

    def client_moved(self, state: str) -> None:
        if state == "failed":
            self._told.append({"state": state})

    async def play(self, client: Client, step: dict[str, Any]) -> None:
        ((kind, value),) = step.items()
        if kind == "call":
            self._call(client, value)
            # What follows may be another call, and frames go out in the order of the calls.
            await asyncio.sleep(0)
        elif kind == "open":
            self._may_open.release()
            self._socket = await self._opened.get()
        elif kind == "tells":
            await self._check(value)
        else:
            assert self._socket is not None
            await self._speak(self._socket, kind, value)

    async def _speak(self, socket: ServerConnection, kind: str, value: Any) -> None:
        if kind == "client":
            text = await socket.recv()
            assert isinstance(text, str)
            found = REQUEST_ID.search(text)
            assert found
            self._request_ids.append(found.group(1))
            assert text[: found.start()] + "}" == value
        elif kind == "server":
            for mark, back in (("?2", -2), ("?", -1)):
                if f'"{mark}"' in value:
                    value = value.replace(f'"{mark}"', f'"{self._request_ids[back]}"')
            await socket.send(value)
        elif kind == "cut":
            # A reset may overtake what was sent before it, and the steps mean it to have arrived.
            await asyncio.sleep(QUIET_S)
            socket.transport.abort()
        elif kind == "close":
            await socket.close(value)
        else:
            raise AssertionError(f"unknown step {kind}")

    async def _check(self, expected: list[dict[str, Any]]) -> None:
        while len(self._told) < len(expected):
            await asyncio.sleep(0.005)
        await asyncio.sleep(QUIET_S)
        told, self._told = self._told, []
        assert [_only(left, right) for left, right in zip(told, expected, strict=True)] == expected

    def _call(self, client: Client, call: dict[str, Any]) -> None:
        work = self._consume(client, call) if "subscribe" in call else self._publish(client, call)
        self._tasks.add(asyncio.create_task(work))

    async def _publish(self, client: Client, call: dict[str, Any]) -> None:
        try:
            receipt = await client.publish(call["publish"], call["payload"], id=call["id"], once=call["once"])
        except ShardcastError as error:
            self._told.append({"refused": {"code": error.code}})
        else:
            self._told.append({"receipt": {name: getattr(receipt, name) for name in receipt.__slots__}})

    async def _consume(self, client: Client, call: dict[str, Any]) -> None:
        topic = call["subscribe"]

        def moved(state: str) -> None:
            if state == "waiting":
                self._told.append({"waiting": {"topic": topic}})

        try:
            async for event in client.subscribe(topic, on_gap=self._gap, on_state=moved, **options_of(call)):
                self._event(event)
        except ShardcastError as error:
            self._told.append({"refused": {"code": error.code}})

    def _event(self, event: Event) -> None:
        names = ("topic", "epoch", "seq", "payload", "skipped")
        self._told.append({"event": {name: getattr(event, name) for name in names}})

    def _gap(self, gap: Gap) -> None:
        names = {"from": "first", "to": "last", "lost": "count"}
        same = {name: getattr(gap, name) for name in ("topic", "epoch", "reason")}
        self._told.append({"gap": same | {theirs: getattr(gap, ours) for theirs, ours in names.items()}})

    async def _hold(self, connection: ServerConnection, request: Request) -> Response | None:
        await self._may_open.acquire()
        return None

    async def _accept(self, socket: ServerConnection) -> None:
        await self._opened.put(socket)
        await socket.wait_closed()


def _only(told: Any, expected: Any) -> Any:
    """`told`, without the keys that nobody has asked about."""
    if isinstance(told, dict) and isinstance(expected, dict):
        return {key: _only(value, expected[key]) for key, value in told.items() if key in expected}
    return told
