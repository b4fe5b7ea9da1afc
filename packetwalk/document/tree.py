"""YAML as text, lists and mappings, with the line and column of each.

No scalar is guessed at: the model that reads the tree says whether a text is a number, a truth value or a name. So an
Ethernet address, `no`, `on`, `1.10` and `0x10` are what stands there, whichever YAML it was written for; only an empty
value, `~` and `null` are nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from yaml import MappingNode, Node
    from yaml.error import Mark

Place = tuple[str | int, ...]
"""Keys and indices from the top, such as ("pods", 0, "node")."""

STANDARD = "tag:yaml.org,2002:"
TAGS = {
    f"{STANDARD}{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map", "merge", "timestamp", "value")
}


class Problem(NamedTuple):
    """Something wrong, and where; line and column count from 1."""

    line: int
    column: int
    text: str


class Tree:
    """What one document says, a text or what was composed of it. `problems` are those of the YAML itself; with one of
    syntax there is no data."""

    def __init__(self, source: str | Node | None) -> None:
        import yaml

        self.data: Any = None
        self.marks: dict[Place, tuple[int, int]] = {(): (1, 1)}
        self.keys: dict[Place, tuple[int, int]] = {}
        self.problems: list[Problem] = []
        self._open: list[Node] = []
        try:
            node = next(iter(_composed(source)), None) if isinstance(source, str) else source
        except yaml.MarkedYAMLError as error:
            line, column = _place(error.problem_mark or error.context_mark)
            self.problems.append(Problem(line, column, " ".join(filter(None, (error.context, error.problem)))))
        except yaml.YAMLError as error:
            self.problems.append(Problem(1, 1, str(error).splitlines()[0]))
        else:
            self.data = self._read(node, ()) if node is not None else None

    def at(self, path: Place, *, key: bool = False) -> tuple[int, int]:
        """Where a value stands, or its key; for a path that leads nowhere, the nearest thing around it."""
        if key and path in self.keys:
            return self.keys[path]
        while path not in self.marks:
            path = path[:-1]
        return self.marks[path]

    def scalars(self) -> Iterator[tuple[Place, str]]:
        """Every text in the tree with its path."""
        yield from _scalars((), self.data)

    def _problem(self, node: Node, text: str) -> None:
        self.problems.append(Problem(*_place(node.start_mark), text))

    def _read(self, node: Node, path: Place) -> Any:
        import yaml

        self.marks[path] = _place(node.start_mark)
        if node.tag not in TAGS:
            self._problem(node, f"the tag {node.tag.replace(STANDARD, '!!')} means nothing here")
        if isinstance(node, yaml.ScalarNode):
            return None if node.tag == f"{STANDARD}null" else node.value
        if node in self._open:
            self._problem(node, "an alias inside of what it stands for")
            return None
        self._open.append(node)
        value: Any
        if isinstance(node, yaml.SequenceNode):
            value = [self._read(item, (*path, i)) for i, item in enumerate(node.value)]
        else:
            assert isinstance(node, yaml.MappingNode)
            value = self._mapping(node, path)
        self._open.pop()
        return value

    def _mapping(self, node: MappingNode, path: Place) -> dict[str, Any]:
        import yaml

        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == f"{STANDARD}merge":
                base = self._read(value, (*path, key.value))
                for other in base if isinstance(base, list) else [base]:
                    merged = {**(other if isinstance(other, dict) else {}), **merged}
            elif not isinstance(key, yaml.ScalarNode):
                self._problem(key, "a name was expected before the colon")
            elif key.value in found:
                line, _ = self.keys[(*path, key.value)]
                self._problem(key, f"{key.value!r} is there twice; the first one is in line {line}")
            else:
                self.keys[(*path, key.value)] = _place(key.start_mark)
                found[key.value] = self._read(value, (*path, key.value))
        return {**merged, **found}


def documents(text: str) -> list[Tree]:
    """Each document of a text that says something; a text that is no YAML is one with its problem."""
    import yaml

    try:
        trees = [Tree(node) for node in _composed(text)]
    except yaml.YAMLError:
        return [Tree(text)]
    return [tree for tree in trees if tree.data is not None or tree.problems]


def _composed(text: str) -> list[Node]:
    """The nodes of a text, by libyaml where it is there (three times as fast); Python's own reader explains errors."""
    import yaml

    if hasattr(yaml, "CSafeLoader"):
        with suppress(yaml.YAMLError):
            return list(yaml.compose_all(text, Loader=yaml.CSafeLoader))
    return list(yaml.compose_all(text, Loader=yaml.SafeLoader))


def _place(mark: Mark | None) -> tuple[int, int]:
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)


def _scalars(path: Place, value: Any) -> Iterator[tuple[Place, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _scalars((*path, key), item)
