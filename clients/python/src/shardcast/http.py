"""HTTP/1.1 on asyncio streams. h11 does the parsing; this reads, writes and keeps the times."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import h11

from shardcast.endpoint import Endpoint
from shardcast.errors import LinkLost

READ_BYTES = 65536
ANSWER_BYTES_MAX = 1024 * 1024


class HttpConnection:
    """One connection, for one exchange after the other."""

    def __init__(self, endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._endpoint = endpoint
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)

    @classmethod
    async def connect(cls, endpoint: Endpoint, timeout_s: float) -> HttpConnection:
        opening = asyncio.open_connection(endpoint.host, endpoint.port, ssl=endpoint.ssl_context, limit=READ_BYTES)
        try:
            reader, writer = await asyncio.wait_for(opening, timeout_s)
        except asyncio.TimeoutError:
            raise LinkLost("no connection in time") from None
        except OSError as error:
            raise LinkLost(f"no connection: {error}") from error
        return cls(endpoint, reader, writer)

    async def request(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes = b""
    ) -> h11.Response:
        """Sends a request and waits for the head of its answer."""
        head = [("Host", self._endpoint.authority), ("Content-Length", str(len(body))), *headers]
        try:
            request = h11.Request(
                method=method, target=target, headers=[(name.encode(), value.encode()) for name, value in head]
            )
            data = self._http.send(request)
            data = (data or b"") + (self._http.send(h11.Data(body)) or b"") if body else data
            self._writer.write((data or b"") + (self._http.send(h11.EndOfMessage()) or b""))
            await self._writer.drain()
        except h11.LocalProtocolError as error:
            raise LinkLost(f"no such request can be sent: {error}") from error
        except OSError as error:
            raise LinkLost(f"the connection was lost: {error}") from error
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                return event

    async def data(self) -> bytes | None:
        """The next part of the answer's body, None at its end."""
        while True:
            event = await self._next()
            if isinstance(event, h11.Data):
                return bytes(event.data)
            if isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
                return None

    async def json(self) -> Any:
        """The whole body; None if it is no JSON, as where a proxy has answered."""
        body = bytearray()
        while (part := await self.data()) is not None:
            body += part
            if len(body) > ANSWER_BYTES_MAX:
                raise LinkLost("an answer without an end")
        try:
            return json.loads(body)
        except ValueError:
            return None

    def is_reusable(self) -> bool:
        """After an exchange: whether another may follow on this connection."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            return True
        return False

    def close(self) -> None:
        self._writer.transport.abort()

    async def _next(self) -> h11.Event:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(READ_BYTES))
        except h11.RemoteProtocolError as error:
            raise LinkLost(f"the answer ended early, or is not HTTP: {error}") from error
        except OSError as error:
            raise LinkLost(f"the connection was lost: {error}") from error
        if isinstance(event, h11.ConnectionClosed) and self._http.their_state is not h11.CLOSED:
            raise LinkLost("the connection was closed")
        assert not isinstance(event, type), "only NEED_DATA and PAUSED are types, and nothing is pipelined"
        return event


def retry_after_s(response: h11.Response) -> float | None:
    """`Retry-After` in seconds; the broker gives no dates."""
    for name, value in response.headers:
        if name == b"retry-after" and value.isdigit():
            return float(value)
    return None
