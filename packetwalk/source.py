"""Where a command's network comes from: a folder of real tables, or a cluster whose nodes a CNI fills."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packetwalk.network import Network

SAMPLE = Path(__file__).parent / "samples" / "calico-ipip"


def from_snapshot(folder: Path, seed: int = 0) -> Network:
    """The network of a snapshot. ValueError, in one line, for a folder that is none, or tables that cannot be read."""
    from packetwalk.snapshot import SnapshotError, load_snapshot

    check_folder(folder)
    try:
        return load_snapshot(folder, seed=seed)
    except SnapshotError as error:
        raise ValueError(str(error)) from None


def check_folder(folder: Path) -> None:
    """ValueError, in one line, for a folder that holds no snapshot."""
    if not folder.exists():
        raise ValueError(f"{folder}: no such folder")
    if not (folder / "snapshot.json").exists():
        raise ValueError(f"{folder} is not a snapshot: it has no snapshot.json")


def from_mode(cni: str, *, nodes: int = 2, racks: int = 1, seed: int = 0) -> Network:
    """The default cluster under a CNI, written `MODE[:OPTION=VALUE]...`. ValueError, in one line, if there is none."""
    from packetwalk.cni import parse
    from packetwalk.kube.build import build
    from packetwalk.kube.cluster import default_cluster

    return build(default_cluster(parse(cni), nodes=nodes, racks=racks, seed=seed))
