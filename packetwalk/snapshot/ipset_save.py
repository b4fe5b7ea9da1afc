"""`ipset save` output in: the IP sets of one namespace."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from packetwalk.netns.ipset import Entry, IpSet, Key, parse_create
from packetwalk.netns.option import cut, unquote
from packetwalk.snapshot.reader import SnapshotError, read_text


def load_ipsets(path: Path) -> dict[str, IpSet]:
    """Read a file that `ipset save` wrote. SnapshotError, in one line with file and line, for what is malformed."""
    return read_ipsets(read_text(path), str(path))


def read_ipsets(text: str, name: str = "ipset-save.txt") -> dict[str, IpSet]:
    """Read the text of `ipset save`. Times left count from the start of the simulation."""
    made: dict[str, IpSet] = {}
    elements: dict[str, list[tuple[int, list[str]]]] = {}
    for n, line in enumerate(text.splitlines(), 1):
        try:
            words = [unquote(word) for word in cut(line)]
            if not words or words[0].startswith("#"):
                continue
            if words[0] == "create":
                one = parse_create(words[1:], f"{Path(name).name}:{n}")
                made[one.name], elements[one.name] = one, []
            elif words[0] == "add" and len(words) > 2:
                _known(words[1], made)
                elements[words[1]].append((n, words[2:]))
            else:
                raise ValueError(f"`create NAME TYPE` or `add NAME ELEMENT` was expected, not {line.strip()!r}")
        except ValueError as error:
            raise SnapshotError(f"{name}:{n}: {error}") from None
    return {key: _filled(one, elements[key], made, name) for key, one in made.items()}


def _known(name: str, made: dict[str, IpSet]) -> None:
    if name not in made:
        from difflib import get_close_matches  # only where something is wrong

        near = get_close_matches(name, made, 1)
        raise ValueError(f"there is no set {name!r}{f'; there is {near[0]!r}' if near else ''}")


def _filled(one: IpSet, lines: list[tuple[int, list[str]]], made: dict[str, IpSet], name: str) -> IpSet:
    entries: dict[Key, Entry] = {}
    for n, words in lines:
        try:
            entry = one.read(words)
            entries[one.key(entry.text)] = entry
            if one.dims == ("set",):
                _known(entry.text, made)
        except ValueError as error:
            raise SnapshotError(f"{name}:{n}: {error}") from None
    return replace(one, entries=entries)
