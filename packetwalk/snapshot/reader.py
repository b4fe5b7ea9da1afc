"""Reading files people and tools wrote: every error names the file, the place and what was expected."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class SnapshotError(ValueError):
    """A snapshot that cannot be read. One line: file, place, what was expected."""


def read_text(path: Path) -> str:
    """The text of a file. SnapshotError if it is missing, unreadable or not text."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SnapshotError(f"{path}: this file is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SnapshotError(f"{path}: cannot be read: {error}") from None


def read_json(path: Path, kind: type) -> Any:
    """The JSON in a file, which must be a list or a dict. SnapshotError if it is missing, cut off or something else."""
    try:
        value = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise SnapshotError(
            f"{path}:{error.lineno}:{error.colno}: not JSON ({error.msg}); is the file cut off?"
        ) from None
    if not isinstance(value, kind):
        raise SnapshotError(f"{path}: a JSON {'list' if kind is list else 'object'} was expected")
    return value


class Record:
    """One object of a JSON file, which remembers where it stands."""

    __slots__ = ("path", "values", "where")

    def __init__(self, values: Any, path: Path, where: str) -> None:
        self.path, self.where = path, where
        if not isinstance(values, dict):
            raise SnapshotError(f"{path}: {where}: an object was expected, not {values!r}")
        self.values: dict[str, Any] = values

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def get(self, key: str, default: T, convert: Callable[[Any], T] | None = None) -> T:
        """A field, converted; SnapshotError naming it if it does not convert."""
        value = self.values.get(key)
        if value is None:
            return default
        return self._convert(key, value, convert or type(default))

    def need(self, key: str, convert: Callable[[Any], T]) -> T:
        """A field that must be there."""
        if self.values.get(key) is None:
            from difflib import get_close_matches  # only where something is wrong

            near = get_close_matches(key, self.values, 1)
            hint = f"; there is {near[0]!r}" if near else ""
            raise SnapshotError(f"{self.path}: {self.where}: {key!r} is missing{hint}")
        return self._convert(key, self.values[key], convert)

    def _convert(self, key: str, value: Any, convert: Callable[[Any], T]) -> T:
        try:
            return convert(value)
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise SnapshotError(f"{self.path}: {self.where}: {key}: {error}") from None

    def sub(self, key: str) -> Record:
        return Record(self.values.get(key) or {}, self.path, f"{self.where}: {key}")

    def subs(self, key: str) -> list[Record]:
        return [Record(v, self.path, f"{self.where}: {key}[{i}]") for i, v in enumerate(self.values.get(key) or [])]


def records(path: Path, *, name: str = "") -> list[Record]:
    """The objects of a JSON list. `ip -j` prints nothing at all for an empty table: that is an empty list."""
    if path.exists() and not read_text(path).strip():
        return []
    return [Record(v, path, f"entry {i + 1}") for i, v in enumerate(read_json(path, list)) if v != {}]


def number(text: Any) -> int:
    """An integer, also as text in decimal or 0x form."""
    if isinstance(text, bool):
        raise ValueError(f"a number was expected, not {text!r}")
    return int(text, 0) if isinstance(text, str) else int(text)


def flag(value: Any) -> bool:
    """A truth value, also as 0 or 1."""
    if isinstance(value, bool):
        return value
    if value in (0, 1, "0", "1"):
        return bool(int(value))
    raise ValueError(f"true or false was expected, not {value!r}")
