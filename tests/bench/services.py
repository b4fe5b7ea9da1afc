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
from packetwalk.kube.kubeproxy import KubeProxy

HERE = Path(__file__).parent
NODES, PODS, SERVICES, ENDPOINTS = 100, 3000, 5000, 10
TIME, MEMORY = 15, 1024  # seconds to build and walk the first time, MiB


def timed(do: Callable[[], object]) -> tuple[object, float]:
    start = time.process_time()
    result = do()
    return result, time.process_time() - start


def row(mode: str) -> str:
    """Build and walk in one mode of kube-proxy; memory is the most that was needed so far."""
    cluster = Cluster(NODES, find("calico-ipip"), kube_proxy=KubeProxy(mode=mode))
    pods = [cluster.pod(f"p{i}", i % NODES + 1, listen=80) for i in range(PODS)]
    for i in range(SERVICES):
        cluster.service(f"s{i}", 80, pods=[pods[(i * ENDPOINTS + k) % PODS] for k in range(ENDPOINTS)])
    network, built = timed(lambda: build(cluster))
    first, second = (timed(lambda to=to: walk(network, pods[0], to, tcp=80))[1] for to in ("s4999", "s4999"))
    good = built + first <= TIME and peak() <= MEMORY
    return (f"| {mode} | {built:.2f} s | {first:.2f} s | {second * 1000:.0f} ms | {peak()} MiB "
            f"| {'ok' if good else 'over'} |")  # fmt: skip


def main() -> None:
    text = "\n".join([
        "# Last results of `make bench`: services",
        "",
        f"{SERVICES} services with {ENDPOINTS} endpoints each, {NODES} nodes. At most {TIME} s for both, {MEMORY} MiB.",
        "",
        "| mode | build | first walk | the same again | memory | |",
        "|---|---|---|---|---|---|",
        row("nftables"),  # first, as it takes least
        row("iptables"),
    ])  # fmt: skip
    print(text)
    (HERE / "SERVICES.md").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
