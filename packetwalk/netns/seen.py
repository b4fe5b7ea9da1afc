"""What a rule may look at: a packet at a hook, with all that the kernel's matches ask about it, as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from packetwalk.packet import Ethernet, Header, Icmp, Ip, Packet, Sctp, Tcp, Udp, visible

if TYPE_CHECKING:
    from packetwalk.netns.fib import Fib
    from packetwalk.netns.ipset import IpSet
    from packetwalk.netns.nft_rule import NftRule
    from packetwalk.netns.rule import Rule
    from packetwalk.netns.tables import Rt


class Hit(NamedTuple):
    """A rule that matched: where it stands (`number` counts from 1) and the chains that led there, outermost first.

    element: what a map or set of nftables held for the packet.
    """

    table: str
    chain: str
    number: int
    rule: Rule | NftRule
    stack: tuple[str, ...] = ()
    element: str = ""

    def __str__(self) -> str:
        way = f"via {' > '.join(self.stack)}" if self.stack else ""
        place = ", ".join(filter(None, (self.element, self.rule.where, way)))
        rule = str(self.rule).removeprefix(f"-A {self.chain} ")
        return f"{self.chain} {self.number}: {rule}{f'   ({place})' if place else ''}"


class Lot(NamedTuple):
    """One of several things that a rule draws among: the chain it leads to."""

    chain: str


class Chooser(Protocol):
    """Who throws the dice: a seed, a fixed choice, or one branch after the other."""

    def statistic(self, rule: Rule | Lot, probability: float, seen: Seen) -> bool:
        """Whether `-m statistic --mode random` matches this time, or a lot of `numgen random` is drawn."""

    def port(self, low: int, high: int) -> int:
        """A port from `low` to `high`, both included."""


class Ends(Protocol):
    """One direction of a connection."""

    @property
    def src(self) -> int: ...
    @property
    def dst(self) -> int: ...
    @property
    def proto(self) -> int: ...
    @property
    def sport(self) -> int: ...
    @property
    def dport(self) -> int: ...


class Conn(Protocol):
    """What matches and targets ask of a connection (status: the kernel's IPS_ bits; expires in ns)."""

    mark: int
    status: int
    expires: int

    @property
    def original(self) -> Ends:
        """The tuple of the direction that opened it."""

    @property
    def reply(self) -> Ends:
        """The tuple of its answers."""


class Asked(Protocol):
    """What a client asked for: the virtual address and port."""

    @property
    def vaddr(self) -> int: ...
    @property
    def vport(self) -> int: ...


class Virtual(Protocol):
    """What matches ask of a connection of IPVS, and of the template that controls it."""

    @property
    def client(self) -> Asked: ...
    @property
    def control(self) -> Virtual | None: ...


class Lookups(Protocol):
    """What matches and targets ask of the namespace's other tables."""

    fib: Fib

    def clamp_mtu(self, seen: Seen) -> int:
        """The path MTU of a packet's way, or of the way back to its sender if that is smaller (tcpmss_reverse_mtu)."""

    def virtual(self, seen: Seen) -> Virtual | None:
        """The connection of IPVS that a packet on its way to a real server belongs to."""


class Seen:
    """A packet as a hook shows it to the rules. Targets change `mark`, `packet`, `ctstate` and the conn's mark here.

    packet: the L3 packet, never with its Ethernet header; l4 is None in a later fragment. Addresses, protocol and ports
    are plain numbers, ports -1 where none can be seen. iif, oif, physin, physout: device names, "" where there is none;
    physin and physout only for a bridged packet. rt: its way, once it is routed. ctstate: NEW, ESTABLISHED, RELATED,
    INVALID or UNTRACKED; ctdir: ORIGINAL or REPLY. state: the memory of recent, nth, limit and changed sets of this
    namespace; now in ns. ipvs: whether IPVS has dealt with the packet.
    """

    __slots__ = (
        "choose",
        "conn",
        "ctdir",
        "ctstate",
        "dport",
        "dst",
        "eth",
        "hits",
        "iif",
        "ip",
        "ipvs",
        "l4",
        "mark",
        "now",
        "oif",
        "packet",
        "physin",
        "physout",
        "proto",
        "rt",
        "sets",
        "sport",
        "src",
        "state",
        "tables",
    )

    packet: Packet
    ip: Ip
    l4: Header | None

    def __init__(
        self,
        packet: Packet,
        iif: str = "",
        oif: str = "",
        *,
        tables: Lookups,
        state: dict[object, object],
        choose: Chooser,
        mark: int = 0,
        now: int = 0,
    ) -> None:
        self.iif, self.oif = iif, oif
        self.physin = self.physout = ""
        self.ipvs = False
        self.eth: Ethernet | None = None
        self.rt: Rt | None = None
        self.mark = mark
        self.conn: Conn | None = None
        self.ctstate, self.ctdir = "INVALID", "ORIGINAL"
        self.tables, self.state, self.choose, self.now = tables, state, choose, now
        self.sets: dict[str, IpSet] = {}
        self.hits: list[Hit] = []
        self.look_at(packet)

    def look_at(self, packet: Packet) -> None:
        """Take another packet, after NAT or a target changed it."""
        headers = packet.headers if len(packet.headers) > 1 else visible(packet).headers
        ip = headers[0]
        assert isinstance(ip, Ip)
        self.packet, self.ip = packet, ip
        self.src, self.dst, self.proto = int(ip.src), int(ip.dst), ip.proto
        self.l4 = l4 = headers[1] if len(headers) > 1 and not ip.offset else None
        if isinstance(l4, (Tcp, Udp, Sctp)):
            self.sport, self.dport = l4.sport, l4.dport
        else:
            self.sport = self.dport = -1

    @property
    def icmp(self) -> Icmp | None:
        return self.l4 if isinstance(self.l4, Icmp) else None


class Undecided(Exception):
    """A rule would have to be judged by something packetwalk does not
    model: kind (`match`, `target`, `set`) and name."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} {name}")
        self.kind, self.name = kind, name


class HotDrop(Exception):
    """A match found the packet malformed and drops it at once (`par->hotdrop`)."""
