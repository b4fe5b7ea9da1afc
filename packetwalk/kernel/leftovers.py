"""What we make in this machine bears our name and birth: the next start can tell what a dead process left.

A namespace is called pw-PID-START-N-ROOM: PID and START (in clock ticks since boot, proc(5)) are the process that made
it, N counts its realisations, ROOM is the room's name. A PID alone may be another process's by now.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from packetwalk.kernel.doors import sysctl_path

NETNS = Path("/run/netns")
OURS = re.compile(r"pw-(\d+)-(\d+)-\d+-.+")
HOST_TUNNELS = "net.core.fb_tunnels_only_for_init_net"
NOTE = Path("/run")  # where a host's setting is noted while it is another

_MNT_DETACH = 2
_COUNT = itertools.count()


def prefix() -> str:
    """A name's beginning that no other process and no earlier call of ours has."""
    pid = os.getpid()
    return f"pw-{pid}-{_born(pid)}-{next(_COUNT)}-"


def sweep() -> list[str]:
    """Remove what processes left that no longer run, and nothing else. Returns the names."""
    left = [name for name in _listed(NETNS) if _orphaned(name)]
    for name in left:
        delete(name)
    for name in _listed(NOTE):
        if name.endswith("-fb_tunnels") and _orphaned(name):
            sysctl_path(HOST_TUNNELS).write_text((NOTE / name).read_text(encoding="ascii"), encoding="ascii")
            (NOTE / name).unlink()
            left.append(name)
    return left


def delete(name: str) -> None:
    """What `ip netns del` does, without a process; its devices go when nobody is in there any more."""
    path = NETNS / name
    ctypes.CDLL(None).umount2(os.fsencode(path), _MNT_DETACH)
    path.unlink(missing_ok=True)


@contextmanager
def no_fallback_tunnels(wanted: bool) -> Iterator[None]:
    """While namespaces are born: none gets a tunl0. The host's setting is put back at once, or by `sweep`."""
    path = sysctl_path(HOST_TUNNELS)
    if not wanted or not path.exists():
        yield
        return
    note = NOTE / f"{prefix()}fb_tunnels"
    before = path.read_text(encoding="ascii")
    note.write_text(before, encoding="ascii")
    path.write_text("1\n", encoding="ascii")
    try:
        yield
    finally:
        path.write_text(before, encoding="ascii")
        note.unlink()


def _listed(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if OURS.fullmatch(name)) if folder.is_dir() else []


def _orphaned(name: str) -> bool:
    found = OURS.fullmatch(name)
    return found is not None and _born(int(found[1])) != int(found[2])


def _born(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 if there is none. Our own never changes."""
    return _own_birth(pid) if pid == os.getpid() else _read_birth(pid)


@functools.cache
def _own_birth(pid: int) -> int:
    return _read_birth(pid)


def _read_birth(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    fields = text.rpartition(")")[2].split()  # the name before it may have blanks
    return 0 if fields[0] in "ZX" else int(fields[19])
