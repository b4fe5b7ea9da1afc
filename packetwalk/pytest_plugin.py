"""The pytest plugin: fixtures for a network of one's own and for golden files of its paths (docs/pytest.md)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from packetwalk.network import Network
    from packetwalk.trace import Trace

UPDATE = "--packetwalk-update"
NETWORK = "packetwalk_network"
FOLDER = "packetwalk"
"""of golden files, beside the tests"""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that writes golden files anew, and the line of pytest's configuration that names the network."""
    group = parser.getgroup("packetwalk", "paths of packets")
    group.addoption(UPDATE, action="store_true", help="write packetwalk's golden files as the walks are now")
    parser.addini(NETWORK, "a cluster.yaml, a folder with a snapshot, or a CNI mode of `packetwalk modes`", default="")


@pytest.fixture(scope="session")
def packetwalk_network(pytestconfig: pytest.Config) -> Network:
    """The network that `packetwalk_network` in pytest's configuration names. A walk does not change it."""
    from packetwalk.source import from_file, from_mode, from_snapshot

    named = str(pytestconfig.getini(NETWORK))
    if not named:
        raise pytest.UsageError(f"{NETWORK} is not set: name a cluster.yaml, a snapshot's folder or a CNI mode there")
    path = pytestconfig.rootpath / named
    try:
        if path.is_dir():
            return from_snapshot(path)
        return from_file(path) if path.suffix in (".yaml", ".yml") else from_mode(named)
    except (OSError, ValueError) as error:
        raise pytest.UsageError(f"{NETWORK} = {named}: {error}") from None


class Golden:
    """A golden file: what walks look like in their minimal form, one beneath the other."""

    def __init__(self, file: Path, update: bool) -> None:
        self.file, self._update = file, update

    def check(self, traces: Trace | Iterable[Trace]) -> None:
        """The walks are those of the file, each as a line that says what was sent and one with its path. With
        --packetwalk-update the file is written instead."""
        __tracebackhide__ = True
        from packetwalk import text
        from packetwalk.trace import Trace

        walks = [traces] if isinstance(traces, Trace) else list(traces)
        found = "\n".join(f"# {text.sent(trace)}\n{trace.minimal()}\n" for trace in walks)
        if self._update:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_text(found, encoding="utf-8", newline="\n")
            return
        if not self.file.exists():
            pytest.fail(f"{self.file} is not there; pytest {UPDATE} writes it:\n\n{found}", pytrace=False)
        golden = self.file.read_text(encoding="utf-8")
        if golden != found:
            pytest.fail(f"{self.file} ({UPDATE} keeps what is new):\n{difference(golden, found)}", pytrace=False)


def difference(golden: str, found: str) -> str:
    """Two texts of walks line by line, each room of a path on a line of its own."""
    return "\n".join(difflib.unified_diff(_rooms(golden), _rooms(found), "golden", "now", lineterm=""))


def _rooms(walks: str) -> list[str]:
    lines = ([line] if line.startswith("#") else re.split(r" (?=[>:] )", line) for line in walks.splitlines())
    return [part for line in lines for part in line]


@pytest.fixture
def packetwalk_golden(request: pytest.FixtureRequest) -> Golden:
    """The golden file of a test: packetwalk/MODULE.TEST.txt beside it."""
    name = re.sub(r"[^\w.-]+", "-", f"{request.path.stem}.{request.node.name}").strip("-")
    return Golden(request.path.parent / FOLDER / f"{name}.txt", bool(request.config.getoption(UPDATE)))
