"""cluster.yaml: a cluster in a file. What is wrong with one is said all at once, each thing with its place.

net = build(read(Path("cluster.yaml")).cluster())
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packetwalk import cni as networks
from packetwalk.document.problems import WORDS, DocumentError, Source, dotted, told
from packetwalk.document.tree import Place, Problem, Tree, documents
from packetwalk.hint import unknown
from packetwalk.kube.balancer import LoadBalancer
from packetwalk.kube.cluster import Cluster, Link, Node, Pod, Rack, numbered
from packetwalk.kube.dns import Dns, DnsConfig
from packetwalk.kube.ingress import Ingress, IngressController
from packetwalk.kube.kubeproxy import KubeProxy
from packetwalk.kube.layout import POD_CIDRS
from packetwalk.kube.service import Endpoint, Service, ServicePort

if TYPE_CHECKING:
    from packetwalk.cni import Cni
    from packetwalk.document.model import DnsConfigPart, Document, LinkPart, ServicePart
    from packetwalk.document.objects import Objects


class ClusterFile:
    """A document that was read and found right in itself, and the objects of Kubernetes beside it, if there are any.

    left_out: how many of which objects say nothing here.
    """

    def __init__(self, source: Source, document: Document, cni: Cni, objects: Objects | None = None) -> None:
        self.source = source
        self.document = document
        self.cni = cni
        self.objects = objects

    @property
    def left_out(self) -> dict[str, int]:
        return dict(self.objects.left_out) if self.objects is not None else {}

    def cluster(self) -> Cluster:
        """The cluster that it describes. DocumentError for a part of it that cannot be."""
        try:
            return self._cluster()
        except DocumentError:
            raise
        except ValueError as error:
            raise self.error(str(error)) from None

    def _cluster(self) -> Cluster:
        d = self.document
        nodes: int | list[Node] = d.nodes if isinstance(d.nodes, int) else [Node(**n.model_dump()) for n in d.nodes]
        if self.objects is not None and self.objects.has_nodes:
            own = nodes if isinstance(nodes, list) else []
            nodes = self.objects.nodes(own, getattr(self.cni, "block_size", 0))
        names = {str(i): node.name for i, node in enumerate(numbered(nodes), 1)}
        pods = [
            Pod(**{**p.model_dump(), "node": names.get(p.node, p.node), "listen": tuple(p.listen),
                   "containers": tuple(p.containers), "http": tuple(p.http), "sctp": tuple(p.sctp),
                   "dns_config": _dns_config(p.dns_config)})
            for p in d.pods
        ]  # fmt: skip
        dns = Dns() if d.dns is True else Dns(**d.dns.model_dump()) if d.dns else None
        proxy_pod = d.ingress_controller
        controller = IngressController(**{**proxy_pod.model_dump(), "node": names.get(proxy_pod.node, proxy_pod.node)})
        racks = d.racks if isinstance(d.racks, int) else [
            Rack(r.name, r.subnet, r.gateway, tuple(r.switches), tuple((a, b) for a, b in r.cables)) for r in d.racks
        ]  # fmt: skip
        unready = {pod.room for pod in pods if not pod.ready}
        proxy = d.kube_proxy
        cluster = Cluster(
            nodes, self.cni, racks, d.spines, d.pod_cidr, d.service_cidr, d.node_cidr, _link(d.link), _link(d.uplink),
            d.nic, d.outside, d.seed, pods, [_service(s, unready) for s in d.services],
            KubeProxy(**{**proxy.model_dump(), "node_port_addresses": tuple(proxy.node_port_addresses)}),
            LoadBalancer(**d.load_balancer.model_dump()) if d.load_balancer is not None else None,
            d.api_endpoint, d.api_balancer,
            dns, [Ingress(**i.model_dump()) for i in d.ingresses], controller,
            node_mask=d.node_mask,
        )  # fmt: skip
        if self.objects is not None:
            cluster = _joined(cluster, self.objects, d.model_fields_set)
        for deployment in d.deployments:
            cluster.deployment(**deployment.model_dump())
        for daemon_set in d.daemon_sets:
            cluster.daemon_set(**daemon_set.model_dump())
        return cluster

    def error(self, message: str, place: Place | None = None) -> DocumentError:
        """A cluster that cannot be. Unless told, its place is that of the longest value which the message names."""
        where = self.source, place or ()
        if place is None:
            words = _words(message)
            sources = [self.source, *(self.objects.sources if self.objects is not None else ())]
            named = [(len(text), s, at) for s in sources for at, text in s.tree.scalars() if text and text in words]
            where = max(named, key=lambda found: found[0])[1:] if named else where
        source, at = where
        return DocumentError([(source.path, Problem(*source.tree.at(at), message))])


def read(*paths: Path, cni: str | None = None) -> ClusterFile:
    """Read a document, and objects of Kubernetes beside it: what has a `kind` is one, in the same file or in others.

    cni: a mode that goes before the document's, for objects that do not show theirs.
    DocumentError with every problem of form and names; OSError without a file.
    """
    found = [Source(path, tree) for path in paths for tree in _trees(path)]
    broken = [(s.path, problem) for s in found for problem in s.tree.problems if s.tree.data is None]
    kinds = [s for s in found if isinstance(s.tree.data, dict) and "kind" in s.tree.data]
    ours = [s for s in found if s not in kinds]
    if broken:
        raise DocumentError(broken)
    if len(ours) > 1:
        text = f"a second document without a kind; the first one is in {ours[0].path}, line {ours[0].tree.at(())[0]}"
        raise DocumentError([(ours[1].path, Problem(*ours[1].tree.at(()), text))])
    if not kinds:
        return _read(ours[0], None, cni)
    return _read(ours[0] if ours else Source(kinds[0].path, Tree("{}")), kinds, cni)


def _trees(path: Path) -> list[Tree]:
    try:
        return documents(path.read_text(encoding="utf-8")) or [Tree("")]
    except UnicodeDecodeError as error:
        text = f"not UTF-8: byte {error.start} is {error.reason}"
        raise DocumentError([(path, Problem(1, 1, text))]) from None


def _read(source: Source, kinds: list[Source] | None, cni: str | None) -> ClusterFile:
    from pydantic import ValidationError

    from packetwalk.document.model import PARTS, Document

    path, tree = source
    if not isinstance(tree.data, dict):
        raise DocumentError([(path, Problem(*tree.at(()), "a mapping with nodes, pods and a cni was expected"))])
    objects = None
    data = {key: value for key, value in tree.data.items() if value is not None}
    if kinds is not None:
        from packetwalk.document.objects import Objects

        objects = Objects(kinds)
        mode = cni or data.get("cni") or objects.mode
        if not mode:
            text = "no annotation of a node shows its CNI; --cni MODE, or a document with `cni: MODE`, was expected"
            raise DocumentError([(kinds[0].path, Problem(*kinds[0].tree.at(()), text)), *objects.problems])
        data = {"nodes": "1", **data, "cni": mode}
    problems = list(tree.problems)
    document = None
    try:
        document = Document.model_validate(data)
    except ValidationError as error:
        problems += [told(tree, detail, PARTS) for detail in error.errors()]
    network, wrong = _cni(tree, data.get("cni"))
    problems += [*wrong, *_strangers(tree, objects.named(data) if objects is not None else data)]
    wrongs = [*((path, problem) for problem in problems), *(objects.problems if objects is not None else ())]
    if wrongs or document is None or network is None:
        raise DocumentError(wrongs)
    return ClusterFile(source, document, network, objects)


def _joined(cluster: Cluster, objects: Objects, said: set[str]) -> Cluster:
    """The cluster with what the objects say; what the document beside them has said stays. said: its fields."""
    from packetwalk.document.endpoints import listening, services

    pods, addresses = objects.addresses()
    if objects.has_nodes and not {"racks", "node_cidr", "spines"} & said:
        cluster = dataclasses.replace(cluster, racks=objects.racks(numbered(cluster.nodes)))
    if "pod_cidr" not in said:
        cluster = dataclasses.replace(cluster, pod_cidr=objects.range_of("--cluster-cidr", pods, POD_CIDRS[0]))
    if "service_cidr" not in said:
        usual = cluster.service_cidr
        found = objects.range_of("--service-cluster-ip-range", addresses, usual)
        cluster = dataclasses.replace(cluster, service_cidr=found)
    if "load_balancer" not in said:
        cluster = dataclasses.replace(cluster, load_balancer=objects.balancer)
    cluster.pods[:0] = objects.pods(numbered(cluster.nodes))
    objects.workloads(cluster)
    cluster.services[:0] = services(objects, cluster.pods)
    listening(cluster)
    cluster.ingresses[:0] = objects.ingresses()
    if "dns" not in said:
        cluster = dataclasses.replace(cluster, dns=objects.dns)
    if objects.problems:
        raise DocumentError(objects.problems)
    return cluster


def load_cluster(*paths: str | Path) -> Cluster:
    """The cluster of a cluster.yaml, or of objects of Kubernetes, or both (see `read`); several files are one.

    DocumentError, a line for each thing that is wrong; OSError without a file.
    """
    return read(*map(Path, paths)).cluster()


# -- what is wrong -----------------------------------------------------------------------------------------------------


def _cni(tree: Tree, value: Any) -> tuple[Cni | None, list[Problem]]:
    """The CNI of the document: a mode, or a mapping of `mode` and options of the kinds that the CNI's fields have."""
    if isinstance(value, str):
        try:
            return networks.parse(value), []
        except ValueError as error:
            return None, [Problem(*tree.at(("cni",)), str(error))]
    if not isinstance(value, dict):
        return None, []  # the model has complained
    mode = value.get("mode")
    if not isinstance(mode, str):
        return None, [Problem(*tree.at(("cni",)), "cni: 'mode' is missing; `packetwalk modes` lists them")]
    options: dict[str, Any] = {}
    problems: list[Problem] = []
    for name in (n for n in value if n != "mode"):
        try:
            options[name] = _option(mode, name, value[name])
        except ValueError as error:
            problems.append(Problem(*tree.at(("cni", name)), f"cni.{name}: {error}"))
    if problems:
        return None, problems
    try:
        return networks.find(mode, **options), []
    except ValueError as error:
        wrong = next((name for name in options if f"{name!r}" in str(error)), "mode")
        return None, [Problem(*tree.at(("cni", wrong), key=wrong != "mode"), str(error))]


def _option(mode: str, name: str, value: Any) -> Any:
    """An option of the kind that the CNI's field has; as it stands where there is no such field."""
    from pydantic import TypeAdapter, ValidationError

    known = networks.MODES.get(mode)
    kind = typing.get_type_hints(known.cls).get(name) if known is not None else None
    if kind is None:
        return value
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(WORDS.get(first["type"], first["msg"]).format(input=value, **first.get("ctx", {}))) from None


def _strangers(tree: Tree, data: dict[str, Any]) -> Iterator[Problem]:
    """Names used twice, and names of nodes, racks and switches that are nowhere."""
    nodes, racks, pods, services = (_entries(data, part) for part in ("nodes", "racks", "pods", "services"))
    for part in ("nodes", "racks", "pods", "services", "deployments", "daemon_sets"):
        seen: dict[object, int] = {}
        for i, entry in _entries(data, part):
            name = (entry.get("namespace", "default"), entry.get("name"))
            if name[1] is not None and seen.setdefault(name, i) != i:
                line, _ = tree.at((part, seen[name], "name"))
                place = tree.at((part, i, "name"))
                yield Problem(*place, f"two {part} are called {name[1]!r}; the first one is in line {line}")
    rack_names = _names(data.get("racks", "1"), racks, "rack-")
    for i, entry in nodes:
        yield from _stranger(tree, ("nodes", i, "rack"), entry, rack_names)
        switches = next((r.get("switches") for _, r in racks if r.get("name") == entry.get("rack")), None)
        if isinstance(switches, list):
            yield from _stranger(tree, ("nodes", i, "switch"), entry, switches)
    node_names = _names(data.get("nodes"), nodes, "node-")
    for i, entry in pods:
        if entry.get("node") not in {str(n) for n in range(1, len(node_names) + 1)}:
            yield from _stranger(tree, ("pods", i, "node"), entry, node_names)


    rooms = [_room(str(e.get("namespace", "default")), str(e["name"])) for _, e in pods if "name" in e]
    for i, entry in services:
        namespace = str(entry.get("namespace", "default"))
        behind = entry.get("pods")
        for n, name in enumerate(behind if isinstance(behind, list) else ()):
            if isinstance(name, str) and _room(namespace, name) not in rooms:
                place = tree.at(("services", i, "pods", n))
                yield Problem(*place, f"services[{i}].pods[{n}]: {unknown('pod', _room(namespace, name), rooms)}")


def _stranger(tree: Tree, path: tuple[str, int, str], entry: dict[str, Any], names: list[str]) -> Iterator[Problem]:
    word = entry.get(path[2])
    if isinstance(word, str) and word and names and word not in names:
        yield Problem(*tree.at(path), f"{dotted(path)}: {unknown(path[2], word, names)}")


def _entries(data: dict[str, Any], part: str) -> list[tuple[int, dict[str, Any]]]:
    entries = data.get(part)
    return [(i, e) for i, e in enumerate(entries) if isinstance(e, dict)] if isinstance(entries, list) else []


def _names(value: Any, entries: list[tuple[int, dict[str, Any]]], prefix: str) -> list[str]:
    """The names of nodes or racks: their own, or those that a number of them gets."""
    if isinstance(value, str):
        return [f"{prefix}{i}" for i in range(1, int(value) + 1)] if value.isdecimal() else []
    return [str(entry["name"]) for _, entry in entries if "name" in entry]


def _words(message: str) -> set[str]:
    return {word.strip("'\",:;()") for word in message.split()}


def _link(part: LinkPart) -> Link:
    return Link(**part.model_dump())


def _dns_config(part: DnsConfigPart) -> DnsConfig:
    return DnsConfig(tuple(part.nameservers), tuple(part.searches), part.ndots)


def _service(part: ServicePart, unready: Collection[str]) -> Service:
    """A service; `port` with what goes with it is one port, and a pod is looked for in the service's own namespace.

    unready: pods that it does not lead to.
    """
    ports = tuple(ServicePort(**p.model_dump()) for p in part.ports)
    if part.port:
        ports = (ServicePort(part.port, "", part.protocol, part.target_port, part.node_port),)
    fields = part.model_dump(exclude={"port", "target_port", "node_port", "protocol", "pods"})
    lists = ("external_ips", "load_balancer_ips", "load_balancer_source_ranges")
    rooms = [_room(part.namespace, name) for name in part.pods]
    pods = [Endpoint(pod=room, ready=room not in unready) for room in rooms]
    others = [Endpoint(**{**e.model_dump(), "zones": tuple(e.zones)}) for e in part.endpoints]
    usual = "ExternalName" if part.external_name else "ClusterIP"
    type = part.type or ("NodePort" if any(p.node_port for p in ports) else usual)
    return Service(**{**fields, **{name: tuple(fields[name]) for name in lists}, "type": type, "ports": ports,
                      "endpoints": (*pods, *others)})  # fmt: skip


def _room(namespace: str, pod: str) -> str:
    return pod if namespace == "default" or "/" in pod else f"{namespace}/{pod}"
