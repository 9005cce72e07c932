"""Which events are new, which are repeats, and exactly which are missing.

Pure: no clock, no socket. Each subscription has a tracker of its own, because two that share a connection see each
other's replays. A topic is followed by one mark: everything up to its `seq` has been handed on or told as a gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shardcast.events import Gap, Position


@dataclass(slots=True)
class Mark:
    epoch: str
    seq: int
    newest: int
    """Of the last ack: a replay up to here may be under way."""
    joined_at: int | None = None
    """A replay by count begins wherever the history does; what is before its first event is not lost."""
    incomplete: bool = False
    """An ack has said that something is missing; the next event of the topic says how much."""


class Tracker:
    def __init__(self, since: Mapping[str, Position] | None = None, last: int = 0) -> None:
        self._since = dict(since or {})
        self._last = last
        self._marks: dict[str, Mark] = {}

    def position(self, topic: str) -> Position | None:
        """What to send as `since`."""
        mark = self._marks.get(topic)
        return Position(mark.epoch, mark.seq) if mark else self._since.get(topic)

    def positions(self) -> dict[str, Position]:
        """The same for each topic of a pattern."""
        return self._since | {topic: Position(mark.epoch, mark.seq) for topic, mark in self._marks.items()}

    def subscribed(self, topic: str, epoch: str, newest: int, *, recovered: bool, resumed: bool) -> Gap | None:
        """An ack has come. `resumed`: its command said where to go on, so a topic without a position is a new one."""
        before = self.position(topic)
        self._since.pop(topic, None)
        if before is None:
            start = 0 if resumed else max(0, newest - self._last)
            joined_at = newest if start < newest and not resumed else None
            self._marks[topic] = Mark(epoch, start, newest, joined_at, incomplete=resumed and start < newest)
            return None
        if before.epoch != epoch:
            return self._moved(topic, before, epoch, newest)
        mark = self._marks.setdefault(topic, Mark(epoch, before.seq, newest))
        mark.newest = max(mark.newest, newest)
        mark.incomplete = not recovered and mark.seq < newest
        return None

    def resumed_without_position(self, topic: str, *, recovered: bool) -> None:
        """The ack of a pattern names what is missing, not where each topic is."""
        before = self.position(topic)
        if before is not None:
            mark = self._marks.setdefault(topic, Mark(before.epoch, before.seq, before.seq))
            mark.incomplete = not recovered

    def created(self, topic: str, epoch: str) -> Gap | None:
        """A pattern has come to match a topic; its first event is number 1."""
        before = self.position(topic)
        if before is None:
            self._marks[topic] = Mark(epoch, 0, 0)
        elif before.epoch != epoch:
            return self._moved(topic, before, epoch, 0)
        return None

    def forget(self, topic: str) -> None:
        """A topic of a pattern is deleted, and every event of it has come."""
        self._marks.pop(topic, None)
        self._since.pop(topic, None)

    def event(self, topic: str, seq: int, skipped: int = 0) -> tuple[bool, Gap | None]:
        """Whether the event is new, and what is missing in front of it."""
        mark = self._marks.get(topic)
        if mark is None:
            self._marks[topic] = Mark("", seq, seq)
            return True, None
        if seq <= mark.seq:
            return False, None
        if mark.joined_at is not None:
            mark.seq = max(mark.seq, min(seq - 1, mark.joined_at))
            mark.joined_at = None
        gap = self._missing(topic, mark, seq - 1, skipped)
        mark.seq = seq
        return True, gap

    def settle(self) -> list[Gap]:
        """No replay has come for what an ack said was missing: then nothing of it is kept."""
        told = [self._missing(topic, mark, mark.newest, 0) for topic, mark in self._marks.items() if mark.incomplete]
        return [gap for gap in told if gap]

    @property
    def is_incomplete(self) -> bool:
        return any(mark.incomplete for mark in self._marks.values())

    def epoch(self, topic: str) -> str:
        mark = self._marks.get(topic)
        return mark.epoch if mark else ""

    def _moved(self, topic: str, before: Position, epoch: str, newest: int) -> Gap:
        self._marks[topic] = Mark(epoch, 0, newest, incomplete=newest > 0)
        return Gap(topic, before.epoch, before.seq + 1, None, None, "epoch")

    def _missing(self, topic: str, mark: Mark, last: int, skipped: int) -> Gap | None:
        """What is missing up to `last`, told once."""
        first, count = mark.seq + 1, last - mark.seq - skipped
        incomplete, mark.incomplete = mark.incomplete, False
        mark.seq = max(mark.seq, last)
        if count <= 0:
            return None
        return Gap(topic, mark.epoch, first, last, count, "history" if incomplete else "slow")
