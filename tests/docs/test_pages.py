"""A page that is not true is refused: what would pass whatever it said would be worth nothing."""

# These run without pytest.
# ruff: noqa: PT009, PT027

from __future__ import annotations

import os
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import document
from document import Document, Failure
from links import broken
from page import Misuse
from run import at_most
from settings import unknown

ROOT = Path(__file__).parents[2]
ENVIRONMENT = dict(os.environ) | {"DOCS_ROOT": str(ROOT)}
EPOCH = "27dde33aef33298f"
OTHER = "00ff00ff00ff00ff"


def block(language: str, text: str, *markers: str) -> str:
    return "".join(f"<!-- {marker} -->\n" for marker in markers) + f"```{language}\n{text}\n```\n\n"


class Pages(unittest.TestCase):
    def setUp(self) -> None:
        document.AFTERWARDS_SECS = 0.3
        document.LOOK_SECS = 0.3
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.place = Path(place.name)

    def try_page(self, *content: str) -> Document:
        page = self.place / "page.md"
        page.write_text("# A page\n\n" + "".join(content))
        os.environ["DOCS_ROOT"] = ENVIRONMENT["DOCS_ROOT"]
        tried = Document(page, self.place, ENVIRONMENT)
        self.addCleanup(tried.close)
        tried.run()
        return tried

    def refuse(self, why: str, *content: str) -> None:
        with self.assertRaisesRegex((Failure, Misuse), why):
            self.try_page(*content)

    def test_what_is_shown(self) -> None:
        self.try_page(block("console", "$ echo one; echo two\none\ntwo"))
        self.refuse("is to show", block("console", "$ echo one; echo two\none"))
        self.refuse("is to show", block("console", "$ echo one\none\ntwo"))
        self.try_page(block("console", "$ echo one; echo two\n… two"))

    def test_a_command_that_fails(self) -> None:
        self.refuse("ended with 3", block("sh", "(exit 3)"))
        self.refuse("ended with 3", block("sh", "true\n(exit 3)\ntrue"))
        self.refuse("ended with 1", block("python", "raise SystemExit(1)"))

    def test_one_shell_for_the_page(self) -> None:
        self.try_page(block("sh", "export A=1\nB=2"), block("console", '$ echo "$A$B"\n12'))

    def test_lines_that_go_on(self) -> None:
        self.try_page(block("sh", "cat >file <<'END'\n$ one\nEND\ngrep -q one \\\n  file"))

    def test_what_stands_for_something(self) -> None:
        shows = block("console", f"$ echo at {OTHER}\nat {EPOCH}")
        self.try_page(shows, block("console", f"$ echo {EPOCH} {OTHER}\n{EPOCH} {OTHER}"))
        self.refuse("is to show", shows, block("console", f"$ echo at 0123456789abcdef\nat {EPOCH}"))

    def test_numbers_that_vary(self) -> None:
        text = "$ echo 3 lost\n2 lost\n$ echo 4\n5"
        self.refuse("is to show", block("console", text))
        self.try_page(block("console", text, "varies: 2 + 5 = 7"))
        self.refuse("is to show", block("console", text, "varies: 2 + 5 = 8"))

    def test_numbers_that_are_shown_again(self) -> None:
        self.try_page(block("console", "$ echo >>tries; wc -l <tries\n8", "varies: 8 = 3", "looks again"))

    def test_numbers_that_are_nowhere(self) -> None:
        text = "$ echo 3 lost\n2 lost\n$ echo 4\n5"
        self.refuse("page.md:5: varies, and is nowhere: 6", block("console", text, "varies: 2 5", "varies: 6"))
        self.refuse("is nowhere: 5", block("console", "$ tail -f /dev/null\n…", "varies: 5 + 6 = 7", "runs on"))

    def test_what_runs_on(self) -> None:
        self.try_page(
            block("console", "$ tail -f later\nhere", "before: touch later", "runs on"), block("sh", "echo here >later")
        )
        # Its end is seen as soon as the prompt is there, which may take a busy machine a while.
        with mock.patch.object(document, "LOOK_SECS", 10):
            self.refuse("is to run on", block("sh", "true", "runs on"))
        # It is interrupted also where another like it was not, and where its epoch is another.
        again = "$ sleep $((n++ * 99))"
        self.try_page(block("console", f"{again}\n{again}\n^C\n$ echo free\nfree"))
        self.try_page(block("console", f"$ echo {OTHER}\n{EPOCH}\n$ tail -f /dev/null # {EPOCH}\n^C"))
        self.try_page(block("console", "$ sed -u s/a/b/\n> hallo\nhbllo\n> a\nb\n^C\n$ echo free\nfree"))

    def test_what_comes_later(self) -> None:
        text = block("console", "$ cat later\nhere", "before: (sleep 1; echo here >later) &", "looks again")
        self.try_page(block("sh", "echo not yet >later"), text)

    def test_what_repeats(self) -> None:
        text = "$ echo 3 lost; echo 4 lost; echo 5\n6 lost\n4"
        self.try_page(block("console", text, "may repeat: lost", "varies: 6 + 4 = 12"))
        self.refuse("is to show", block("console", text, "may repeat: lost", "varies: 6 + 4 = 10"))
        text = "$ echo 3 lost; echo 1 found; echo 4 lost; echo 2 found\n6 lost\n4 found"
        self.try_page(block("console", text, "may repeat: lost", "may repeat: found", "varies: 6 + 4 = 10"))

    def test_what_is_excused(self) -> None:
        tried = self.try_page(block("sh", "systemctl start it", "not run: no systemd here"))
        self.assertEqual([why for _, why in tried.excused], ["no systemd here"])
        self.refuse("says nothing", block("sh", "true", "not run: "))
        self.refuse("cannot read", block("sh", "if then", "not run: a reason"))
        self.refuse("there is no deploy/nowhere", block("sh", "cat deploy/nowhere", "not run: a reason"))
        self.refuse("is a file, or not run", block("html", "<p>"))

    def test_blocks_that_are_none(self) -> None:
        self.try_page(block("json", "{}"), block("example AUTH_ENABLED=true", "> {}"))
        for fence in ("  ```sh", "~~~", "~~~sh", "```", "```sh title", "\t```sh"):
            self.refuse("page.md:3: a block begins with", f"{fence}\ntrue\n```\n")
        self.refuse("shell is no language", block("shell", "true"))
        self.refuse("has no end", "```sh\ntrue\n")

    def test_a_page_that_takes_too_long(self) -> None:
        with at_most(1):
            self.refuse("page.md:7: the page has taken 1 s", block("sh", "true"), block("sh", "sleep 99"))

    def test_files(self) -> None:
        uses = block("console", "$ python3 program.py\n7")
        self.try_page(block("python", "print(7)", "file: program.py"), uses)
        self.refuse("nothing uses", block("python", "print(7)", "file: program.py"))

    def test_links(self) -> None:
        (self.place / "other.md").write_text("## It is `here`, now\n")
        page = self.place / "links.md"
        page.write_text("[a](other.md#it-is-here-now) [b](https://elsewhere.example/x#y)")
        self.assertEqual(broken(page), [])
        page.write_text("[a](other.md#nowhere) [b](gone.md)")
        self.assertEqual(len(broken(page)), 2)

    def test_names(self) -> None:
        page = self.place / "names.md"
        page.write_text("`RING_BUFFER_SIZE`, `TOPIC_NOT_FOUND`, `SHARDCAST_URL`, `TCP_NODELAY`")
        self.assertEqual(unknown(page, ROOT), [])
        page.write_text("`RING_BUFFER_LENGTH`, `SHARDCAST_ADDRESS`")
        self.assertEqual(len(unknown(page, ROOT)), 2)


if __name__ == "__main__":
    unittest.main()
