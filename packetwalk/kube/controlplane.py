"""What the control plane fills in for services: cluster IPs and node ports (API server), endpoints (EndpointSlices).

Errors are ValueErrors of one line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from packetwalk.addr import IPv4, Prefix
from packetwalk.hint import unknown
from packetwalk.kube.service import ALLOCATED, Endpoint, Service, ServicePort

if TYPE_CHECKING:
    from packetwalk.kube.cluster import Pod

API_PORT = 6443
NODE_PORTS = range(30000, 32768)


def kubernetes(control_planes: Iterable[tuple[str, IPv4]], service_cidr: Prefix) -> Service:
    """The service of the API servers: the first address, one endpoint for each control-plane node (name, address)."""
    endpoints = tuple(Endpoint(str(ip), name) for name, ip in control_planes)
    port = ServicePort(443, "https", target_port=API_PORT)
    return Service("kubernetes", (port,), endpoints, cluster_ip=str(IPv4(service_cidr.addr + 1)))


def selected(service: Service, pods: Iterable[Pod]) -> Service:
    """The service with the pods that its selector finds behind it (the EndpointSlice controller's part)."""
    if not service.selector:
        return service
    known = {e.pod for e in service.endpoints}
    found = tuple(
        Endpoint(pod=pod.room, ready=pod.ready)
        for pod in pods
        if pod.namespace == service.namespace and service.selector.items() <= pod.labels.items()
    )
    return replace(service, endpoints=(*service.endpoints, *(e for e in found if e.pod not in known)))


def filled(
    services: Iterable[Service], service_cidr: Prefix, pods: Mapping[str, tuple[IPv4, str]]
) -> tuple[Service, ...]:
    """The services with nothing left open. pods: address and node of each, by the name of its room.

    What is asked for goes first, the rest gets what is free in the order of the services.
    """
    services = tuple(services)
    size = 1 << (32 - service_cidr.length)
    first = int(service_cidr.addr)
    addresses = Allocator("cluster IP", range(first + 1, first + size - 1), min(max(16, size // 16), 256), IPv4)
    ports = Allocator("node port", NODE_PORTS, min(max(16, len(NODE_PORTS) // 32), 128), int)
    seen: set[str] = set()
    for service in services:
        if service.full_name in seen:
            raise ValueError(f"two services are called {service.full_name!r}")
        seen.add(service.full_name)
        if service.cluster_ip and not service.headless:
            addresses.claim(int(IPv4(service.cluster_ip)), service.name)
        for wanted in filter(None, (*(p.node_port for p in service.ports), service.health_check_node_port)):
            ports.claim(wanted, service.name)
    return tuple(_filled(service, addresses, ports, pods) for service in services)


def _filled(
    service: Service, addresses: Allocator, ports: Allocator, pods: Mapping[str, tuple[IPv4, str]]
) -> Service:
    name = service.name
    checked = service.type == "LoadBalancer" and service.external_local
    return replace(
        service,
        cluster_ip=service.cluster_ip or ("" if service.headless else str(IPv4(addresses.free(name)))),
        ports=tuple(
            replace(p, node_port=p.node_port or ports.free(name)) if service.type in ALLOCATED else p
            for p in service.ports
        ),
        health_check_node_port=service.health_check_node_port or (ports.free(name) if checked else 0),
        endpoints=tuple(_found(service, endpoint, pods) for endpoint in service.endpoints),
    )


def _found(service: Service, endpoint: Endpoint, pods: Mapping[str, tuple[IPv4, str]]) -> Endpoint:
    """An endpoint with the address and node of its pod."""
    if not endpoint.pod:
        return replace(endpoint, ready=endpoint.ready or service.publish_not_ready_addresses)
    if endpoint.pod not in pods:
        raise ValueError(f"service {service.name!r}: {unknown('pod', endpoint.pod, pods)}")
    ip, node = pods[endpoint.pod]
    return replace(endpoint, ip=str(ip), node=node, ready=endpoint.ready or service.publish_not_ready_addresses)


class Allocator:
    """Hands out numbers: those asked for, and else what is free.

    The first `band` of them are the last to go to who does not ask, so that whoever asks finds them free (KEPs 3070 and
    3668). show: how a number is printed.
    """

    def __init__(self, what: str, values: range, band: int, show: Callable[[int], object]) -> None:
        self.what, self.values, self.show = what, values, show
        self._owners: dict[int, str] = {}
        self._rest = chain(values[band:], values[:band])

    def claim(self, value: int, owner: str) -> None:
        """Give out a number that is asked for."""
        if value not in self.values:
            ends = f"{self.show(self.values[0])} to {self.show(self.values[-1])}"
            raise ValueError(
                f"service {owner!r}: {self.what} {self.show(value)} is out of range: {ends} was expected"
            )
        if value in self._owners:
            raise ValueError(
                f"service {owner!r}: {self.what} {self.show(value)} is taken by service {self._owners[value]!r}"
            )
        self._owners[value] = owner

    def free(self, owner: str) -> int:
        """The next one that is free."""
        for value in self._rest:
            if value not in self._owners:
                self._owners[value] = owner
                return value
        raise ValueError(f"service {owner!r}: no {self.what} is left")
