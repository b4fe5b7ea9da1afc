"""The trace: what happened to a packet, step by step, with the evidence.

`Trace > Hop > Step`. A hop is one visit of one room (network namespace); a step is one thing that happened
there. The core makes nothing but steps; words are the business of `packetwalk.text`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from packetwalk import data, text, way
from packetwalk.addr import ANY, IPv4
from packetwalk.packet import Packet, innermost
from packetwalk.totals import Totals, totals


class Reason(StrEnum):
    """Why a packet died, by the kernel's own names (include/net/dropreason-core.h, without SKB_DROP_REASON_)."""

    NO_SOCKET = "NO_SOCKET"
    OTHERHOST = "OTHERHOST"
    IP_INHDR = "IP_INHDR"
    NETFILTER_DROP = "NETFILTER_DROP"
    IP_RPFILTER = "IP_RPFILTER"
    IP_LOCAL_SOURCE = "IP_LOCAL_SOURCE"
    IP_LOCALNET = "IP_LOCALNET"
    IP_INVALID_SOURCE = "IP_INVALID_SOURCE"
    IP_INVALID_DEST = "IP_INVALID_DEST"
    IP_INADDRERRORS = "IP_INADDRERRORS"
    IP_INNOROUTES = "IP_INNOROUTES"
    IP_OUTNOROUTES = "IP_OUTNOROUTES"
    IP_NOPROTO = "IP_NOPROTO"
    INVALID_PROTO = "INVALID_PROTO"
    UNICAST_IN_L2_MULTICAST = "UNICAST_IN_L2_MULTICAST"
    PKT_TOO_BIG = "PKT_TOO_BIG"
    DUP_FRAG = "DUP_FRAG"
    FRAG_REASM_TIMEOUT = "FRAG_REASM_TIMEOUT"
    NEIGH_FAILED = "NEIGH_FAILED"
    NEIGH_QUEUEFULL = "NEIGH_QUEUEFULL"
    DEV_READY = "DEV_READY"
    NO_TX_TARGET = "NO_TX_TARGET"
    LOCAL_MAC = "LOCAL_MAC"
    VXLAN_VNI_NOT_FOUND = "VXLAN_VNI_NOT_FOUND"
    VXLAN_ENTRY_EXISTS = "VXLAN_ENTRY_EXISTS"
    IP_TUNNEL_ECN = "IP_TUNNEL_ECN"
    RECURSION_LIMIT = "RECURSION_LIMIT"
    MAC_INVALID_SOURCE = "MAC_INVALID_SOURCE"
    BRIDGE_INGRESS_STP_STATE = "BRIDGE_INGRESS_STP_STATE"
    BRIDGE_NON_FORWARDING = "BRIDGE_NON_FORWARDING"
    TCP_FLAGS = "TCP_FLAGS"
    TCP_RESET = "TCP_RESET"
    QDISC_DROP = "QDISC_DROP"
    CPU_BACKLOG = "CPU_BACKLOG"
    NOT_SPECIFIED = "NOT_SPECIFIED"


class Drop(NamedTuple):
    """Evidence of a drop: the reason, the table entry that decided, and the errno a local sender gets."""

    reason: Reason
    by: object = None
    errno: str = ""


class Unsupported(NamedTuple):
    """Something packetwalk does not model, by name: the branch ends here rather than guess."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


TIMER, SOFTIRQ, NAPI, TASK = "timer", "softirq", "napi", "task"
"""Contexts in the order a processor serves them: due timers, arrivals, what tunnels queued (gro_cells), programs."""


class Timer(NamedTuple):
    """A room asks to be woken, in that context. `pending` means that work waits for it: a walk does, too."""

    at: int
    kind: str
    key: object = None
    context: str = TIMER
    pending: bool = True


class Step(NamedTuple):
    """One thing that happened in a room. `packet` is the packet after it; `what` the evidence."""

    stage: str
    dev: str
    what: object
    packet: Packet


TERMINAL = frozenset({"transmit", "deliver", "hold", "drop", "unsupported", "consume"})
"""Stages that end a branch (a `transmit` of a virtual device goes on in the same room)."""


ARRIVALS = ("echo-request", "datagram", "segment")
"""Deliveries of what somebody sent, by their kind; others are answers, errors and ARP."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What is sent: `icmp` (echo), `udp` (one datagram), `tcp` (connect, perhaps send, close) or
    `sctp` (an INIT), from a room to an address.

    size: payload bytes; ttl 0: the sender's default; df: the IP_MTU_DISCOVER mode (empty: the namespace's default);
    ident: the echo id; bind: the source address.
    """

    kind: str
    src: str
    dst: IPv4
    dport: int = 0
    sport: int = 40000
    size: int = -1
    ttl: int = 0
    df: str = ""
    ident: int = 4660
    seq: int = 1
    bind: IPv4 = ANY
    to: str = ""  # the room that was asked for by name
    by: str = ""  # the program that sends, where it is one of several in the room
    about: str = ""  # what the exchange is for, where a program speaks

    @property
    def payload(self) -> int:
        """Bytes of payload: 56 for an echo, 32 for a datagram, none for a connection unless said otherwise."""
        return self.size if self.size >= 0 else {"icmp": 56, "udp": 32}.get(self.kind, 0)


@dataclass(frozen=True, slots=True)
class Result:
    """What the sender saw. outcome: reply, connected, icmp_error, error, send_error, timeout or unsupported."""

    outcome: str
    src: str = ""
    ttl: int = 0
    size: int = 0
    type: int = -1
    code: int = -1
    mtu: int = 0
    errno: str = ""
    offender: str = ""
    peer: str = ""
    mss: int = 0
    echoed: int = 0
    at: int = 0
    said: str = ""  # what the answer says, where a program has read it

    @property
    def answered(self) -> bool:
        return self.outcome in ("reply", "connected")


class Hop(NamedTuple):
    """One visit of a room. `times` are those of the steps, in ns since the walk began; `cause` is the (hop, step) whose
    `transmit` led here, None for what the room did by itself (a program, a timer)."""

    room: str
    dev: str
    at: int
    steps: list[Step]
    times: list[int]
    cause: tuple[int, int] | None = None
    why: str = ""

    def step(self, stage: str, n: int = 0) -> Step:
        """The n-th step of that stage in this visit. KeyError if there is none."""
        found = [s for s in self.steps if s.stage == stage]
        if n < len(found):
            return found[n]
        raise KeyError(f"{self.room} has no step {stage!r}; it has {', '.join(s.stage for s in self.steps)}")

    @classmethod
    def joined(cls, hops: list[Hop]) -> Hop:
        """Visits of a room that follow from one another, as one."""
        steps = [step for hop in hops for step in hop.steps]
        return hops[0]._replace(steps=steps, times=[at for hop in hops for at in hop.times])

    @property
    def end(self) -> int:
        """When the last step was done, in ns since the walk began."""
        return self.times[-1] if self.times else self.at

    @property
    def took(self) -> int:
        """How long the visit lasted, in ns."""
        return self.end - self.at

    def __str__(self) -> str:
        return text.hop(self)


@dataclass(slots=True)
class Trace:
    """A whole walk: every visit of every room in order of time, and what came of it.

    `after` is the network as the walk left it (learned tables); `note` says which bound ended it, if one did.
    """

    flow: Flow
    result: Result
    hops: list[Hop] = field(default_factory=list)
    network: str = ""
    note: str = ""
    unevaluated: dict[str, tuple[str, ...]] = field(default_factory=dict)
    after: object = field(default=None, repr=False)

    def __getitem__(self, room: str) -> Hop:
        """The first visit of a room, with what its own tunnels queued meanwhile. KeyError if there is none."""
        for section in text.sections(self):
            if section.room == room:
                return Hop.joined(section.hops)
        raise KeyError(
            f"the walk never came to {room!r}; it went by {', '.join(dict.fromkeys(h.room for h in self.hops))}"
        )

    def __iter__(self) -> Iterator[Hop]:
        return iter(self.hops)

    @property
    def delivered(self) -> bool:
        """Whether the sender got its answer."""
        return self.result.answered

    @property
    def steps(self) -> Iterator[tuple[Hop, Step]]:
        return ((hop, step) for hop in self.hops for step in hop.steps)

    @property
    def totals(self) -> Totals:
        """Rooms, tunnels with the bytes they add, TTL spent, path MTU, number of drops."""
        return totals(self)

    @property
    def drops(self) -> list[tuple[str, Step]]:
        """(room, step) of every drop."""
        return [(hop.room, step) for hop, step in self.steps if step.stage == "drop"]

    @property
    def nat(self) -> list[tuple[str, Step]]:
        """(room, step) of every rewrite by NAT or IPVS: `step.what` is the connection and, for its first packet, the
        rule or the virtual service."""
        return [(hop.room, step) for hop, step in self.steps if step.stage in ("nat", "ipvs")]

    def source_seen(self, room: str = "") -> IPv4 | None:
        """The source of the first packet that a socket, or a kernel's echo, was given in a room, in any if none is
        named; None if none was."""
        arrived = (step for hop, step in self.steps if room in ("", hop.room) and step.stage == "deliver")
        ips = (innermost(step.packet) for step in arrived if getattr(step.what, "kind", "") in ARRIVALS)
        return next((ip.src for ip in ips if ip is not None), None)

    @property
    def unsupported(self) -> list[tuple[str, Unsupported]]:
        """(room, what) of every branch that ended at something not modelled."""
        return [(hop.room, step.what) for hop, step in self.steps if isinstance(step.what, Unsupported)]

    def __str__(self) -> str:
        return text.summary(self)

    def full(self) -> str:
        """Every room and step, with the table entries that decided."""
        return text.full(self)

    def minimal(self) -> str:
        """One line: what golden tests pin."""
        return way.minimal(self)

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON; `version` counts changes of this form."""
        return data.to_dict(self)

    def to_pcapng(self) -> bytes:
        """A capture file for Wireshark: every frame on every device, with the steps that decided as comments."""
        from packetwalk.view.pcap import pcapng

        return pcapng(self)

    def to_html(self) -> str:
        """A page to step through the walk with: rooms, headers before and after, what decided. It loads nothing."""
        from packetwalk.view.html import page

        return page(self)

    def _repr_html_(self) -> str:
        from packetwalk.view.html import trace_html

        return trace_html(self)
