"""The three promises of Kubernetes' network model, kept or broken, each by a walk that shows it.

    report = conformance(network)
    print(report)                                    # 1 kept  every pod reaches every pod without NAT ...

Pairs of pods are walked by classes: for every pair of nodes one walk from each group of pods that are alike on the one
(see `alike`) to each such group on the other. So no walk stands for a pair that some table tells apart. Pods on the
host's network are programs of their node, hence alike. Most CNIs hide pods from other nodes' addresses, and such pods
behind the addresses of tunnels, so what is broken with them is told apart and counts only if asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, NamedTuple

from packetwalk.alike import alike
from packetwalk.engine.walk import address_of, between, walk
from packetwalk.netns.rule import Rule
from packetwalk.netns.seen import Hit
from packetwalk.network import Network, kubelet
from packetwalk.text import lines, outcome, sections
from packetwalk.trace import Trace
from packetwalk.words import counted

PODS = "every pod reaches every pod without NAT"
AGENTS = "agents on a node reach the pods on it"
ADDRESS = "the address of a pod is the one others see"
PROMISES = (PODS, AGENTS, ADDRESS)
HOST_PODS = "the same with pods on the host's network"


class Case(NamedTuple):
    """A class of pairs, and the walk between the first two that stands for all of them. nodes: where the two ends are.

    sources, destinations: all pods (or the one node) that it may begin and end at.
    """

    nodes: tuple[str, str]
    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    trace: Trace

    @property
    def pairs(self) -> int:
        """How many pairs it stands for; nobody is a pair with itself."""
        return sum(a != b for a, b in product(self.sources, self.destinations))

    @property
    def ends(self) -> tuple[str, str]:
        return self.trace.flow.by or self.trace.flow.src, self.trace.flow.to


class Breach(NamedTuple):
    """A promise that a case breaks. what: in one line; where: (room, what it did) of the steps at fault."""

    promise: str
    case: Case
    what: str
    where: tuple[tuple[str, str], ...]


@dataclass
class Conformance:
    """What came of all walks. `cases` per promise; `left_out`: pods that could not be asked, and why.

    strict: pods on the host's network count, too.
    """

    network: str
    protocol: str
    pods: int
    kinds: int
    nodes: int
    strict: bool = False
    cases: dict[str, list[Case]] = field(default_factory=lambda: {p: [] for p in (*PROMISES, HOST_PODS)})
    breaches: list[Breach] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        return not self._counted

    @property
    def unsupported(self) -> bool:
        """Whether something that is not modelled decided in a broken case."""
        return any(breach.case.trace.unsupported for breach in self._counted)

    @property
    def _counted(self) -> list[Breach]:
        return [breach for breach in self.breaches if self.strict or breach.promise != HOST_PODS]

    @property
    def _asked(self) -> tuple[str, ...]:
        return (*PROMISES, HOST_PODS) if self.cases[HOST_PODS] else PROMISES

    def broken(self, promise: str) -> int:
        """How many pairs break it."""
        return sum(case.pairs for case in {id(b.case): b.case for b in self.breaches if b.promise == promise}.values())

    def pairs(self, promise: str) -> int:
        return sum(case.pairs for case in self.cases[promise])

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield (f"{self.network}: {counted(self.pods, 'pod')} of {counted(self.kinds, 'kind')} on "
               f"{counted(self.nodes, 'node')}, {self.protocol}")  # fmt: skip
        width = max(map(len, self._asked))
        for number, promise in enumerate(self._asked, 1):
            pairs, broken = counted(self.pairs(promise), "pair"), self.broken(promise)
            word = "broken" if broken else "kept" if self.cases[promise] else "-"
            yield (f"  {number} {word:6}  {promise:{width}}  {f'by {broken} of {pairs}' if broken else f'by {pairs}'}, "
                   f"{counted(len(self.cases[promise]), 'walk')}")  # fmt: skip
        for case, breaches in _by_case(self._counted):
            yield ""
            yield f"{' > '.join(case.nodes)}: {_counted_ends(case)}"
            for breach in breaches:
                yield f"  breaks {self._asked.index(breach.promise) + 1}: {breach.what}"
            for room, words in breaches[0].where:
                yield f"    {room}  {words}"
            yield f"    {case.trace.minimal()}"
        passed_over = [breach for breach in self.breaches if breach not in self._counted]
        if passed_over:
            yield f"  {len(PROMISES) + 1} counts only if that is asked for; it begins with: {passed_over[0].what}"
        yield from (f"left out: {words}" for words in self.left_out)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {
            "network": self.network, "protocol": self.protocol, "kept": self.kept,
            "pods": self.pods, "kinds": self.kinds, "nodes": self.nodes,
            "promises": [
                {"promise": p, "kept": not self.broken(p), "pairs": self.pairs(p), "broken": self.broken(p),
                 "walks": len(self.cases[p])} for p in self._asked
            ],
            "walks": [
                {"promise": p, "nodes": c.nodes, "src": c.ends[0], "dst": c.ends[1], "pairs": c.pairs,
                 "walk": c.trace.minimal()} for p in self._asked if p != ADDRESS for c in self.cases[p]
            ],
            "breaches": [
                {"promise": b.promise, "nodes": b.case.nodes, "src": b.case.ends[0], "dst": b.case.ends[1],
                 "pairs": b.case.pairs, "what": b.what, "where": [{"room": r, "did": w} for r, w in b.where],
                 "sources": b.case.sources, "destinations": b.case.destinations, "walk": b.case.trace.minimal()}
                for b in self.breaches
            ],
            "left_out": self.left_out,
        }  # fmt: skip


def conformance(network: Network, *, udp: int = 0, tcp: int = 0, host_network: bool = False) -> Conformance:
    """Walk every class of pairs of pods, and from every node to each class of its own pods.

    By echo requests, or to a port of those pods that listen on it. Ask `kept` of the answer. host_network: what pods on
    the host's network break counts, too.
    """
    kind, port = ("tcp", tcp) if tcp else ("udp", udp) if udp else ("icmp", 0)
    hosted = network.host_pods()
    pods = [name for name in network.rooms if network.roles.get(name) == "pod"]
    asked = [name for name in (*pods, *hosted) if not port or _listens(network, network.room_of(name), port)]
    own = alike(network, [name for name in asked if name not in hosted], kind, port)
    node_of = {**{pod: _node(network, pod) for pod in asked}, **hosted}
    beside = [tuple(p for p in asked if hosted.get(p) == node) for node in dict.fromkeys(hosted.values())]
    groups = [*own, *filter(None, beside)]
    nodes = dict.fromkeys(node_of[group[0]] for group in groups)
    told = f"{kind} to port {port}" if port else "echo requests"
    report = Conformance(network.name, told, len(asked), len(groups), len(nodes), host_network)
    if left := len(pods) + len(hosted) - len(asked):
        report.left_out.append(f"{counted(left, 'pod')} without a listener on {kind} port {port}")

    def send(sources: Sequence[str], destinations: Sequence[str], node: str) -> Case:
        dst = next(name for name in destinations if name != sources[0])
        flow = between(network, sources[0], dst, udp=udp, tcp=tcp)
        return Case((node, node_of[dst]), tuple(sources), tuple(destinations), walk(network, flow))

    for one, other in product(groups, groups):
        node, far = node_of[one[0]], node_of[other[0]]
        outside = one[0] in hosted, other[0] in hosted
        if (one is other and len(one) == 1) or (all(outside) and node == far):
            continue  # a pod and itself; programs of one node
        case = send(one, other, node)
        report.cases[HOST_PODS if any(outside) else PODS].append(case)
        if not any(outside) and case.trace.source_seen(case.ends[1]) is not None:
            report.cases[ADDRESS].append(case)
        breaches = _breaches(network, case)
        report.breaches += (b._replace(promise=HOST_PODS) for b in breaches) if any(outside) else breaches
    for group in own:
        if not (node := node_of[group[0]]):
            report.left_out.append(f"{', '.join(group)}: wired to no node")
            continue
        case = send((kubelet(node) if kubelet(node) in network.programs else node,), group, node)
        report.cases[AGENTS].append(case)
        if not case.trace.delivered:
            report.breaches.append(Breach(AGENTS, case, _unreached(case), _where(case.trace)))
    return report


def _listens(network: Network, room: str, port: int) -> bool:
    return any(socket.port == port for socket in network[room].sockets.listeners())


def _node(network: Network, pod: str) -> str:
    """The node that a pod is wired to, or ""."""
    ends = (network.far((pod, dev)) for dev in network[network.room_of(pod)].devices)
    return next((far[0] for far in ends if far is not None and network.roles.get(far[0]) == "node"), "")


def _breaches(network: Network, case: Case) -> Iterator[Breach]:
    """What a walk from pod to pod breaks."""
    src, dst = case.ends
    trace, where = case.trace, _where(case.trace)
    own = address_of(network, trace.flow.src)
    if not trace.delivered:
        yield Breach(PODS, case, _unreached(case), where)
    elif trace.nat:
        yield Breach(PODS, case, f"{dst} is reached through NAT at {', '.join(dict.fromkeys(r for r, _ in trace.nat))}",
                     where)  # fmt: skip
    seen = trace.source_seen(network.room_of(dst))
    if seen is not None and seen != own:
        yield Breach(ADDRESS, case, f"{dst} sees {seen}, {src}'s own address is {own}", where)


def _unreached(case: Case) -> str:
    src, dst = case.ends
    return f"{src} does not reach {dst}: {outcome(case.trace)}"


def _where(trace: Trace) -> tuple[tuple[str, str], ...]:
    """The steps that set up a translation or ended something, each with the table entry that decided."""
    found: dict[tuple[str, str], None] = {}
    for section in sections(trace):
        for line in (line for hop in section.hops for line in lines(hop)):
            by = getattr(line.step.what, "by", None)
            if line.step.stage == "nat" and by is not None:
                found[section.room, f"nat {line.words} by {_rule(by)}"] = None
            elif line.step.stage in ("drop", "unsupported"):
                found[section.room, f"{line.step.stage} {line.words}"] = None
    return tuple(found)


def _rule(by: object) -> str:
    """What decided, a rule of iptables without its comments, which may be long."""
    if not isinstance(by, Hit) or not isinstance(by.rule, Rule):
        return str(by)
    rule = replace(by.rule, matches=tuple(m for m in by.rule.matches if m.name != "comment"))
    return f"{by.chain} {by.number}: {str(rule).removeprefix(f'-A {by.chain} ')}"


def _by_case(breaches: Sequence[Breach]) -> Iterator[tuple[Case, list[Breach]]]:
    """The cases that break something, each with what."""
    found: dict[int, list[Breach]] = {}
    for breach in breaches:
        found.setdefault(id(breach.case), []).append(breach)
    yield from ((group[0].case, group) for group in found.values())


def _counted_ends(case: Case) -> str:
    src, dst = case.ends
    return f"{src} > {dst}" if case.pairs == 1 else f"{src} > {dst}, and {counted(case.pairs - 1, 'pair')} like it"
