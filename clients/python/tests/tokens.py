"""JSON Web Tokens by HS256, as the broker takes them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

SECRET = "a-secret-of-at-least-thirty-two-bytes"


def token(lifetime_s: float, *, secret: str = SECRET, **claims: Any) -> str:
    claims = {"sub": "test", "subscribe": [">"], "publish": [">"], "manage": [">"]} | claims
    claims["exp"] = int(time.time() + lifetime_s)
    parts = [_encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signature = hmac.new(secret.encode(), ".".join(parts).encode(), hashlib.sha256).digest()
    return ".".join([*parts, _encoded(signature)])


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
