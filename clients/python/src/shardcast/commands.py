"""Commands as the broker reads them: compact JSON, keys in the order of the protocol, `request_id` last."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from shardcast.errors import ShardcastError
from shardcast.events import Position
from shardcast.patterns import is_pattern


def encode(value: Any) -> str:
    """JSON of a command or a payload."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ShardcastError("BAD_REQUEST", f"not JSON: {error}") from None
    return text


def with_request_id(command: str, request_id: str) -> str:
    """`command` with `request_id`, which must be plain ASCII."""
    return f'{command[:-1]},"request_id":"{request_id}"}}'


def auth(*, key: str | None, token: str | None) -> str:
    return encode({"type": "auth", "api_key": key} if key is not None else {"type": "auth", "token": token})


def subscribe(
    name: str,
    *,
    last: int = 0,
    since: Position | Mapping[str, Position] | None = None,
    policy: str | None = None,
    max_rate: int | None = None,
) -> str:
    command: dict[str, Any] = {"type": "subscribe", "topic": name}
    if isinstance(since, Position):
        command["since"] = {"epoch": since.epoch, "seq": since.seq}
    elif since is not None:
        command["positions"] = {topic: {"epoch": at.epoch, "seq": at.seq} for topic, at in since.items()}
    else:
        if last:
            command["last_n"] = last
        if is_pattern(name):
            command["positions"] = True
    if policy is not None:
        command["policy"] = policy
    if max_rate is not None:
        command["max_rate"] = max_rate
    return encode(command)


def fitting(positions: Mapping[str, Position], bytes_max: int) -> dict[str, Position]:
    """As many positions as go into one command.

    The rest are topics that the broker takes for new to us: it replays all that it keeps of them, and what we have seen
    of that is known here.
    """
    chosen = {}
    for topic, at in positions.items():
        bytes_max -= len(encode({topic: {"epoch": at.epoch, "seq": at.seq}}).encode())
        if bytes_max < 0:
            break
        chosen[topic] = at
    return chosen


def unsubscribe(name: str) -> str:
    return encode({"type": "unsubscribe", "topic": name})


def ping() -> str:
    return encode({"type": "ping"})


def message(message_id: str, payload: str, *, once: bool) -> str:
    """The message of a publish, and the whole body of one over HTTP. `payload` is JSON already."""
    once_field = ',"once":true' if once else ""
    return f'{{"id":"{message_id}","payload":{payload}{once_field}}}'


def publish(topic: str, body: str) -> str:
    return f'{{"type":"publish","topic":{encode(topic)},"message":{body}}}'


def check_id(message_id: str) -> str:
    """The broker takes every usual spelling of a UUID and delivers it as it was spelled."""
    try:
        uuid.UUID(message_id)
    except (ValueError, AttributeError, TypeError):
        raise ShardcastError("BAD_REQUEST", f"an id is a UUID, not {message_id!r}") from None
    return message_id
