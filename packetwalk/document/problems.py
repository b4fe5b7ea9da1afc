"""What is wrong with a document, in words and with its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from packetwalk.document.tree import Place, Problem, Tree
from packetwalk.hint import unknown

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

WORDS = {
    "int_parsing": "a whole number was expected, not {input!r}",
    "int_type": "a whole number was expected",
    "bool_parsing": "true or false was expected, not {input!r}",
    "bool_type": "true or false was expected",
    "string_type": "a text was expected",
    "list_type": "a list was expected, each entry behind a dash",
    "dict_type": "a mapping of names to values was expected",
    "model_type": "a mapping of names to values was expected",
    "greater_than_equal": "{ge} or more was expected, not {input}",
    "less_than_equal": "{le} or less was expected, not {input}",
    "too_short": "{min_length} entries were expected, not {actual_length}",
    "too_long": "{max_length} entries were expected, not {actual_length}",
}


class Source(NamedTuple):
    """A document of a file."""

    path: Path
    tree: Tree


class DocumentError(ValueError):
    """What is wrong with documents: `args` are lines `FILE:LINE:COLUMN: what`, one for each problem."""

    def __init__(self, problems: Iterable[tuple[Path, Problem]]) -> None:
        told = sorted(dict.fromkeys(problems), key=lambda found: found[1])
        super().__init__(*(f"{path}:{p.line}:{p.column}: {p.text}" for path, p in told))

    def __str__(self) -> str:
        return "\n".join(self.args)


def told(tree: Tree, detail: ErrorDetails, parts: Mapping[Any, type[BaseModel]], at: Place = ()) -> Problem:
    """A complaint of pydantic's in our words, at its place. parts: which part stands where; at: what was validated."""
    path = (*at, *_path(_value(tree.data, at), detail["loc"]))
    name, kind = path[-1] if path else "", detail["type"]
    if kind == "missing":
        line, column = tree.at(path[:-1])
        return Problem(line, column, f"{name!r} is missing")
    line, column = tree.at(path, key=kind == "extra_forbidden")
    if kind == "extra_forbidden":
        part = parts[tuple(step for step in path[:-1] if isinstance(step, str))]
        return Problem(line, column, unknown("field", str(name), part.model_fields))
    text = str(detail.get("ctx", {}).get("error", "")) if kind == "value_error" else ""
    text = text or WORDS.get(kind, detail["msg"]).format(input=detail["input"], **detail.get("ctx", {}))
    return Problem(line, column, f"{dotted(path)}: {text}" if path else text)


def _value(data: Any, place: Place) -> Any:
    for step in place:
        data = data[step]
    return data


def _path(value: Any, loc: tuple[int | str, ...]) -> Place:
    """Where pydantic means, without the tags of its unions, which are no part of the document."""
    found: list[str | int] = []
    for n, step in enumerate(loc):
        if isinstance(value, dict) and (step in value or n == len(loc) - 1):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int):
            value = value[step]
        else:
            continue
        found.append(step)
    return tuple(found)


def dotted(path: Place) -> str:
    """A path as it is written: `pods[0].node`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")
