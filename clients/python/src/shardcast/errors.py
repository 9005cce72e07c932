"""What can go wrong, for callers (`ShardcastError`) and between the parts of the client (`LinkLost`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ShardcastError(Exception):
    """A refusal of the broker, or of the client itself; `code` says which.

    Codes of the broker are those of its protocol document, such as `TOPIC_NOT_FOUND`. The client's own are
    `QUEUE_FULL`, `CLOSED`, `TIMEOUT`, `TOPIC_DELETED` and, before anything is sent, `MESSAGE_TOO_LARGE`.
    """

    def __init__(self, code: str, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s


class LinkLost(Exception):
    """A connection could not be made or has ended; the supervisor decides what follows."""

    def __init__(
        self,
        reason: str,
        *,
        retry_after_s: float | None = None,
        refusal: ShardcastError | None = None,
        blocked: bool = False,
    ) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.refusal = refusal
        """Set where trying again would be refused again."""
        self.blocked = blocked
        """Set where something between here and the broker seems to forbid WebSockets."""


REFUSED_KEY_CODES = frozenset({"INVALID_API_KEY", "INVALID_TOKEN", "MISSING_API_KEY"})


def from_frame(frame: Mapping[str, Any]) -> ShardcastError:
    """The error of an `error` frame of the broker."""
    error = frame.get("error")
    error = error if isinstance(error, dict) else {}
    retry_after_ms = frame.get("retry_after_ms")
    return ShardcastError(
        str(error.get("code", "INTERNAL")),
        str(error.get("message", "")),
        retry_after_s=retry_after_ms / 1000 if isinstance(retry_after_ms, (int, float)) else None,
    )


def from_answer(status: int, body: Any, retry_after_s: float | None) -> ShardcastError:
    """The error of an HTTP answer, whose body has one of two forms, or none where a proxy wrote it."""
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        code, message = error.get("code"), error.get("message")
    elif isinstance(body, dict):
        code, message = body.get("code"), error
    else:
        code, message = None, None
    return ShardcastError(
        str(code or f"HTTP_{status}"), str(message or f"HTTP status {status}"), retry_after_s=retry_after_s
    )
