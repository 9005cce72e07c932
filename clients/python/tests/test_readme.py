"""The README is true: its program runs and prints what it says, and its tables are those of the code."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shardcast import Client, Settings, connect
from tests.conftest import StartBroker

README = (Path(__file__).parents[1] / "README.md").read_text()


async def test_the_quick_start(start_broker: StartBroker, tmp_path: Path) -> None:
    broker = await start_broker()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "asyncio.run(main())" in block)
    (printed,) = re.findall(r"\$ python quick_start.py\n(.*?)```", README, re.S)
    program = tmp_path / "quick_start.py"
    program.write_text(code.replace("ws://localhost:8080/ws", broker.url))
    run = await asyncio.create_subprocess_exec(sys.executable, str(program), stdout=asyncio.subprocess.PIPE)
    said, _ = await run.communicate()
    assert said.decode() == printed


def test_the_settings() -> None:
    factors = {"": 1, "MiB": 1024 * 1024}
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) ?(MiB)? \| \w+ \| .+ \|$", README, re.M)
    assert {name: float(value) * factors[unit] for name, value, unit in rows} == dataclasses.asdict(Settings())


@pytest.mark.parametrize("call", [connect, Client.subscribe, Client.publish])
def test_the_options(call: Callable[..., object]) -> None:
    section = {"connect": "Connecting", "subscribe": "Subscribing", "publish": "Publishing"}[call.__name__]
    (text,) = re.findall(rf"## {section}\n(.*?)\n## ", README, re.S)
    (table,) = re.findall(r"\| option \|.*?\n\n", text, re.S)
    assert re.findall(r"^\| `(\w+)`", table, re.M) == [
        name for name in inspect.signature(call).parameters if name != "self"
    ]
