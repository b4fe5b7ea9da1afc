"""Reading files people and tools wrote: every error names the file, the place and what was expected."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from packetwalk.addr import IPv4, Mac

T = TypeVar("T")
WRITTEN_AS_TEXT = (str, IPv4, Mac)


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
            raise SnapshotError(f"{path}: {where}: an object was expected, not {shown(values)}")
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
            if convert in WRITTEN_AS_TEXT and not isinstance(value, str):
                raise ValueError(f"text was expected, not {shown(value)}")
            return convert(value)
        except (ValueError, TypeError, KeyError, OSError, OverflowError) as error:
            raise SnapshotError(f"{self.path}: {self.where}: {key}: {_cut(str(error))}") from None

    def sub(self, key: str) -> Record:
        """The object in a field; an empty one where the field is missing."""
        value = self.values.get(key)
        return Record({} if value is None else value, self.path, f"{self.where}: {key}")

    def subs(self, key: str) -> list[Record]:
        """The objects of a list in a field."""
        return [Record(v, self.path, f"{self.where}: {key}[{i}]") for i, v in enumerate(self.items(key))]

    def items(self, key: str) -> list[Any]:
        """The list in a field; an empty one where the field is missing."""
        value = self.values.get(key)
        return [] if value is None else self._convert(key, value, _items)

    def numbers(self, key: str, low: int, high: int) -> list[int]:
        """The numbers of a list in a field, each from `low` to `high`."""
        return [self._convert(key, value, whole(low, high)) for value in self.items(key)]

    def words(self, key: str) -> list[str]:
        """The texts of a list in a field."""
        return [self._convert(key, value, str) for value in self.items(key)]


def records(path: Path, *, name: str = "") -> list[Record]:
    """The objects of a JSON list. `ip -j` prints nothing at all for an empty table: that is an empty list."""
    if path.exists() and not read_text(path).strip():
        return []
    return [Record(v, path, f"entry {i + 1}") for i, v in enumerate(read_json(path, list)) if v != {}]


def shown(value: Any) -> str:
    """A value as an error message quotes it."""
    return _cut(repr(value))


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 120 else f"{text[:100]}..."


def _items(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    raise ValueError(f"a list was expected, not {shown(value)}")


def number(value: Any) -> int:
    """A whole number, also as text in decimal or 0x form."""
    if isinstance(value, str):
        try:
            return int(value, 0)
        except ValueError:
            pass
    elif isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"a number was expected, not {shown(value)}")


def whole(low: int, high: int) -> Callable[[Any], int]:
    """A converter for numbers from `low` to `high`."""

    def within(value: Any) -> int:
        n = number(value)
        if low <= n <= high:
            return n
        raise ValueError(f"a number from {low} to {high} was expected, not {shown(n)}")

    return within


U8, U16, U24, U32 = whole(0, 0xFF), whole(0, 0xFFFF), whole(0, 0xFFFFFF), whole(0, 0xFFFFFFFF)


def flag(value: Any) -> bool:
    """A truth value, also as 0 or 1."""
    if isinstance(value, bool):
        return value
    if value in (0, 1, "0", "1"):
        return bool(int(value))
    raise ValueError(f"true or false was expected, not {shown(value)}")
