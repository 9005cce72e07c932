"""Whether what was shown is what the page says, but for what differs each time.

Times, UUIDs, epochs, keys and the numbers that a marker names may differ. One that has stood for something stands for
the same from then on, also in commands: who pastes `--since 27dde33aef33298f:7` has put in the epoch that they saw. `…`
stands for anything. How a page folds its lines does not matter.
"""

from __future__ import annotations

import re

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
EPOCH = r"\b[0-9a-f]{16}\b"
SECRET = r"\b(?:sc_)?[0-9a-f]{64}\b"
NUMBER = r"\d+(?:\.\d+)?"
WORD = r"\w+"
LOG = re.compile(rf"^{TIME} +(?:INFO|WARN|ERROR) ")
JOB = re.compile(r"^\[\d+\][+-]? ")


class Comparison:
    """For one block; what epochs and ids stand for is shared by all of the page."""

    def __init__(self, stands_for: dict[str, str], varies: list[str]) -> None:
        self.stands_for = stands_for
        self.varying: dict[str, str | None] = {}
        self.sums: list[tuple[list[str], str]] = []
        for rule in varies:
            left, _, total = rule.partition("=")
            words = [word for word in left.split() if word != "+"]
            self.varying.update(dict.fromkeys(words))
            if total:
                self.sums.append((words, total.strip()))

    def typed(self, command: str) -> str:
        for documented, real in self.stands_for.items():
            if re.fullmatch(f"{EPOCH}|{SECRET}", documented):
                command = command.replace(documented, real)
        return command

    def fits(self, documented: str, shown: str, further: bool) -> bool:
        """Whether it does; with `further`, more may come behind."""
        pattern, names = self.pattern(documented)
        text = flat(shown)
        match = re.match(pattern, text) if further else re.fullmatch(pattern, text)
        if match is None:
            return False
        found = dict(zip(names, match.groups(), strict=True))
        varying = self.varying | {name: real for name, real in found.items() if name in self.varying}
        if not self.sums_are_right(varying):
            # They stand for nothing then: the command may be typed again, and show others.
            return False
        self.varying = varying
        self.stands_for.update({name: real for name, real in found.items() if name not in varying})
        return True

    def absent(self) -> list[str]:
        """What is to vary, and was never shown: a sum with it has never been checked."""
        return [name for name, real in self.varying.items() if real is None]

    def pattern(self, documented: str) -> tuple[str, list[str]]:
        varying = [rf"(?<![\w.]){re.escape(word)}(?![\w.])" for word in self.varying]
        token = re.compile("|".join([TIME, UUID, SECRET, EPOCH, "…", *varying]))
        names: list[str] = []
        pattern, at = "", 0
        text = flat(documented)
        for found in token.finditer(text):
            pattern += re.escape(text[at : found.start()])
            at = found.end()
            word = found[0]
            known = self.varying.get(word) or self.stands_for.get(word)
            if word == "…":
                pattern += ".*?"
            elif re.fullmatch(TIME, word):
                pattern += TIME
            elif known is not None:
                pattern += re.escape(known)
            elif word in names:
                pattern += rf"(?:\{names.index(word) + 1})"
            else:
                kind = next(kind for kind in (UUID, SECRET, EPOCH, NUMBER, WORD) if re.fullmatch(kind, word))
                pattern += f"({kind})"
                names.append(word)
        return pattern + re.escape(text[at:]), names

    def sums_are_right(self, varying: dict[str, str | None]) -> bool:
        for words, total in self.sums:
            real = [varying[word] for word in words]
            if all(real) and sum(float(number) for number in real if number) != float(total):
                return False
        return True


def flat(text: str) -> str:
    """In one line; what is folded inside of JSON is put together again."""
    return re.sub(r"(?<=[,{\[:]) (?=[\"{\[])", "", " ".join(text.split()))


def together(shown: str, text: str) -> str:
    """With one line in the place of all that have `text`, and the sum of their first numbers in it."""
    lines = shown.splitlines()
    repeated = [line for line in lines if text in line]
    if not repeated:
        return shown
    total = sum(int(number[0]) for line in repeated if (number := re.search(r"\d+", line)))
    kept = [line for line in lines if text not in line or line is repeated[0]]
    return "\n".join(re.sub(r"\d+", str(total), line, count=1) if text in line else line for line in kept)


def quiet(shown: str, documented: str) -> str:
    """Without what a terminal says of jobs, and without the log of a broker behind, where the page shows none."""
    lines = [line for line in shown.splitlines() if not JOB.match(line)]
    if not LOG.search(documented):
        lines = [line for line in lines if not LOG.match(line)]
    return "\n".join(lines)
