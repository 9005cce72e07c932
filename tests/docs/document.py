"""One page, tried from its first block to its last, as a reader with a few terminals would."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compare import Comparison, quiet, together
from page import PROGRAM, SUFFIX, Block, Misuse, Step, blocks, steps
from terminal import Terminal

# For a command that ends by itself: an installation is the longest.
COMMAND_SECS = 60
# For what a command that runs on still has to show when the page is at its end.
LATE_SECS = 15
# In this time ^C is pressed so often.
TIMES_PRESSED = 5
# What a reader who looks at what they have started lets pass.
LOOK_SECS = 1.0
# For what a command that has ended left in the background.
AFTERWARDS_SECS = 10.0


class Failure(Exception):
    pass


@dataclass
class Pending:
    """A command that runs on, and what it is still to show."""

    block: Block
    step: Step
    terminal: Terminal
    comparison: Comparison


class Document:
    def __init__(self, path: Path, directory: Path, environment: dict[str, str]) -> None:
        self.path = path
        self.directory = directory
        self.environment = environment
        self.stands_for: dict[str, str] = {}
        self.comparison = Comparison(self.stands_for, [])
        self.terminals: list[Terminal] = []
        self.pending: list[Pending] = []
        self.comparisons: list[tuple[Block, Comparison]] = []
        self.ran = 0
        self.excused: list[tuple[int, str]] = []

    def run(self) -> None:
        everything = blocks(self.path)
        text = self.path.read_text()
        for block in everything:
            try:
                self.take(block, text)
            except (Failure, Misuse) as failure:
                raise Failure(f"{self.path}:{block.line}: {failure}") from failure
        for pending in self.pending:
            self.at_the_end(pending)
        # Only now: what runs on may have shown it late.
        for block, comparison in self.comparisons:
            if absent := comparison.absent():
                raise Failure(f"{self.path}:{block.line}: varies, and is nowhere: {', '.join(absent)}")

    def take(self, block: Block, text: str) -> None:
        if block.not_run is not None:
            self.excused.append((block.line, block.not_run))
            self.check_what_is_not_run(block)
            return
        self.comparison = Comparison(self.stands_for, block.varies)
        self.comparisons.append((block, self.comparison))
        terminal = self.free_terminal()
        for command in block.before:
            self.hidden(terminal, command)
        if block.file is not None:
            if text.count(Path(block.file).name) < 2:
                raise Failure(f"nothing uses the file {block.file}")
            (self.directory / block.file).write_text(block.text + "\n")
        elif block.is_shell:
            self.transcript(block, terminal)
        else:
            program = self.directory / f".block-{block.line}{SUFFIX[block.language]}"
            program.write_text(block.text + "\n")
            step = Step(f"{PROGRAM[block.language]} {program.name}", "")
            self.command(block, step, terminal, after=None)
        for command in block.after:
            self.hidden(self.free_terminal(), command)
        self.ran += 1

    def transcript(self, block: Block, terminal: Terminal) -> None:
        typed = steps(block)
        if not typed:
            raise Failure("there is no command")
        for step, after in zip(typed, [*typed[1:], None], strict=True):
            if step.interrupt:
                if terminal.ended:
                    raise Failure("^C interrupts nothing")
                if self.pending and self.pending[-1].terminal is terminal:
                    self.at_the_end(self.pending.pop())
                # One that comes before the command has begun is lost, and a reader would press it again.
                for _ in range(TIMES_PRESSED):
                    terminal.type(step.typed)
                    if terminal.wait_for_prompt(LATE_SECS / TIMES_PRESSED):
                        break
                else:
                    raise Failure("^C does not end it")
            elif step.to_program:
                terminal.type(step.typed)
                self.expect(step, terminal, ends=False)
            else:
                self.command(block, step, terminal, after)

    def command(self, block: Block, step: Step, terminal: Terminal, after: Step | None) -> None:
        step.typed = self.comparison.typed(step.typed)
        is_last = after is None
        interrupted = after is not None and after.interrupt
        terminal.type(step.typed)
        if (block.runs_on and is_last) or interrupted:
            self.pending.append(Pending(block, step, terminal, self.comparison))
            terminal.settle(LOOK_SECS)
            self.still_runs(step, terminal)
        elif after is not None and after.to_program:
            self.expect(step, terminal, ends=False)
        else:
            self.expect(step, terminal, ends=True, again=block.looks_again and is_last, repeats=block.may_repeat)
            if step.typed.rstrip().endswith("&"):
                terminal.settle(LOOK_SECS)
            if terminal.code != 0 and not step.shown:
                raise Failure(f"{step.typed!r} ended with {terminal.code}: {terminal.text.strip()}")

    def expect(
        self, step: Step, terminal: Terminal, ends: bool, again: bool = False, repeats: Sequence[str] = ()
    ) -> None:
        """Waits until the command has shown what it is to show, and has ended if it is to end."""
        deadline = time.monotonic() + COMMAND_SECS
        came_late = False
        while True:
            shown = quiet(terminal.text, step.shown).replace("> ", "")
            for repeated in repeats:
                shown = together(shown, repeated)
            if step.to_program:
                # A line editor echoes what is typed.
                shown = shown.replace(step.typed, "", 1)
            is_right = not step.shown or self.comparison.fits(step.shown, shown, further=not ends)
            if is_right and (terminal.ended or not ends):
                break
            left = deadline - time.monotonic()
            if terminal.ended and again and left > 0:
                time.sleep(0.2)
                terminal.type(step.typed)
                terminal.wait_for_prompt(left)
                continue
            if terminal.ended:
                # What it has left in the background may have something to say yet.
                left = min(left, AFTERWARDS_SECS)
                came_late = True
            if left <= 0 or not terminal.listen(left):
                raise Failure(mismatch(step, shown, terminal.ended or not ends))
        if came_late:
            terminal.settle(LOOK_SECS)

    def still_runs(self, step: Step, terminal: Terminal) -> None:
        if terminal.ended:
            raise Failure(f"{step.typed!r} is to run on, and ended with {terminal.code}: {terminal.text.strip()}")

    def at_the_end(self, pending: Pending) -> None:
        step, terminal = pending.step, pending.terminal
        deadline = time.monotonic() + LATE_SECS
        while not pending.comparison.fits(step.shown, quiet(terminal.text, step.shown), further=True):
            left = deadline - time.monotonic()
            if left <= 0 or not terminal.listen(left):
                shown = quiet(terminal.text, step.shown)
                raise Failure(f"{self.path}:{pending.block.line}: {mismatch(step, shown, True)}")

    def hidden(self, terminal: Terminal, command: str) -> None:
        terminal.type(self.comparison.typed(command))
        if not terminal.wait_for_prompt(COMMAND_SECS):
            raise Failure(f"{command!r} does not end: {terminal.text.strip()}")
        terminal.settle(LOOK_SECS if command.rstrip().endswith("&") else 0)
        if terminal.code != 0:
            raise Failure(f"{command!r} ended with {terminal.code}: {terminal.text.strip()}")

    def free_terminal(self) -> Terminal:
        """The first that shows a prompt, or else another one."""
        for terminal in self.terminals:
            while terminal.listen(0):
                pass
            if terminal.ended:
                for pending in [pending for pending in self.pending if pending.terminal is terminal]:
                    self.at_the_end(pending)
                    self.pending.remove(pending)
                return terminal
        self.terminals.append(Terminal(self.directory, self.environment))
        return self.terminals[-1]

    def check_what_is_not_run(self, block: Block) -> None:
        """It is at least what its language allows, and names files that there are."""
        if not block.is_shell:
            return
        commands = [step.typed for step in steps(block)]
        checked = subprocess.run(["bash", "-n"], input="\n".join(commands), text=True, capture_output=True, check=False)
        if checked.returncode != 0:
            raise Failure(f"bash cannot read it: {checked.stderr.strip()}")
        root = Path(os.environ["DOCS_ROOT"])
        for word in " ".join(commands).split():
            is_ours = word.startswith((".ci/", "deploy/", "docs/", "examples/", "clients/", "tests/"))
            if is_ours and not (root / word).exists():
                raise Failure(f"there is no {word}")

    def close(self) -> None:
        for terminal in self.terminals:
            terminal.close()


def mismatch(step: Step, shown: str, ended: bool) -> str:
    if not ended:
        return f"{step.typed!r} did not end within {COMMAND_SECS} s; it has shown:\n{shown}"
    return f"{step.typed!r} is to show:\n{step.shown}\nand showed:\n{shown}"
