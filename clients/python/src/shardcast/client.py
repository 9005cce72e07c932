"""The client: keeps a link to the broker, and what outlives one: subscriptions and messages on their way."""

from __future__ import annotations

import asyncio
import logging
import ssl
import uuid
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Literal

from shardcast import commands
from shardcast.backoff import Backoff
from shardcast.credentials import Credentials, Secret
from shardcast.endpoint import Endpoint
from shardcast.errors import LinkLost, ShardcastError
from shardcast.event_stream_link import EventStreamLink
from shardcast.events import Position, Receipt
from shardcast.link import Link, Needs, Transport
from shardcast.outbox import Entry, Outbox
from shardcast.patterns import check_name, is_pattern
from shardcast.settings import Settings
from shardcast.subscription import OnEvent, OnGap, OnState, Subscription
from shardcast.websocket_link import WebSocketLink

logger = logging.getLogger("shardcast")

ClientState = Literal["connecting", "open", "waiting", "failed", "closed"]
"""`waiting`: for the moment of the next attempt. `failed`: given up, because the key was refused."""

MAX_RATE_MAX = 1000
# One may be a broker that was restarted in the middle of it.
BLOCKED_ATTEMPTS = 2
# A source of tokens may give one that has just ended; a key that is given once does not get better.
REFUSALS_OF_FRESH_MAX = 3
# What the frame of a command has around the message and the topic, generously.
COMMAND_BYTES_AROUND = 128


def connect(
    url: str,
    *,
    key: Secret | None = None,
    token: Secret | None = None,
    client_id: str | None = None,
    transport: Literal["auto", "ws", "sse"] = "auto",
    settings: Settings | None = None,
    ssl_context: ssl.SSLContext | None = None,
    on_state: Callable[[ClientState], object] | None = None,
) -> Client:
    """A client of the broker at `url`, for `async with`."""
    if transport not in ("auto", "ws", "sse"):
        raise ValueError(f"transport is auto, ws or sse, not {transport!r}")
    endpoint = Endpoint.parse(url, client_id=client_id, ssl_context=ssl_context)
    return Client(endpoint, Credentials(key=key, token=token), transport, settings or Settings(), on_state)


class Client:
    """Made by `connect`."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        transport: Literal["auto", "ws", "sse"],
        settings: Settings,
        on_state: Callable[[ClientState], object] | None,
    ) -> None:
        self.state: ClientState = "connecting"
        self._wanted = transport
        self._settings = settings
        self._on_state = on_state
        self._outbox = Outbox(
            messages_max=settings.publish_queue_max,
            bytes_max=settings.publish_queue_bytes_max,
            in_flight_max=settings.in_flight_max,
        )
        self._subscriptions: dict[Subscription, None] = {}
        self._room = asyncio.Event()
        self._needs = Needs(endpoint, settings, credentials, self._outbox, self._subscriptions, self._room)
        self._link: Link | None = None
        self._blocked = 0
        self._last_loss = "nothing has been tried"
        self._error: ShardcastError | None = None
        self._settled = asyncio.Event()
        """Set when the first link is open, or it is known that none will be."""
        self._supervisor: asyncio.Task[None] | None = None
        self._is_closing = False
        """Beside the cancellation of the supervisor, which a timeout may swallow: see `end_tasks`."""

    # For users.

    async def __aenter__(self) -> Client:
        if self._supervisor is not None:
            raise RuntimeError("a client is entered once; make another one")
        self._supervisor = asyncio.create_task(self._supervise(), name="shardcast client")
        try:
            await self._first_link()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def transport(self) -> Transport | None:
        """The way that is in use; None while there is no link."""
        return self._link.transport if self._link else None

    def subscribe(
        self,
        topic: str,
        *,
        last: int = 0,
        since: Position | str | Mapping[str, Position] | None = None,
        policy: Literal["latest"] | None = None,
        max_rate: int | None = None,
        on_event: OnEvent | None = None,
        on_gap: OnGap | None = None,
        on_state: OnState | None = None,
    ) -> Subscription:
        """Subscribes to a topic or a pattern: at once if there is a link, else as soon as there is one."""
        self._check_usable()
        check_name(topic, pattern_allowed=True)
        position = Position.parse(since) if isinstance(since, str) else since
        if position is not None and isinstance(position, Position) is is_pattern(topic):
            raise ValueError("since is a position for a topic, and a position of each topic for a pattern")
        if type(last) is not int or last < 0:
            raise ValueError(f"last is a number of events, not {last!r}")
        if policy not in (None, "latest"):
            raise ValueError(f"policy is 'latest' or None, not {policy!r}")
        if max_rate is not None and (type(max_rate) is not int or not 1 <= max_rate <= MAX_RATE_MAX):
            raise ValueError(f"max_rate is 1 to {MAX_RATE_MAX} events a second, not {max_rate!r}")
        subscription = Subscription(
            self,
            topic,
            self._settings,
            self._room,
            last=last,
            since=position,
            policy=policy,
            max_rate=max_rate,
            on_event=on_event,
            on_gap=on_gap,
            on_state=on_state,
        )
        self._subscriptions[subscription] = None
        if self._link is not None:
            self._link.subscribe(subscription)
        return subscription

    async def publish(
        self, topic: str, payload: Any, *, id: str | uuid.UUID | None = None, once: bool = True
    ) -> Receipt:
        """Publishes `payload`, any JSON, and waits until the broker has accepted it, over as many links as that takes.

        With `once` it is repeated under its `id` when a link ends without an answer, and is accepted once, as long as
        the topic keeps it. Without, it is sent once, and `CONNECTION_LOST` says that nobody knows what became of it.
        """
        self._check_usable()
        check_name(topic, pattern_allowed=False)
        message_id = str(uuid.uuid4()) if id is None else commands.check_id(str(id))
        entry = Entry(topic, message_id, commands.message(message_id, commands.encode(payload), once=once), once=once)
        if entry.body_bytes + COMMAND_BYTES_AROUND > self._settings.message_bytes_max:
            limit = self._settings.message_bytes_max
            raise ShardcastError("MESSAGE_TOO_LARGE", f"{entry.body_bytes} bytes; message_bytes_max is {limit}")
        await self._put(entry)
        try:
            return await entry.future
        except asyncio.CancelledError:
            self._outbox.discard(entry)
            raise

    async def close(self) -> None:
        """Ends everything: messages without an answer raise `CLOSED`, subscriptions end."""
        if self._supervisor is None or self.state == "closed":
            return
        self._is_closing = True
        self._supervisor.cancel()
        await asyncio.gather(self._supervisor, return_exceptions=True)
        self._end_all(self._error or ShardcastError("CLOSED", "the client was closed"), told=None)
        self._move("closed")

    # For subscriptions.

    async def end_subscription(self, subscription: Subscription) -> None:
        self._subscriptions.pop(subscription, None)
        self._room.set()
        if self._link is not None:
            await self._link.unsubscribe(subscription)

    # The link, over and over.

    async def _first_link(self) -> None:
        timeout_s = self._settings.open_timeout_s
        if timeout_s == 0:
            return
        try:
            await asyncio.wait_for(self._settled.wait(), timeout_s)
        except asyncio.TimeoutError:
            raise ShardcastError("TIMEOUT", f"no connection in {timeout_s} s: {self._last_loss}") from None
        self._check_usable()

    async def _supervise(self) -> None:
        try:
            error = await self._keep_link()
        except Exception as fault:
            logger.exception("a fault of the client")
            error = ShardcastError("INTERNAL", f"a fault of the client: {fault!r}")
        self._end_all(error, told=error)
        self._move("failed")
        self._settled.set()

    async def _keep_link(self) -> ShardcastError:
        """Returns when no further attempt makes sense."""
        backoff = Backoff(self._settings.backoff_min_s, self._settings.backoff_max_s)
        refusals = 0
        while True:
            self._move("connecting")
            link = self._next_link()
            lost, lived_s = await self._live_through(link)
            self._stop_if_closing()
            self._last_loss = str(lost)
            if lived_s is not None:
                refusals = 0
                if lived_s >= self._settings.stable_s:
                    backoff.reset()
            if lost.refusal is not None:
                refusals += 1
                if not self._needs.credentials.can_change or refusals >= REFUSALS_OF_FRESH_MAX:
                    return lost.refusal
            if link.transport == "ws":
                self._blocked = self._blocked + 1 if lost.blocked else 0
            if self._wanted == "auto" and self._blocked >= BLOCKED_ATTEMPTS:
                continue
            pause_s = backoff.pause_s(lost.retry_after_s)
            logger.info("no link: %s; next attempt in %.2f s", lost, pause_s)
            self._move("waiting")
            await asyncio.sleep(pause_s)

    def _next_link(self) -> Link:
        if self._wanted == "auto" and self._blocked >= BLOCKED_ATTEMPTS:
            # One attempt: then it is for a WebSocket again to show that it cannot be had.
            self._blocked = BLOCKED_ATTEMPTS - 1
            return EventStreamLink(self._needs)
        return EventStreamLink(self._needs) if self._wanted == "sse" else WebSocketLink(self._needs)

    async def _live_through(self, link: Link) -> tuple[LinkLost, float | None]:
        """How the link ended, and for how long it was open."""
        clock = asyncio.get_running_loop().time
        opened_at: float | None = None
        try:
            await link.open()
            self._stop_if_closing()
            opened_at = clock()
            self._link = link
            self._move("open")
            self._settled.set()
            await link.run()
        except LinkLost as lost:
            await link.close(politely=False)
            return lost, None if opened_at is None else clock() - opened_at
        except BaseException:
            await link.close(politely=True)
            raise
        finally:
            self._link = None
            self._outbox.link_lost()
            for subscription in self._subscriptions:
                subscription.move("connecting")

    def _stop_if_closing(self) -> None:
        if self._is_closing:
            raise asyncio.CancelledError

    # What is common to them.

    async def _put(self, entry: Entry) -> None:
        """While there is a link, a full outbox is emptied by it, and the caller waits. Without one it is refused."""
        while not self._outbox.has_room(entry):
            if self._link is None:
                raise ShardcastError("QUEUE_FULL", "too much waits for a connection to the broker")
            self._outbox.changed.clear()
            await self._outbox.changed.wait()
            self._check_usable()
        self._outbox.put(entry)
        if self._link is not None:
            self._link.publish()

    def _check_usable(self) -> None:
        if self._supervisor is None:
            raise RuntimeError("use the client inside of `async with shardcast.connect(…) as client`")
        if self._error is not None:
            # The same error is raised to many; none of them wants the tracebacks of the others.
            raise self._error.with_traceback(None)

    def _end_all(self, error: ShardcastError, *, told: ShardcastError | None) -> None:
        self._error = error
        self._outbox.close(error)
        for subscription in list(self._subscriptions):
            subscription.end(told)
        self._subscriptions.clear()
        self._room.set()

    def _move(self, state: ClientState) -> None:
        if state == self.state:
            return
        self.state = state
        if self._on_state is not None:
            try:
                self._on_state(state)
            except Exception:
                logger.exception("on_state of the client failed")
