"""What a page of Markdown asks to be run: its fenced blocks, each with the markers in front of it.

A marker is an HTML comment on a line of its own, which no reader sees:

    <!-- not run: REASON -->     this block stays as it is, and the reason is printed
    <!-- runs on -->             its last command goes on by itself; what it shows may come later
    <!-- looks again -->         its last command is typed again until it shows what it should
    <!-- file: NAME -->          the block is the content of a file, which a later command uses
    <!-- varies: 3 + 4 = 7 -->   these numbers differ each time, but their sum does not
    <!-- may repeat: TEXT -->    lines with this text count as one, with the sum of their first numbers
    <!-- before: COMMAND -->     run first, in the terminal of the block
    <!-- after: COMMAND -->      run when the block is done
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

SHELL = {"sh", "bash", "console"}
PROGRAM = {"python": "python3", "js": "node --no-warnings --experimental-websocket"}
SUFFIX = {"python": ".py", "js": ".mjs"}
# A page is a program too, but it takes a browser and someone who looks: it is a file, or a fragment.
WANTS_A_WORD = SHELL | set(PROGRAM) | {"html", "javascript", "rust"}
# What is only read. Examples are run by tests/it, with the settings behind the word.
DATA = {"example", "json", "text", "toml", "yaml"}
MARKER = re.compile(r"<!-- (not run|runs on|looks again|file|varies|may repeat|before|after)(?:: (.*))? -->")
FENCE = re.compile(r"(`{3,})(\w+)|(```)(example) \S.*")


class Misuse(Exception):
    """A page that cannot be tried as it is."""


@dataclass
class Block:
    line: int
    language: str
    text: str
    not_run: str | None = None
    runs_on: bool = False
    looks_again: bool = False
    file: str | None = None
    varies: list[str] = field(default_factory=list)
    may_repeat: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)

    @property
    def is_shell(self) -> bool:
        return self.language in SHELL


def blocks(path: Path) -> list[Block]:
    """The blocks of a page that are run, kept in a file, or excused, in order."""
    found = []
    markers: list[tuple[str, str | None]] = []
    lines = iter(enumerate(path.read_text().splitlines(), 1))
    for number, line in lines:
        if marker := MARKER.fullmatch(line.strip()):
            markers.append((marker[1], marker[2]))
            continue
        if not line.lstrip().startswith(("```", "~~~")):
            if markers and line.strip():
                raise Misuse(f"{path}:{number}: a marker stands in front of a block")
            continue
        if (fence := FENCE.fullmatch(line)) is None:
            raise Misuse(f"{path}:{number}: a block begins with ``` and its language, on the left")
        ticks, language = fence[1] or fence[3], fence[2] or fence[4]
        content = []
        for _, inner in lines:
            if inner == ticks:
                break
            content.append(inner)
        else:
            raise Misuse(f"{path}:{number}: the block has no end")
        block = Block(number, language, "\n".join(content))
        for name, value in markers:
            mark(block, name, value or "", f"{path}:{number}")
        markers = []
        if block.file or block.not_run or block.language in WANTS_A_WORD:
            if block.language not in SHELL | set(PROGRAM) and not (block.file or block.not_run):
                raise Misuse(f"{path}:{number}: a block of {block.language} is a file, or not run for a reason")
            found.append(block)
        elif block.language not in DATA:
            raise Misuse(f"{path}:{number}: {block.language} is no language of a block")
    return found


def mark(block: Block, name: str, value: str, where: str) -> None:
    if name == "runs on":
        block.runs_on = True
    elif name == "looks again":
        block.looks_again = True
    elif not value:
        raise Misuse(f"{where}: '{name}' says nothing")
    elif name == "not run":
        block.not_run = value
    elif name == "file":
        block.file = value
    elif name == "may repeat":
        block.may_repeat.append(value)
    elif name == "varies":
        block.varies.append(value)
    elif name == "before":
        block.before.append(value)
    else:
        block.after.append(value)


@dataclass
class Step:
    """What is typed, and what it then shows."""

    typed: str
    shown: str
    # Typed to the program that runs, not to the shell.
    to_program: bool = False
    interrupt: bool = False


def steps(block: Block) -> list[Step]:
    """A transcript, whose commands follow `$`, or what is pasted, line by line."""
    taken: list[Step] = []
    if block.language != "console":
        return [Step(line, "") for line in commands(block.text)]
    for line in block.text.splitlines():
        if line.startswith("$ "):
            taken.append(Step(line[2:], ""))
        elif taken and taken[-1].typed.endswith("\\") and not taken[-1].shown:
            taken[-1].typed += "\n" + line
        elif line == "^C":
            taken.append(Step("\x03", "", interrupt=True))
        elif line.startswith("> "):
            taken.append(Step(line[2:], "", to_program=True))
        elif taken:
            taken[-1].shown += line + "\n"
        else:
            raise Misuse(f"line {block.line}: a transcript begins with a command behind $")
    return taken


def commands(text: str) -> list[str]:
    """Lines as they are pasted: with those that a backslash, an open quote or a here-document goes on with."""
    whole: list[str] = []
    for line in text.splitlines():
        if whole and is_open(whole[-1]):
            whole[-1] += "\n" + line
        elif line.strip() and not line.lstrip().startswith("#"):
            whole.append(line)
    return whole


def is_open(command: str) -> bool:
    if here := re.search(r"<<-?\s*['\"]?(\w+)['\"]?", command):
        return command.splitlines()[-1] != here[1] or "\n" not in command
    quotes = re.sub(r"\\.", "", command)
    return command.endswith("\\") or quotes.count("'") % 2 == 1
