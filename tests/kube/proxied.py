"""Services of the kube-proxy facts in ../shared/data/kube-proxy, made into ours."""

from pathlib import Path
from typing import Any

from packetwalk.addr import IPv4
from packetwalk.kube.kubeproxy import KubeProxy, ProxiedNode
from packetwalk.kube.service import Endpoint, Service, ServicePort

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "kube-proxy"
NODE_ADDRS = ("192.168.0.2", "192.168.1.2", "192.168.99.11", "127.0.0.1")


def service_of(about: dict[str, Any], slices: list[dict[str, Any]]) -> Service:
    """A service and its EndpointSlice as one; the slices give a port's number in the pods by its name."""
    name = f"{about['namespace']}/{about['name']}"
    found = [s for s in slices if s["service"] == name]
    targets = {p["name"]: p["port"] for s in found for p in s["ports"]}
    return Service(
        about["name"],
        tuple(
            ServicePort(p["port"], p["name"], p["protocol"], targets.get(p["name"], 0), p.get("nodePort", 0))
            for p in about["ports"]
        ),
        tuple(
            Endpoint(e["ip"], e["node"] or "", ready=e["ready"], serving=e["serving"], terminating=e["terminating"])
            for s in found
            for e in s["endpoints"]
        ),
        about["namespace"],
        about["type"],
        about["clusterIP"],
        tuple(about.get("externalIPs", ())),
        tuple(about.get("loadBalancerIPs", ())),
        tuple(about.get("loadBalancerSourceRanges", ())),
        about.get("externalTrafficPolicy", "Cluster"),
        about.get("internalTrafficPolicy", "Cluster"),
        about.get("sessionAffinity", "None"),
        about.get("sessionAffinityTimeoutSeconds", 10800),
        about.get("healthCheckNodePort", 0),
    )


def node_of(proxy: KubeProxy, conventions: dict[str, Any]) -> ProxiedNode:
    detector = proxy.local_detector(conventions["podCIDR"], "")
    return ProxiedNode(conventions["node"], IPv4(conventions["nodeIP"]), tuple(map(IPv4, NODE_ADDRS)), detector)
