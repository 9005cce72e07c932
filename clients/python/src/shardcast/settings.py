"""Everything that has a limit or a time, with its default, checked once when a client is made."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Limits and times of a client. `README.md` says why the defaults are what they are."""

    open_timeout_s: float | None = 10.0
    """How long `async with connect(…)` waits for the broker; None waits for ever, 0 not at all."""
    connect_timeout_s: float = 5.0
    """For one attempt: TCP, TLS, the upgrade and the first answer."""
    close_timeout_s: float = 2.0
    """For the goodbye of the connection when the client is closed."""
    heartbeat_s: float = 15.0
    """Pause between two pings."""
    heartbeat_timeout_s: float = 10.0
    """How long a ping may stay without an answer before the link counts as dead."""
    stream_silence_s: float = 90.0
    """How long an event stream may say nothing before it counts as dead: three heartbeats of the broker."""
    backoff_min_s: float = 0.25
    backoff_max_s: float = 30.0
    """The pause before a new attempt is random, up to a ceiling that doubles from the one to the other."""
    stable_s: float = 5.0
    """How long a link has to live for the next pause to begin at `backoff_min_s` again."""
    event_queue_max: int = 1000
    event_queue_bytes_max: int = 16 * 1024 * 1024
    """What may wait for the consumer of one subscription."""
    publish_queue_max: int = 1000
    publish_queue_bytes_max: int = 8 * 1024 * 1024
    """What may wait for the broker, sent or not."""
    in_flight_max: int = 64
    """Messages sent and not yet answered; below the broker's history, so that a repeat is found there."""
    message_bytes_max: int = 65536
    """Longest command; the broker closes the connection over a longer one."""
    frame_bytes_max: int = 16 * 1024 * 1024
    """Longest message that is taken from the broker."""
    token_refresh_s: float = 30.0
    """How long before its end a token is renewed; at most a fifth of its life."""

    def __post_init__(self) -> None:
        wrong = [
            f"{field.name}={value!r}"
            for field in fields(self)
            if (value := getattr(self, field.name)) is not None
            and not (value >= 0 if field.name == "open_timeout_s" else value > 0)
        ]
        if self.backoff_max_s < self.backoff_min_s:
            wrong.append(f"backoff_max_s={self.backoff_max_s!r} below backoff_min_s={self.backoff_min_s!r}")
        if wrong:
            raise ValueError("settings must be positive: " + ", ".join(wrong))
