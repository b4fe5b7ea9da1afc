"""Services and their endpoints: what a user writes down, and which endpoints a node may use.

    web = Service("web", ports=(ServicePort(80),), endpoints=(Endpoint(pod="b"),))

What is left open (cluster IP, node ports, a pod's address and node) is filled in when a cluster is built.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
PROTOCOLS = ("TCP", "UDP", "SCTP")
ALLOCATED = ("NodePort", "LoadBalancer")  # the types whose ports get a node port each
POLICIES = ("Cluster", "Local")
AFFINITIES = ("None", "ClientIP")
HEADLESS = "None"


@dataclass(frozen=True)
class ServicePort:
    """A port of a service. target_port: the pods' own, the same if 0. node_port: drawn where the type wants one."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    target_port: int = 0
    node_port: int = 0

    def __post_init__(self) -> None:
        _known("protocol", self.protocol, PROTOCOLS)

    @property
    def target(self) -> int:
        return self.target_port or self.port


@dataclass(frozen=True)
class Endpoint:
    """An address behind a service: that of a pod, by the name of its room, or any other.

    ready, serving, terminating: the conditions of an EndpointSlice; serving is as ready unless told.
    zones: its topology hints.
    """

    ip: str = ""
    node: str = ""
    pod: str = ""
    ready: bool = True
    serving: bool | None = None
    terminating: bool = False
    zones: tuple[str, ...] = ()

    @property
    def lingers(self) -> bool:
        """Serving while it terminates: used where nothing is ready (KEP 1669)."""
        return self.terminating and (self.ready if self.serving is None else self.serving)


@dataclass(frozen=True)
class Service:
    """A Kubernetes service. cluster_ip `None` makes it headless: DNS alone knows of it, and no rule is written.

    external_ips and load_balancer_ips lead traffic of any node to it; load_balancer_source_ranges (empty: all) says
    whose. session_affinity_timeout in seconds. selector: labels; pods of its namespace that have them are endpoints,
    too. external_name: what an ExternalName is another name for. publish_not_ready_addresses: all endpoints count as
    ready.
    """

    name: str
    ports: tuple[ServicePort, ...]
    endpoints: tuple[Endpoint, ...] = ()
    namespace: str = "default"
    type: str = "ClusterIP"
    cluster_ip: str = ""
    external_ips: tuple[str, ...] = ()
    load_balancer_ips: tuple[str, ...] = ()
    load_balancer_source_ranges: tuple[str, ...] = ()
    external_traffic_policy: str = "Cluster"
    internal_traffic_policy: str = "Cluster"
    session_affinity: str = "None"
    session_affinity_timeout: int = 10800
    health_check_node_port: int = 0
    selector: Mapping[str, str] = field(default_factory=dict, hash=False)
    external_name: str = ""
    publish_not_ready_addresses: bool = False

    def __post_init__(self) -> None:
        _known("type", self.type, TYPES)
        _known("external traffic policy", self.external_traffic_policy, POLICIES)
        _known("internal traffic policy", self.internal_traffic_policy, POLICIES)
        _known("session affinity", self.session_affinity, AFFINITIES)
        if bool(self.external_name) != (self.type == "ExternalName"):
            raise ValueError(f"service {self.name!r}: an external_name is what the type ExternalName has, and needs")
        seen: set[tuple[int, str]] = set()
        for port in self.ports:
            if (port.port, port.protocol) in seen:
                raise ValueError(f"service {self.name!r} has port {port.port}/{port.protocol} twice")
            seen.add((port.port, port.protocol))
            if len(self.ports) > 1 and not port.name:
                raise ValueError(f"service {self.name!r} has several ports, so each needs a name")
            if port.node_port and self.type not in ALLOCATED:
                raise ValueError(f"service {self.name!r} has node port {port.node_port}, but is a {self.type}")

    @property
    def full_name(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def room(self) -> str:
        """What a walk to it is told: `name.namespace`, as in DNS. No network namespace is called so."""
        return f"{self.name}.{self.namespace}"

    @property
    def headless(self) -> bool:
        """Whether it has no address of its own."""
        return self.cluster_ip == HEADLESS or self.type == "ExternalName"

    @property
    def internal_local(self) -> bool:
        return self.internal_traffic_policy == "Local"

    @property
    def external_local(self) -> bool:
        return self.external_traffic_policy == "Local"

    def reached_from_outside(self, port: ServicePort) -> bool:
        """Whether that port has another address than the cluster IP."""
        return bool(port.node_port or self.external_ips or self.load_balancer_ips)


class Usable(NamedTuple):
    """The endpoints of one service that a node may use: those of the whole cluster, and the node's own."""

    cluster: tuple[Endpoint, ...]
    local: tuple[Endpoint, ...]


def usable(service: Service, node: str, zone: str = "") -> Usable:
    """Which endpoints kube-proxy on a node takes (CategorizeEndpoints in topology.go).

    Ready ones, near ones first where hints say so; where there is none, those that serve while they terminate. The
    node's own do not fall back to others.
    """
    return Usable(_ready_or_lingering(_near(service.endpoints, zone)),
                  _ready_or_lingering(e for e in service.endpoints if e.node == node))  # fmt: skip


def _ready_or_lingering(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    endpoints = tuple(endpoints)
    return tuple(e for e in endpoints if e.ready) or tuple(e for e in endpoints if e.lingers)


def _near(endpoints: tuple[Endpoint, ...], zone: str) -> Iterator[Endpoint]:
    """Those hinted to the zone. Hints hold only if every ready endpoint has some and one of them names the zone."""
    ready = [e for e in endpoints if e.ready]
    hinted = zone and all(e.zones for e in ready) and any(zone in e.zones for e in ready)
    return (e for e in endpoints if not hinted or not e.ready or zone in e.zones)


def _known(what: str, word: str, words: Iterable[str]) -> None:
    words = tuple(words)
    if word not in words:
        raise ValueError(f"there is no {what} {word!r}; there are {', '.join(words)}")
