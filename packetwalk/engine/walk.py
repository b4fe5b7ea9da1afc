"""`walk`: one flow through a network with empty queues, until it is quiet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from packetwalk.addr import ANY, IPv4
from packetwalk.collector import collector_paused
from packetwalk.engine.costs import DEFAULT_COSTS
from packetwalk.engine.sim import MAX_EVENTS, Simulation
from packetwalk.netns.chooser import Scripted
from packetwalk.netns.namespace import Netns
from packetwalk.netns.socket import Delivery, Socket
from packetwalk.netns.tcp import Connection
from packetwalk.network import Network
from packetwalk.packet import (
    ECHO,
    PROTO_ICMP,
    PROTO_SCTP,
    PROTO_TCP,
    PROTO_UDP,
    UDP_LEN,
    Icmp,
    Ip,
    Packet,
    Sctp,
    Udp,
    ip_packet,
    payload_len,
)  # fmt: skip
from packetwalk.sctp import ABORT, TAG, chunks, opening
from packetwalk.trace import Drop, Flow, Hop, Result, Step, Trace, Unsupported

SECOND = 1_000_000_000
TIMEOUT = 180 * SECOND


class Client:
    """The sending program of a flow: it acts once, and notes the first thing it hears."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.result: Result | None = None
        proto = {"icmp": PROTO_ICMP, "udp": PROTO_UDP, "tcp": PROTO_TCP, "sctp": PROTO_SCTP}[flow.kind]
        port = flow.ident if flow.kind == "icmp" else flow.sport
        self.socket = Socket(proto, port, flow.bind, flow.df, flow.ttl, recverr=flow.kind in ("udp", "sctp"))
        self.conn = Connection(
            flow.bind, flow.sport, flow.dst, flow.dport, ttl=flow.ttl, pmtudisc=flow.df, send_size=flow.payload
        )
        self._sent = False

    def act(self, room: Netns, now: int) -> list[Step]:
        """Send what the flow says."""
        if self.flow.kind == "tcp":
            return room.connect(self.conn, now)
        room.sockets.bind(self.socket)
        return room.send(self._packet(), now, self.socket)

    def _packet(self) -> Packet:
        flow = self.flow
        if flow.kind == "icmp":
            header: Icmp | Udp = Icmp(ECHO, 0, flow.ident, flow.seq)
            return ip_packet(Ip(ANY, flow.dst, PROTO_ICMP, 0, flow.ttl), header, payload=flow.payload)
        if flow.kind == "sctp":
            about = Ip(ANY, flow.dst, PROTO_SCTP, 0, flow.ttl)
            return ip_packet(about, Sctp(flow.sport, flow.dport), payload=opening(TAG))
        header = Udp(flow.sport, flow.dport, UDP_LEN + flow.payload)
        return ip_packet(Ip(ANY, flow.dst, PROTO_UDP, 0, flow.ttl), header, payload=flow.payload)

    def watch(self, hop: Hop) -> None:
        """Look at a visit: is there news for us?"""
        if self.result is not None or hop.room != self.flow.src:
            return
        first, self._sent = not self._sent, True
        for step, at in zip(hop.steps, hop.times, strict=True):
            result = self._hear(step, first)
            if result is not None:
                self.result = _at(result, at)
                return

    def _hear(self, step: Step, first: bool) -> Result | None:
        what = step.what
        if isinstance(what, Delivery) and what.socket is not None and what.socket in (self.socket, self.conn):
            return self._delivered(step, what)
        if isinstance(what, Drop) and first and what.errno == "EPERM" and self.flow.kind == "tcp":
            return None  # tcp_connect takes a SYN that OUTPUT dropped for a lost one, and tries again
        if isinstance(what, Drop) and first and what.errno and self.flow.kind == "tcp":
            return Result("send_error" if what.errno == "EADDRNOTAVAIL" else "error", errno=what.errno)
        if isinstance(what, Drop) and first and what.errno in _SEND_ERRORS:
            return Result("send_error", errno=what.errno)
        return Result("unsupported", errno=str(what)) if isinstance(what, Unsupported) and first else None

    def _delivered(self, step: Step, what: Delivery) -> Result | None:
        ip, second = step.packet.headers[0], step.packet.headers[1]
        assert isinstance(ip, Ip)
        if what.kind == "error":
            if not what.errno:
                return None
            assert isinstance(second, Icmp)
            if self.flow.kind == "icmp":
                return Result(
                    "icmp_error", src=str(ip.src), type=second.type, code=second.code, mtu=second.mtu, ttl=ip.ttl
                )
            return Result(
                "error", errno=what.errno, type=second.type, code=second.code, mtu=what.info, offender=str(ip.src)
            )
        if self.flow.kind == "icmp":
            return Result("reply", src=str(ip.src), ttl=ip.ttl, size=ip.len)
        if self.flow.kind == "udp":
            assert isinstance(second, Udp)
            return Result("reply", src=f"{ip.src}:{second.sport}", ttl=ip.ttl, size=second.len - UDP_LEN)
        if self.flow.kind == "sctp":
            return self._answered(step, ip)
        if self.conn.error:
            return Result("error", errno=self.conn.error)
        done = self.conn.state != "SYN_SENT" and self.conn.received >= self.conn.send_size
        if not done:
            return None
        return Result(
            "connected",
            peer=f"{self.conn.raddr}:{self.conn.rport}",
            mss=self.conn.mss,
            echoed=self.conn.received,
            ttl=ip.ttl,
        )


    def _answered(self, step: Step, ip: Ip) -> Result:
        """What came back for an INIT: an ABORT tells that nobody is there."""
        header, payload = step.packet.headers[1], step.packet.payload
        assert isinstance(header, Sctp)
        if any(chunk.type == ABORT for chunk in chunks(payload)):
            return Result("error", errno="ECONNREFUSED")
        return Result("reply", src=f"{ip.src}:{header.sport}", ttl=ip.ttl, size=payload_len(payload))


_SEND_ERRORS = frozenset(
    {"EADDRNOTAVAIL", "ENETUNREACH", "EHOSTUNREACH", "EINVAL", "EACCES", "EPERM", "EMSGSIZE", "ENOBUFS", "ENETDOWN"}
)


class Named(Protocol):
    """What a walk may begin or end at, such as a pod or a service."""

    @property
    def room(self) -> str:
        """Its network namespace, or its name in `network.programs` or `network.services`."""


def between(network: Network, src: str | Named, dst: str | Named, *, udp: int = 0, tcp: int = 0, sctp: int = 0,
            size: int = -1, ttl: int = 0, df: str = "") -> Flow:  # fmt: skip
    """The flow from a room to another, to a service, or to an address; behind a colon the port, of TCP unless told.

    A program in a room, such as node-1/kubelet, may stand for it.

    An echo request unless there is a port. size, ttl and df as in Flow. KeyError or ValueError, in one line, for a name
    that leads nowhere, and for two ports.
    """
    source, to = (end if isinstance(end, str) else end.room for end in (src, dst))
    name, colon, port = to.partition(":")
    if colon:
        if not port.isdecimal() or not 1 <= int(port) <= 65535:
            raise ValueError(f"{to!r}: a port from 1 to 65535 was expected behind the colon, not {port!r}")
        if int(port) != (tcp or udp or sctp or int(port)):
            raise ValueError(f"{to!r} has a port, and so has --{'tcp' if tcp else 'udp' if udp else 'sctp'} "
                             f"{tcp or udp or sctp}")  # fmt: skip
        tcp = 0 if udp or sctp else int(port)
    kind = "tcp" if tcp else "udp" if udp else "sctp" if sctp else "icmp"
    room = network.room_of(source)
    address = destination(network, name, outside=network.roles.get(room) == "host")
    named = any(name in names for names in (network, network.programs, network.services))
    return Flow(kind, room, address, tcp or udp or sctp, size=size, ttl=ttl, df=df, to=name if named else "",
                by=source if source != room else "")  # fmt: skip


def destination(network: Network, name: str, *, outside: bool = False) -> IPv4:
    """The address of a room or a program in one, of a service (the others go first; `name.namespace` is the service),
    or the address itself. outside: who asks is no part of the cluster, and knows a service by its address there.

    KeyError for a name that leads nowhere, ValueError for what is no address.
    """
    room = network.room_of(name)
    if outside and room not in network and name in network.published:
        return network.published[name]
    if room not in network and name in network.services:
        return network.services[name]
    return IPv4(name) if name[:1].isdecimal() and room not in network else address_of(network, room)


def walk(network: Network, flow: Flow | str | Named, dst: str | Named = "", *, udp: int = 0, tcp: int = 0,
         sctp: int = 0, size: int = -1, ttl: int = 0, df: str = "", cold: bool = False,
         costs: Mapping[str, int] = DEFAULT_COSTS, chooser: Scripted | None = None,
         until: int = TIMEOUT, max_events: int = MAX_EVENTS) -> Trace:  # fmt: skip
    """Walk one flow, request and reply, until it is quiet; the network itself is not changed.

    flow: a Flow, or where it comes from; then `dst` is where it goes to, and udp, tcp, sctp, size, ttl and df are as
    for `between`.
    cold: start with the tables as they are. Otherwise (warm) an unseen run before fills neighbours and FDBs, and
    nothing else of it is kept. chooser: who answers where rules draw lots, in all rooms; without one each room draws
    from its seed. until: a bound in ns of simulated time.
    """
    if not isinstance(flow, Flow):
        flow = between(network, flow, dst, udp=udp, tcp=tcp, sctp=sctp, size=size, ttl=ttl, df=df)
    after, client = network.overlay(), Client(flow)
    after.chooser = chooser
    with collector_paused():
        if not cold:
            rehearsal = network.overlay()
            rehearsal.chooser = Scripted(chooser.answers) if chooser is not None else None
            _run(rehearsal, Client(flow), costs, until, max_events)
            warm_up(after, rehearsal)
            del rehearsal
        sim = _run(after, client, costs, until, max_events)
    rooms = dict.fromkeys(h.room for h in sim.hops)
    unevaluated = {r: network[r].unevaluated for r in rooms if network[r].unevaluated}
    note = sim.note or (f"stopped at the bound of {until / SECOND:g} s" if sim.now >= until else "")
    result = client.result or _unanswered(sim.hops)
    return Trace(flow, result, sim.hops, network.name, note, unevaluated, after)


def _run(network: Network, client: Client, costs: Mapping[str, int], until: int, max_events: int) -> Simulation:
    sim = Simulation(network, costs=costs)
    sim.watch(client.watch)
    sim.program(client.flow.src, client.act, why="send")
    sim.run(until, max_events=max_events)
    sim.close()
    return sim


def warm_up(into: Network, seen: Network) -> None:
    """Carry neighbours and FDBs over from a run, and nothing else of what it learned.

    Rooms that learned nothing are left alone: a broadcast may have come by a thousand of them.
    """
    for name in seen.visited():
        known = seen[name]
        neighbours = {
            key: entry._replace(state="REACHABLE", confirmed=0, updated=0)
            for key, entry in known.neighbours.entries.items()
            if entry.lladdr is not None and not entry.waiting and entry.state != "PERMANENT"
        }
        ports = {
            key: entry._replace(updated=0)
            for key, entry in known.bridge_fdb.entries.items()
            if not (entry.local or entry.static)
        }
        tunnels = {key: far for key, far in known.vxlan_fdb.entries.items() if not all(entry.static for entry in far)}
        if neighbours or ports or tunnels:
            room = into[name]
            room.neighbours.entries.update(neighbours)
            room.bridge_fdb.entries.update(ports)
            room.vxlan_fdb.entries.update(tunnels)


def _unanswered(hops: list[Hop]) -> Result:
    stuck = next((s.what for h in hops for s in h.steps if isinstance(s.what, Unsupported)), None)
    return Result("unsupported", errno=str(stuck)) if stuck is not None else Result("timeout")


def _at(result: Result, at: int) -> Result:
    return replace(result, at=at)


def address_of(network: Network, name: str) -> IPv4:
    """The address a room is known by: the first one of global scope. KeyError for a room that has none."""
    if name not in network:
        raise KeyError(f"there is no room {name!r}; there are {', '.join(network.rooms)}")
    for dev in network[name].devices.values():
        for addr in dev.addrs:
            if addr.scope == 0:
                return addr.local
    raise KeyError(f"room {name!r} has no address to send to")
