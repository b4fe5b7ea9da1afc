"""What comes of a plan's conflicts, walked: a cluster of two nodes with its ranges, and the packet that goes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from packetwalk.addr import IPv4, Prefix
from packetwalk.edit import apply
from packetwalk.engine.walk import address_of, walk
from packetwalk.kube.build import build
from packetwalk.kube.cluster import default_cluster
from packetwalk.kube.plan import DOCKER, FIXED, NODES, OUTSIDE, PODS, SERVICES, Conflict, Plan
from packetwalk.netns.device import Bridge
from packetwalk.network import Network

if TYPE_CHECKING:
    from packetwalk.cni import Cni

DOCKERS_RULE = f"iptables -t nat -A POSTROUTING -s {FIXED[DOCKER]} ! -o docker0 -j MASQUERADE"


def show(plan: Plan, conflict: Conflict, cni: Cni) -> str:
    """A walk in one line that shows what a conflict does; empty where no small cluster in these ranges shows it."""
    if conflict.other is None or conflict.other.kind not in (OUTSIDE, DOCKER):
        return ""
    for narrowed in ({conflict.one.kind: conflict.overlap}, {}):  # first one that lies in the overlap as a whole
        try:
            network = _network(plan, cni, narrowed)
        except ValueError:
            continue  # too small, or its own ranges overlap
        if conflict.other.kind == OUTSIDE:
            return _reused(network, conflict)
        return _beside_docker(network) if conflict.one.kind == PODS else ""
    return ""


def _network(plan: Plan, cni: Cni, narrowed: Mapping[str, Prefix]) -> Network:
    """The default cluster, in the plan's ranges or narrower ones."""
    pods, services, nodes = (str(narrowed.get(kind, plan.prefix(kind))) for kind in (PODS, SERVICES, NODES))
    cluster = replace(default_cluster(cni), pod_cidr=pods, service_cidr=services, node_cidr=nodes)
    return build(replace(cluster, node_mask=plan.node_mask))


def _reused(network: Network, conflict: Conflict) -> str:
    """A pod sends to an outside host whose address the cluster uses, too."""
    host, port = {
        PODS: (address_of(network, "b"), ""), NODES: (address_of(network, "node-2"), ""),
        SERVICES: (network.services["web"], ":80"),
    }[conflict.one.kind]  # fmt: skip
    if host not in conflict.overlap:
        return ""
    return f"to an outside host {host}{port}: {walk(network, 'a', f'{host}{port}').minimal()}"


def _beside_docker(network: Network) -> str:
    """The first node gets Docker's bridge and its rule, and a pod there sends to another node."""
    node = network["node-1"]
    node.link_add("docker0", Bridge())
    node.addr_add("docker0", f"{IPv4(FIXED[DOCKER].addr + 1)}/{FIXED[DOCKER].length}")
    apply(network, f"node-1 {DOCKERS_RULE}")
    trace = walk(network, "a", "b")
    return f"with Docker on node-1: {trace.minimal()}; b sees {trace.source_seen('b')}, a is {address_of(network, 'a')}"
