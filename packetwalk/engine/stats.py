"""What is counted while traffic runs: by flow, by wire, by room. Nothing is kept per packet."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from packetwalk.netns.socket import Delivery
from packetwalk.packet import Packet, Slice, Tcp, quoted, size
from packetwalk.trace import Drop, Hop, Reason, Step

if TYPE_CHECKING:
    from packetwalk.engine.sim import Simulation
    from packetwalk.engine.sources import Source
    from packetwalk.netns.reno import Reno
    from packetwalk.netns.socket import Socket
    from packetwalk.netns.tcp import Connection
    from packetwalk.network import End

STEPS = 128  # buckets for each power of two: a percentile is exact to 0.4 %
PLACES = 1000  # so many places of drops are told apart


class Histogram:
    """Durations in ns, counted in buckets whose width grows with them. Largest, smallest and mean are exact."""

    __slots__ = ("_buckets", "count", "max", "min", "total")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count = self.total = self.max = self.min = 0

    def add(self, ns: int) -> None:
        """Count one."""
        shift = max(ns.bit_length() - 8, 0)
        bucket = shift * 2 * STEPS + (ns >> shift)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.max = max(self.max, ns)
        if ns < self.min or not self.count:
            self.min = ns
        self.count += 1
        self.total += ns

    def merge(self, other: Histogram) -> None:
        """Count all that another one has counted."""
        if other.count:
            self.max, self.min = max(self.max, other.max), min(self.min, other.min) if self.count else other.min
        for bucket, count in other._buckets.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count
        self.count += other.count
        self.total += other.total

    def shares(self) -> list[tuple[int, float]]:
        """(ns, share of all that took at most so long), rising: the empirical distribution."""
        found, seen = [], 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            shift, value = divmod(bucket, 2 * STEPS)
            middle = (value << shift) + (1 << shift) // 2
            found.append((min(max(middle, self.min), self.max), seen / self.count))
        return found

    def percentile(self, percent: float) -> int:
        """ns that so many of a hundred took at most; 0 where nothing was counted."""
        if percent >= 100:
            return self.max
        return next((ns for ns, share in self.shares() if share * 100 >= percent), self.max)

    @property
    def mean(self) -> int:
        """ns, rounded; 0 where nothing was counted."""
        return round(self.total / self.count) if self.count else 0


class Datagram(int):
    """The length of a payload, and what a traffic generator writes into one: whose it is, and when it was sent.

    It goes with the packet through NAT, tunnels and queues. `at` is in ns.
    """

    flow: FlowStats
    at: int


@dataclass(slots=True, eq=False)
class FlowStats:
    """One source's packets. latency: from the sending program to the one that reads. answers: echoes that came back
    to the sender, and rtt how long that took. conns: a transfer's connections; then packets are segments with data.

    last: when the last one arrived. timeline: for each slice of the run what was sent, delivered and dropped in it,
    and the longest latency.
    """

    source: Source
    conns: list[Reno] = field(default_factory=list)
    first: int = 0
    delivered: int = 0
    delivered_bytes: int = 0
    last: int = 0
    answers: int = 0
    errors: int = 0
    latency: Histogram = field(default_factory=Histogram)
    rtt: Histogram = field(default_factory=Histogram)
    drops: Counter[Reason] = field(default_factory=Counter)
    timeline: dict[int, list[int]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def again(self) -> int:
        """Segments that TCP sent once more."""
        return sum(conn.again for conn in self.conns)

    @property
    def sent(self) -> int:
        """Packets that left the program, or TCP's segments with data, each time they were sent."""
        return self.first + self.again

    @property
    def goodput(self) -> int:
        """Bytes of payload that arrived, each counted once: of TCP those that are acknowledged."""
        return sum(max(conn.snd_una - 1, 0) for conn in self.conns) if self.conns else self.delivered_bytes

    @property
    def lost(self) -> int:
        """Packets that did not get there."""
        return max(self.sent - self.delivered, 0)


@dataclass(slots=True, eq=False)
class LinkStats:
    """One direction of a wire. wait: from the transmit to the moment the room behind it has time: queue, bits,
    distance, and its processor's backlog. last: when the last one arrived."""

    to: End
    frames: int = 0
    bytes: int = 0
    drops: int = 0
    last: int = 0
    wait: Histogram = field(default_factory=Histogram)


@dataclass(slots=True, eq=False)
class RoomStats:
    """A room's visits, ns its processor was busy, and frames that died in it."""

    visits: int = 0
    busy: int = 0
    drops: int = 0


class Death(NamedTuple):
    """Where packets of a flow died (empty: of none of them, such as ARP), and by what."""

    flow: str
    reason: Reason
    room: str
    dev: str
    by: str


class Recorder:
    """Watches a simulation. `every`: ns of a slice of the timeline. senders, ports: whose a socket or a TCP port is."""

    def __init__(self, sim: Simulation, every: int) -> None:
        self.sim, self.every = sim, every
        self.senders: dict[Socket | Connection, FlowStats] = {}
        self.ports: dict[int, FlowStats] = {}
        self.links: dict[End, LinkStats] = {}
        self.rooms: dict[str, RoomStats] = {}
        self.deaths: Counter[Death] = Counter()
        self.unsupported: Counter[str] = Counter()
        self.samples: dict[Reason, tuple[FlowStats, list[Hop]]] = {}

    def visit(self, hop: Hop) -> None:
        """Count what happened in a visit."""
        room = self.rooms.get(hop.room)
        if room is None:
            room = self.rooms[hop.room] = RoomStats()
        room.visits += 1
        room.busy += hop.took
        if hop.cause is not None and hop.dev:
            self._carried(hop, *hop.cause)
        for step, at in zip(hop.steps, hop.times, strict=True):
            if step.stage == "deliver":
                self._delivered(step, at)
            elif step.stage == "drop":
                room.drops += 1
                self._dropped(hop, step, at)
            elif step.stage == "unsupported":
                self.unsupported[f"{step.what} at {hop.room}"] += 1

    def sent(self, flow: FlowStats, size: int, at: int) -> Datagram:
        """The payload of a packet that leaves now."""
        payload = Datagram(size)
        payload.flow, payload.at = flow, at
        flow.first += 1
        self._slice(flow, at)[0] += 1
        return payload

    def _slice(self, flow: FlowStats, at: int) -> list[int]:
        return flow.timeline.setdefault(at // self.every, [0, 0, 0, 0])

    def _carried(self, hop: Hop, number: int, step: int) -> None:
        before = self.sim.visit(number)
        if before is None:
            return
        sent = before.steps[step]
        end = (before.room, sent.dev)
        link = self.links.get(end)
        if link is None:
            link = self.links[end] = LinkStats((hop.room, hop.dev))
        link.frames += 1
        link.bytes += size(sent.packet)
        link.last = hop.at
        link.wait.add(hop.at - before.times[step])

    def _delivered(self, step: Step, at: int) -> None:
        payload, what = step.packet.payload, step.what
        assert isinstance(what, Delivery)
        if what.kind == "error" and what.socket in self.senders:
            self.senders[what.socket].errors += 1
        elif isinstance(payload, Datagram) and what.socket in self.senders:
            payload.flow.answers += 1
            payload.flow.rtt.add(at - payload.at)
        elif isinstance(payload, Datagram):
            flow, took = payload.flow, at - payload.at
            flow.delivered += 1
            flow.delivered_bytes += payload
            flow.last = at
            flow.latency.add(took)
            part = self._slice(flow, at)
            part[1] += 1
            part[3] = max(part[3], took)

    def _dropped(self, hop: Hop, step: Step, at: int) -> None:
        drop = step.what
        assert isinstance(drop, Drop)
        link = self.links.get((hop.room, step.dev))
        if link is not None and drop.reason is Reason.QDISC_DROP:
            link.drops += 1
        flow = self._flow_of(step.packet)
        death = Death(flow.name if flow else "", drop.reason, hop.room, step.dev, str(drop.by or ""))
        if death not in self.deaths and len(self.deaths) >= PLACES:
            death = death._replace(by="")
        self.deaths[death] += 1
        if flow is None:
            return
        flow.drops[drop.reason] += 1
        self._slice(flow, at)[2] += 1
        if drop.reason not in self.samples:
            self.samples[drop.reason] = (flow, self._way(hop))

    def _way(self, hop: Hop) -> list[Hop]:
        """The visits that one packet made, as far back as they are remembered, numbered from 0."""
        way = [hop]
        while way[0].cause is not None:
            number, step = way[0].cause
            before = self.sim.visit(number)
            if before is None:
                break
            way.insert(0, before)
            if any(s.stage == "deliver" for s in before.steps[:step]):
                break  # it was born here, of a packet that had arrived
        first, *rest = way
        return [first._replace(cause=None), *(h._replace(cause=(i, h.cause[1])) for i, h in enumerate(rest) if h.cause)]

    def _flow_of(self, packet: Packet) -> FlowStats | None:
        """Whose packet it is: its payload says so, or the ports of a segment without one. An ICMP error is nobody's."""
        part = packet.payload
        if isinstance(part, Slice):
            return None if quoted(packet) is not None else self._flow_of(part.of)
        if isinstance(part, Datagram):
            return part.flow
        last = packet.headers[-1] if packet.headers else None
        if isinstance(last, Tcp):
            return self.ports.get(last.sport) or self.ports.get(last.dport)
        return None
