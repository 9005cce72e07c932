"""Every setting and code that a page speaks of exists: a name that was changed is missed here."""

from __future__ import annotations

import re
from pathlib import Path

NAME = re.compile(r"(?<![\w$])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?!\w)")
# Of the kernel, of systemd, of the tests, and of the examples themselves.
OTHERS = re.compile(r"(TCP|SO|MSG)_.*|LISTEN_FDS|SHARDCAST_(BIN|SOAK_SECS)|BOARD_KEY")
OF_CLIENTS = {"BAD_URL", "CONNECTION_LOST", "QUEUE_FULL"}


def there_are(root: Path) -> set[str]:
    """The settings of the broker and of its subcommands, and the codes of errors."""
    of_broker = re.findall(r"^#?\s*([A-Z][A-Z0-9_]+)=", (root / ".env.example").read_text(), re.MULTILINE)
    codes = re.findall(r"^\| `([A-Z_]+)`", (root / "docs/protocol.md").read_text(), re.MULTILINE)
    of_subcommands = re.findall(r"`((?:SHARDCAST|NO)_[A-Z_]+)`", (root / "docs/settings.md").read_text())
    return OF_CLIENTS.union(of_broker, codes, of_subcommands)


def unknown(page: Path, root: Path) -> list[str]:
    names = set(NAME.findall(page.read_text())) - there_are(root)
    return [f"{page}: there is no {name}" for name in sorted(names) if not OTHERS.fullmatch(name)]
