"""Every scenario runs as a user runs it, and prints what stands beside it in its .out file.

`pytest tests/test_scenarios.py --update-golden` writes the .out files anew.
"""

import ast
import difflib
import subprocess
import sys
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).resolve().parent.parent / "scenarios").glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_scenario_prints_what_it_is_known_for(file: Path, pytestconfig: pytest.Config) -> None:
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=False, cwd=file.parent)
    assert (done.returncode, done.stderr) == (0, "")
    out = file.with_suffix(".out")
    if pytestconfig.getoption("--update-golden"):
        out.write_text(done.stdout, encoding="utf-8")
    known = out.read_text(encoding="utf-8")
    if known != done.stdout:
        diff = difflib.unified_diff(known.splitlines(), done.stdout.splitlines(), out.name, "now", lineterm="", n=2)
        pytest.fail("\n".join([f"{file.name} (--update-golden keeps what is new):", *diff]), pytrace=False)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_scenario_asks_its_question_first(file: Path) -> None:
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    assert "?" in docstring.split("\n\n")[0], "a scenario is one question"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_scenario_says_at_the_end_what_to_learn(file: Path) -> None:
    *_, last = file.with_suffix(".out").read_text(encoding="utf-8").splitlines()
    assert last.startswith("Learn: ") and last.endswith(".")


def test_there_is_no_output_without_a_scenario() -> None:
    assert {f.stem for f in FILES} == {f.stem for f in FILES[0].parent.glob("*.out")}
