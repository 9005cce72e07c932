"""The format of Server-Sent Events, as the HTML standard has it (section 9.2). Pure."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

LINE_END = re.compile("\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class StreamEvent:
    kind: str
    data: str
    id: str | None


class EventParser:
    """Bytes in, events out. A CR at the end of the bytes waits for what follows: it may be half of a CRLF."""

    def __init__(self, *, event_chars_max: int) -> None:
        self._event_chars_max = event_chars_max
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._rest = ""
        self._kind = ""
        self._data: list[str] = []
        self._chars = 0
        self._id: str | None = None

    def feed(self, data: bytes) -> list[StreamEvent]:
        text = self._rest + self._decoder.decode(data)
        events = []
        at = 0
        for end in LINE_END.finditer(text):
            if end.group() == "\r" and end.end() == len(text):
                break
            event = self._line(text[at : end.start()])
            at = end.end()
            if event is not None:
                events.append(event)
        self._rest = text[at:]
        if self._chars + len(self._rest) > self._event_chars_max:
            raise ValueError("an event without an end")
        return events

    def _line(self, line: str) -> StreamEvent | None:
        if not line:
            return self._end()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        self._chars += len(line)
        if name == "event":
            self._kind = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        return None

    def _end(self) -> StreamEvent | None:
        kind, data = self._kind or "message", self._data
        self._kind, self._data, self._chars = "", [], 0
        return StreamEvent(kind, "\n".join(data), self._id) if data else None
