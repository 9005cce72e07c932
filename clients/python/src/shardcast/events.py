"""What users are given: events, gaps, receipts, and positions to come back to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

GapReason = Literal["slow", "history", "epoch"]


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a topic: behind the message `seq` of its `epoch`. Its text is `EPOCH:SEQ`."""

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Position:
        epoch, colon, seq = text.rpartition(":")
        if not (colon and epoch and seq.isascii() and seq.isdigit()):
            raise ValueError(f"a position is EPOCH:SEQ, not {text!r}")
        return cls(epoch, int(seq))


@dataclass(frozen=True, slots=True)
class Event:
    """One message of a topic."""

    topic: str
    id: str
    payload: Any
    seq: int
    epoch: str
    ts: str
    """When the broker accepted it: RFC 3339, UTC, milliseconds."""
    skipped: int = 0
    """Events that this one stands for, where `policy` or `max_rate` was asked for."""

    @property
    def position(self) -> Position:
        """Give it as `since` to go on behind this event."""
        return Position(self.epoch, self.seq)


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages that this subscription will never see: `first` to `last` of `topic`, both included."""

    topic: str
    epoch: str
    first: int
    last: int | None
    """None where `reason` is `epoch`: nobody knows what followed in the old epoch."""
    count: int | None
    """How many of the range are lost: fewer than all only where `policy` had some replaced on purpose."""
    reason: GapReason
    """`slow`: the consumer or its network was. `history`: it does not reach back that far. `epoch`: the topic is
    another one than it was, because it was created again or the broker has forgotten it; its events start from 1."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the broker says of a message that it has accepted."""

    id: str
    seq: int
    matched: int
    """Subscribers that it was offered to."""
    duplicate: bool
    """It had been accepted before, and `seq` is of that time; only for messages sent with `once`."""
