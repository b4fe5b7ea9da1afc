"""Nothing of ours stays in the machine: not after ten kills at any moment, not after Ctrl-C, not after an exception."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from packetwalk.kernel.leftovers import NETNS, NOTE, OURS, prefix, sweep
from packetwalk.kernel.realise import realise
from tests.kernel.lab import line

pytestmark = pytest.mark.usefixtures("kernel")
VICTIM = """
import sys
sys.path.insert(0, {root!r})
from tests.kernel.lab import line, probe, disagreements
print("on the way", flush=True)
while True:
    disagreements(line().network, [probe("icmp a 10.0.2.2"), probe("tcp a 10.0.2.2:80")])
"""


def left_by(pid: int) -> list[str]:
    """What bears the name of a process, in the places where we leave things."""
    names = [path.name for place in (NETNS, NOTE) if place.is_dir() for path in place.iterdir()]
    return [name for name in names if (found := OURS.fullmatch(name)) and int(found[1]) == pid]


def victim(root: Path) -> subprocess.Popen[str]:
    """A process that builds networks and sends probes until it is stopped."""
    code = VICTIM.format(root=str(root))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "on the way\n"
    return process


def children(pid: int) -> list[int]:
    """The processes whose parent is that one."""
    stats = (path.read_text(errors="replace") for path in Path("/proc").glob("[0-9]*/stat") if path.exists())
    rows = [[*text.rpartition(")")[2].split(), text.split(" ", 1)[0]] for text in stats]
    return [int(row[-1]) for row in rows if int(row[1]) == pid]


def test_ten_kills_leave_nothing_after_the_next_start(root: Path) -> None:
    """SIGKILL at ten moments from the first namespace on; several at a time, as their lives are long."""
    victims, hit = [victim(root) for _ in range(10)], False
    try:
        for n, process in enumerate(victims):
            time.sleep(0.03 + 0.17 * (n % 4))
            helpers = children(process.pid)
            process.kill()
            process.wait()
            hit = hit or bool(left_by(process.pid))
            end = time.monotonic() + 5
            while any(Path(f"/proc/{pid}").exists() for pid in helpers):  # PR_SET_PDEATHSIG took them along
                assert time.monotonic() < end, f"still running: {helpers}"
                time.sleep(0.01)
    finally:
        for process in victims:
            process.kill()
            process.communicate()
    assert hit, "no kill hit a moment that leaves something"
    with realise(line().network):
        pass
    assert [name for process in victims for name in left_by(process.pid)] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_can_be_heard_leaves_nothing_at_once(root: Path, number: signal.Signals) -> None:
    process = victim(root)
    end = time.monotonic() + 10
    while not left_by(process.pid):
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(number)
    process.communicate(timeout=60)  # taking it all away is slow on a busy machine
    assert left_by(process.pid) == []


def test_an_exception_leaves_nothing() -> None:
    with pytest.raises(ZeroDivisionError), realise(line().network) as real:
        assert set(left_by(os.getpid())) >= set(real.names.values())
        raise ZeroDivisionError
    assert not set(left_by(os.getpid())) & set(real.names.values())


def test_what_a_living_process_made_is_left_alone() -> None:
    """Also what has the PID of a living process but was born at another time is nobody's."""
    with realise(line().network) as real:
        sweep()
        assert set(left_by(os.getpid())) >= set(real.names.values())
    pid, born, _ = prefix().removeprefix("pw-").split("-", 2)
    stranger = f"pw-{pid}-{int(born) + 1}-0-room"
    subprocess.run(["ip", "netns", "add", stranger], check=True)
    assert stranger in sweep()
    assert stranger not in left_by(os.getpid())
