"""Where the broker is, from one URL: that of its WebSocket, or of its HTTP root."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit

SCHEMES = {"ws": False, "http": False, "wss": True, "https": True}


@dataclass(frozen=True, slots=True)
class Endpoint:
    host: str
    port: int
    secure: bool
    root: str
    """Path that all others begin with, without a slash at its end; empty but behind some proxies."""
    client_id: str | None
    ssl_context: ssl.SSLContext | None

    @classmethod
    def parse(cls, url: str, *, client_id: str | None, ssl_context: ssl.SSLContext | None) -> Endpoint:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES or not parts.hostname:
            raise ValueError(f"a URL is ws://HOST[:PORT]/ws, wss://…, http://… or https://…, not {url!r}")
        if parts.query or parts.fragment or parts.username is not None:
            raise ValueError(f"a URL has no query, fragment or user: give client_id, key or token instead, in {url!r}")
        secure = SCHEMES[parts.scheme]
        if secure and ssl_context is None:
            ssl_context = ssl.create_default_context()
        root = parts.path.rstrip("/").removesuffix("/ws")
        port = parts.port or (443 if secure else 80)
        return cls(parts.hostname, port, secure, root, client_id, ssl_context if secure else None)

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def websocket_url(self) -> str:
        return f"{'wss' if self.secure else 'ws'}://{self.authority}{self.root}/ws{self._query({})}"

    @property
    def topics_target(self) -> str:
        return f"{self.root}/topics"

    def messages_target(self, topic: str) -> str:
        return f"{self.root}/topics/{quote(topic, safe='')}/messages"

    def events_target(self, topic: str, query: dict[str, str]) -> str:
        return f"{self.root}/topics/{quote(topic, safe='')}/events{self._query(query)}"

    def _query(self, query: dict[str, str]) -> str:
        if self.client_id is not None:
            query = {"client_id": self.client_id} | query
        return f"?{urlencode(query)}" if query else ""
