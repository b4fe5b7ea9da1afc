"""The ingress controller: a pod with a proxy, as ingress-nginx is one, and what leads to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from packetwalk.addr import IPv4
from packetwalk.apps.http import Backend, Proxy
from packetwalk.hint import unknown
from packetwalk.kube.cluster import Cluster, Pod, numbered
from packetwalk.kube.ingress import Ingress
from packetwalk.kube.service import Endpoint, Service, ServicePort
from packetwalk.network import Network

NAMESPACE, NAME = "ingress-nginx", "ingress-nginx-controller"
LABELS = {"app.kubernetes.io/name": "ingress-nginx", "app.kubernetes.io/component": "controller"}
PORT = 80


def with_ingress(cluster: Cluster) -> Cluster:
    """The cluster and the pod of its ingress controller, with the service in front of it, unless it has one already."""
    if not cluster.ingresses or controllers(cluster):
        return cluster
    wanted, names = cluster.ingress_controller, [node.name for node in numbered(cluster.nodes)]
    node = wanted.node or names[0]
    if node not in names:
        raise ValueError(f"the ingress controller is on no node: {unknown('node', node, names)}")
    pod = Pod(NAME, node, NAMESPACE, labels=LABELS, host_network=wanted.host_network)
    services = list(cluster.services)
    if not wanted.host_network:
        port = ServicePort(PORT, "http", node_port=wanted.node_port)
        type = "LoadBalancer" if wanted.load_balancer else "NodePort"
        services.append(Service(NAME, (port,), (Endpoint(pod=pod.room),), NAMESPACE, type,
                                external_traffic_policy=wanted.external_traffic_policy))  # fmt: skip
    return replace(cluster, pods=[*cluster.pods, pod], services=services)


def controllers(cluster: Cluster) -> list[Pod]:
    """The pods that are an ingress controller, by their labels."""
    return [pod for pod in cluster.pods if pod.labels.items() >= LABELS.items()]


def serve_ingress(cluster: Cluster, network: Network, services: Iterable[Service]) -> dict[str, str]:
    """Start the proxy. It knows the pods behind each service, and speaks to them directly.

    Returns {host: address} as the outside is to know them: that of a load balancer, or of the node of the proxy.
    """
    if not cluster.ingresses:
        return {}
    by_name = {s.full_name: s for s in services}
    backends = tuple(_backend(ingress, by_name) for ingress in cluster.ingresses)
    pods = controllers(cluster)
    for pod in pods:
        network[network.room_of(pod.room)].listen(PORT, app=Proxy("ingress-nginx", backends), protos=("tcp",))
    rooms = {pod.room for pod in pods}
    before = (s for s in by_name.values() if s.load_balancer_ips and any(e.pod in rooms for e in s.endpoints))
    node = network[pods[0].node].device(cluster.nic).addrs[0].local
    addr = next((s.load_balancer_ips[0] for s in before), str(node))
    return {ingress.host.lower(): addr for ingress in cluster.ingresses if ingress.host}


def _backend(ingress: Ingress, services: dict[str, Service]) -> Backend:
    """Where the requests of an ingress go: the ready endpoints of its service, at the pods' own port."""
    service = services.get(ingress.full_name)
    if service is None:
        raise ValueError(f"ingress {ingress.host!r}: {unknown('service', ingress.full_name, services)}")
    port = next((p for p in service.ports if ingress.port in (0, p.port)), None)
    if port is None:
        ports = ", ".join(str(p.port) for p in service.ports)
        raise ValueError(f"ingress {ingress.host!r}: {service.full_name!r} has no port {ingress.port}, only {ports}")
    endpoints = tuple((IPv4(e.ip), port.target) for e in service.endpoints if e.ready)
    return Backend(ingress.host.lower(), ingress.path, service.full_name, endpoints)
