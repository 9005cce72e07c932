"""One subscription: what its consumer sees of a topic or a pattern, whatever happens to the connections below."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Literal, Protocol, TypeAlias

from shardcast import commands
from shardcast.errors import ShardcastError
from shardcast.events import Event, Gap, Position
from shardcast.inbox import Inbox
from shardcast.patterns import is_pattern
from shardcast.settings import Settings
from shardcast.tracker import Tracker

logger = logging.getLogger("shardcast")

SubscriptionState = Literal["connecting", "live", "waiting", "ended"]
"""`connecting`: not acked on this link yet. `waiting`: its topic is not there any more, and is asked for again."""

COMMAND_BYTES_AROUND = 1024
"""What a subscribe has beside its positions: a name, spelled at its longest, and options."""

OnEvent: TypeAlias = Callable[[Event], Awaitable[object] | object]
OnGap: TypeAlias = Callable[[Gap], Awaitable[object] | object]
OnState: TypeAlias = Callable[[SubscriptionState], object]


class Owner(Protocol):
    """What a subscription needs of its client."""

    async def end_subscription(self, subscription: Subscription) -> None: ...


class Subscription:
    """An async iterator over events. Made by `Client.subscribe`."""

    def __init__(
        self,
        owner: Owner,
        name: str,
        settings: Settings,
        room: asyncio.Event,
        *,
        last: int,
        since: Position | Mapping[str, Position] | None,
        policy: str | None,
        max_rate: int | None,
        on_event: OnEvent | None,
        on_gap: OnGap | None,
        on_state: OnState | None,
    ) -> None:
        self.topic = name
        """The topic or pattern, as it was asked for."""
        self.state: SubscriptionState = "connecting"
        self._owner = owner
        self._last = last
        self._policy = policy
        self._max_rate = max_rate
        self._on_event = on_event
        self._on_gap = on_gap
        self._on_state = on_state
        self._since_given = since is not None
        self._positions_bytes_max = settings.message_bytes_max - COMMAND_BYTES_AROUND
        self._was_live = False
        self._error: ShardcastError | None = None
        self._inbox = Inbox(events_max=settings.event_queue_max, bytes_max=settings.event_queue_bytes_max, room=room)
        self._tracker = Tracker({name: since} if isinstance(since, Position) else since, last)
        self._first_answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._calls: asyncio.Task[None] | None = None
        if on_event is not None:
            self._calls = asyncio.create_task(self._call(on_event), name=f"shardcast on_event {name}")

    # For consumers.

    async def ready(self) -> None:
        """Waits until the broker has acked the subscription for the first time; raises if it refuses it."""
        await asyncio.shield(self._first_answer)

    async def unsubscribe(self) -> None:
        """Ends the subscription; what waits is thrown away. Returns when the broker has acked it, or is not there."""
        if self.state != "ended":
            self.end(None)
            self._inbox.clear()
            await self._owner.end_subscription(self)
        if self._calls is not None and self._calls is not asyncio.current_task():
            self._calls.cancel()
            await asyncio.gather(self._calls, return_exceptions=True)

    async def __aenter__(self) -> Subscription:
        try:
            await self.ready()
        except BaseException:
            await self.unsubscribe()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.unsubscribe()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        if self._on_event is not None:
            raise RuntimeError("the events of this subscription go to its on_event")
        event = await self._next()
        if event is None:
            if self._error is not None:
                raise self._error
            raise StopAsyncIteration
        return event

    # For links.

    @property
    def is_pattern(self) -> bool:
        return is_pattern(self.topic)

    @property
    def is_full(self) -> bool:
        return self._inbox.is_full

    @property
    def has_position(self) -> bool:
        """Whether a new link goes on from somewhere, rather than begins."""
        return self._was_live or self._since_given

    def command(self) -> str:
        since: Position | Mapping[str, Position] | None = None
        if self.has_position:
            since = self._tracker.position(self.topic)
            if self.is_pattern:
                since = commands.fitting(self._tracker.positions(), self._positions_bytes_max)
        return commands.subscribe(
            self.topic, last=self._last, since=since, policy=self._policy, max_rate=self._max_rate
        )

    def wish(self) -> dict[str, str]:
        """How it wants live events, as the query of a stream."""
        wish = {} if self._policy is None else {"policy": self._policy}
        if self._max_rate is not None:
            wish["max_rate"] = str(self._max_rate)
        return wish

    def position(self) -> Position | None:
        return self._tracker.position(self.topic) if self.has_position else None

    @property
    def last(self) -> int:
        return self._last

    def acked(self, ack: Mapping[str, Any]) -> None:
        resumed, recovered = self.has_position, ack.get("recovered") is not False
        if not self.is_pattern:
            self._ack_topic(self.topic, ack, recovered=recovered, resumed=resumed)
        else:
            lost = ack.get("lost") or ()
            positions = ack.get("positions") or {}
            for topic in self._tracker.positions().keys() - positions.keys() if resumed else ():
                self._tracker.resumed_without_position(topic, recovered=topic not in lost)
            for topic, at in positions.items():
                self._ack_topic(topic, at, recovered=topic not in lost, resumed=resumed)
        self._was_live = True
        if not self._first_answer.done():
            self._first_answer.set_result(None)
        self.move("live")

    def _ack_topic(self, topic: str, at: Mapping[str, Any], *, recovered: bool, resumed: bool) -> None:
        gap = self._tracker.subscribed(topic, at["epoch"], at["seq"], recovered=recovered, resumed=resumed)
        self._put_gap(gap)

    def refused(self, error: ShardcastError) -> bool:
        """The broker does not take it. True if it is worth asking again later: it was live before, and may be again."""
        may_be_again = self._was_live and error.code in ("TOPIC_NOT_FOUND", "LIMIT_EXCEEDED", "INTERNAL")
        # A node of a cluster without its log cannot say whether there is such a topic.
        if may_be_again or error.code == "UNAVAILABLE":
            self.move("waiting")
            return True
        self.end(error)
        return False

    def receive(self, frame: Mapping[str, Any], size: int) -> None:
        """An event of the wire, of a topic that this stands for."""
        topic, seq, skipped = frame["topic"], frame["seq"], frame.get("skipped", 0)
        new, gap = self._tracker.event(topic, seq, skipped)
        self._put_gap(gap)
        if new:
            message = frame["message"]
            event = Event(
                topic, message["id"], message.get("payload"), seq, self._tracker.epoch(topic), frame["ts"], skipped
            )
            self._inbox.put(event, size)

    def topic_created(self, topic: str, epoch: str) -> None:
        self._put_gap(self._tracker.created(topic, epoch))

    def topic_deleted(self, topic: str) -> bool:
        """True if it has to be asked for again."""
        if self.is_pattern:
            self._tracker.forget(topic)
            return False
        self.move("waiting")
        return True

    @property
    def is_incomplete(self) -> bool:
        return self._tracker.is_incomplete

    def settle(self) -> None:
        for gap in self._tracker.settle():
            self._put_gap(gap)

    def move(self, state: SubscriptionState) -> None:
        if self.state in (state, "ended"):
            return
        self.state = state
        if self._on_state is not None:
            try:
                self._on_state(state)
            except Exception:
                logger.exception("on_state of the subscription to %r failed", self.topic)

    def end(self, error: ShardcastError | None) -> None:
        """No more events. The consumer gets what waits, and then `error` if there is one."""
        if self.state == "ended":
            return
        self._error = error
        if not self._first_answer.done():
            self._first_answer.set_exception(error or ShardcastError("CLOSED", "the subscription has ended"))
            # Whoever does not ask is told by the iterator; asyncio need not complain as well.
            self._first_answer.exception()
        self.move("ended")
        self._inbox.wake()

    # The way to the consumer.

    def _put_gap(self, gap: Gap | None) -> None:
        if gap is not None:
            self._inbox.put(gap)

    async def _next(self) -> Event | None:
        """The next event, after the gaps in front of it; None at the end."""
        while True:
            item = self._inbox.pop()
            if isinstance(item, Event):
                return item
            if item is not None:
                await self._tell_gap(item)
            elif self.state == "ended":
                return None
            else:
                await self._inbox.wait()

    async def _tell_gap(self, gap: Gap) -> None:
        if self._on_gap is None:
            logger.warning("events lost: %s", gap)
            return
        told = self._on_gap(gap)
        if inspect.isawaitable(told):
            await told

    async def _call(self, on_event: OnEvent) -> None:
        while True:
            try:
                event = await self._next()
                if event is None:
                    break
                called = on_event(event)
                if inspect.isawaitable(called):
                    await called
            except Exception:
                # One event that its handler cannot take is no reason to withhold the next.
                logger.exception("on_event or on_gap of the subscription to %r failed", self.topic)
        if self._error is not None:
            logger.error("the subscription to %r has ended: %s", self.topic, self._error)
