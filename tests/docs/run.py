#!/usr/bin/env python3
"""Runs what the documentation tells its readers to run: tests/docs/run.py [PAGE…]

Each page has a machine of its own: a copy of the tree to write into, an empty network, in which the ports that the
page names are free, and its own processes, all of which end with it. Its blocks are pasted into terminals in order,
and what they show is compared with what the page says that they show (compare.py). The markers are in page.py.

`cargo run` and `cargo build` take the binaries that are built already (bin/cargo), installations what has been
fetched before. Blocks that cannot be run say why, in a marker; they are listed at the end.

SHARDCAST_BIN names the broker, LOADGEN_BIN the generator of load; otherwise those of target/debug.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from document import Document, Failure
from links import broken
from page import Misuse
from settings import unknown

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/*.md",
    "clients/*/README.md",
    "crates/client/README.md",
    "examples/*/README.md",
    "loadgen/README.md",
)
# Pages whose commands are for readers who stand in their folder.
OWN_FOLDER = ("examples/",)
# The longest takes 20 s on a machine with nothing else to do.
PAGE_SECS = 300
# For the end of a page that took too long.
END_SECS = 30
AT_ONCE = 3


def main() -> int:
    if sys.argv[1:2] == ["--inside"]:
        return inside(Path(sys.argv[2]), Path(sys.argv[3]))
    pages = sys.argv[1:] or sorted(str(page.relative_to(ROOT)) for glob in PAGES for page in ROOT.glob(glob))
    faults = [fault for page in pages for fault in broken(ROOT / page) + unknown(ROOT / page, ROOT)]
    with tempfile.TemporaryDirectory(prefix="docs-") as place:
        environment = prepare(Path(place))
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            results = list(pool.map(lambda page: apart(page, Path(place), environment), pages))
    for page, (seconds, code, said) in zip(pages, results, strict=True):
        print(f"{'ok    ' if code == 0 else 'FAILED'} {page} ({seconds:.1f} s)")
        print("".join(f"       {line}\n" for line in said.splitlines()), end="")
        faults += [page] if code != 0 else []
    for fault in faults:
        print(f"FAILED {fault}")
    return 1 if faults else 0


def prepare(place: Path) -> dict[str, str]:
    """The commands that the pages use, and the packages that they install."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
    binaries = {
        "shardcast": os.environ.get("SHARDCAST_BIN", str(target / "shardcast")),
        "loadgen": os.environ.get("LOADGEN_BIN", str(target / "loadgen")),
    }
    commands = place / "bin"
    shutil.copytree(HERE / "bin", commands)
    for name, path in binaries.items():
        if not Path(path).is_file():
            sys.exit(f"there is no {path}: cargo build --workspace, or {name.upper()}_BIN")
    (commands / "shardcast").symlink_to(Path(binaries["shardcast"]).resolve())
    python = os.environ.get("PYTHON", sys.executable)
    wheels = place / "wheels"
    fetched = ["pip", "wheel", "--quiet", "--disable-pip-version-check", "--wheel-dir", str(wheels)]
    subprocess.run([python, "-m", *fetched, str(ROOT / "clients/python"), "hatchling>=1.26"], check=True)
    for name in ("python3", "pip"):
        (commands / name).symlink_to("python")
    return os.environ | {
        "PATH": f"{commands}:{os.environ['PATH']}",
        "DOCS_SHARDCAST": str(Path(binaries["shardcast"]).resolve()),
        "DOCS_LOADGEN": str(Path(binaries["loadgen"]).resolve()),
        "DOCS_PYTHON": python,
        "DOCS_ROOT": str(ROOT),
        "HOME": str(place),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "npm_config_offline": "true",
        "npm_config_audit": "false",
        "npm_config_fund": "false",
        "npm_config_update_notifier": "false",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def apart(page: str, place: Path, environment: dict[str, str]) -> tuple[float, int, str]:
    """Tries a page on a machine of its own, as far as this one allows that."""
    started = time.monotonic()
    tree = place / page.replace("/", "-")
    copy_tree(tree)
    command = [sys.executable, str(HERE / "run.py"), "--inside", str(tree), page]
    namespaces = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
    if os.getuid() != 0:
        namespaces.insert(1, "--map-root-user")
    if subprocess.run([*namespaces, "true"], capture_output=True, check=False).returncode == 0:
        command = namespaces + command
        lock = None
    else:
        # On the network of this machine then, one page after the other.
        lock = (place / "lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        environment = environment | {"DOCS_NO_NAMESPACE": "1"}
    with subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:
        try:
            said, _ = process.communicate(timeout=PAGE_SECS + END_SECS)
        except subprocess.TimeoutExpired:
            process.kill()
            end_all(str(tree))
            said, _ = process.communicate()
            said += f"does not end {END_SECS} s after the {PAGE_SECS} s that it may take\n"
        finally:
            # Each terminal is a session of its own, which outlives whoever made it.
            end_all(str(tree))
    if lock:
        lock.close()
    return time.monotonic() - started, process.returncode, said


def copy_tree(tree: Path) -> None:
    """What is in the repository, or would be with the next commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        source = ROOT / name
        if name and source.is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, tree / name)


def inside(tree: Path, page: Path) -> int:
    if "DOCS_NO_NAMESPACE" not in os.environ:
        with socket.socket() as any_socket:
            up = struct.pack("16sh", b"lo", 0x1)
            fcntl.ioctl(any_socket, 0x8914, up)
    else:
        with socket.socket() as wanted:
            wanted.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            wanted.bind(("0.0.0.0", 8080))
    is_own = str(page).startswith(OWN_FOLDER)
    directory = (tree / page).parent if is_own else tree
    run = f"{tree}"
    document = Document(
        ROOT / page, directory, dict(os.environ) | {"DOCS_RUN": run, "DOCS_VENV": str(tree / ".venv-of-the-page")}
    )
    try:
        with at_most(PAGE_SECS):
            document.run()
    except (Failure, Misuse) as failure:
        print(failure)
        return 1
    finally:
        document.close()
        if "DOCS_NO_NAMESPACE" in os.environ:
            end_all(run)
        for line, why in document.excused:
            print(f"not run: {page}:{line}: {why}")
        print(f"{document.ran} blocks")
    return 0


@contextlib.contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """What takes longer fails wherever it is by then, so that it is said where that was."""

    def late(_signal: int, _frame: FrameType | None) -> None:
        raise Failure(f"the page has taken {seconds} s by here")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def end_all(run: str) -> None:
    """Ends what the page has left running, known by its environment."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"DOCS_RUN={run}\0".encode() in (process / "environ").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            continue


if __name__ == "__main__":
    sys.exit(main())
