"""packetwalk shows, hop by hop, what Linux does with a packet on its way through network namespaces.

    import packetwalk as pw

    cluster = pw.Cluster(nodes=2, cni=pw.Calico("ipip"))
    a = cluster.pod("a", node=1)
    b = cluster.pod("b", node=2, listen=80)
    net = pw.build(cluster)
    print(pw.walk(net, a, b, tcp=80))

A name is imported when it is first used, so importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packetwalk.addr import IPv4, Mac, Prefix
    from packetwalk.cni import Calico, Flannel, FlatBridge, Geneve
    from packetwalk.document import load_cluster
    from packetwalk.edit import whatif
    from packetwalk.engine.costs import load_costs
    from packetwalk.engine.fetch import fetch
    from packetwalk.engine.load import Load
    from packetwalk.engine.simulate import simulate
    from packetwalk.engine.sources import Source, constant, on_off, poisson, recorded, transfer
    from packetwalk.engine.walk import address_of, between, walk
    from packetwalk.kube.balancer import LoadBalancer
    from packetwalk.kube.build import build
    from packetwalk.kube.cluster import Cluster, Link, Node, Pod, Rack
    from packetwalk.kube.dns import Dns, DnsConfig
    from packetwalk.kube.ingress import IngressController
    from packetwalk.kube.kubeproxy import KubeProxy
    from packetwalk.kube.service import Endpoint, Service, ServicePort
    from packetwalk.netns.device import Bridge, Veth, Vxlan
    from packetwalk.netns.namespace import Netns
    from packetwalk.network import Network
    from packetwalk.packet import Packet
    from packetwalk.promises import conformance
    from packetwalk.snapshot import SnapshotError, load_snapshot
    from packetwalk.trace import Flow, Hop, Reason, Result, Step, Trace
    from packetwalk.view import plot
    from packetwalk.view.compare import compare
    from packetwalk.view.pcap import write_pcapng

SAMPLE = Path(__file__).parent / "samples" / "calico-ipip"
"""The snapshot that comes with the package: Calico with IP-in-IP on two nodes."""

_HOME = {
    "addr": ("IPv4", "Mac", "Prefix"),
    "cni": ("Calico", "Flannel", "FlatBridge", "Geneve"),
    "document": ("load_cluster",),
    "edit": ("whatif",),
    "engine.costs": ("load_costs",),
    "engine.fetch": ("fetch",),
    "engine.load": ("Load",),
    "engine.simulate": ("simulate",),
    "engine.sources": ("Source", "constant", "on_off", "poisson", "recorded", "transfer"),
    "engine.walk": ("address_of", "between", "walk"),
    "kube.balancer": ("LoadBalancer",),
    "kube.build": ("build",),
    "kube.cluster": ("Cluster", "Link", "Node", "Pod", "Rack"),
    "kube.dns": ("Dns", "DnsConfig"),
    "kube.ingress": ("IngressController",),
    "kube.kubeproxy": ("KubeProxy",),
    "kube.service": ("Endpoint", "Service", "ServicePort"),
    "netns.device": ("Bridge", "Veth", "Vxlan"),
    "netns.namespace": ("Netns",),
    "network": ("Network",),
    "packet": ("Packet",),
    "promises": ("conformance",),
    "snapshot": ("SnapshotError", "load_snapshot"),
    "trace": ("Flow", "Hop", "Reason", "Result", "Step", "Trace"),
    "view.compare": ("compare",),
    "view.pcap": ("write_pcapng",),
}
_WHOLE = {"plot": "view.plot"}
"""names that are modules"""
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "SAMPLE",
    "Bridge",
    "Calico",
    "Cluster",
    "Dns",
    "DnsConfig",
    "Endpoint",
    "Flannel",
    "FlatBridge",
    "Flow",
    "Geneve",
    "Hop",
    "IPv4",
    "IngressController",
    "KubeProxy",
    "Link",
    "Load",
    "LoadBalancer",
    "Mac",
    "Netns",
    "Network",
    "Node",
    "Packet",
    "Pod",
    "Prefix",
    "Rack",
    "Reason",
    "Result",
    "Service",
    "ServicePort",
    "SnapshotError",
    "Source",
    "Step",
    "Trace",
    "Veth",
    "Vxlan",
    "address_of",
    "between",
    "build",
    "compare",
    "conformance",
    "constant",
    "fetch",
    "load_cluster",
    "load_costs",
    "load_snapshot",
    "on_off",
    "plot",
    "poisson",
    "recorded",
    "simulate",
    "transfer",
    "walk",
    "whatif",
    "write_pcapng",
]


def __getattr__(name: str) -> object:
    value: object
    if name in _WHOLE:
        value = import_module(f"{__name__}.{_WHOLE[name]}")
    elif name in _MODULE:
        value = getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
