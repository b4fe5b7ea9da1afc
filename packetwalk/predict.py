"""`packetwalk predict`: replay a recording's probes and say which frames a real kernel would show on which interface.

The questions come from a recording's folder (`recording.json`, `snapshot.json`, `state/`); the answers have its form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from packetwalk.addr import ANY, IPv4
from packetwalk.engine.costs import DEFAULT_COSTS
from packetwalk.engine.sim import Simulation
from packetwalk.engine.walk import Client
from packetwalk.frames import LINGER, LINGER_ELSE, frames
from packetwalk.netns.chooser import Seeded
from packetwalk.netns.namespace import Netns
from packetwalk.netns.netfilter import Table
from packetwalk.netns.nft_rule import NftRule
from packetwalk.netns.route import output_route
from packetwalk.netns.rule import Rule
from packetwalk.netns.seen import Hit, Lot, Seen
from packetwalk.netns.socket import DO, DONT, PROBE, WANT
from packetwalk.network import Network
from packetwalk.packet import (
    PROTO_UDP,
)
from packetwalk.snapshot.iproute import load_neighbours, load_snapshot
from packetwalk.snapshot.reader import Record, SnapshotError, number, read_json
from packetwalk.trace import Flow, Hop, Result

SECOND = 1_000_000_000
UNLIMITED = {"net.ipv4.icmp_ratemask": 0}  # the recorder's setting (recordings/README.md)
GAP = SECOND  # between one probe and the next where a recording does not say when each began: the recorder settles
MODES = {None: WANT, True: DO, False: DONT, "probe": PROBE}


def predict(folder: str | Path) -> dict[str, Any]:
    """Every probe of a recording, in order: {"probes": [{"name", "result", "frames", "rule_hits", "conntrack"}]}.

    SnapshotError for bad input."""
    folder = Path(folder)
    recording = read_json(folder / "recording.json", dict)
    replay = Replay(lambda state: load_snapshot(folder, state=state, sysctls=UNLIMITED))
    return {
        "probes": [
            replay.probe(Record(p, folder / "recording.json", f"probe {i + 1}"))
            for i, p in enumerate(recording.get("probes", []))
        ]
    }


class Replay:
    """Plays probes one after another; what one of them taught about path MTUs is there for the next, and so are
    connections of IPVS and whose turn it is.

    load: the network of a state. hops: the visits of the last probe, in order.
    """

    def __init__(self, load: Callable[[int], Network]) -> None:
        self.load = load
        self.hops: list[Hop] = []
        self.states: dict[int, Network] = {}
        self.previous: Network | None = None
        self.now = SECOND

    def probe(self, probe: Record) -> dict[str, Any]:
        """Run one probe: its state's tables, its `before`, its flow; returns what it predicts."""
        state = probe.get("state", 0, number)
        if state not in self.states:
            self.states[state] = self.load(state)
            for room in self.states[state]:
                for socket in room.sockets.listeners():  # the recorder's UDP sockets ask for path MTUs, TCP's do not
                    room.sockets.bind(replace(socket, pmtudisc=WANT if socket.proto == PROTO_UDP else ""))
        self.now = max(self.now, SECOND + probe.get("at_ns", 0, int))
        network = self.states[state].overlay()
        backend = probe.sub("dice").get("backend", "", str)
        if backend:
            network.chooser = Dice(self.states[state], backend)
        self._prepare(network, probe)
        flow = flow_of(probe.sub("spec"), network)
        client = Client(flow)
        sim = Simulation(network, costs={**DEFAULT_COSTS, "app": 2_000_000}, shared_cpu=True)
        sim.env = type(sim.env)(initial_time=self.now)
        sim.watch(client.watch)
        sim.program(flow.src, client.act, at=self.now)
        timeout = int(probe.sub("spec").get("timeout", 0.6, float) * SECOND)
        sim.run(self.now + timeout + LINGER.get(flow.kind, LINGER_ELSE))
        sim.close()
        start = min((h.at for h in sim.hops), default=self.now)
        result = client.result
        if result is not None and result.at > self.now + timeout + SECOND // 2:
            result = None
        self.previous = network
        self.now = max(self.now + timeout, sim.now) + (0 if "at_ns" in probe else GAP)
        self.hops = sim.hops
        return {
            "name": probe.get("name", "", str),
            "result": result_dict(flow, result),
            "frames": list(frames(sim.hops, start)),
            "rule_hits": rule_hits(sim.hops),
            "conntrack": conntrack(network, sim.now),
        }

    def _prepare(self, network: Network, probe: Record) -> None:
        """Carry path MTUs over, and replace neighbours and FDBs by the recorded ones."""
        for name in self.previous.visited() if self.previous is not None else ():
            assert self.previous is not None
            if name in network:
                network[name].fib.exceptions.update(self.previous[name].fib.exceptions)
                network[name].peers.update(self.previous[name].peers)
                network[name].ipvs.remember(self.previous[name].ipvs)
        for name, tables in (probe.values.get("before") or {}).items():
            if name not in network:
                raise SnapshotError(f"{probe.path}: {probe.where}: before: there is no netns {name!r}")
            record = Record(tables, probe.path, f"{probe.where}: before: {name}")
            if "neigh" in record or "fdb" in record:
                self._replace(network[name], record)
            for entry in record.subs("route_cache"):
                _learn_cached(network[name], entry, self.now)

    def _replace(self, room: Netns, record: Record) -> None:
        neigh = record.subs("neigh")
        load_neighbours(room, neigh, record.subs("fdb"))
        for key, entry in room.neighbours.entries.items():
            room.neighbours.entries[key] = entry._replace(confirmed=self.now)
        for at, known in room.bridge_fdb.entries.items():
            room.bridge_fdb.entries[at] = known._replace(updated=self.now)


class Dice(Seeded):
    """What a recording says was drawn: of the statistic matches those that lead to that backend, `ip:port`."""

    def __init__(self, network: Network, backend: str) -> None:
        super().__init__()
        tables = [t for room in network for t in room.netfilter.tables.values()]
        self.leading: set[Rule | Lot] = {
            r for t in tables for c in t.chains.values() for r in c.rules if _leads_to(t, r, backend)
        }
        for table in (t for room in network for t in room.netfilter.nft.values()):
            self.leading |= {Lot(c.name) for c in table.chains.values() for r in c.rules if _rewrites(r, backend)}

    def overlay(self) -> Dice:
        return self

    def statistic(self, rule: Rule | Lot, probability: float, seen: Seen) -> bool:
        return rule in self.leading


def _leads_to(table: Table, rule: Rule, backend: str) -> bool:
    """Whether a rule sends a connection to that address and port, itself or by a chain it jumps to."""
    target = rule.target
    if target is None:
        return False
    if target.name in table.chains:
        return any(_leads_to(table, r, backend) for r in table.chains[target.name].rules)
    return _rewrites(rule, backend)


def _rewrites(rule: Rule | NftRule, backend: str) -> bool:
    option = rule.target.get("--to-destination") if rule.target is not None else None
    return option is not None and backend in (option.text, f"{option.text}:{backend.rpartition(':')[2]}")


def _learn_cached(room: Netns, entry: Record, now: int) -> None:
    """A cached route: a path MTU the kernel had learned before the probe."""
    dst = entry.need("dst", IPv4)
    for metric in entry.subs("metrics"):
        mtu = metric.get("mtu", 0, number)
        rt = output_route(room, dst, now)
        if mtu and rt.kind == "unicast":
            room.learn_mtu(rt, dst, mtu, now)


def flow_of(spec: Record, network: Network) -> Flow:
    """A probe's `spec` as a flow."""
    kind, src = spec.need("kind", str), spec.need("src", str)
    if kind not in ("icmp", "udp", "tcp", "sctp"):
        raise SnapshotError(f"{spec.path}: {spec.where}: kind: icmp, udp, tcp or sctp was expected, not {kind!r}")
    if src not in network:
        raise SnapshotError(f"{spec.path}: {spec.where}: src: there is no netns {src!r}")
    df = spec.values.get("df")
    return Flow(
        kind,
        src,
        spec.need("dst", IPv4),
        spec.get("dport", 0, number),
        spec.get("sport", 40000, number),
        spec.get("size", -1, number),
        spec.get("ttl", 0, number),
        "" if kind == "tcp" and df is None else MODES[df],
        spec.get("id", 4660, number),
        spec.get("seq", 1, number),
        spec.get("bind", ANY, IPv4),
    )


# -- answers in the recording's form -----------------------------------------------------------------------------------


def rule_hits(hops: list[Hop]) -> dict[str, list[dict[str, Any]]]:
    """How often each rule of each room matched: what `iptables-save -c` would have counted meanwhile."""
    count: dict[str, dict[tuple[str, str], int]] = {}
    for hop in hops:
        for step in hop.steps:
            if isinstance(step.what, Hit) and isinstance(step.what.rule, Rule):
                key, of = (step.what.table, str(step.what.rule)), count.setdefault(hop.room, {})
                of[key] = of.get(key, 0) + 1
    return {
        room: [{"table": table, "rule": rule, "pkts": n} for (table, rule), n in of.items()]
        for room, of in count.items()
    }


def conntrack(network: Network, now: int) -> dict[str, list[str]]:
    """The connections each room knows at a time, as `conntrack -L` prints them."""
    listed = {name: [c.text(now) for c in network[name].conns.all() if c.expires > now] for name in network.visited()}
    return {name: lines for name, lines in listed.items() if lines}


def result_dict(flow: Flow, r: Result | None) -> dict[str, Any]:
    """A result with the keys that a recording has for its outcome."""
    if r is None:
        return {"outcome": "timeout"}
    if r.outcome == "reply":
        out = {"outcome": "reply", "src": r.src, "size": r.size}
        return {**out, "ttl": r.ttl} if flow.kind == "icmp" else out
    if r.outcome == "connected":
        out = {"outcome": "connected", "peer": r.peer, "mss": r.mss}
        return {**out, "echoed": r.echoed} if flow.payload else out
    if r.outcome == "icmp_error":
        return {
            "outcome": "icmp_error",
            "src": r.src,
            "type": r.type,
            "code": r.code,
            "mtu": r.mtu or None,
            "ttl": r.ttl,
        }
    if r.outcome == "error" and (flow.kind == "udp" or (flow.kind == "sctp" and r.offender)):
        queue = {
            "errno": r.errno,
            "origin": "icmp",
            "type": r.type,
            "code": r.code,
            "info": r.mtu,
            "offender": r.offender,
        }
        return {"outcome": "error", "errno": r.errno, "errqueue": queue}
    return {"outcome": r.outcome, "errno": r.errno}
