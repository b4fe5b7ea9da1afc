"""How long a cluster with many services takes: 5,000 of them with 10 endpoints each, on 100 nodes.

Run by `make bench`; keeps the last results in SERVICES.md beside this file.
"""

import time
from collections.abc import Callable
from pathlib import Path

from modes import peak

from packetwalk.cni import find
from packetwalk.engine.walk import walk
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster

HERE = Path(__file__).parent
NODES, PODS, SERVICES, ENDPOINTS = 100, 3000, 5000, 10
TIME, MEMORY = 15, 1024  # seconds to build and walk the first time, MiB


def timed(do: Callable[[], object]) -> tuple[object, float]:
    start = time.process_time()
    result = do()
    return result, time.process_time() - start


def main() -> None:
    cluster = Cluster(NODES, find("calico-ipip"))
    pods = [cluster.pod(f"p{i}", i % NODES + 1, listen=80) for i in range(PODS)]
    for i in range(SERVICES):
        cluster.service(f"s{i}", 80, pods=[pods[(i * ENDPOINTS + k) % PODS] for k in range(ENDPOINTS)])
    network, built = timed(lambda: build(cluster))
    first, second = (timed(lambda to=to: walk(network, pods[0], to, tcp=80))[1] for to in ("s4999", "s4999"))
    good = built + first <= TIME and peak() <= MEMORY
    text = "\n".join([
        "# Last results of `make bench`: services",
        "",
        f"{SERVICES} services with {ENDPOINTS} endpoints each, {NODES} nodes. At most {TIME} s for both, {MEMORY} MiB.",
        "",
        "| build | first walk | the same again | memory | |",
        "|---|---|---|---|---|",
        f"| {built:.2f} s | {first:.2f} s | {second * 1000:.0f} ms | {peak()} MiB | {'ok' if good else 'over'} |",
    ])  # fmt: skip
    print(text)
    (HERE / "SERVICES.md").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
