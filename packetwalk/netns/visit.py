"""One visit of a room: a packet is inside, steps are noted, and everything that follows from it happens in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from packetwalk.addr import ANY, IPv4
from packetwalk.netns.conntrack import ORIGINAL, RELATED, REPLY
from packetwalk.packet import Ethernet, Icmp, Packet, new
from packetwalk.trace import Drop, Reason, Step, Timer, Unsupported

if TYPE_CHECKING:
    from packetwalk.netns.conntrack import Conn
    from packetwalk.netns.seen import Seen
    from packetwalk.netns.socket import Socket
    from packetwalk.netns.tables import Rt, Tables
    from packetwalk.netns.tcp import Connection

MAX_DEPTH = 8  # XMIT_RECURSION_LIMIT: tunnels inside tunnels


class Skb:
    """A packet inside a room: it dies at the door. `mark` and the rest never leave; only `packet` does.

    dev is where it came in, out and nexthop where it goes; eth the link header it came with; pkt_type host, broadcast,
    multicast or otherhost; error the ICMP error to send about it; frag_max and frag_list remember how a reassembled
    datagram was cut (IPCB). conn, ctstate and ctdir are what connection tracking says (`ctstate` empty: not asked
    yet); physin is the bridge port at which br_netfilter took the frame, sabotaged that PREROUTING has been skipped
    since. ipvs: IPVS has dealt with it (ipvs_property); stolen: the stage at which a hook that took it lets it go on.
    """

    eth: Ethernet | None = None  # defaults stand on the class: only what differs is stored in a packet
    pkt_type = "host"
    rt: Rt | None = None
    nexthop: IPv4 = ANY
    mark = 0
    mtu = 0
    socket: Socket | Connection | None = None
    forwarded = False
    redirect = False
    ignore_df = False
    frag_max = 0
    frag_list: tuple[int, ...] = ()
    bridged = ""
    error: Icmp | None = None
    depth = 0
    conn: Conn | None = None
    ctstate = ""
    ctdir = ORIGINAL
    physin = ""
    sabotaged = False
    bridged_dnat: Ethernet | None = None
    ipvs = False
    stolen = ""

    def __init__(self, packet: Packet, dev: str = "", out: str = "", *, mark: int = 0) -> None:
        self.packet = packet
        self.dev = dev
        self.out = out
        if mark:
            self.mark = mark

    def copy(self, packet: Packet | None = None) -> Skb:
        """A clone, with another packet if one is given."""
        clone = Skb(self.packet)
        clone.__dict__.update(self.__dict__)
        if packet is not None:
            clone.packet = packet
        return clone

    def answers(self, other: Skb) -> None:
        """nf_ct_attach: this packet, born of another one, belongs to the same connection, in the other direction."""
        if other.conn is not None:
            self.conn, self.ctstate = other.conn, RELATED
            self.ctdir = REPLY if other.ctdir == ORIGINAL else ORIGINAL

    def taken(self) -> str | None:
        """NF_STOLEN: the stage a hook sends the packet to instead of letting it pass; None where it is gone."""
        stage, self.stolen = self.stolen, ""
        return stage or None

    def forget_conn(self) -> None:
        """nf_reset_ct: to connection tracking this is a new packet."""
        if self.ctstate:
            self.conn, self.ctstate, self.ctdir = None, "", ORIGINAL


class Visit:
    """What stages share while a packet is in the room: the tables, the time, the steps so far.

    task: a program is sending (process context): pending softirqs run between the packets it sends, see `later`.
    hooked: whether netfilter has anything to do in this room; seen: what its rules are shown (hooks).
    """

    __slots__ = ("backlog", "hooked", "now", "replying", "seen", "stages", "steps", "t", "task")

    def __init__(self, tables: Tables, stages: Mapping[str, Stage], now: int, *, task: bool = False) -> None:
        self.t = tables
        self.stages = stages
        self.now = now
        self.hooked = tables.conntrack or len(tables.netfilter.tables) > 0 or len(tables.netfilter.nft) > 0 \
            or len(tables.ipvs.services) > 0
        self.task = task
        self.seen: Seen | None = None
        self.replying = False  # an ICMP message of ours is on its way out
        self.steps: list[Step] = []
        self.backlog: list[Skb] = []

    def go(self, stage: str | None, skb: Skb) -> None:
        """Run stages from here until the branch ends. A stage that forks calls this for each of its branches."""
        stages = self.stages
        while stage is not None:
            stage = stages[stage](self, skb)

    def batch(self, skbs: list[Skb]) -> None:
        """netif_receive_skb_list: several frames at once; the taps see all of them before the first goes on."""
        for skb in skbs:
            self.stages["receive"](self, skb)
        for skb in skbs:
            self.go("link_in", skb)

    def finish(self) -> list[Step]:
        """Work off what loopback and tunnel devices queued for this room (process_backlog), and hand out the steps."""
        self.task = False
        while self.backlog:
            self.go("receive", self.backlog.pop(0))
        return self.steps

    def step(self, stage: str, dev: str, what: object, packet: Packet) -> None:
        self.steps.append(new(Step, (stage, dev, what, packet)))

    def drop(self, skb: Skb, reason: Reason, by: object = None, *, errno: str = "", dev: str = "") -> None:
        """End the branch: the packet is dropped, for that reason, by that entry."""
        self.steps.append(Step("drop", dev or skb.out or skb.dev, Drop(reason, by, errno), skb.packet))

    def unsupported(self, skb: Skb, kind: str, name: str) -> None:
        """End the branch: this is not modelled, and a guess would be worse."""
        self.steps.append(Step("unsupported", skb.out or skb.dev, Unsupported(kind, name), skb.packet))

    def timer(self, timer: Timer, packet: Packet) -> None:
        self.steps.append(Step("timer", "", timer, packet))


Stage = Callable[[Visit, Skb], "str | None"]
