"""What the cluster's DNS knows: the names of services, endpoints and pods, as CoreDNS' plugin kubernetes gives them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from packetwalk.addr import IPv4
from packetwalk.apps.dns import NOERROR, NXDOMAIN, Record
from packetwalk.apps.nameserver import Answer
from packetwalk.kube.dns import is_address
from packetwalk.kube.service import Endpoint, Service

TTL = 30  # seconds, as kubeadm sets it
NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
REVERSE = "in-addr.arpa"
ROOT = Record("", "SOA", 86400, "a.root-servers.net. nstld.verisign-grs.com. 1 1800 900 604800 86400")


class Target(NamedTuple):
    """One address behind a name, with a port; or another name, if it is an alias."""

    host: str
    port: int
    name: str
    alias: bool = False


@dataclass(frozen=True, eq=False)
class ClusterZone:
    """Everything under the cluster's domain, and reverse names of its services and endpoints.

    hostnames: {room of a pod: its hostname within the headless service that is its subdomain}.
    """

    domain: str
    services: tuple[Service, ...]
    namespaces: frozenset[str]
    hostnames: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def find(self, name: str, type: str) -> Answer | None:
        """The answer for a name of the cluster; None for other names, and for addresses it does not know."""
        if name.endswith(f".{REVERSE}"):
            return self._reverse(name, type)
        if name != self.domain and not name.endswith(f".{self.domain}"):
            return None
        if name == self.domain and type == "SOA":
            return Answer(answers=(self._soa,))
        found = self._targets(name.removesuffix(self.domain).rstrip("."))
        if found is None:
            return Answer(NXDOMAIN, authority=(self._soa,))
        answers, additional = self._records(name, type, found)
        return Answer(NOERROR, answers, () if answers else (self._soa,), additional)

    @property
    def _soa(self) -> Record:
        names = f"ns.dns.{self.domain}. hostmaster.{self.domain}."
        return Record(self.domain, "SOA", TTL, f"{names} 1 7200 1800 86400 {TTL}")

    def _records(
        self, name: str, type: str, found: tuple[Target, ...]
    ) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
        """Answers and additional records. There is no IPv6: AAAA is no data."""
        aliases, hosts = [t for t in found if t.alias], [t for t in found if not t.alias]
        if aliases and type in ("A", "AAAA", "CNAME", "TXT"):
            return tuple(Record(name, "CNAME", TTL, f"{t.host}.") for t in aliases), ()
        if type == "A":
            return tuple(Record(name, "A", TTL, host) for host in dict.fromkeys(t.host for t in hosts)), ()
        if type != "SRV":
            return (), ()
        weight = max(100 // max(len(found), 1), 1)
        targets = dict.fromkeys((t.port, f"{t.name}.{self.domain}") for t in hosts)
        srv = tuple(Record(name, "SRV", TTL, f"0 {weight} {port} {target}.") for port, target in targets)
        addresses = dict.fromkeys((f"{t.name}.{self.domain}", t.host) for t in hosts)
        return srv, tuple(Record(target, "A", TTL, host) for target, host in addresses)

    def _targets(self, name: str) -> tuple[Target, ...] | None:
        """What a name below the domain leads to; () for one that only has others below it, None for none."""
        labels = name.split(".") if name else []
        if len(labels) < 2:
            return () if name in ("", "svc", "pod") else None
        *rest, namespace, kind = labels
        if kind not in ("svc", "pod") or namespace not in self.namespaces:
            return None
        if not rest:
            return ()
        return _pod(rest, namespace) if kind == "pod" else self._service(rest, namespace)

    def _service(self, labels: list[str], namespace: str) -> tuple[Target, ...] | None:
        """SERVICE, ENDPOINT.SERVICE or _PORT._PROTOCOL.SERVICE (findServices)."""
        *head, name = labels
        service = self._by_name.get((namespace, name))
        if service is None or len(head) > 2:
            return None
        endpoint = head[0] if len(head) == 1 else ""
        port, proto = (label.removeprefix("_") for label in head) if len(head) == 2 else ("", "")
        where = f"{name}.{namespace}.svc"
        if service.type == "ExternalName":
            return None if endpoint else (Target(service.external_name, 0, where, alias=True),)
        ports = [p for p in service.ports if port in ("", p.name) and proto in ("", p.protocol.lower())]
        if not service.headless and not endpoint:
            return tuple(Target(service.cluster_ip, p.port, where) for p in ports) or None
        found = tuple(
            Target(e.ip, p.target, f"{label}.{where}")
            for label, e in self._endpoints(service) if endpoint in ("", label) for p in ports
        )  # fmt: skip
        return found or None

    def _endpoints(self, service: Service) -> Iterator[tuple[str, Endpoint]]:
        """The ready endpoints, each with its label: a hostname, or the address with dashes."""
        for endpoint in service.endpoints:
            if endpoint.ready:
                hostname = self.hostnames.get((endpoint.pod, service.full_name), "")
                yield hostname or endpoint.ip.replace(".", "-"), endpoint

    def _reverse(self, name: str, type: str) -> Answer | None:
        """PTR of a cluster IP, or of an endpoint in each of its services; others may know other addresses."""
        if type != "PTR":
            return None
        addr = ".".join(reversed(name.removesuffix(f".{REVERSE}").split(".")))
        names = self._by_addr.get(addr, ())
        return Answer(answers=tuple(Record(name, "PTR", TTL, f"{n}.{self.domain}.") for n in names)) if names else None

    @cached_property
    def _by_name(self) -> dict[tuple[str, str], Service]:
        return {(s.namespace, s.name): s for s in self.services}

    @cached_property
    def _by_addr(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for service in self.services:
            for label, endpoint in self._endpoints(service):
                names = found.get(endpoint.ip, ())
                found[endpoint.ip] = (*names, f"{label}.{service.name}.{service.namespace}.svc")
        return found | {s.cluster_ip: (f"{s.name}.{s.namespace}.svc",) for s in self.services if not s.headless}


def _pod(labels: list[str], namespace: str) -> tuple[Target, ...] | None:
    """A-B-C-D of a namespace, whether there is such a pod or not (`pods insecure`)."""
    try:
        addr = IPv4(labels[0].replace("-", ".")) if len(labels) == 1 else None
    except ValueError:
        return None
    return (Target(str(addr), 0, f"{labels[0]}.{namespace}.pod"),) if addr is not None else None


@dataclass(frozen=True, eq=False)
class PublicZone:
    """All other names: what the resolver outside of the cluster knows. {name: address, or another name}"""

    names: Mapping[str, str]

    def find(self, name: str, type: str) -> Answer:
        """The answer for any name."""
        value = self.names.get(name)
        if value is None:
            return Answer(NXDOMAIN, authority=(ROOT,))
        if not is_address(value):
            return Answer(answers=(Record(name, "CNAME", 300, f"{value.rstrip('.')}."),))
        return Answer(answers=(Record(name, "A", 300, value),)) if type == "A" else Answer(authority=(ROOT,))


def namespaces(services: Iterable[Service], pods: Iterable[str]) -> frozenset[str]:
    """The namespaces there are: those of every cluster, and those of services and pods."""
    return frozenset({*NAMESPACES, *(s.namespace for s in services), *pods})
