"""The way to the broker where WebSockets are blocked: an event stream for each subscription, a POST for each message.

A stream whose consumer has no room is not read on, like a WebSocket. There is nothing here that an answer could wait
behind: messages go over a connection of their own, one after the other, so that they keep their order.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, NoReturn

from shardcast.backoff import Backoff
from shardcast.credentials import Proof
from shardcast.errors import LinkLost, ShardcastError, from_answer, from_frame
from shardcast.event_stream import EventParser, StreamEvent
from shardcast.events import Receipt
from shardcast.http import HttpConnection, retry_after_s
from shardcast.link import SETTLE_S, Needs, Transport
from shardcast.outbox import Entry
from shardcast.subscription import Subscription
from shardcast.tasks import end_tasks

DEFAULT_PUBLISH_PAUSE_S = 1.0


class _TopicGone(Exception):
    """The stream ends because its topic has, or the right to it."""


class EventStreamLink:
    transport: Transport = "sse"

    def __init__(self, needs: Needs) -> None:
        self._needs = needs
        self._settings = needs.settings
        self._streams: dict[Subscription, asyncio.Task[None]] = {}
        self._work = asyncio.Event()
        self._posting: HttpConnection | None = None
        self._proof: Proof | None = None
        self._lost: asyncio.Future[LinkLost] = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        """Asks for something small that wants a key, so that a wrong one shows before anything is subscribed to."""
        connection = await self._connect()
        try:
            headers = await self._headers()
            target = self._needs.endpoint.topics_target
            request = connection.request("HEAD", target, headers)
            response = await asyncio.wait_for(request, self._settings.connect_timeout_s)
            if response.status_code != 200:
                # HEAD has no body, so the status has to say which key was wrong.
                code = "MISSING_API_KEY"
                if self._needs.credentials.are_given:
                    code = "INVALID_TOKEN" if self._needs.credentials.are_tokens else "INVALID_API_KEY"
                body = {"error": {"code": code, "message": "refused"}} if response.status_code == 401 else None
                raise self._refused(from_answer(response.status_code, body, retry_after_s(response)))
        except asyncio.TimeoutError:
            raise LinkLost("no answer in time") from None
        finally:
            connection.close()

    async def run(self) -> NoReturn:
        for subscription in self._needs.subscriptions:
            self.subscribe(subscription)
        self._work.set()
        publisher = asyncio.create_task(self._guarded(self._publish_all()))
        try:
            raise await self._lost
        finally:
            await end_tasks([publisher, *self._streams.values()])
            if self._posting is not None:
                self._posting.close()

    def subscribe(self, subscription: Subscription) -> None:
        self._streams[subscription] = asyncio.create_task(self._guarded(self._follow(subscription)))

    async def unsubscribe(self, subscription: Subscription) -> None:
        stream = self._streams.pop(subscription, None)
        if stream is not None:
            await end_tasks([stream])

    def publish(self) -> None:
        self._work.set()

    async def close(self, *, politely: bool) -> None:
        """HTTP has no goodbye; `run` has closed everything."""

    async def _guarded(self, work: Any) -> None:
        """What ends one stream, other than its topic, is likely to end all: the link is lost as a whole."""
        try:
            await work
        except LinkLost as lost:
            self._fail(lost)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            self._fail(LinkLost(f"this is not the protocol: {error!r}"))

    def _fail(self, lost: LinkLost) -> None:
        if not self._lost.done():
            self._lost.set_result(lost)

    async def _connect(self) -> HttpConnection:
        return await HttpConnection.connect(self._needs.endpoint, self._settings.connect_timeout_s)

    async def _headers(self) -> list[tuple[str, str]]:
        self._proof = await self._needs.proof()
        return self._proof.headers() if self._proof else []

    def _refused(self, error: ShardcastError) -> LinkLost:
        refusal = error if self._needs.is_final(error, self._proof) else None
        return LinkLost(f"refused: {error}", refusal=refusal, retry_after_s=error.retry_after_s)

    # Streams.

    async def _follow(self, subscription: Subscription) -> None:
        pause = Backoff(self._settings.backoff_min_s, self._settings.backoff_max_s)
        while subscription in self._needs.subscriptions:
            connection = await self._connect()
            try:
                if await self._begin(connection, subscription):
                    pause.reset()
                    await self._stream(connection, subscription)
            except _TopicGone:
                pass
            finally:
                connection.close()
            await asyncio.sleep(pause.pause_s())

    async def _begin(self, connection: HttpConnection, subscription: Subscription) -> bool:
        """True if the stream has begun; False if it may be asked for again, or the subscription has ended."""
        query = subscription.wish()
        position = subscription.position()
        if position is not None:
            query["since"] = str(position)
        elif subscription.last:
            query["last"] = str(subscription.last)
        target = self._needs.endpoint.events_target(subscription.topic, query)
        headers = [("Accept", "text/event-stream"), *await self._headers()]
        request = connection.request("GET", target, headers)
        try:
            response = await asyncio.wait_for(request, self._settings.connect_timeout_s)
            if response.status_code == 200:
                return True
            body = await asyncio.wait_for(connection.json(), self._settings.connect_timeout_s)
        except asyncio.TimeoutError:
            raise LinkLost("no answer in time") from None
        error = from_answer(response.status_code, body, retry_after_s(response))
        if response.status_code in (401, 429, 503) or body is None:
            raise self._refused(error)
        if not subscription.refused(error):
            self._needs.subscriptions.pop(subscription, None)
        return False

    async def _stream(self, connection: HttpConnection, subscription: Subscription) -> None:
        parser = EventParser(event_chars_max=self._settings.frame_bytes_max)
        come_back_s: float | None = None
        while True:
            try:
                data = await asyncio.wait_for(connection.data(), self._settings.stream_silence_s)
            except asyncio.TimeoutError:
                raise LinkLost("the stream is silent") from None
            if data is None:
                raise LinkLost("the stream has ended", retry_after_s=come_back_s)
            for event in parser.feed(data):
                if event.kind == "shutting_down":
                    come_back_s = json.loads(event.data).get("retry_after_ms", 0) / 1000
                elif event.kind == "message":
                    await self._deliver(subscription, event)
                else:
                    self._notice(subscription, event)

    async def _deliver(self, subscription: Subscription, event: StreamEvent) -> None:
        await self._needs.wait_for_room(subscription)
        if subscription.state == "live":
            subscription.receive(json.loads(event.data), len(event.data))

    def _notice(self, subscription: Subscription, event: StreamEvent) -> None:
        """A loss needs no word of its own: the jump behind it says more than its notice."""
        if event.kind == "ack":
            subscription.acked(json.loads(event.data))
            if subscription.is_incomplete:
                asyncio.get_running_loop().call_later(SETTLE_S, subscription.settle)
        elif event.kind == "topic_deleted":
            subscription.topic_deleted(subscription.topic)
            raise _TopicGone
        elif event.kind == "error":
            error = from_frame(json.loads(event.data))
            if error.code != "FORBIDDEN":
                raise self._refused(error)
            self._needs.subscriptions.pop(subscription, None)
            subscription.end(error)
            raise _TopicGone

    # Messages.

    async def _publish_all(self) -> None:
        outbox = self._needs.outbox
        while True:
            await self._work.wait()
            self._work.clear()
            while entry := outbox.take():
                await self._publish(entry)

    async def _publish(self, entry: Entry) -> None:
        outbox = self._needs.outbox
        status, body, wait_s = await self._post(entry)
        if status == 200:
            outbox.answered(entry)
            entry.accepted(Receipt(body["id"], body["seq"], body["matched"], body.get("duplicate", False)))
            return
        error = from_answer(status, body, wait_s)
        if error.code == "UNAVAILABLE" or status == 401:
            outbox.take_back(entry)
            raise self._refused(error)
        if status == 429:
            outbox.take_back(entry)
            await asyncio.sleep(DEFAULT_PUBLISH_PAUSE_S if wait_s is None else wait_s)
            self._work.set()
            return
        outbox.answered(entry)
        entry.refused(error)

    async def _post(self, entry: Entry) -> tuple[int, Any, float | None]:
        """Posts once; what may have happened without an answer is for the outbox to repeat."""
        if self._posting is None:
            self._posting = await self._connect()
        connection, self._posting = self._posting, None
        headers = [("Content-Type", "application/json"), *await self._headers()]
        target = self._needs.endpoint.messages_target(entry.topic)
        try:
            answer = self._exchange(connection, target, headers, entry.body.encode())
            status, body, wait_s = await asyncio.wait_for(answer, self._settings.heartbeat_timeout_s)
        except asyncio.TimeoutError:
            connection.close()
            raise LinkLost("no answer to a message") from None
        except BaseException:
            connection.close()
            raise
        if connection.is_reusable():
            self._posting = connection
        else:
            connection.close()
        return status, body, wait_s

    async def _exchange(
        self, connection: HttpConnection, target: str, headers: list[tuple[str, str]], body: bytes
    ) -> tuple[int, Any, float | None]:
        response = await connection.request("POST", target, headers, body)
        return response.status_code, await connection.json(), retry_after_s(response)
