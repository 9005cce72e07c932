"""How long to wait before the next attempt."""

from __future__ import annotations

import random


class Backoff:
    """Exponential with full jitter: a broker that comes back is not met by all clients at once."""

    def __init__(self, min_s: float, max_s: float) -> None:
        self._min_s = min_s
        self._max_s = max_s
        self._attempt = 0

    def pause_s(self, asked_s: float | None = None) -> float:
        """The next pause. What the broker has asked for wins: it has spread its clients itself."""
        # Beyond 2**32 the ceiling is the maximum, whatever it is.
        ceiling = min(self._max_s, self._min_s * 2 ** min(self._attempt, 32))
        self._attempt += 1
        return random.uniform(0, ceiling) if asked_s is None else max(0.0, asked_s)

    def reset(self) -> None:
        self._attempt = 0
