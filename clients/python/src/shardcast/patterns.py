"""Names of topics, and patterns that stand for several of them."""

from __future__ import annotations

from shardcast.errors import ShardcastError

NAME_BYTES_MAX = 255


def is_pattern(name: str) -> bool:
    return "*" in name or ">" in name


def matches(pattern: str, topic: str) -> bool:
    """`*` stands for one token between dots, `>` at the end for one or more."""
    wanted, tokens = pattern.split("."), topic.split(".")
    if wanted[-1] == ">":
        if len(tokens) < len(wanted):
            return False
        wanted, tokens = wanted[:-1], tokens[: len(wanted) - 1]
    return len(wanted) == len(tokens) and all(w in ("*", t) for w, t in zip(wanted, tokens, strict=True))


def check_name(name: str, *, pattern_allowed: bool) -> None:
    """Refuses here what the broker would refuse, so that a slip shows where it was made."""
    if not isinstance(name, str):
        raise TypeError(f"a topic is a string, not {type(name).__name__}")
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise ShardcastError("BAD_REQUEST", f"not valid Unicode: {name!r}") from None
    if not 1 <= length <= NAME_BYTES_MAX:
        raise ShardcastError("BAD_REQUEST", f"a topic has 1 to {NAME_BYTES_MAX} bytes, not {length}")
    # The control characters of Unicode are category Cc, which is exactly these.
    if any(char < " " or "\x7f" <= char <= "\x9f" for char in name):
        raise ShardcastError("BAD_REQUEST", f"a topic has no control characters: {name!r}")
    if not is_pattern(name):
        return
    if not pattern_allowed:
        raise ShardcastError("BAD_REQUEST", f"messages go to a topic, not to a pattern: {name!r}")
    tokens = name.split(".")
    for index, token in enumerate(tokens):
        if is_pattern(token) and token != "*" and not (token == ">" and index == len(tokens) - 1):
            raise ShardcastError("BAD_REQUEST", f"'*' is a token of its own, and '>' the last one: {name!r}")
