"""cluster.yaml: a cluster in a file. What is wrong with one is said all at once, each thing with its place.

net = build(read(Path("cluster.yaml")).cluster())
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packetwalk import cni as networks
from packetwalk.document.tree import Place, Problem, Tree
from packetwalk.hint import unknown
from packetwalk.kube.balancer import LoadBalancer
from packetwalk.kube.cluster import Cluster, Link, Node, Pod, Rack
from packetwalk.kube.kubeproxy import KubeProxy
from packetwalk.kube.service import Endpoint, Service, ServicePort

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from packetwalk.cni import Cni
    from packetwalk.document.model import Document, LinkPart, ServicePart

WORDS = {
    "int_parsing": "a whole number was expected, not {input!r}",
    "int_type": "a whole number was expected",
    "bool_parsing": "true or false was expected, not {input!r}",
    "bool_type": "true or false was expected",
    "string_type": "a text was expected",
    "list_type": "a list was expected, each entry behind a dash",
    "dict_type": "a mapping of names to values was expected",
    "model_type": "a mapping of names to values was expected",
    "greater_than_equal": "{ge} or more was expected, not {input}",
    "less_than_equal": "{le} or less was expected, not {input}",
    "too_short": "{min_length} entries were expected, not {actual_length}",
    "too_long": "{max_length} entries were expected, not {actual_length}",
}


class DocumentError(ValueError):
    """What is wrong with a document: `args` are lines `FILE:LINE:COLUMN: what`, one for each problem."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        super().__init__(*(f"{path}:{p.line}:{p.column}: {p.text}" for p in sorted(problems)))

    def __str__(self) -> str:
        return "\n".join(self.args)


class ClusterFile:
    """A document that was read and found right in itself."""

    def __init__(self, path: Path, tree: Tree, document: Document, cni: Cni) -> None:
        self.path = path
        self.tree = tree
        self.document = document
        self.cni = cni

    def cluster(self) -> Cluster:
        """The cluster that it describes. DocumentError for a part of it that cannot be."""
        try:
            return self._cluster()
        except ValueError as error:
            raise self.error(str(error)) from None

    def _cluster(self) -> Cluster:
        d = self.document
        nodes = d.nodes if isinstance(d.nodes, int) else [Node(**n.model_dump()) for n in d.nodes]
        names = self._node_names()
        pods = [
            Pod(**{**p.model_dump(), "node": names.get(p.node, p.node), "listen": tuple(p.listen),
                   "containers": tuple(p.containers)})
            for p in d.pods
        ]  # fmt: skip
        racks = d.racks if isinstance(d.racks, int) else [
            Rack(r.name, r.subnet, r.gateway, tuple(r.switches), tuple((a, b) for a, b in r.cables)) for r in d.racks
        ]  # fmt: skip
        proxy = d.kube_proxy
        cluster = Cluster(
            nodes, self.cni, racks, d.spines, d.pod_cidr, d.service_cidr, d.node_cidr, _link(d.link), _link(d.uplink),
            d.nic, d.outside, d.seed, pods, [_service(s) for s in d.services],
            KubeProxy(**{**proxy.model_dump(), "node_port_addresses": tuple(proxy.node_port_addresses)}),
            LoadBalancer(**d.load_balancer.model_dump()) if d.load_balancer is not None else None,
            d.api_endpoint, d.api_balancer,
        )  # fmt: skip
        for deployment in d.deployments:
            cluster.deployment(**deployment.model_dump())
        for daemon_set in d.daemon_sets:
            cluster.daemon_set(**daemon_set.model_dump())
        return cluster

    def _node_names(self) -> dict[str, str]:
        d = self.document
        names = [f"node-{i}" for i in range(1, d.nodes + 1)] if isinstance(d.nodes, int) else [n.name for n in d.nodes]
        return {str(i): name for i, name in enumerate(names, 1)} | {name: name for name in names}

    def error(self, message: str, place: Place | None = None) -> DocumentError:
        """A cluster that cannot be. Unless told, its place is that of the longest value which the message names."""
        if place is None:
            named = [(len(text), at) for at, text in self.tree.scalars() if text and text in _words(message)]
            place = max(named, key=lambda found: found[0])[1] if named else ()
        return DocumentError(self.path, [Problem(*self.tree.at(place), message)])


def read(path: Path) -> ClusterFile:
    """Read a document. DocumentError with every problem of its form and its names; OSError without the file."""
    from pydantic import ValidationError

    from packetwalk.document.model import Document

    try:
        tree = Tree(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise DocumentError(path, [Problem(1, 1, f"not UTF-8: byte {error.start} is {error.reason}")]) from None
    problems = list(tree.problems)
    if tree.data is None or not isinstance(tree.data, dict):
        problems = problems or [Problem(*tree.at(()), "a mapping with nodes, pods and a cni was expected")]
        raise DocumentError(path, problems)
    data = {key: value for key, value in tree.data.items() if value is not None}
    document = None
    try:
        document = Document.model_validate(data)
    except ValidationError as error:
        problems += [_told(tree, detail) for detail in error.errors()]
    cni, wrong = _cni(tree, data.get("cni"))
    problems += [*wrong, *_strangers(tree, data)]
    if problems or document is None or cni is None:
        raise DocumentError(path, list(dict.fromkeys(problems)))
    return ClusterFile(path, tree, document, cni)


def load_cluster(path: str | Path) -> Cluster:
    """The cluster of a cluster.yaml. DocumentError, a line for each thing that is wrong; OSError without the file."""
    return read(Path(path)).cluster()


# -- what is wrong -----------------------------------------------------------------------------------------------------


def _told(tree: Tree, detail: ErrorDetails) -> Problem:
    """A complaint of pydantic's in our words, at its place."""
    path = _path(tree, detail["loc"])
    name, kind = path[-1] if path else "", detail["type"]
    if kind == "missing":
        line, column = tree.at(path[:-1])
        return Problem(line, column, f"{name!r} is missing")
    line, column = tree.at(path, key=kind == "extra_forbidden")
    if kind == "extra_forbidden":
        from packetwalk.document.model import PARTS

        part = PARTS[tuple(step for step in path[:-1] if isinstance(step, str))]
        return Problem(line, column, unknown("field", str(name), part.model_fields))
    text = str(detail.get("ctx", {}).get("error", "")) if kind == "value_error" else ""
    text = text or WORDS.get(kind, detail["msg"]).format(input=detail["input"], **detail.get("ctx", {}))
    return Problem(line, column, f"{_dotted(path)}: {text}" if path else text)


def _path(tree: Tree, loc: tuple[int | str, ...]) -> Place:
    """Where pydantic means, without the tags of its unions, which are no part of the document."""
    found: list[str | int] = []
    value = tree.data
    for n, step in enumerate(loc):
        if isinstance(value, dict) and (step in value or n == len(loc) - 1):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int):
            value = value[step]
        else:
            continue
        found.append(step)
    return tuple(found)


def _dotted(path: Place) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


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
        yield Problem(*tree.at(path), f"{_dotted(path)}: {unknown(path[2], word, names)}")


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


def _service(part: ServicePart) -> Service:
    """A service; `port` with what goes with it is one port, and a pod is looked for in the service's own namespace."""
    ports = tuple(ServicePort(**p.model_dump()) for p in part.ports)
    if part.port:
        ports = (ServicePort(part.port, "", part.protocol, part.target_port, part.node_port),)
    fields = part.model_dump(exclude={"port", "target_port", "node_port", "protocol", "pods"})
    lists = ("external_ips", "load_balancer_ips", "load_balancer_source_ranges")
    pods = [Endpoint(pod=_room(part.namespace, name)) for name in part.pods]
    others = [Endpoint(**{**e.model_dump(), "zones": tuple(e.zones)}) for e in part.endpoints]
    type = part.type or ("NodePort" if any(p.node_port for p in ports) else "ClusterIP")
    return Service(**{**fields, **{name: tuple(fields[name]) for name in lists}, "type": type, "ports": ports,
                      "endpoints": (*pods, *others)})  # fmt: skip


def _room(namespace: str, pod: str) -> str:
    return pod if namespace == "default" or "/" in pod else f"{namespace}/{pod}"
