"""What waits for the consumer of one subscription: events and gaps in order, bounded in events and bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace

from shardcast.events import Event, Gap


class Inbox:
    """A full inbox is for the link to respect by not reading on. Where it must read on, the oldest events make room,
    and a gap says so in their place."""

    def __init__(self, *, events_max: int, bytes_max: int, room: asyncio.Event) -> None:
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._items: deque[tuple[Event | Gap, int]] = deque()
        self._dropped: dict[tuple[str, str], Gap] = {}
        """Of what made room, for each topic and epoch; they come before everything that waits."""
        self._events = 0
        self._bytes = 0
        self._filled = asyncio.Event()
        self._room = room
        """Rung when there may be room again; all inboxes of a client share it."""

    @property
    def is_full(self) -> bool:
        return self._events >= self._events_max or self._bytes >= self._bytes_max

    def put(self, item: Event | Gap, size: int = 0) -> None:
        if isinstance(item, Event):
            while self.is_full:
                self._make_room()
            self._events += 1
            self._bytes += size
        self._items.append((item, size))
        self._filled.set()

    def pop(self) -> Event | Gap | None:
        if self._dropped:
            return self._dropped.pop(next(iter(self._dropped)))
        if not self._items:
            self._filled.clear()
            return None
        return self._popleft()

    def clear(self) -> None:
        self._items.clear()
        self._dropped.clear()
        self._events = self._bytes = 0
        self.wake()

    def wake(self) -> None:
        """Lets everybody who waits look again."""
        self._filled.set()
        self._room.set()

    async def wait(self) -> None:
        await self._filled.wait()

    def _popleft(self) -> Event | Gap:
        item, size = self._items.popleft()
        if isinstance(item, Event):
            self._events -= 1
            self._bytes -= size
            self._room.set()
        return item

    def _make_room(self) -> None:
        """Drops up to the oldest event, and with it the gaps in front of it, which become part of a longer one."""
        while True:
            item = self._popleft()
            if isinstance(item, Event):
                # What `policy` had replaced before it was not lost: it would not have come anyway.
                lost = Gap(item.topic, item.epoch, item.seq, item.seq, 1, "slow")
                self._drop(lost)
                return
            self._drop(item)

    def _drop(self, gap: Gap) -> None:
        key = (gap.topic, gap.epoch)
        before = self._dropped.pop(key, None)
        if before is not None:
            count = None if gap.count is None or before.count is None else before.count + gap.count
            last = gap.last if before.last is not None else None
            gap = replace(gap, first=before.first, last=last, count=count)
        self._dropped[key] = gap
