"""Every link from a page to another, and to a place in one, leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"#{1,6} +(.*?)\s*$")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to headings."""
    names: set[str] = set()
    for line in FENCED.sub("", page.read_text()).splitlines():
        heading = HEADING.fullmatch(line)
        if heading is None:
            continue
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
        name = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        names.add(name if name not in names else f"{name}-1")
    return names


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    faults = []
    text = re.sub(r"`[^`\n]*`", "", FENCED.sub("", page.read_text()))
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        other = page.parent / path if path else page
        if not other.exists():
            faults.append(f"{page}: there is no {target}")
        elif anchor and other.suffix == ".md" and anchor not in anchors(other):
            faults.append(f"{page}: nothing in {other} is called #{anchor}")
    return faults
