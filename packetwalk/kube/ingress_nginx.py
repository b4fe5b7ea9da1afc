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
PORT = 80


def with_ingress(cluster: Cluster) -> Cluster:
    """The cluster and the pod of its ingress controller, with the service in front of it."""
    if not cluster.ingresses:
        return cluster
    wanted, names = cluster.ingress_controller, [node.name for node in numbered(cluster.nodes)]
    node = wanted.node or names[0]
    if node not in names:
        raise ValueError(f"the ingress controller is on no node: {unknown('node', node, names)}")
    pod = Pod(NAME, node, NAMESPACE, host_network=wanted.host_network)
    services = list(cluster.services)
    if not wanted.host_network:
        port = ServicePort(PORT, "http", node_port=wanted.node_port)
        services.append(Service(NAME, (port,), (Endpoint(pod=pod.room),), NAMESPACE, "NodePort",
                                external_traffic_policy=wanted.external_traffic_policy))  # fmt: skip
    return replace(cluster, pods=[*cluster.pods, pod], services=services)


def serve_ingress(cluster: Cluster, network: Network, services: Iterable[Service]) -> dict[str, str]:
    """Start the proxy. It knows the pods behind each service, and speaks to them directly.

    Returns {host: address} as the outside is to know them: the address of the node where the proxy is.
    """
    if not cluster.ingresses:
        return {}
    by_name = {s.full_name: s for s in services}
    backends = tuple(_backend(ingress, by_name) for ingress in cluster.ingresses)
    pod = next(p for p in cluster.pods if (p.namespace, p.name) == (NAMESPACE, NAME))
    network[network.room_of(pod.room)].listen(PORT, app=Proxy("ingress-nginx", backends), protos=("tcp",))
    addr = network[pod.node].device(cluster.nic).addrs[0].local
    return {ingress.host.lower(): str(addr) for ingress in cluster.ingresses if ingress.host}


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
