"""Kubernetes' objects of a dump become nodes, pods and services of a cluster.

What no object says is taken from the document beside them, or from what only looks like it: subnets from the nodes'
addresses, the CNI from their annotations, ranges from the flags of the control plane's pods.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from packetwalk.addr import IPv4, Prefix
from packetwalk.document.kinds import (
    KINDS,
    IngressObject,
    IngressServicePort,
    NodeObject,
    Object,
    PodObject,
    PodSpec,
    PoolObject,
    ServiceObject,
    WorkloadObject,
)  # fmt: skip
from packetwalk.document.problems import Source, dotted, told
from packetwalk.document.slips import slips
from packetwalk.document.tree import Place, Problem
from packetwalk.hint import unknown
from packetwalk.kube.balancer import LoadBalancer
from packetwalk.kube.cluster import Cluster, Node, Pod, Rack
from packetwalk.kube.dns import Dns, DnsConfig
from packetwalk.kube.ingress import Ingress
from packetwalk.kube.workload import scheduled

T = TypeVar("T", bound=Object)
MODES = {"vxlan": "flannel-vxlan", "host-gw": "flannel-host-gw", "ipip": "flannel-ipip"}
BACKEND = "flannel.alpha.coreos.com/backend-type"
CALICO = {
    "projectcalico.org/IPv4VXLANTunnelAddr": "calico-vxlan",
    "projectcalico.org/IPv4IPIPTunnelAddr": "calico-ipip",
    "projectcalico.org/IPv4Address": "calico-bgp",
}
METALLB = {"L2Advertisement": "l2", "BGPAdvertisement": "bgp"}
CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
ZONE = "topology.kubernetes.io/zone"
DONE = ("Succeeded", "Failed")
WEB_PORTS = (80, 8080)


class Found(NamedTuple):
    """An object, and where it stands."""

    source: Source
    place: Place
    it: Object

    def problem(self, text: str, *path: str | int) -> tuple[Path, Problem]:
        """Something wrong with a field of it."""
        place = (*self.place, *path)
        return self.source.path, Problem(*self.source.tree.at(place), f"{dotted(path)}: {text}" if path else text)


class Objects:
    """The objects of some documents. problems: what is wrong with them; left_out: how many of what is not read."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self.sources = list(sources)
        self.problems = [(source.path, problem) for source in self.sources for problem in source.tree.problems]
        self.left_out: Counter[str] = Counter()
        self.found: list[Found] = []
        for source in self.sources:
            self._read(source, source.tree.data, ())
        self._check()

    @property
    def has_nodes(self) -> bool:
        """Whether nodes are among them."""
        return any(True for _ in self.of(NodeObject))

    def named(self, data: dict[str, Any]) -> dict[str, Any]:
        """A document's data with the names of our nodes and pods behind its own."""
        nodes = data["nodes"] if isinstance(data["nodes"], list) else []
        pods = data.get("pods") if isinstance(data.get("pods"), list) else []
        known = {n.get("name") for n in nodes if isinstance(n, dict)}
        more = [{"name": n.metadata.name} for _, n in self.of(NodeObject) if n.metadata.name not in known]
        found = dict.fromkeys((p.metadata.namespace, p.metadata.name) for _, p in self.of(PodObject))
        more_pods = [{"namespace": namespace, "name": name} for namespace, name in found]
        return {**data, "pods": [*(pods or []), *more_pods], **({"nodes": [*nodes, *more]} if more else {})}

    def of(self, kind: type[T]) -> Iterator[tuple[Found, T]]:
        """The objects of a kind."""
        for found in self.found:
            if isinstance(found.it, kind):
                yield found, found.it

    # -- reading ---------------------------------------------------------------------------------------------------

    def _read(self, source: Source, data: Any, place: Place) -> None:
        from pydantic import ValidationError

        kind = data.get("kind") if isinstance(data, dict) else None
        if not isinstance(kind, str):
            self.problems.append((source.path, Problem(*source.tree.at(place), "an object with a kind was expected")))
        elif kind.endswith("List") and isinstance(data.get("items"), list):
            for i, item in enumerate(data["items"]):
                if isinstance(item, dict) and len(kind) > len("List"):
                    item.setdefault("kind", kind.removesuffix("List"))  # lists of one kind leave it out
                self._read(source, item, (*place, "items", i))
        elif kind not in KINDS:
            if get_close_matches(kind.lower(), [k.lower() for k in KINDS], 1, 0.85):
                at = source.tree.at((*place, "kind"))
                self.problems.append((source.path, Problem(*at, unknown("kind", kind, KINDS))))
            self.left_out[kind] += 1
        else:
            model = KINDS[kind]
            try:
                self.found.append(Found(source, place, model.model_validate(data)))
            except ValidationError as error:
                self.problems += [(source.path, told(source.tree, e, {}, place)) for e in error.errors()]
            for path, meant in slips(model, data):
                at = source.tree.at((*place, *path), key=True)
                text = f"there is no field {path[-1]!r}; did you mean {meant!r}?"
                self.problems.append((source.path, Problem(*at, text)))

    def _check(self) -> None:
        """Names used twice, and pods on nodes that are nowhere."""
        first: dict[tuple[str, str, str], Found] = {}
        nodes = [it.metadata.name for _, it in self.of(NodeObject)]
        for found in self.found:
            name = found.it.metadata.name
            key = (found.it.kind, found.it.metadata.namespace, name)
            if not name:
                self.problems.append(found.problem("'metadata.name' is missing"))
            elif first.setdefault(key, found) is not found:
                line, _ = first[key].source.tree.at(first[key].place)
                text = f"two objects are {key[0]} {name!r}; the first one is in line {line} of {first[key].source.path}"
                self.problems.append(found.problem(text))
        for found, pod in self.of(PodObject):
            if pod.spec.nodeName and nodes and pod.spec.nodeName not in nodes:
                self.problems.append(found.problem(unknown("node", pod.spec.nodeName, nodes), "spec", "nodeName"))

    # -- nodes and ranges ------------------------------------------------------------------------------------------

    @property
    def mode(self) -> str:
        """The CNI mode that the nodes' annotations show; empty where they show none."""
        for _, node in self.of(NodeObject):
            notes = node.metadata.annotations
            if mode := MODES.get(notes.get(BACKEND, "")):
                return mode
            if mode := next((mode for note, mode in CALICO.items() if note in notes), ""):
                return mode
        return ""

    def nodes(self, others: Sequence[Node], block: int) -> list[Node]:
        """The nodes; what `others` of the same name say goes first. block: the length of the blocks that the CNI gives
        out itself, 0 where it takes each node's podCIDR."""
        known = {node.name: node for node in others}
        made = [self._node(it, block, known.pop(it.metadata.name, None)) for _, it in self.of(NodeObject)]
        return [*made, *known.values()]

    def _node(self, it: NodeObject, block: int, other: Node | None) -> Node:
        meta = it.metadata
        notes = meta.annotations
        tunnel = next((notes[note] for note in CALICO if note in notes and "Tunnel" in note), "")
        ranges = (it.spec.podCIDR, *it.spec.podCIDRs)
        node = Node(
            meta.name,
            ip=next((a.address for a in it.status.addresses if a.type == "InternalIP" and v4(a.address)), ""),
            pod_cidr=self._block(meta.name, tunnel, block) if block else next(filter(v4, ranges), ""),
            tunnel_ip=tunnel if block else "",
            control_plane=any(label in meta.labels for label in CONTROL_PLANE),
            zone=meta.labels.get(ZONE, ""),
        )
        said = {f.name: v for f in dataclasses.fields(Node) if other and (v := getattr(other, f.name)) != f.default}
        return dataclasses.replace(node, **said)

    def _block(self, node: str, tunnel: str, length: int) -> str:
        """The block of the node's tunnel, or of the lowest of its pods."""
        pods = (address(p) for _, p in self.of(PodObject) if p.spec.nodeName == node and not p.spec.hostNetwork)
        lowest = tunnel or min(filter(None, pods), key=IPv4, default="")
        return str(around([lowest], length)) if lowest else ""

    def racks(self, nodes: Sequence[Node]) -> list[Rack]:
        """One subnet around the nodes' addresses: a /24, or as large as it takes."""
        addresses = [node.ip for node in nodes if node.ip]
        if not addresses:
            return [Rack("rack-1", switches=("fabric",))]
        subnet = around(addresses, 24)
        free = (n for n in range(int(subnet.addr) + 1, int(subnet.broadcast)) if str(IPv4(n)) not in addresses)
        return [Rack("rack-1", str(subnet), str(IPv4(next(free))), ("fabric",))]

    def range_of(self, flag: str, addresses: Collection[str], usual: str) -> str:
        """A range that a flag of the control plane's pods says; else the usual one if it holds the addresses, or the
        smallest around them of at least a /16."""
        for _, pod in self.of(PodObject):
            for word in (w for c in pod.spec.containers for w in (*c.command, *c.args)):
                name, _, value = word.partition("=")
                if name == flag:
                    return next(filter(v4, value.split(",")), usual)
        inside = Prefix.parse(usual)
        return usual if all(IPv4(a) in inside for a in addresses) else str(around(addresses, 16))

    @property
    def balancer(self) -> LoadBalancer | None:
        """MetalLB, as its own objects show it; of the pools the first that is a CIDR."""
        kinds = {found.it.kind for found in self.found}
        mode = next((mode for kind, mode in METALLB.items() if kind in kinds), "")
        pools = (text for _, pool in self.of(PoolObject) for text in pool.spec.addresses if "/" in text and v4(text))
        return LoadBalancer(mode, next(pools, "")) if mode else None

    # -- pods ------------------------------------------------------------------------------------------------------

    def pods(self, nodes: Sequence[Node]) -> list[Pod]:
        """Pods that have a namespace or share their node's; those that are over or wait are left out, by name. One that
        nobody has seen yet, as a manifest has it, goes to the node that the scheduler would take."""
        pods: list[Pod] = []
        for _, it in self.of(PodObject):
            if why := self._absent(it):
                self.left_out[f"Pod {it.metadata.name} ({why})"] += 1
                continue
            ports = dict.fromkeys(p.containerPort for c in it.spec.containers for p in c.ports)
            for port in (p for c in it.spec.containers for p in c.ports if p.hostPort and not it.spec.hostNetwork):
                self.left_out[f"hostPort {port.hostPort} of pod {it.metadata.name}"] += 1
            meta, spec = it.metadata, it.spec
            node = it.spec.nodeName or next(scheduled(nodes, pods, meta.namespace, meta.labels))
            pods.append(Pod(
                meta.name, node, meta.namespace, tuple(ports),
                "" if it.spec.hostNetwork else address(it),
                containers=tuple(c.name for c in it.spec.containers) or ("app",), labels=meta.labels,
                host_network=spec.hostNetwork, ready=it.ready, http=tuple(web_ports(spec)), hostname=spec.hostname,
                subdomain=spec.subdomain, dns_policy=spec.dnsPolicy, dns_config=dns_config(spec),
            ))  # fmt: skip
        return pods

    def _absent(self, it: PodObject) -> str:
        if it.status.phase in (*DONE, "Pending"):
            return it.status.phase
        return "" if it.spec.hostNetwork or address(it) or not it.status.podIP else "no IPv4 address"

    def workloads(self, cluster: Cluster) -> None:
        """Deployments and DaemonSets of which no pod is there make theirs."""
        for _, it in self.of(WorkloadObject):
            wanted, template = it.spec.selector.matchLabels, it.spec.template
            namespace = it.metadata.namespace
            if any(p.namespace == namespace and wanted.items() <= p.labels.items() for p in cluster.pods):
                continue
            words: dict[str, Any] = {
                "listen": tuple(dict.fromkeys(p.containerPort for c in template.spec.containers for p in c.ports)),
                "namespace": namespace,
                "labels": {**wanted, **template.metadata.labels},
                "host_network": template.spec.hostNetwork,
                "http": tuple(web_ports(template.spec)),
                "dns_policy": template.spec.dnsPolicy,
                "dns_config": dns_config(template.spec),
            }
            if it.kind == "DaemonSet":
                cluster.daemon_set(it.metadata.name, **words)
            else:
                cluster.deployment(it.metadata.name, it.spec.replicas, **words)

    @property
    def services(self) -> list[tuple[Found, ServiceObject]]:
        """The services."""
        return list(self.of(ServiceObject))

    def ingresses(self) -> Iterator[Ingress]:
        """The paths of the ingresses; what lies behind none of them is their default."""
        for found, it in self.of(IngressObject):
            paths = [(rule.host, path.path, path.backend) for rule in it.spec.rules for path in rule.http.paths]
            for host, path, backend in (*paths, ("", "/", it.spec.defaultBackend)):
                if backend.service is not None:
                    name = f"{it.metadata.namespace}/{backend.service.name}"
                    yield Ingress(host, name, path, self._number(found, name, backend.service.port))

    def _number(self, found: Found, name: str, port: IngressServicePort) -> int:
        """The number of a service's port, which an ingress may call by its name."""
        if not port.name:
            return port.number
        known = {p.name: p.port for _, s in self.services for p in s.spec.ports
                 if name == f"{s.metadata.namespace}/{s.metadata.name}"}  # fmt: skip
        if port.name not in known:
            self.problems.append(found.problem(f"service {name}: {unknown('port', port.name, known)}", "spec"))
        return known.get(port.name, 0)

    @property
    def dns(self) -> Dns | None:
        """The cluster's DNS, if its service is there; with a cache on the nodes if pods of that are."""
        known = {(s.metadata.namespace, s.metadata.name) for _, s in self.services}
        cached = any(p.metadata.labels.get("k8s-app") == "node-local-dns" for _, p in self.of(PodObject))
        return Dns(node_local=cached) if ("kube-system", "kube-dns") in known else None

    def addresses(self) -> tuple[list[str], list[str]]:
        """The addresses of pods that have their own, and of services."""
        pods = [address(p) for _, p in self.of(PodObject) if not p.spec.hostNetwork]
        ranges = [r.partition("/")[0] for _, n in self.of(NodeObject) for r in (n.spec.podCIDR, *n.spec.podCIDRs)]
        services = [ip for _, s in self.services for ip in (s.spec.clusterIP, *s.spec.clusterIPs) if ip != "None"]
        return list(filter(v4, [*pods, *ranges])), list(filter(v4, services))


def web_ports(spec: PodSpec) -> Iterator[int]:
    """The ports that speak HTTP, as far as their names or numbers tell."""
    for port in (p for container in spec.containers for p in container.ports if p.protocol == "TCP"):
        if port.containerPort in WEB_PORTS or port.name.partition("-")[0] == "http":
            yield port.containerPort


def dns_config(spec: PodSpec) -> DnsConfig:
    """The pod's dnsConfig."""
    config = spec.dnsConfig
    ndots = next((o.value for o in config.options if o.name == "ndots" and o.value.isdecimal()), "0")
    return DnsConfig(tuple(filter(v4, config.nameservers)), tuple(config.searches), int(ndots))


def v4(text: str) -> bool:
    """Whether it is an IPv4 address or range."""
    return bool(text) and ":" not in text


def address(pod: PodObject) -> str:
    """The pod's IPv4 address."""
    return next(filter(v4, (pod.status.podIP, *(p.ip for p in pod.status.podIPs))), "")


def around(addresses: Iterable[str], length: int) -> Prefix:
    """The smallest network around addresses that is no longer than that."""
    numbers = [int(IPv4(text)) for text in addresses]
    while length and any(n >> (32 - length) != numbers[0] >> (32 - length) for n in numbers):
        length -= 1
    return Prefix(IPv4(numbers[0] >> (32 - length) << (32 - length) if length else 0), length)
