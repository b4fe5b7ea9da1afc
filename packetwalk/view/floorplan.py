"""Where the rooms of a network stand in a picture: pods at the bottom, above each the node that hosts it, then the
switches and routers, and the outside at the top; and which wires a packet took.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from packetwalk.packet import Arp, Packet
from packetwalk.text import BAD, delivers, sections
from packetwalk.totals import overhead, tunnel_of

if TYPE_CHECKING:
    from packetwalk.network import Network
    from packetwalk.trace import Trace


class Spot(NamedTuple):
    """A room's place: x to the right and level upwards, both in steps of one room. left and right: the middles of the
    outermost rooms below it, if it is drawn over all of them, as nothing else stands there; else both are x."""

    x: float
    level: int
    role: str
    left: float
    right: float


class Floorplan(NamedTuple):
    """spots by room; wires as pairs of rooms, each once, the lower room first."""

    spots: dict[str, Spot]
    wires: list[tuple[str, str]]

    @property
    def width(self) -> float:
        """Rooms that stand side by side where there are most."""
        return max((spot.x for spot in self.spots.values()), default=0) + 1

    @property
    def levels(self) -> int:
        return max((spot.level for spot in self.spots.values()), default=0) + 1

    def joints(self, a: str, b: str) -> tuple[float, float]:
        """Where a wire between two rooms begins and ends, from left to right: upright where one is drawn over the
        other."""
        one, other = self.spots[a], self.spots[b]
        low, high = (one, other) if one.level < other.level else (other, one)
        if low.level < high.level and high.left <= low.x <= high.right:
            return low.x, low.x
        return one.x, other.x


class Leg(NamedTuple):
    """A wire that a packet took. answer: after somebody got what was sent, or it died; tunnel: the kind of the one that
    the packet is in."""

    src: str
    dst: str
    answer: bool
    tunnel: str = ""


def legs(trace: Trace) -> Iterator[Leg]:
    """The wires on the way in order of time, without those that only ARP took."""
    answer = False
    for section in sections(trace):
        for visit in section.hops:
            if visit.cause is None:
                continue
            hop, step = visit.cause
            src = trace.hops[hop]
            packet = src.steps[step].packet
            if src.room != visit.room and not _is_arp(packet):
                yield Leg(src.room, visit.room, answer, tunnel_of(packet) if overhead(packet) else "")
        died = any(step.stage in BAD for visit in section.hops for step in visit.steps)
        answer = answer or died or delivers(section, trace)


def on_the_way(trace: Trace) -> list[str]:
    """The rooms that saw more than ARP, in the order in which they did."""
    rooms = (hop.room for hop in trace.hops if not all(_is_arp(step.packet) for step in hop.steps))
    return list(dict.fromkeys(rooms))


def _is_arp(packet: Packet) -> bool:
    return any(isinstance(header, Arp) for header in packet.headers)


def floorplan(network: Network, rooms: Iterable[str]) -> Floorplan:
    """Give each of the rooms its place: a node over the middle of its pods, a switch over the middle of its nodes."""
    near = _neighbours(network, rooms)
    roles = {room: network.roles.get(room, "") for room in near}
    level = _levels(near, roles)
    rows = _rows(near, level)
    x: dict[str, float] = {}
    right = 0.0
    for room in rows[1] if len(rows) > 1 else []:
        under = [pod for pod in rows[0] if pod in near[room] and pod not in x]
        x |= {pod: right + n for n, pod in enumerate(under)}
        x[room] = right + max(len(under) - 1, 0) / 2
        right += max(len(under), 1)
    x |= {room: right + n for n, room in enumerate(room for room in rows[0] if room not in x)}
    for row in rows[2:]:
        middles = [_middle([x[other] for other in near[room] if other in x]) for room in row]
        x |= dict(zip(row, _apart(middles), strict=True))
    edge = min(x.values(), default=0)
    spots: dict[str, Spot] = {}
    for number, row in enumerate(rows):
        for room in row:
            span = _span(room, near, level, spots) or [x[room] - edge]
            spots[room] = Spot(x[room] - edge, number, roles[room], min(span), max(span))
    wires = [(a, b) for a in spots for b in sorted(near[a], key=natural) if (spots[a].level, a) < (spots[b].level, b)]
    return Floorplan(spots, wires)


def _neighbours(network: Network, rooms: Iterable[str]) -> dict[str, set[str]]:
    near: dict[str, set[str]] = {room: set() for room in rooms}
    for end, wire in network.wires.items():
        far = wire.b if wire.a == end else wire.a
        if end[0] in near and far[0] in near and end[0] != far[0]:
            near[end[0]].add(far[0])
    return near


def _levels(near: Mapping[str, set[str]], roles: Mapping[str, str]) -> dict[str, int]:
    """Pods at the bottom, nodes over them, all others by how many wires they are from a node (or, without nodes, from
    a room with a single wire)."""
    level = {room: 0 for room in near if roles[room] == "pod"}
    ground = [room for room in near if roles[room] == "node"]
    edge = ground or [room for room in near if room not in level and len(near[room]) < 2] or list(near)[:1]
    level |= {room: 1 if level else 0 for room in edge}
    while edge:
        found = dict.fromkeys(other for room in edge for other in sorted(near[room], key=natural) if other not in level)
        level |= {room: level[edge[0]] + 1 for room in found}
        edge = list(found)
    return {room: level.get(room, 0) for room in near}


def _rows(near: Mapping[str, set[str]], level: Mapping[str, int]) -> list[list[str]]:
    """The rooms of each level from left to right: those under one room side by side, else by name."""
    rows: list[list[str]] = [[] for _ in range(max(level.values(), default=0) + 1)]
    for room in sorted(near, key=natural):
        rows[level[room]].append(room)
    for row, upper in zip(rows[-2::-1], rows[:0:-1], strict=True):
        place = {room: n for n, room in enumerate(upper)}
        row.sort(key=lambda room: min((place[other] for other in near[room] if other in place), default=-1))
    return rows


def _span(room: str, near: Mapping[str, set[str]], level: Mapping[str, int], spots: Mapping[str, Spot]) -> list[float]:
    """The middles of those below a room, if each of them is below no other room."""
    under = [other for other in near[room] if level[other] < level[room]]
    shared = any(level[upper] > level[other] and upper != room for other in under for upper in near[other])
    return [] if shared else [spots[other].x for other in under]


def _middle(xs: list[float]) -> float:
    return (min(xs) + max(xs)) / 2 if xs else 0


def _apart(wanted: list[float]) -> list[float]:
    """Places at least one step apart and, taken together, as near to where they are wanted as can be."""
    placed: list[float] = []
    for x in wanted:
        placed.append(max(x, placed[-1] + 1) if placed else x)
    shift = (sum(placed) - sum(wanted)) / len(wanted)
    return [x - shift for x in placed]


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """node-2 before node-10."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name))
