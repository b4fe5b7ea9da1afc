"""Real tables in: a directory of `ip -j`, `bridge -j` and sysctl output becomes a Network."""

from packetwalk.snapshot.iproute import load_neighbours, load_snapshot
from packetwalk.snapshot.reader import SnapshotError

__all__ = ["SnapshotError", "load_neighbours", "load_snapshot"]
