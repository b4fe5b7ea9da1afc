"""Damaged snapshots: whatever is cut off, flipped or replaced, the answer is one line with the file, or a network."""

import contextlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from packetwalk import SAMPLE
from packetwalk.cli import main

RECORDING = Path(__file__).resolve().parent.parent / "recordings" / "G352"
COMMANDS = ("walk a b", "walk a out --cold --full", "rooms", "commands", "show node-1 links", "show fabric fdb")

ODD_VALUES: list[Any] = [
    None, True, 0, 1, -1, 2**40, 10**30, 1.5, "", "x", "any", "10.0.0.0/33", "1.2.3.4", "ff:ff:ff:ff:ff:ff", "a\nb",
    "é", "9" * 5000, [], ["x"], [None], [[]], [{}], {}, {"a": 1}, "unicast", "lo",
]  # fmt: skip


def files_of(folder: Path) -> list[Path]:
    kinds = (".json", ".conf", ".txt")
    return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.suffix in kinds)


def places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a JSON document."""
    yield here
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield from places(child, (*here, key))


def cut(data: st.DataObject, whole: bytes) -> bytes:
    return whole[: data.draw(st.integers(0, len(whole)), "keep")]


def flip(data: st.DataObject, whole: bytes) -> bytes:
    at = data.draw(st.integers(0, max(len(whole) - 1, 0)), "at")
    return whole[:at] + bytes([data.draw(st.integers(0, 255), "byte")]) + whole[at + 1 :]


def lose(data: st.DataObject, whole: bytes) -> bytes:
    at = data.draw(st.integers(0, max(len(whole) - 1, 0)), "at")
    return whole[:at] + whole[at + data.draw(st.integers(1, 40), "bytes") :]


def replace(data: st.DataObject, whole: bytes) -> bytes:
    """Another value somewhere in a JSON document, a field less, or one nobody knows."""
    document = json.loads(whole)
    *way, last = data.draw(st.sampled_from([p for p in places(document) if p] or [(None,)]), "place")
    if last is None:
        return b"[]"
    inside = document
    for key in way:
        inside = inside[key]
    how = data.draw(st.sampled_from(["replace", "delete", "add"]), "how")
    if how == "delete":
        del inside[last]
    elif how == "add" and isinstance(inside, dict):
        inside["unheard-of"] = data.draw(st.sampled_from(ODD_VALUES), "value")
    else:
        inside[last] = data.draw(st.sampled_from(ODD_VALUES), "value")
    return json.dumps(document).encode()


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    """A copy of each folder, to be damaged and mended again."""
    where = tmp_path_factory.mktemp("damaged")
    return {folder: Path(shutil.copytree(folder, where / folder.name)) for folder in (SAMPLE, RECORDING)}


def ask(line: list[str]) -> tuple[int, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(line)
    return status, err.getvalue()


def check(folder: Path, copy: Path, data: st.DataObject, commands: list[list[str]]) -> None:
    file = data.draw(st.sampled_from(files_of(folder)), "file")
    ways = [cut, flip, lose, replace] if file.suffix == ".json" else [cut, flip, lose]
    damage = data.draw(st.sampled_from(ways), "damage")
    whole = (folder / file).read_bytes()
    try:
        (copy / file).write_bytes(damage(data, whole))
        status, err = ask(data.draw(st.sampled_from(commands), "command"))
    finally:
        (copy / file).write_bytes(whole)
    if status == 2:
        assert err.startswith("packetwalk: ") and err.count("\n") == 1 and len(err) < 500
        index = "snapshot.json"  # what is gone may be missed there, or by the question itself
        assert file.name in err or index in err or "there is no room" in err or "no address" in err
    else:
        assert status in (0, 1, 3) and not err


@settings(max_examples=90, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_snapshot(copies: dict[Path, Path], data: st.DataObject) -> None:
    copy = copies[SAMPLE]
    check(SAMPLE, copy, data, [[*line.split(), "--snapshot", str(copy)] for line in COMMANDS])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_recording(copies: dict[Path, Path], data: st.DataObject) -> None:
    copy = copies[RECORDING]
    check(RECORDING, copy, data, [["predict", str(copy)]])


# -- what is not damaged, only unknown ---------------------------------------------------------------------------------


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLE, tmp_path / "snap"))


@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        ("link.json", '"info_kind": "ipip"', '"info_kind": "wireguard"', "device tunl0 of kind wireguard"),
        ("link.json", '"proto": "any"', '"external": true', "device tunl0 of kind ipip external"),
        ("route.json", '"gateway": "192.168.56.12"', '"type": "nat", "gateway": "192.168.56.12"', "nat 10.244.2.0/26"),
        ("route.json", '"protocol": "bird"', '"protocol": "bird", "encap": "seg6"', "encap 'seg6'"),
        ("rule.json", '"table": "main"', '"table": "main", "uid_start": 7', "uid_start 7"),
        ("rule.json", '"table": "main"', '"action": "nat"', "nat"),
    ],
)
def test_what_nobody_knows_is_named_and_decides(snapshot: Path, file: str, old: str, new: str, named: str) -> None:
    path = snapshot / "state/0/node-1" / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = main(["walk", "a", "b", "--snapshot", str(snapshot)])
    assert status == 3
    assert "unsupported at node-1" in out.getvalue() and named in out.getvalue()


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("link.json", '"mtu": 1480', '"mtu": -1', "mtu: a number from 0 to 4294967295 was expected, not -1"),
        ("link.json", '"flags": [', '"flags": 7, "was": [', "flags: a list was expected, not 7"),
        ("addr.json", '"prefixlen": 32', '"prefixlen": 33', "prefixlen: a number from 0 to 32 was expected, not 33"),
        ("route.json", '"dev": "tunl0"', '"dev": "tunl1"', "there is no device 'tunl1' in link.json"),
        ("route.json", '"dst": "10.244.2.0/26"', '"dst": "10.244.2.1/26"', "the network is 10.244.2.0/26"),
        ("route.json", '"dst": "10.244.2.0/26"', '"dest": "10.244.2.0/26"', "'dst' is missing; there is 'dest'"),
        ("rule.json", '"priority": 0', '"priority": "first"', "priority: a number was expected, not 'first'"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(snapshot: Path, file: str, old: str, new: str, message: str) -> None:
    path = snapshot / "state/0/node-1" / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    status, err = ask(["walk", "a", "b", "--snapshot", str(snapshot)])
    assert status == 2
    assert f"{file}: entry " in err and message in err and err.count("\n") == 1
