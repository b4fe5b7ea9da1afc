"""Walks in every mode: the kinds of traffic a cluster has, one cluster that has them all, and what came of each.

`python -m tests.walks` prints the table of the README.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import groupby
from typing import NamedTuple

from packetwalk.addr import IPv4
from packetwalk.cni import MODES, parse
from packetwalk.engine.walk import walk
from packetwalk.kube.balancer import LoadBalancer
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster
from packetwalk.kube.kubeproxy import KubeProxy
from packetwalk.network import Network
from packetwalk.trace import Trace


class Kind(NamedTuple):
    """A kind of traffic. way: the nodes, pods and hosts that request and answer pass.

    plain: by a CNI that does not hide pods behind their node, if it can be told so. balancer: who
    leads to nodes what is for a service of type LoadBalancer.
    """

    words: str
    src: str
    dst: str
    way: str
    plain: bool = False
    balancer: str = ""

    @property
    def proxied(self) -> bool:
        """Whether kube-proxy has a part in it."""
        return self.dst.partition(":")[0] in SERVICES or ":30" in self.dst


SERVICES = ("web", "own", "local", "front", "balanced", "nearby")
KINDS = (
    Kind("pod to pod, same node", "a", "c", "a node-1 c node-1 a"),
    Kind("pod to pod, other node", "a", "b", "a node-1 node-2 b node-2 node-1 a"),
    Kind("pod to ClusterIP", "a", "web:80", "a node-1 node-2 b node-2 node-1 a"),
    Kind("pod to its own service", "a", "own:80", "a node-1 a node-1 a"),
    Kind("node to ClusterIP", "node-1", "web:80", "node-1 node-2 b node-2 node-1"),
    Kind("outside to NodePort, pod elsewhere", "out", "node-1:30080", "out node-1 node-2 b node-2 node-1 out"),
    Kind("same, Local, pod elsewhere", "out", "node-1:30081", "out node-1"),
    Kind("same, Local, pod on that node", "out", "node-2:30081", "out node-2 b node-2 out"),
    Kind("LoadBalancer in layer 2", "out", "balanced:80", "out node-1 node-2 b node-2 node-1 out", balancer="l2"),
    Kind("same, policy Local", "out", "nearby:80", "out node-2 b node-2 out", balancer="l2"),
    Kind("LoadBalancer of a cloud", "out", "balanced:80", "out lb node-1 node-2 b node-2 node-1 lb out",
         balancer="cloud"),
    Kind("same, policy Local", "out", "nearby:80", "out lb node-2 b node-2 lb out", balancer="cloud"),
    Kind("pod to outside", "a", "out", "a node-1 out node-1 a"),
    Kind("same, without masquerade", "a", "out", "a node-1 out", plain=True),
    Kind("pod to another node", "a", "node-2", "a node-1 node-2 node-1 a"),
    Kind("kubelet to a pod of its node", "node-1/kubelet", "a:80", "node-1 a node-1"),
    Kind("host-network pod to pod elsewhere", "proxy", "b:80", "node-1 node-2 b node-2 node-1"),
    Kind("pod to host-network pod elsewhere", "b", "proxy:8080", "b node-2 node-1 node-2 b"),
    Kind("pod to ClusterIP of host-network pod", "b", "front:80", "b node-2 node-1 node-2 b"),
)  # fmt: skip
PLAIN = {"calico": ":nat_outgoing=false", "flannel": ":ip_masq=false"}
"""What tells a CNI not to, by how the names of its modes begin."""


@cache
def cluster(mode: str, *, plain: bool = False, balancer: str = "", proxy: str = "iptables") -> Network:
    """Pods a and c on node-1, b on node-2, proxy on the network of node-1; services in front of b, a and proxy."""
    option = next((o for begin, o in PLAIN.items() if plain and mode.startswith(begin)), "")
    strict = {"strict_arp": True} if proxy == "ipvs" else {}  # or every node answers for the addresses of services
    made = Cluster(2, parse(f"{mode}{option}"), kube_proxy=KubeProxy(mode=proxy, **strict),
                   load_balancer=LoadBalancer(balancer) if balancer else None)  # fmt: skip
    a, _, b = (made.pod(name, node, listen=80) for name, node in (("a", 1), ("c", 1), ("b", 2)))
    made.service("web", 80, pods=[b], node_port=30080)
    made.service("local", 80, pods=[b], node_port=30081, external_traffic_policy="Local")
    made.service("own", 80, pods=[a])
    front = made.pod("proxy", 1, listen=8080, host_network=True)
    made.service("front", 80, pods=[front], target_port=8080)
    if balancer:
        made.service("balanced", 80, pods=[b], type="LoadBalancer")
        made.service("nearby", 80, pods=[b], type="LoadBalancer", external_traffic_policy="Local")
    return build(made)


def network(kind: Kind, mode: str, proxy: str = "iptables") -> Network:
    """The cluster that a kind of traffic is walked in."""
    return cluster(mode, plain=kind.plain, balancer=kind.balancer, proxy=proxy)


def way(trace: Trace, network: Network) -> str:
    """The nodes, pods and hosts in the order in which they were visited; switches and routers are left out."""
    rooms = (h.room for h in sorted(trace.hops, key=lambda h: h.at))
    return " ".join(room for room, _ in groupby(r for r in rooms if network.roles[r] in ("node", "pod", "host")))


def whose(network: Network, addr: IPv4) -> str:
    """Whose an address is: `pod`, `client` (outside), `node`, or the device of a node that is not its card."""
    for room in network:
        for device in room.devices.values():
            if any(a.local == addr for a in device.addrs):
                role = {"host": "client"}.get(network.roles[room.name], network.roles[room.name])
                return device.name if role == "node" and device.name != "eth0" else role
    return str(addr)


def cell(trace: Trace, network: Network) -> str:
    """What the receiver saw as source; and if no answer came, that, or why nothing arrived."""
    source = trace.source_seen()
    if source is None:
        return f"dropped ({trace.drops[0][1].what.reason})" if trace.drops else "lost"  # type: ignore[attr-defined]
    return whose(network, source) if trace.delivered else f"{whose(network, source)}, no answer"


def column(mode: str) -> list[str]:
    """The cells of a mode, one for each kind."""
    return [cell(walk(network(kind, mode), kind.src, kind.dst), network(kind, mode)) for kind in KINDS]


def table() -> Iterator[str]:
    """The README's table: kinds down, modes across; modes that do the same share a column."""
    columns: dict[tuple[str, ...], list[str]] = {}
    for mode in MODES:
        columns.setdefault(tuple(column(mode)), []).append(mode)
    head = [", ".join(_short(modes)) for modes in columns.values()]
    yield f"| the receiver sees as source | {' | '.join(head)} |"
    yield f"|{'---|' * (len(head) + 1)}"
    for number, kind in enumerate(KINDS):
        yield f"| {kind.words} | {' | '.join(cells[number].partition(' (')[0] for cells in columns)} |"


def _short(modes: list[str]) -> list[str]:
    """Names, those that begin as the first one does without their beginning."""
    first = f"{modes[0].partition('-')[0]}-"
    return [modes[0], *(mode.removeprefix(first) for mode in modes[1:])]


if __name__ == "__main__":
    print("\n".join(table()))
