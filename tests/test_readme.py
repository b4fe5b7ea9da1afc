"""The README and the guide do what they say: their console and python blocks are run, and what they show is compared.

A `console` block is a transcript (see tests/transcript.py). A `python` block may be followed by a `text` block, which
is what it prints. An `sh` block holds the make targets, a `yaml` block a cluster that can be built.
"""

import contextlib
import io
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.kernel.lab import why_not
from tests.transcript import Entry, answer, entries, matches

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/guide.md")


class Block(NamedTuple):
    language: str
    text: str
    line: int
    page: str


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(m[1], m[2], text[: m.start()].count("\n") + 2, page) for m in found]


BLOCKS = [block for page in PAGES for block in blocks(page)]
COMMANDS = [entry for block in BLOCKS if block.language == "console" for entry in entries(block.text)]
SNIPPETS = [
    (block, after.text if after is not None and after.language == "text" else "")
    for block, after in zip(BLOCKS, [*BLOCKS[1:], None], strict=True)
    if block.language == "python"
]


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda e: e.command)
def test_a_command_prints_what_the_readme_shows(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    if entry.command.startswith(("packetwalk prove", "packetwalk record")) and (reason := why_not()):
        pytest.skip(reason)
    monkeypatch.chdir(ROOT)
    found = answer(entry.command)
    assert matches(entry.expected, found), f"the page shows\n{entry.expected}\n\nbut now it is\n{found}"


def place(about: Block | str) -> str:
    return f"{about.page}:{about.line}" if isinstance(about, Block) else ""


@pytest.mark.parametrize(("block", "shown"), SNIPPETS, ids=place)
def test_python_prints_what_the_readme_shows(block: Block, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile("\n" * (block.line - 1) + block.text, block.page, "exec"), {})
    assert matches(shown.strip(), out.getvalue().strip())


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "yaml"], ids=place)
def test_a_cluster_in_the_readme_can_be_walked(block: Block, tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(block.text, encoding="utf-8")
    assert "reply ttl 62" in answer(f"packetwalk walk a b --minimal -f {tmp_path / 'cluster.yaml'}")


def test_every_block_says_what_it_is() -> None:
    assert {block.language for block in BLOCKS} <= {"console", "python", "text", "sh", "yaml"}
    assert len(COMMANDS) >= 5 and SNIPPETS


def test_the_make_targets_are_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = {
        m for block in BLOCKS if block.language == "sh" for m in re.findall(r"^make (\w+)", block.text, re.MULTILINE)
    }
    assert {"walk", "test"} <= asked <= targets
