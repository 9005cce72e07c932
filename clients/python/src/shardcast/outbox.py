"""Messages on their way to the broker, in order: waiting, or sent and not yet answered. Bounded in both."""

from __future__ import annotations

import asyncio
from collections import deque

from shardcast.errors import ShardcastError
from shardcast.events import Receipt


class Entry:
    """One message. It is kept until the broker has answered it, and can be sent again as often as it takes."""

    __slots__ = ("body", "body_bytes", "future", "id", "once", "order", "topic")

    def __init__(self, topic: str, message_id: str, body: str, *, once: bool) -> None:
        self.topic = topic
        self.id = message_id
        self.body = body
        self.body_bytes = len(body.encode()) + len(topic.encode())
        self.once = once
        self.order = 0
        self.future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()

    def accepted(self, receipt: Receipt) -> None:
        if not self.future.done():
            self.future.set_result(receipt)

    def refused(self, error: ShardcastError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Outbox:
    def __init__(self, *, messages_max: int, bytes_max: int, in_flight_max: int) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._in_flight_max = in_flight_max
        self._waiting: deque[Entry] = deque()
        self._in_flight: dict[int, Entry] = {}
        self._bytes = 0
        self._orders = 0
        self.changed = asyncio.Event()
        """Set when there may be room for another message."""

    def has_room(self, entry: Entry) -> bool:
        messages = len(self._waiting) + len(self._in_flight)
        # One message alone always fits: whether it is too long is not for the queue to say.
        return messages == 0 or (messages < self._messages_max and self._bytes + entry.body_bytes <= self._bytes_max)

    def put(self, entry: Entry) -> None:
        self._orders += 1
        entry.order = self._orders
        self._bytes += entry.body_bytes
        self._waiting.append(entry)

    @property
    def has_in_flight(self) -> bool:
        return bool(self._in_flight)

    @property
    def in_flight(self) -> list[Entry]:
        return list(self._in_flight.values())

    def take(self) -> Entry | None:
        """The next message to send, if one waits and not too many are without an answer."""
        while self._waiting and len(self._in_flight) < self._in_flight_max:
            entry = self._waiting.popleft()
            if entry.future.done():
                self._let_go(entry)
                continue
            self._in_flight[entry.order] = entry
            return entry
        return None

    def answered(self, entry: Entry) -> None:
        if self._in_flight.pop(entry.order, None):
            self._let_go(entry)

    def take_back(self, entry: Entry) -> None:
        """The broker has not carried it out: it waits again, where it was in the order."""
        if self._in_flight.pop(entry.order, None):
            at = next((i for i, other in enumerate(self._waiting) if other.order > entry.order), len(self._waiting))
            self._waiting.insert(at, entry)

    def link_lost(self) -> None:
        """Nobody knows what became of what was in flight. What may be repeated waits again, in its old order."""
        for entry in self.in_flight:
            if entry.once:
                self.take_back(entry)
            else:
                reason = "the connection ended before the answer; it may have happened"
                entry.refused(ShardcastError("CONNECTION_LOST", reason))
                self.answered(entry)
        self.changed.set()

    def discard(self, entry: Entry) -> None:
        """Nobody waits for it any more. One that is in flight stays until its answer, or the end of the link."""
        if entry in self._waiting:
            self._waiting.remove(entry)
            self._let_go(entry)

    def close(self, error: ShardcastError) -> None:
        for entry in [*self._in_flight.values(), *self._waiting]:
            entry.refused(error)
        self._in_flight.clear()
        self._waiting.clear()
        self._bytes = 0
        self.changed.set()

    def _let_go(self, entry: Entry) -> None:
        self._bytes -= entry.body_bytes
        self.changed.set()
