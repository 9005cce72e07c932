"""A terminal as a reader has one: an interactive bash on a pseudoterminal, into which lines are pasted."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

PROMPT = re.compile(r"<prompt:(\d+)>")
FURTHER = "<further>"
# How programs colour, and move about.
ESCAPES = re.compile(r"\x1b\[[?0-9;]*[a-zA-Z]")


class Terminal:
    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.ours, theirs = os.openpty()
        mode = termios.tcgetattr(theirs)
        mode[1] &= ~termios.ONLCR
        mode[3] &= ~termios.ECHO
        termios.tcsetattr(theirs, termios.TCSANOW, mode)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
        environment = environment | {"PS1": "<prompt:$?>", "PS2": FURTHER, "TERM": "xterm", "NO_COLOR": "1"}
        self.bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "--noediting", "-i"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=directory,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        # What has come since the last command was typed.
        self.text = ""
        self.ended = False
        self.code = 0
        self.wait_for_prompt(10)

    def type(self, text: str) -> None:
        """Types a command, or a line for the program that runs."""
        self.text = ""
        self.ended = False
        os.write(self.ours, (text if text == "\x03" else text + "\n").encode())

    def listen(self, seconds: float) -> bool:
        """Takes what comes next; whether something did."""
        ready, _, _ = select.select([self.ours], [], [], seconds)
        if not ready:
            return False
        try:
            piece = os.read(self.ours, 65536)
        except OSError:
            piece = b""
        self.text += piece.decode(errors="replace").replace("\r", "").replace(FURTHER, "")
        self.text = ESCAPES.sub("", self.text)
        if prompt := PROMPT.search(self.text):
            self.text = PROMPT.sub("", self.text)
            self.code = int(prompt[1])
            self.ended = True
        return bool(piece)

    def wait_for_prompt(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self.ended and time.monotonic() < deadline:
            self.listen(deadline - time.monotonic())
        return self.ended

    def settle(self, seconds: float) -> None:
        """Gives what was started a moment to say something, as a person does who looks before they go on."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.listen(deadline - time.monotonic()):
                deadline = min(deadline, time.monotonic() + 0.2)

    def close(self) -> None:
        self.bash.send_signal(signal.SIGHUP)
        os.close(self.ours)
        try:
            self.bash.wait(2)
        except subprocess.TimeoutExpired:
            self.bash.kill()
            self.bash.wait()
