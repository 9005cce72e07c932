"""What the two ways to the broker have in common: what they are given, and what is asked of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NoReturn, Protocol

from shardcast.credentials import Credentials, Proof, lifetime_s
from shardcast.endpoint import Endpoint
from shardcast.errors import REFUSED_KEY_CODES, LinkLost, ShardcastError
from shardcast.outbox import Outbox
from shardcast.settings import Settings
from shardcast.subscription import Subscription

logger = logging.getLogger("shardcast")

SETTLE_S = 1.0
"""How long an acked subscription may show nothing of a replay before what is missing is taken for lost."""

HELD_UP_S = 10.0
"""How long a consumer may hold up a connection before the log says so: it may have been forgotten by a `break`."""

Transport = Literal["ws", "sse"]


@dataclass(frozen=True, slots=True)
class Needs:
    """What every link of a client works with; it lives as long as the client."""

    endpoint: Endpoint
    settings: Settings
    credentials: Credentials
    outbox: Outbox
    subscriptions: dict[Subscription, None]
    """In the order in which they were made."""
    room: asyncio.Event
    """Rung when an inbox may have room, or somebody has begun to wait for an answer."""

    async def proof(self) -> Proof | None:
        try:
            return await self.credentials.proof()
        except ShardcastError as error:
            raise LinkLost(f"no key or token: {error}", refusal=error) from error
        except Exception as error:
            raise LinkLost(f"the key or token could not be had: {error!r}") from error

    async def wait_for_room(self, subscription: Subscription, unless: Callable[[], bool] = lambda: False) -> None:
        """Returns when the consumer has taken something, or has gone, or `unless` says that reading must go on."""
        patience_s: float | None = HELD_UP_S
        while subscription.is_full and subscription.state == "live" and not unless():
            self.room.clear()
            try:
                await asyncio.wait_for(self.room.wait(), patience_s)
            except asyncio.TimeoutError:
                logger.warning("nobody takes the events of %r, and its connection waits", subscription.topic)
                patience_s = None

    def is_final(self, error: ShardcastError, proof: Proof | None) -> bool:
        """Whether a link that was refused like this would be refused for ever."""
        if proof is None:
            return error.code in REFUSED_KEY_CODES or error.code == "UNAUTHORIZED"
        if self.credentials.can_change and proof.token is not None and (lifetime_s(proof.token) or 1) <= 0:
            # The source has nothing fresh yet.
            return False
        return error.code in REFUSED_KEY_CODES


class Link(Protocol):
    transport: Transport

    async def open(self) -> None:
        """Connects and proves who we are; raises `LinkLost`."""

    async def run(self) -> NoReturn:
        """Works until the link is lost; raises `LinkLost`. All subscriptions of the client are asked for again."""

    def subscribe(self, subscription: Subscription) -> None: ...

    async def unsubscribe(self, subscription: Subscription) -> None: ...

    def publish(self) -> None:
        """Something waits in the outbox."""

    async def close(self, *, politely: bool) -> None: ...
