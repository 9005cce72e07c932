"""The key or token of a client, and when a token has to be renewed."""

from __future__ import annotations

import base64
import binascii
import inspect
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Secret = str | Callable[[], str | Awaitable[str]]
"""A value, or what gives one whenever one is needed; it may be async."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What is shown to the broker: exactly one of the two."""

    key: str | None = None
    token: str | None = None

    def headers(self) -> list[tuple[str, str]]:
        if self.key is not None:
            return [("X-API-Key", self.key)]
        return [("Authorization", f"Bearer {self.token}")]

    def __repr__(self) -> str:
        # Dataclasses show their fields, and this may end up in a log.
        return "Proof(key=…)" if self.key is not None else "Proof(token=…)"


class Credentials:
    def __init__(self, *, key: Secret | None, token: Secret | None) -> None:
        if key is not None and token is not None:
            raise ValueError("give a key or a token, not both")
        self._key = key
        self._token = token

    @property
    def are_given(self) -> bool:
        return self._key is not None or self._token is not None

    @property
    def can_change(self) -> bool:
        """Whether asking again may give another one."""
        return callable(self._key) or callable(self._token)

    @property
    def are_tokens(self) -> bool:
        return self._token is not None

    async def proof(self) -> Proof | None:
        if self._key is not None:
            return Proof(key=await _value(self._key))
        if self._token is not None:
            return Proof(token=await _value(self._token))
        return None


async def _value(secret: Secret) -> str:
    if isinstance(secret, str):
        return secret
    value = secret()
    return await value if inspect.isawaitable(value) else value


def lifetime_s(token: str) -> float | None:
    """For how long a JWT is still good; None if it does not say. Not verified: that is for the broker."""
    try:
        claims = token.split(".")[1]
        expires = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"]
        return float(expires) - time.time()
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return None
