"""How many packets of simulated traffic are played in a second of this machine's CPU; in units of a SimPy timeout, too.

`make bench` runs this. Times are of this machine and this hour; the ratio to a bare timeout is what can be compared.
"""

from __future__ import annotations

import gc
import time

import simpy

import packetwalk as pw
from packetwalk.network import Network

ROUNDS, PACKETS = 5, 2000
CLUSTERS: dict[str, pw.Cluster] = {
    "flat-bridge, no rules": pw.Cluster(2, pw.FlatBridge()),
    "flannel-vxlan": pw.Cluster(2, pw.Flannel("vxlan")),
    "calico-ipip, its rules": pw.Cluster(2, pw.Calico("ipip")),
}


def timeouts() -> float:
    """ns of CPU of a timeout that 100 processes wait for in turn."""
    env = simpy.Environment()

    def process() -> object:
        while True:
            yield env.timeout(1)

    for _ in range(100):
        env.process(process())  # type: ignore[arg-type]
    start = time.process_time_ns()
    env.run(until=200)
    return (time.process_time_ns() - start) / 20_000


def packets(network: Network, source: pw.Source) -> tuple[float, float]:
    """(ns of CPU a packet, visits of rooms a packet)"""
    gc.collect()
    start = time.process_time_ns()
    load = pw.simulate(network, source, until=f"{PACKETS / 20:g}ms")
    spent = time.process_time_ns() - start
    assert load.delivered == load.sent
    return spent / load.sent, sum(room.visits for room in load.rooms.values()) / load.sent


def main() -> None:
    unit = min(timeouts() for _ in range(ROUNDS))
    print(f"\nTraffic, best of {ROUNDS} rounds of {PACKETS} packets; a SimPy timeout takes {unit:.0f} ns\n")
    print("| what | packets/s | visits a packet | x timeout a packet | x timeout a visit |\n|---|---|---|---|---|")
    for name, cluster in CLUSTERS.items():
        a, b = cluster.pod("a", node=1), cluster.pod("b", node=2)
        net = pw.build(cluster)
        for kind, source in (("udp", pw.constant(a, b, rate=20_000)), ("tcp", pw.transfer(a, b, total=PACKETS * 1400))):
            spent, visits = min(packets(net, source) for _ in range(ROUNDS))
            cells = f"{1e9 / spent:.0f} | {visits:.1f} | {spent / unit:.0f} | {spent / unit / visits:.1f}"
            print(f"| {name}, {kind} | {cells} |")


if __name__ == "__main__":
    main()
