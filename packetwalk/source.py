"""Where a command's network comes from: a folder of real tables, or a
cluster (of a file, or the default one) that a CNI fills."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packetwalk.network import Network

DEFAULT_MODE = "calico-ipip"
SAMPLE = Path(__file__).parent / "samples" / "calico-ipip"
EXAMPLE = Path(__file__).parent / "samples" / "cluster.yaml"


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


def from_mode(cni: str, *, nodes: int = 2, racks: int = 1, seed: int = 0, dns: bool = False) -> Network:
    """The default cluster under a CNI, written `MODE[:OPTION=VALUE]...`. ValueError, in one line, if there is none."""
    from packetwalk.cni import parse
    from packetwalk.kube.build import build
    from packetwalk.kube.cluster import default_cluster

    return build(default_cluster(parse(cni), nodes=nodes, racks=racks, seed=seed, dns=dns))


def from_file(*paths: Path, cni: str | None = None, seed: int = 0, tell: Callable[[str], None] | None = None
              ) -> Network:  # fmt: skip
    """The cluster of a cluster.yaml, of objects of Kubernetes, or of both, under another CNI or seed if told.

    tell: is told in one line which objects are left out.
    ValueError whose `args` are a line for each thing that is wrong; OSError for a file that cannot be read.
    """
    from dataclasses import replace

    from packetwalk.cni import parse
    from packetwalk.document import read
    from packetwalk.edit import apply
    from packetwalk.kube.build import build

    file = read(*paths, cni=cni)
    cluster = file.cluster()
    if tell is not None and file.left_out:
        kinds = (what if " " in what else f"{n} {what}" for what, n in file.left_out.items())
        tell(f"left out: {', '.join(kinds)}")
    cluster = replace(cluster, cni=parse(cni) if cni is not None else cluster.cni, seed=seed or cluster.seed)
    try:
        network = build(cluster)
    except ValueError as error:
        raise file.error(str(error)) from None
    for number, line in enumerate(file.document.set):
        try:
            apply(network, line)
        except ValueError as error:
            raise file.error(f"set: {error}", ("set", number)) from None
    return network
