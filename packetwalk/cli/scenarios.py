"""The commands `scenarios` and `run`: questions as scripts, listed, read and answered."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from packetwalk.cli.options import emit, known

PACKAGE = Path(__file__).resolve().parent.parent


def files() -> dict[str, Path]:
    """The scenarios by name: those that were installed with the package, or the folder beside it in its repository."""
    installed = PACKAGE / "scenarios"
    folder = installed if installed.is_dir() else PACKAGE.parent / "scenarios"
    return {path.stem: path for path in sorted(folder.glob("*.py"))}


def question(source: str) -> str:
    """The question that a scenario's docstring begins with, in one line."""
    words = " ".join((ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0].split())
    return f"{words.partition('?')[0]}?"


def complete_scenario(incomplete: str) -> list[str]:
    """Names of scenarios."""
    return [name for name in files() if name.startswith(incomplete)]


def scenarios() -> None:
    """List the scenarios: questions, each with a cluster that answers it.

    \b
    Examples:
      packetwalk scenarios
      packetwalk run pmtu_black_hole
    """
    emit("\n".join(_listed()))


def _listed() -> Iterator[str]:
    found = files()
    width = max(map(len, found), default=0)
    for name, path in found.items():
        yield f"{name:{width}}  {question(path.read_text(encoding='utf-8'))}"


def run(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="One of `packetwalk scenarios`.", autocompletion=complete_scenario)
    ],
    source: Annotated[bool, typer.Option("--source", help="Print the script instead of running it.")] = False,
) -> None:
    """Run a scenario: a short script that asks one question and prints the answer.

    \b
    Examples:
      packetwalk run hairpin
      packetwalk run congested_uplink --source > mine.py
    """
    found = files()
    path = found[known(name, found, "scenario")]
    if source:
        emit(path.read_text(encoding="utf-8").rstrip("\n"))
        return
    import runpy

    runpy.run_path(str(path), run_name="__main__")
