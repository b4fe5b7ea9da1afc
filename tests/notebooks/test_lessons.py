"""The notebooks of notebooks/: kept without output, run from top to bottom, their exercises judged.

The quick tests run the cells in this process, with answers from solutions.py; the long one asks Jupyter itself.
"""

import ast
import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from packetwalk.teach.verdict import NO_ANSWER
from tests.notebooks.solutions import SOLUTIONS

FOLDER = Path(__file__).resolve().parent.parent.parent / "notebooks"
FILES = sorted(FOLDER.glob("*.ipynb"))
NAMES = [file.stem for file in FILES]


def notebook(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))


def cells(name: str) -> Iterator[tuple[str, str]]:
    """The code cells: tag (empty for most) and source."""
    for cell in notebook(name)["cells"]:
        if cell["cell_type"] == "code":
            yield "".join(cell["metadata"].get("tags", [])), "".join(cell["source"])


def play(source: str, namespace: dict[str, object]) -> object:
    """Run a cell as a notebook does: its value is that of a last expression, which would be shown."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(tree, "cell", "exec"), namespace)
        if isinstance(last, ast.Expr):
            return eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)
    return None


# -- how they are kept -------------------------------------------------------------------------------------------------


def test_there_are_eight_and_each_has_solutions() -> None:
    assert len(NAMES) == 8 and list(SOLUTIONS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_without_output(name: str) -> None:
    found = notebook(name)
    ids = [cell["id"] for cell in found["cells"]]
    assert ids == sorted(set(ids)), "ids are unique and in order"
    assert found["metadata"]["kernelspec"]["name"] == "python3"
    for cell in found["cells"]:
        assert cell["cell_type"] != "code" or (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_needs_no_network(name: str) -> None:
    text = "".join("".join(cell["source"]) for cell in notebook(name)["cells"])
    assert not re.search(r"https?://|^\s*[!%]", text, re.MULTILINE)
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert all((FOLDER / link).is_file() for link in links), links


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_holds_three_exercises_with_folded_hints_and_no_solution(name: str) -> None:
    found = dict(cells(name))
    text = "".join("".join(cell["source"]) for cell in notebook(name)["cells"])
    assert {f"{kind}-{n}" for kind in ("exercise", "check") for n in (1, 2, 3)} <= set(found)
    assert all("..." in found[f"exercise-{n}"] for n in (1, 2, 3))
    assert text.count("<details><summary>Hint</summary>") == 3


# -- what they do ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_exercises_take_right_answers_and_refuse_wrong_ones(name: str) -> None:
    namespace: dict[str, object] = {}
    judged = 0
    for tag, source in cells(name):
        if not tag.startswith("check"):
            play(source, namespace)
            continue
        number = int(tag.removeprefix("check-"))
        verdict: Any = play(source, namespace)
        assert (bool(verdict), verdict.why) == (False, NO_ANSWER)
        exercise = SOLUTIONS[name][number - 1]
        for answer in exercise.right:
            play(answer, namespace)
            verdict = play(source, namespace)
            assert verdict, f"exercise {number}: {answer}: {verdict}"
        for answer, reason in exercise.wrong:
            play(answer, namespace)
            verdict = play(source, namespace)
            assert not verdict and reason in verdict.why, f"exercise {number}: {answer}: {verdict}"
        judged += 1
    assert judged == 3


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("solved", [False, True], ids=["as it is", "solved"])
def test_jupyter_runs_a_notebook(name: str, solved: bool) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    for cell in book.cells:
        for tag in cell.metadata.get("tags", []):
            kind, _, number = tag.partition("-")
            if solved and kind == "exercise":
                cell.source = SOLUTIONS[name][int(number) - 1].right[0]
    nbformat.validate(book)
    nbclient.NotebookClient(book, timeout=120, resources={"metadata": {"path": str(FOLDER)}}).execute()
    verdicts = [cell.outputs[0].data for cell in book.cells if "check" in "".join(cell.metadata.get("tags", []))]
    assert [data["text/plain"].split(".")[0] for data in verdicts] == ["Right" if solved else "Not yet"] * 3
    assert all("<div" in data["text/html"] for data in verdicts)
