"""Golden traces: transcripts of what the command prints, compared to the letter.

`pytest tests/test_golden.py --update-golden` runs the commands in tests/golden/*.txt again and writes down what they
print now; `git diff` then shows what changed. A new case is a new line `$ packetwalk ...`.
"""

import difflib
from pathlib import Path

import pytest

from tests.transcript import answer, entries

FILES = sorted((Path(__file__).parent / "golden").glob("*.txt"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_golden(file: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.chdir(root)
    text = file.read_text(encoding="utf-8")
    comment = text.partition("$ ")[0]
    found = comment + "\n\n".join(f"$ {e.command}\n{answer(e.command)}" for e in entries(text)) + "\n"
    if found == text:
        return
    if pytestconfig.getoption("--update-golden"):
        file.write_text(found, encoding="utf-8")
        return
    diff = difflib.unified_diff(text.splitlines(), found.splitlines(), "golden", "now", lineterm="", n=2)
    pytest.fail("\n".join([f"{file.name} (--update-golden keeps what is new):", *diff]), pytrace=False)


def test_there_are_golden_files() -> None:
    assert len(FILES) >= 6
