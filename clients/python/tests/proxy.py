"""A TCP proxy that fails on demand."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Literal


class Proxy:
    """Passes bytes on to a port until it is told to cut, to swallow, or to cut in the middle of something."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._pairs: dict[asyncio.StreamWriter, asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._swallows = False
        self._refuses = False
        self._answer_bytes_left: int | None = None
        self.blocks_websockets: Literal["no", "answer", "reset", "silence"] = "no"
        """What an upgrade meets: a page of somebody who forbids it, the end of the connection, or nothing at all."""
        self.accepted = 0
        self.port = 0

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    def cut(self) -> None:
        """Resets every connection, wherever in a frame it is."""
        for writer in list(self._writers):
            writer.transport.abort()

    def cut_after(self, answer_bytes: int) -> None:
        """Resets the connection that carries the byte after so many from the server, once."""
        self._answer_bytes_left = answer_bytes

    def swallow(self, swallows: bool = True) -> None:
        """A black hole: nothing passes, nobody is told."""
        self._swallows = swallows

    def refuse(self, refuses: bool = True) -> None:
        self._refuses = refuses

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._refuses:
            writer.transport.abort()
            return
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, upstream[1]}
        self._pairs[upstream[1]] = writer
        up = asyncio.create_task(self._pass(reader, upstream[1], answers=False))
        down = asyncio.create_task(self._pass(upstream[0], writer, answers=True))
        self._tasks |= {up, down}
        await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
        self._writers -= {writer, upstream[1]}
        writer.transport.abort()
        upstream[1].transport.abort()

    async def _block(self, upstream: asyncio.StreamWriter) -> None:
        if self.blocks_websockets == "answer":
            # The writers of both directions come in pairs; the other one leads to the client.
            self._pairs[upstream].write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\n<html>")
            await self._pairs[upstream].drain()
        elif self.blocks_websockets == "silence":
            await asyncio.sleep(3600)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        try:
            while data := await reader.read(4096):
                if self.blocks_websockets != "no" and b"Upgrade: websocket" in data:
                    await self._block(writer)
                    return
                while self._swallows:
                    await asyncio.sleep(0.01)
                left = self._answer_bytes_left if answers else None
                if left is not None and len(data) > left:
                    self._answer_bytes_left = None
                    writer.write(data[:left])
                    await writer.drain()
                    return
                if left is not None:
                    self._answer_bytes_left = left - len(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            return
