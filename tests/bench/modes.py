"""How long clusters take to build and to walk, and what they weigh, at 100 and 1,000 nodes of 30 pods in racks of 40.

Run by `make bench`; keeps the last results in MODES.md beside this file. A number of nodes is tried, too:
`python tests/bench/modes.py 5000`. Each size has a process of its own, so its memory is its own.
"""

import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from packetwalk.cni import find
from packetwalk.engine.walk import address_of, walk
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster, Pod
from packetwalk.trace import Flow

HERE = Path(__file__).parent
MODES = ("flat-bridge", "flannel-vxlan", "calico-bgp", "calico-ipip", "calico-vxlan-crosssubnet")
TUNNELLED = ("flannel-vxlan", "calico-ipip", "calico-vxlan-crosssubnet")
SIZES, PODS, RACK, TURNS = (100, 1000), 30, 40, 9
BUILD, MEMORY, WALK = 10, 1024, 20  # seconds, MiB, ms at 1,000 nodes


class Figure(NamedTuple):
    """One cluster: seconds of CPU to build, MiB at the most, ms of CPU for a walk between its first and last node."""

    mode: str
    nodes: int
    racks: int
    build: float
    memory: int
    walk: float


def measure(mode: str, nodes: int, racks: int) -> Figure:
    """Build and walk in this process."""
    cluster = Cluster(nodes, find(mode), racks)
    cluster.pods.extend(Pod(f"p{n}-{i}", f"node-{n}", listen=(80,)) for n in range(1, nodes + 1) for i in range(PODS))
    start = time.process_time()
    network = build(cluster)
    built = time.process_time() - start
    last = nodes if mode in TUNNELLED or racks == 1 else 1 + racks  # the second of the first rack, or nobody routes
    flow = Flow("icmp", "p1-0", address_of(network, f"p{last}-3"))
    times = []
    for _ in range(TURNS):
        start = time.process_time()
        assert walk(network, flow).delivered
        times.append((time.process_time() - start) * 1000)
    return Figure(mode, nodes, racks, built, peak(), statistics.median(times))


def peak() -> int:
    """MiB this process has held at the most (0 where the system does not say)."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def apart(mode: str, nodes: int, racks: int) -> Figure:
    """Measured in a process of its own."""
    command = [sys.executable, __file__, "--one", mode, str(nodes), str(racks)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Figure(*json.loads(done.stdout))


def row(f: Figure) -> str:
    asked = f.nodes == SIZES[-1] and f.racks > 1
    good = f.build <= BUILD and f.memory <= MEMORY and f.walk <= WALK
    verdict = ("ok" if good else "over") if asked else ""
    return f"| {f.mode} | {f.nodes} | {f.racks} | {f.build:.2f} s | {f.memory} MiB | {f.walk:.1f} ms | {verdict} |"


def main(more: list[int]) -> None:
    lines = [
        "# Last results of `make bench`: clusters",
        "",
        f"{PODS} pods a node. At most, {SIZES[-1]} nodes in racks of {RACK}: {BUILD} s, {MEMORY} MiB, {WALK} ms.",
        "",
        "| mode | nodes | racks | build | memory | walk | |",
        "|---|---|---|---|---|---|---|",
    ]
    slopes = []
    for mode in MODES:
        figures = [apart(mode, nodes, math.ceil(nodes / RACK)) for nodes in SIZES]
        lines += map(row, figures)
        steps = math.log(SIZES[1] / SIZES[0])
        slopes.append(f"{mode} {math.log(figures[1].build / figures[0].build) / steps:.2f}")
    lines += [row(apart("flannel-vxlan", SIZES[-1], 1))]
    lines += [row(apart("calico-ipip", nodes, math.ceil(nodes / RACK))) for nodes in more]
    lines += ["", f"Slope of building by nodes, {SIZES[0]} to {SIZES[1]} (1 is proportional): {', '.join(slopes)}."]
    lines += ["With one rack an ARP request reaches all nodes, which is what its walk takes the time for."]
    text = "\n".join(lines)
    print(text)
    (HERE / "MODES.md").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
    else:
        main([int(n) for n in sys.argv[1:]])
