"""One WebSocket to the broker.

Three tasks: the reader hands on what comes, the writer sends commands and what waits in the outbox, the heartbeat finds
out whether anybody is there. The reader stops where the consumer of an event has no room, so that the broker, not this
process, holds what is too much; but never while somebody here waits for an answer, which may lie behind that event.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from shardcast import commands
from shardcast.backoff import Backoff
from shardcast.credentials import Proof, lifetime_s
from shardcast.errors import LinkLost, ShardcastError, from_answer, from_frame
from shardcast.events import Receipt
from shardcast.link import SETTLE_S, Needs, Transport
from shardcast.outbox import Entry
from shardcast.patterns import is_pattern, matches
from shardcast.subscription import Subscription
from shardcast.tasks import end_tasks

logger = logging.getLogger("shardcast")

Frame = Mapping[str, Any]
Answered = Callable[[Frame | None], None]
"""Given the answer to a command, or None when the link has ended without one."""

ROUTES_MAX = 10_000
CLOSE_TOO_LONG = 1009
UNAVAILABLE_PAUSE_S = 1.0
"""A log of a cluster that did not confirm a message in time is seldom back at once."""
# What an answer of the broker itself has; anything else in its place comes from something in between.
REFUSALS_OF_THE_BROKER = frozenset({401, 403, 429, 503})


class WebSocketLink:
    transport: Transport = "ws"

    def __init__(self, needs: Needs) -> None:
        self._needs = needs
        self._settings = needs.settings
        self._outbox = needs.outbox
        self._socket: ClientConnection | None = None
        self._proof: Proof | None = None
        self._request_ids = 0
        self._unanswered: dict[str, Answered] = {}
        self._awaited: set[str] = set()
        """Of these, those whose answer somebody may be waiting for."""
        self._commands: deque[str] = deque()
        self._work = asyncio.Event()
        self._live: dict[str, list[Subscription]] = {}
        self._routes: dict[str, list[Subscription]] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._recheck: asyncio.TimerHandle | None = None
        self._retry = Backoff(self._settings.backoff_min_s, self._settings.backoff_max_s)
        self._not_before = 0.0
        self._pace_s = 0.0
        self._is_draining = False
        self._come_back_at: float | None = None
        self._last_error: ShardcastError | None = None
        self._heard = 0
        self._pauses = 0
        self._is_paused = False
        self._is_broken = False

    # The life of a link.

    async def open(self) -> None:
        self._proof = await self._needs.proof()
        try:
            await asyncio.wait_for(self._open(), self._settings.connect_timeout_s)
        except asyncio.TimeoutError:
            await self.close(politely=False)
            raise LinkLost("no answer in time", blocked=True) from None

    async def _open(self) -> None:
        url = self._needs.endpoint.websocket_url
        try:
            self._socket = await connect(
                url,
                ssl=self._needs.endpoint.ssl_context,
                # Keepalive is the heartbeat's: that of the library ends a link whose consumer has no room.
                ping_interval=None,
                open_timeout=None,
                close_timeout=self._settings.close_timeout_s,
                max_size=self._settings.frame_bytes_max,
                compression=None,
            )
            if self._proof is None:
                # Some proxies let the upgrade pass, and no frame.
                await (await self._socket.ping())
            else:
                await self._authenticate(self._socket, self._proof)
        except InvalidStatus as error:
            raise self._refused_upgrade(error) from error
        except InvalidHandshake as error:
            raise LinkLost(f"no WebSocket: {error}", blocked=True) from error
        except ConnectionClosed as error:
            raise self._lost(error) from error
        except OSError as error:
            raise LinkLost(f"no connection: {error}") from error
        except ValueError as error:
            raise LinkLost(f"this is not the protocol: {error!r}", blocked=True) from error

    async def _authenticate(self, socket: ClientConnection, proof: Proof) -> None:
        command = commands.auth(key=proof.key, token=proof.token)
        await socket.send(commands.with_request_id(command, self._next_request_id()))
        while True:
            frame = _decode(await socket.recv())
            if frame.get("type") == "ack":
                return
            if frame.get("type") == "error":
                error = from_frame(frame)
                refusal = error if self._needs.is_final(error, self._proof) else None
                raise LinkLost(f"refused: {error}", refusal=refusal, retry_after_s=error.retry_after_s)
            self._hear_info(frame)

    def _refused_upgrade(self, error: InvalidStatus) -> LinkLost:
        response = error.response
        try:
            body = json.loads(response.body or b"")
        except ValueError:
            body = None
        wait = response.headers.get("Retry-After", "")
        retry_after_s = float(wait) if wait.isascii() and wait.isdigit() else None
        refusal = from_answer(response.status_code, body, retry_after_s)
        is_of_the_broker = isinstance(body, dict) and response.status_code in REFUSALS_OF_THE_BROKER
        return LinkLost(
            f"upgrade refused: {refusal}",
            retry_after_s=retry_after_s,
            refusal=refusal if is_of_the_broker and self._needs.is_final(refusal, self._proof) else None,
            blocked=not is_of_the_broker,
        )

    async def run(self) -> NoReturn:
        for subscription in self._needs.subscriptions:
            self.subscribe(subscription)
        self._work.set()
        jobs = [self._read(), self._write(), self._beat(), self._renew_token()]
        tasks = [asyncio.create_task(job) for job in jobs]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            failed = next(task for task in done if task.exception())
            raise failed.exception() or AssertionError("unreachable: it has failed")
        finally:
            await end_tasks(tasks)
            for timer in self._timers:
                timer.cancel()
            unanswered, self._unanswered = self._unanswered, {}
            for answered in unanswered.values():
                answered(None)

    async def close(self, *, politely: bool) -> None:
        if self._socket is None:
            return
        if politely:
            await self._socket.close()
        # A goodbye to a link that is dead would wait for its answer.
        self._socket.transport.abort()

    @property
    def _open_socket(self) -> ClientConnection:
        if self._socket is None:
            raise RuntimeError("run follows open")
        return self._socket

    def _lost(self, closed: ConnectionClosed) -> LinkLost:
        code = closed.rcvd.code if closed.rcvd is not None else None
        if code == CLOSE_TOO_LONG and self._outbox.in_flight:
            # It does not say which. The longest is one of those, and each repeat of it would end the link again.
            longest = max(self._outbox.in_flight, key=lambda entry: entry.body_bytes)
            self._outbox.answered(longest)
            longest.refused(ShardcastError("MESSAGE_TOO_LARGE", "longer than the broker's MAX_MESSAGE_SIZE"))
        error = self._last_error
        refusal = error if error is not None and self._needs.is_final(error, self._proof) else None
        wait = None
        if self._come_back_at is not None:
            wait = max(0.0, self._come_back_at - asyncio.get_running_loop().time())
        return LinkLost(f"{closed}{f' ({error})' if error else ''}", refusal=refusal, retry_after_s=wait)

    # What is asked of it.

    def subscribe(self, subscription: Subscription) -> None:
        answered = partial(self._subscribed, subscription)
        self._ask(subscription.command(), answered, awaited=not subscription.has_position)

    async def unsubscribe(self, subscription: Subscription) -> None:
        self._leave(subscription)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unsubscribe(subscription.topic, done)
        await done

    def _unsubscribe(self, topic: str, done: asyncio.Future[None]) -> None:
        def answered(frame: Frame | None) -> None:
            wait_s = from_frame(frame).retry_after_s if frame else None
            if wait_s is not None:
                self._slow_down(wait_s)
                self._unsubscribe(topic, done)
            elif not done.done():
                done.set_result(None)

        # Another subscription to the topic, which may have come meanwhile, still wants its events.
        if any(other.topic == topic for other in self._needs.subscriptions):
            answered(None)
        else:
            self._ask(commands.unsubscribe(topic), answered, awaited=True)

    def publish(self) -> None:
        self._work.set()

    def _ask(self, command: str, answered: Answered, *, awaited: bool) -> None:
        request_id = self._expect(answered, awaited=awaited)
        self._commands.append(commands.with_request_id(command, request_id))
        self._work.set()

    def _expect(self, answered: Answered, *, awaited: bool) -> str:
        request_id = self._next_request_id()
        self._unanswered[request_id] = answered
        if awaited:
            self._awaited.add(request_id)
        return request_id

    def _next_request_id(self) -> str:
        self._request_ids += 1
        return str(self._request_ids)

    def _later(self, delay_s: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        def run() -> None:
            self._timers.discard(timer)
            call()

        timer = asyncio.get_running_loop().call_later(delay_s, run)
        self._timers.add(timer)
        return timer

    # Writing.

    async def _write(self) -> None:
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                while text := self._next_text():
                    self._needs.room.set()
                    await self._open_socket.send(text)
                    if self._pace_s:
                        self._hold(self._pace_s)
        except ConnectionClosed:
            # The reader tells it, behind what has still come.
            self._is_broken = True
            self._needs.room.set()

    def _next_text(self) -> str | None:
        if asyncio.get_running_loop().time() < self._not_before:
            return None
        if self._commands:
            return self._commands.popleft()
        entry = None if self._is_draining else self._outbox.take()
        if entry is None:
            return None
        request_id = self._expect(partial(self._published, entry), awaited=True)
        return commands.with_request_id(commands.publish(entry.topic, entry.body), request_id)

    def _slow_down(self, retry_after_s: float) -> None:
        """Keeps to the rate that a refusal shows, for the rest of this link: a link that goes on above it is ended."""
        self._pace_s = max(self._pace_s, retry_after_s)
        self._hold(retry_after_s)

    def _hold(self, pause_s: float) -> None:
        self._not_before = asyncio.get_running_loop().time() + pause_s
        # A timer may be early by the resolution of its clock.
        self._later(pause_s + 0.001, self._work.set)

    # Reading.

    async def _read(self) -> None:
        while True:
            try:
                text = await self._open_socket.recv()
            except ConnectionClosed as error:
                raise self._lost(error) from error
            self._heard += 1
            try:
                frame = _decode(text)
                if frame.get("type") == "event":
                    await self._deliver(frame, len(text))
                else:
                    self._hear(frame)
            except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
                raise LinkLost(f"this is not the protocol: {error!r} in {text[:200]!r}") from error

    def _hear(self, frame: Frame) -> None:
        kind, request_id = frame.get("type"), frame.get("request_id")
        if kind in ("ack", "pong", "error") and request_id in self._unanswered:
            self._awaited.discard(request_id)
            self._unanswered.pop(request_id)(frame)
        elif kind == "error":
            self._hear_error(from_frame(frame))
        elif kind == "info":
            self._hear_info(frame)

    def _hear_error(self, error: ShardcastError) -> None:
        if error.code == "SLOW_CONSUMER":
            self._recheck_later()
        elif error.code == "FORBIDDEN":
            # A right was withdrawn. The text is all that says of which topic.
            for subscription in list(self._needs.subscriptions):
                if error.message.endswith(f"'{subscription.topic}'"):
                    self._leave(subscription)
                    self._needs.subscriptions.pop(subscription)
                    subscription.end(error)
        else:
            self._last_error = error

    def _hear_info(self, frame: Frame) -> None:
        said, topic = frame.get("msg"), frame.get("topic", "")
        if said == "shutting_down":
            self._is_draining = True
            self._come_back_at = asyncio.get_running_loop().time() + frame.get("retry_after_ms", 0) / 1000
        elif said == "topic_created":
            for subscription in self._route(topic):
                if subscription.is_pattern:
                    subscription.topic_created(topic, frame["epoch"])
        elif said == "topic_deleted":
            for subscription in list(self._route(topic)):
                if subscription.topic_deleted(topic):
                    self._leave(subscription)
                    self._later(self._retry.pause_s(), partial(self._subscribe_again, subscription))

    async def _deliver(self, frame: Frame, size: int) -> None:
        for subscription in self._route(frame["topic"]):
            if subscription.is_full:
                await self._wait_for_room(subscription)
            if subscription.state == "live":
                subscription.receive(frame, size)

    async def _wait_for_room(self, subscription: Subscription) -> None:
        self._is_paused = True
        self._pauses += 1
        try:
            await self._needs.wait_for_room(subscription, unless=lambda: self._is_broken or bool(self._awaited))
        finally:
            self._is_paused = False
        if self._is_broken and subscription.is_full:
            # To read what is left would drop events that the next link can have again.
            raise LinkLost("it was lost while a consumer had no room")

    def _route(self, topic: str) -> list[Subscription]:
        route = self._routes.get(topic)
        if route is None:
            route = list(self._live.get(topic, ()))
            for name, subscriptions in self._live.items():
                if is_pattern(name) and matches(name, topic):
                    route.extend(subscriptions)
            if len(self._routes) >= ROUTES_MAX:
                self._routes.clear()
            self._routes[topic] = route
        return route

    def _leave(self, subscription: Subscription) -> None:
        remaining = [other for other in self._live.pop(subscription.topic, ()) if other is not subscription]
        if remaining:
            self._live[subscription.topic] = remaining
        self._routes.clear()

    # Answers.

    def _subscribed(self, subscription: Subscription, frame: Frame | None) -> None:
        if frame is None or subscription not in self._needs.subscriptions:
            return
        if frame["type"] == "error":
            self._subscribe_refused(subscription, from_frame(frame))
            return
        subscription.acked(frame)
        self._retry.reset()
        live = self._live.setdefault(subscription.topic, [])
        if subscription not in live:
            live.append(subscription)
            self._routes.clear()
        if subscription.is_incomplete:
            self._later(SETTLE_S, subscription.settle)

    def _subscribe_refused(self, subscription: Subscription, error: ShardcastError) -> None:
        if error.code == "UNAUTHORIZED":
            # The connection ends for it; without a key that is for good.
            self._last_error = error
        elif error.code == "UNAVAILABLE" and self._is_draining:
            pass  # The next connection asks for all of them.
        elif error.retry_after_s is not None:
            self._slow_down(error.retry_after_s)
            self._subscribe_again(subscription)
        elif subscription.refused(error):
            self._later(self._retry.pause_s(), partial(self._subscribe_again, subscription))
        else:
            self._needs.subscriptions.pop(subscription, None)

    def _subscribe_again(self, subscription: Subscription) -> None:
        if subscription in self._needs.subscriptions:
            self.subscribe(subscription)

    def _published(self, entry: Entry, frame: Frame | None) -> None:
        if frame is None:
            return
        if frame["type"] == "ack":
            self._outbox.answered(entry)
            entry.accepted(Receipt(entry.id, frame["seq"], frame["matched"], frame.get("duplicate", False)))
        else:
            self._publish_refused(entry, from_frame(frame))
        self._work.set()

    def _publish_refused(self, entry: Entry, error: ShardcastError) -> None:
        if error.code == "UNAVAILABLE" and (self._is_draining or entry.once):
            # A broker that shuts down has done nothing. A node of a cluster may have, and stays.
            self._outbox.take_back(entry)
            self._hold(UNAVAILABLE_PAUSE_S)
        elif error.code == "UNAUTHORIZED":
            self._last_error = error
            self._outbox.take_back(entry)
        elif error.retry_after_s is not None:
            self._slow_down(error.retry_after_s)
            self._outbox.take_back(entry)
        else:
            self._outbox.answered(entry)
            entry.refused(error)

    # Losses of which no later event tells.

    def _recheck_later(self) -> None:
        # The newest event of a topic may be among the dropped, and then nothing shows it until the next one comes. When
        # the notices have stopped, each topic is asked for from where it is: what is kept of the rest comes then.
        if self._recheck is not None:
            self._recheck.cancel()
            self._timers.discard(self._recheck)
        self._recheck = self._later(SETTLE_S, self._recheck_now)

    def _recheck_now(self) -> None:
        self._recheck = None
        if self._is_paused:
            self._recheck_later()
            return
        for subscriptions in list(self._live.values()):
            for subscription in subscriptions:
                self.subscribe(subscription)

    # Heartbeat.

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._settings.heartbeat_s)
            try:
                await asyncio.wait_for(self._ping(), self._settings.heartbeat_timeout_s)
            except asyncio.TimeoutError:
                raise LinkLost("no answer to a ping") from None
            except ConnectionClosed:
                return

    async def _ping(self) -> None:
        """Returns when it is known that the broker is there, or that this cannot be known."""
        socket, heard, pauses = self._open_socket, self._heard, self._pauses
        if self._is_paused:
            # Its pong would lie behind what is not read. But it wants to hear from us.
            await socket.pong()
            return
        pong = asyncio.ensure_future(await socket.ping())
        while not pong.done():
            await asyncio.wait([pong], timeout=self._settings.heartbeat_timeout_s / 4)
            if self._heard != heard or self._pauses != pauses:
                return
        # A pong that will not come any more is an exception nobody else would look at.
        await pong

    # Tokens.

    async def _renew_token(self) -> None:
        """Sends a fresh token before the one in use ends, so that the connection does not."""
        credentials = self._needs.credentials
        if not (credentials.are_tokens and credentials.can_change):
            return
        pause = Backoff(1.0, self._settings.backoff_max_s)
        token = self._proof.token if self._proof else None
        while token and (left_s := lifetime_s(token)) is not None:
            early_s = min(self._settings.token_refresh_s, left_s / 5)
            await asyncio.sleep(max(0.0, left_s - early_s))
            fresh = await self._fresh_token(token)
            if fresh is None:
                await asyncio.sleep(pause.pause_s())
            else:
                token = fresh
                pause.reset()

    async def _fresh_token(self, old: str) -> str | None:
        try:
            proof = await self._needs.credentials.proof()
        except Exception as error:
            logger.warning("no fresh token: %r", error)
            return None
        if proof is None or proof.token is None or proof.token == old:
            return None
        answer: asyncio.Future[Frame | None] = asyncio.get_running_loop().create_future()
        self._ask(commands.auth(key=None, token=proof.token), answer.set_result, awaited=True)
        frame = await answer
        if frame is None or frame["type"] == "error":
            logger.warning("the fresh token was refused: %s", frame and from_frame(frame))
            return None
        return proof.token


def _decode(text: str | bytes) -> Frame:
    frame = json.loads(text)
    if not isinstance(frame, dict):
        raise ValueError("not an object")
    return frame
