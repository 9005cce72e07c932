"""A subscription that takes everything down."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from shardcast import Client, Event, Gap, SubscriptionState


def end_of(story: Iterable[Event | Gap]) -> int:
    """The last number of a topic's story, in which each from 1 on is told exactly once, as an event or in a gap."""
    at = 0
    for item in story:
        first, last = (item.seq, item.seq) if isinstance(item, Event) else (item.first, item.last)
        assert first == at + 1, f"{item} after {at}"
        assert last is not None, f"{item} has no end"
        at = last
    return at


class Listener:
    def __init__(self, client: Client, topic: str, **options: Any) -> None:
        self.story: list[Event | Gap] = []
        """Events and gaps, in the order in which they were told."""
        self.states: list[SubscriptionState] = []
        self._grown = asyncio.Event()
        self.subscription = client.subscribe(
            topic, on_event=self._tell, on_gap=self._tell, on_state=self._moved, **options
        )

    @property
    def gaps(self) -> list[Gap]:
        return [item for item in self.story if isinstance(item, Gap)]

    @property
    def received(self) -> list[Event]:
        return [item for item in self.story if isinstance(item, Event)]

    async def events(self, count: int) -> list[Event]:
        """Waits until so many have come."""
        await self._until(lambda: len(self.received) >= count)
        return self.received

    async def seqs(self, count: int) -> list[int]:
        return [event.seq for event in await self.events(count)]

    async def payload(self, payload: Any) -> None:
        """Waits for an event with this payload."""
        await self._until(lambda: any(event.payload == payload for event in self.received))

    async def told(self, count: int) -> list[Event | Gap]:
        await self._until(lambda: len(self.story) >= count)
        return self.story

    async def reaches(self, state: SubscriptionState) -> None:
        await self._until(lambda: self.subscription.state == state)

    def assert_complete(self) -> None:
        """Within an epoch every number is told exactly once, as an event or as part of a gap, in order."""
        at: dict[tuple[str, str], int] = {}
        for item in self.story:
            key = (item.topic, item.epoch)
            if isinstance(item, Event):
                assert item.seq == at.get(key, item.seq - 1) + 1, f"{item} after {at.get(key)}"
                at[key] = item.seq
            elif item.last is not None:
                assert item.first == at.get(key, item.first - 1) + 1, f"{item} after {at.get(key)}"
                at[key] = item.last

    async def _until(self, is_so: Any) -> None:
        while not is_so():
            self._grown.clear()
            await self._grown.wait()

    def _tell(self, item: Event | Gap) -> None:
        self.story.append(item)
        self._grown.set()

    def _moved(self, state: SubscriptionState) -> None:
        self.states.append(state)
        self._grown.set()
