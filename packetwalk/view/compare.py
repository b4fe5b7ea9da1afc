"""Walks side by side: what the same flow costs and does under different CNIs, or on different networks.

    print(compare(trace, other))

Everything is read from the traces. Only what a CNI asks of the fabric is no property of a walk, and is handed in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from textwrap import fill
from typing import Any, NamedTuple

from packetwalk.packet import ETH_LEN, IP_LEN, TCP_LEN, Ip, Packet, size, visible
from packetwalk.text import BAD, Section, delivers, gist, outcome, sections
from packetwalk.totals import overhead
from packetwalk.trace import Hop, Step, Trace
from packetwalk.view.table import Grid, Row, markdown, table, together

FRAMING = ETH_LEN + 4 + 8 + 12
"""bytes that Ethernet takes on the wire for a packet: header, frame check sequence, preamble, gap (IEEE 802.3)"""
FORMULA = (
    f"goodput: the share of a wire's bits that is data of full TCP segments, mss / (mss + {IP_LEN + TCP_LEN} + tunnel "
    f"+ {FRAMING}); mss: path mtu - {IP_LEN + TCP_LEN}; {FRAMING}: Ethernet's header, check sequence, preamble and gap"
)
GROUPS = {
    "bridges": ("bridge", "flood", "learn"),
    "routing": ("route_in", "route_out", "forward", "defrag", "fragment"),
    "netfilter": ("conntrack", "rule", "jump", "nat", "ipvs", "reject"),
    "neighbours": ("neigh", "arp"),
    "tunnels": ("encap", "decap", "fdb"),
    "devices": ("receive", "transmit"),
    "sockets": ("deliver", "consume", "icmp_error"),
}
"""the stages of a room by what they are about; what no group names counts as `else`"""
GROUP = {stage: group for group, stages in GROUPS.items() for stage in stages}
FABRIC = frozenset({"switch", "router"})
LANES = (*GROUPS, "else", "wires")


class Place(NamedTuple):
    """A turn of the request's way: a room, or all of the fabric that lies between two others.

    key: what it is aligned by, such as node 1. did: what changed the packet or chose its way. sent: bytes of the
    largest frame that leaves, from the Ethernet header on; tunnel: those that tunnels put in front; headers: what is in
    it.
    """

    key: str
    rooms: tuple[str, ...]
    did: str
    sent: int
    tunnel: int
    headers: str


class Walked(NamedTuple):
    """What one trace comes to. frame: bytes of the largest frame of the request on a wire, from the Ethernet header on.

    tunnel: bytes that tunnels put in front at most; mss, goodput: of full TCP segments at that path MTU; ttl: of the
    request at its receiver; spent: ns by group of stages, request and answer.
    """

    name: str
    outcome: str
    delivered: bool
    rooms: int
    tunnel: int
    frame: int
    path_mtu: int
    mss: int
    goodput: float
    ttl: int
    latency: int
    spent: dict[str, int]
    places: list[Place]


class Divergence(NamedTuple):
    """Where a walk first does something else than the first one."""

    name: str
    place: str
    did: str
    instead_of: str


Needs = Mapping[str, Sequence[tuple[str, str]]]
"""{name of a walk: what it needs from the fabric, and what breaks without it}"""


class Comparison(NamedTuple):
    """Walks side by side. `str` is a table for a terminal."""

    walks: list[Walked]
    divergences: list[Divergence]
    needs: dict[str, list[tuple[str, str]]]

    def __str__(self) -> str:
        return self.table()

    def table(self, width: int = 100) -> str:
        """Tables of at most `width` columns."""
        return f"{table(self.grids(), width)}\n{fill(FORMULA, width)}"

    def markdown(self) -> str:
        """The same tables in Markdown."""
        return f"{markdown(self.grids())}\n\n{FORMULA}"

    def _repr_markdown_(self) -> str:
        return self.markdown()

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {
            "walks": [{**w._asdict(), "places": [p._asdict() for p in w.places]} for w in self.walks],
            "divergences": [d._asdict() for d in self.divergences],
            "needs": {name: [{"needs": need, "without": without} for need, without in pairs]
                      for name, pairs in self.needs.items()},
            "formula": FORMULA,
        }  # fmt: skip

    def grids(self) -> Iterator[Grid]:
        """The tables: figures, time, the way place by place, divergences, needs."""
        yield _figures(self.walks)
        yield _times(self.walks)
        yield _ways(self.walks)
        if self.divergences:
            first = self.walks[0].name
            rows = together((d.name, (d.place, d.did, d.instead_of)) for d in self.divergences)
            yield Grid("first divergence", ("walk", "at", "does", f"where {first} does"), rows)
        if any(self.needs.values()):
            rows = together((name, pair) for name, pairs in self.needs.items() for pair in pairs)
            yield Grid("what the fabric must do", ("walk", "must", "or else"), rows)


def compare(*traces: Trace, names: Sequence[str] = (), needs: Needs | None = None) -> Comparison:
    """Put walks side by side; the others are measured by the first. Their networks name them unless told."""
    called = names or unlike(trace.network for trace in traces)
    walks = [_walked(name, trace) for name, trace in zip(called, traces, strict=True)]
    divergences = [d for w in walks[1:] if (d := _divergence(walks[0], w)) is not None]
    return Comparison(walks, divergences, {name: list(pairs) for name, pairs in (needs or {}).items()})


def unlike(names: Iterable[str]) -> list[str]:
    """The names, with a number behind one that was there before."""
    found: list[str] = []
    for name in names:
        found.append(name if name not in found else f"{name} ({found.count(name) + 1})")
    return found


# -- what a trace comes to ---------------------------------------------------------------------------------------------


def _walked(name: str, trace: Trace) -> Walked:
    totals = trace.totals
    places = list(_places(trace))
    received = next((s for h, s in trace.steps if h.room != trace.flow.src and _is_delivery(s)), None)
    path_mtu = totals.path_mtu if received is not None else 0
    mss = max(path_mtu - IP_LEN - TCP_LEN, 0)
    tunnel = max([p.tunnel for p in places], default=0)
    wire = mss + IP_LEN + TCP_LEN + tunnel + FRAMING
    return Walked(
        name=name,
        outcome=_outcome(trace),
        delivered=trace.delivered,
        rooms=totals.rooms,
        tunnel=tunnel,
        frame=max([p.sent for p in places], default=0),
        path_mtu=path_mtu,
        mss=mss,
        goodput=round(mss / wire, 4),
        ttl=_ttl(received.packet) if received is not None else 0,
        latency=trace.result.at,
        spent=_spent(trace),
        places=places,
    )


def _outcome(trace: Trace) -> str:
    """What the sender saw; where nothing came back, where and why the packet died."""
    if trace.delivered or not trace.drops:
        return outcome(trace)
    room, step = trace.drops[0]
    return f"{outcome(trace)}: {getattr(step.what, 'reason', '')} at {room}"


def _is_delivery(step: Step) -> bool:
    return step.stage == "deliver" and getattr(step.what, "kind", "arp") != "arp"


def _ttl(packet: Packet) -> int:
    return next((h.ttl for h in reversed(packet.headers) if isinstance(h, Ip)), 0)


def _spent(trace: Trace) -> dict[str, int]:
    spent = dict.fromkeys(LANES, 0)
    for hop in trace.hops:
        for before, at, step in zip([hop.at, *hop.times], hop.times, hop.steps, strict=False):
            spent[GROUP.get(step.stage, "else")] += at - before
        if hop.cause is not None:
            spent["wires"] += _on_the_wire(trace, hop)
    return spent


def _on_the_wire(trace: Trace, hop: Hop) -> int:
    assert hop.cause is not None
    visit, step = hop.cause
    return hop.at - trace.hops[visit].times[step] if trace.hops[visit].room != hop.room else 0


def _places(trace: Trace) -> Iterator[Place]:
    """The way of the request until somebody gets it, the rooms of the fabric that follow one another as one place."""
    network: Any = trace.after
    roles: Mapping[str, str] = network.roles if network is not None else {}
    count: dict[str, int] = {}
    for kind, turns in _turns(trace, roles):
        count[kind] = count.get(kind, 0) + 1
        names = tuple(dict.fromkeys(turn.room for turn in turns))
        did = _did(turns[0]) if len(turns) == 1 else "; ".join(_routed(turns, roles))
        packet = _largest_sent(turns[-1], trace)
        yield Place(
            f"{kind} {count[kind]}",
            names,
            did,
            size(packet) if packet is not None else 0,
            overhead(packet) if packet is not None else 0,
            _headers(packet) if packet is not None else "",
        )


def _largest_sent(turn: Section, trace: Trace) -> Packet | None:
    """What goes on from there: nothing where the request ends, as then only answers leave."""
    steps = [s for visit in turn.hops for s in visit.steps]
    if delivers(turn, trace) or any(s.stage in BAD for s in steps):
        return None
    return max((s.packet for s in steps if s.stage == "transmit"), key=size, default=None)


def _turns(trace: Trace, roles: Mapping[str, str]) -> Iterator[tuple[str, list[Section]]]:
    turns: list[Section] = []
    for section in sections(trace):
        kind = _kind(section, roles)
        if turns and (kind != "fabric" or _kind(turns[0], roles) != "fabric"):
            yield _kind(turns[0], roles), turns
            turns = []
        turns.append(section)
        if delivers(section, trace) or any(s.stage in BAD for visit in section.hops for s in visit.steps):
            break
    if turns:
        yield _kind(turns[0], roles), turns


def _routed(turns: list[Section], roles: Mapping[str, str]) -> Iterator[str]:
    """What routers did among switches, which only pass on; and whoever dropped the packet."""
    for turn in turns:
        if roles.get(turn.room) == "router" or (turn is turns[-1] and "drop" in gist(turn)):
            yield f"{turn.room}: {_did(turn)}"


def _did(turn: Section) -> str:
    """What changed the packet or chose its way, up to its end there; the packet itself, behind a gap, is left out."""
    phrases = re.sub(r" {3}[^;]*", "", gist(turn)).split("; ")
    end = next((i for i, phrase in enumerate(phrases) if phrase.startswith("drop ")), len(phrases))
    return "; ".join(phrases[: end + 1])


def _kind(section: Section, roles: Mapping[str, str]) -> str:
    role = roles.get(section.room, "") or "room"
    return "fabric" if role in FABRIC else role


def _headers(packet: Packet) -> str:
    names = (type(h).__name__.lower() for h in visible(packet).headers)
    return " ".join("eth" if name == "ethernet" else name for name in names)


# -- side by side ------------------------------------------------------------------------------------------------------


def _divergence(first: Walked, other: Walked) -> Divergence | None:
    theirs = {place.key: place for place in first.places}
    for place in other.places:
        like = theirs.get(place.key)
        if like is None or place.did != like.did:
            instead = like.did if like is not None else "nothing"
            return Divergence(other.name, " > ".join(place.rooms), place.did, instead)
    if len(other.places) < len(first.places):
        missed = first.places[len(other.places)]
        return Divergence(other.name, " > ".join(missed.rooms), "nothing: it does not get there", missed.did)
    return None


def _figures(walks: list[Walked]) -> Grid:
    heads = ("walk", "rooms", "tunnel", "frame", "path mtu", "mss", "goodput", "ttl", "outcome")
    rows: list[Row] = [
        (
            w.name, str(w.rooms), f"+{w.tunnel}" if w.tunnel else "-", str(w.frame or "-"), str(w.path_mtu or "-"),
            str(w.mss or "-"), f"{w.goodput:.1%}" if w.mss else "-", str(w.ttl or "-"), w.outcome,
        )
        for w in walks
    ]  # fmt: skip
    return Grid("the same flow (bytes; ttl at the receiver)", heads, rows, frozenset(range(1, 8)))


def _times(walks: list[Walked]) -> Grid:
    lanes = [lane for lane in LANES if any(w.spent[lane] for w in walks)]
    rows: list[Row] = [
        (w.name, *(_microseconds(w.spent[lane]) for lane in lanes), _microseconds(w.latency) if w.latency else "-")
        for w in walks
    ]
    heads = ("walk", *lanes, "answer after")
    return Grid(
        "time by stage over the whole walk, and until the answer (us)", heads, rows, frozenset(range(1, len(heads)))
    )


def _microseconds(ns: int) -> str:
    return f"{ns / 1000:.1f}"


def _ways(walks: list[Walked]) -> Grid:
    """Place by place, those who do the same there together."""
    rows: list[Row] = []
    for key in _order(walks):
        said = ""
        alike: dict[tuple[str, str, str, str], list[str]] = {}
        for w in walks:
            for place in w.places:
                if place.key == key:
                    sent = f"{place.sent}" if place.sent else ""
                    alike.setdefault((" > ".join(place.rooms), place.did, sent, place.headers), []).append(w.name)
        for (rooms, did, sent, headers), names in alike.items():
            who = "all" if len(names) == len(walks) > 1 else "\n".join(names)
            rows.append((rooms if rooms != said else "", who, did, sent, headers))
            said = rooms
    return Grid("the way of the request", ("at", "walk", "does", "frame", "headers"), rows, frozenset({3}))


def _order(walks: list[Walked]) -> list[str]:
    """The places in the order of the way; what only some come by, behind what they came from."""
    keys: list[str] = []
    for walked in walks:
        at = 0
        for place in walked.places:
            if place.key not in keys:
                keys.insert(at, place.key)
            at = keys.index(place.key) + 1
    return keys
