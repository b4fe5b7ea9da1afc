"""IPVS: virtual services, the real servers behind them, and who is next (net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_rr.c,
ip_vs_wrr.c, ip_vs_lc.c, ip_vs_wlc.c, ip_vs_sh.c).

A service is never changed, only replaced, so a walk can share those of its network; whose turn it is, and the
connections, are what a room learns. Texts are those of ipvsadm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cmp_to_key
from math import gcd
from typing import NamedTuple

from packetwalk.addr import IPv4
from packetwalk.hint import nearest
from packetwalk.netns.ipvs_conn import Key, VsConn, VsConns

FORWARDING = {"-m": "Masq", "-g": "Route", "-i": "Tunnel"}
ONE_HOST = IPv4("255.255.255.255")
SYSCTLS = {
    "net.ipv4.vs.conntrack": 0, "net.ipv4.vs.conn_reuse_mode": 1, "net.ipv4.vs.expire_nodest_conn": 0,
    "net.ipv4.vs.expire_quiescent_template": 0, "net.ipv4.vs.nat_icmp_send": 0, "net.ipv4.vs.sloppy_tcp": 0,
    "net.ipv4.vs.snat_reroute": 1,
}  # fmt: skip
"""Those that decide something here, with the kernel's defaults."""
SH_BUCKETS = 256  # 1 << CONFIG_IP_VS_SH_TAB_BITS
GOLDEN_RATIO_32 = 0x61C88647  # include/linux/hash.h


class RealServer(NamedTuple):
    """A server behind a service. A weight of 0 takes no new connections; port 0 is the one that was asked for."""

    addr: IPv4
    port: int
    weight: int = 1
    forward: str = "Masq"
    rest: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"-> {self.addr}:{self.port} {self.forward} {self.weight}"


@dataclass(frozen=True)
class VirtualService:
    """A service as `ipvsadm -A` makes it, with its servers in the order they were added.

    persistent: for how many seconds a client (or its network, by `netmask`) stays with its server, 0 for never.
    flags: those of the scheduler; engine: a persistence engine by name; where: "FILE:LINE" or "".
    """

    key: Key
    scheduler: str = "wlc"
    servers: tuple[RealServer, ...] = ()
    persistent: int = 0
    netmask: IPv4 = ONE_HOST
    one_packet: bool = False
    flags: tuple[str, ...] = ()
    engine: str = ""
    where: str = field(default="", compare=False)

    @property
    def oddity(self) -> str:
        """What of it is not modelled, or ""."""
        if self.scheduler not in SCHEDULERS:
            return f"scheduler {self.scheduler}"
        return f"persistence engine {self.engine}" if self.engine else ""

    @property
    def options(self) -> str:
        """How ipvsadm -Ln ends its line."""
        words = [f"({','.join(self.flags)})"] if self.flags else []
        words += [f"persistent {self.persistent}"] if self.persistent else []
        words += [f"mask {self.netmask}"] if self.persistent and self.netmask != ONE_HOST else []
        words += [f"pe {self.engine}"] if self.engine else []
        return " ".join([*words, *(["ops"] if self.one_packet else [])])

    @property
    def saved(self) -> list[str]:
        """The lines ipvsadm -S -n prints."""
        words = [f"-A {self.key.words} -s {self.scheduler}"]
        words += [f"-p {self.persistent}"] if self.persistent else []
        words += [f"-M {self.netmask}"] if self.persistent and self.netmask != ONE_HOST else []
        words += [f"--pe {self.engine}"] if self.engine else []
        words += ["-o"] if self.one_packet else []
        words += [f"-b {','.join(self.flags)}"] if self.flags else []
        how = {name: word for word, name in FORWARDING.items()}
        servers = [
            " ".join([f"-a {self.key.words} -r {s.addr}:{s.port} {how[s.forward]} -w {s.weight}", *s.rest])
            for s in in_ipvsadms_order(self.servers)
        ]
        return [" ".join(words), *servers]

    def __str__(self) -> str:
        return f"{self.key} {self.scheduler} {self.options}".rstrip()


class Chosen(NamedTuple):
    """Evidence of a new connection: the service it was for and the server that got it."""

    service: VirtualService
    server: RealServer

    @property
    def brief(self) -> str:
        """The service alone, in few words: `tcp 10.96.0.1:443 rr`."""
        kind, *rest = str(self.service).split()
        return " ".join([kind.lower(), *rest])

    def __str__(self) -> str:
        return f"{self.service} {self.server}"


def in_ipvsadms_order(servers: Iterable[RealServer]) -> list[RealServer]:
    """ipvs_cmp_dests of ipvsadm."""
    return sorted(servers, key=cmp_to_key(_by_end))


def _by_end(a: RealServer, b: RealServer) -> int:
    return _signed(a.addr - b.addr) or a.port - b.port


def _by_service(a: Key, b: Key) -> int:
    """ipvs_cmp_services of ipvsadm: addresses are compared by a 32-bit difference, so half the space comes first."""
    return a.mark - b.mark or a.proto - b.proto or _signed(a.addr - b.addr) or a.port - b.port


def _signed(difference: int) -> int:
    return (difference + (1 << 31)) % (1 << 32) - (1 << 31)


class Ipvs:
    """The services of a namespace, which its overlays share, and what is learned: connections, and where each scheduler
    stands."""

    __slots__ = ("conns", "services", "turns")

    def __init__(self) -> None:
        self.services: dict[Key, VirtualService] = {}
        self.conns = VsConns()
        self.turns: dict[Key, Turn] = {}

    def overlay(self) -> Ipvs:
        """The same services, with connections and turns of its own. Without a service nothing is ever learned."""
        if not self.services:
            return self
        copy = Ipvs()
        copy.services, copy.conns, copy.turns = self.services, self.conns.overlay(), dict(self.turns)
        return copy

    def remember(self, before: Ipvs) -> None:
        """Take over what another overlay has learned, which is of no use any more."""
        self.conns, self.turns = before.conns, before.turns

    def __str__(self) -> str:
        """What ipvsadm -S -n prints."""
        return "\n".join(line for service in self.sorted() for line in service.saved)

    def sorted(self) -> list[VirtualService]:
        """As ipvsadm sorts them."""
        return [self.services[key] for key in sorted(self.services, key=cmp_to_key(_by_service))]

    # -- verbs of ipvsadm ------------------------------------------------------------------------------------------

    def add(self, service: VirtualService) -> None:
        """`ipvsadm -A`. ValueError where it is there already, or where only a persistent one may have port 0."""
        if service.key in self.services:
            raise ValueError(f"there is a virtual service {service.key.words} already")
        if not service.key.mark and not service.key.port and not service.persistent:
            raise ValueError(f"{service.key.words}: port 0 is for persistent services only (-p)")
        self.services[service.key] = service

    def edit(self, service: VirtualService) -> None:
        """`ipvsadm -E`: other options, the same servers; a new scheduler begins anew. ValueError if it is missing."""
        old = self._known(service.key)
        self.services[service.key] = replace(service, servers=old.servers)
        if old.scheduler != service.scheduler:
            self.turns.pop(service.key, None)

    def remove(self, key: Key) -> None:
        """`ipvsadm -D`. ValueError where it is missing."""
        del self.services[self._known(key).key]
        self.turns.pop(key, None)

    def clear(self) -> None:
        """`ipvsadm -C`."""
        self.services.clear()
        self.turns.clear()

    def add_server(self, key: Key, server: RealServer) -> None:
        """`ipvsadm -a`. ValueError where the service is missing or has that server already."""
        service = self._known(key)
        if _server(service, server.addr, server.port) is not None:
            raise ValueError(f"{key.words} has a real server {server.addr}:{server.port} already")
        self._serve(service, (*service.servers, server))

    def edit_server(self, key: Key, server: RealServer) -> None:
        """`ipvsadm -e`: another weight or way. ValueError where service or server is missing."""
        service, old = self._known(key), self._known_server(key, server)
        self._serve(service, tuple(server if s is old else s for s in service.servers))

    def remove_server(self, key: Key, server: RealServer) -> None:
        """`ipvsadm -d`. ValueError where service or server is missing."""
        service, old = self._known(key), self._known_server(key, server)
        self._serve(service, tuple(s for s in service.servers if s is not old))

    def _known(self, key: Key) -> VirtualService:
        if key not in self.services:
            there = nearest(key.words, (k.words for k in self.services))
            raise ValueError(f"there is no virtual service {key.words}; {there}")
        return self.services[key]

    def _known_server(self, key: Key, server: RealServer) -> RealServer:
        service = self._known(key)
        found = _server(service, server.addr, server.port)
        if found is None:
            there = nearest(f"{server.addr}:{server.port}", (f"{s.addr}:{s.port}" for s in service.servers))
            raise ValueError(f"{key.words} has no real server {server.addr}:{server.port}; {there}")
        return found

    def _serve(self, service: VirtualService, servers: tuple[RealServer, ...]) -> None:
        """Other servers; wrr begins anew then (ip_vs_wrr_dest_changed), rr goes on after the last one chosen."""
        self.services[service.key] = replace(service, servers=servers)
        if service.scheduler == "wrr":
            self.turns.pop(service.key, None)

    # -- what a packet asks ----------------------------------------------------------------------------------------

    def find(self, proto: int, addr: IPv4, port: int, mark: int) -> VirtualService | None:
        """ip_vs_service_find: by firewall mark first, then by address and port, then by address alone."""
        services = self.services
        found = services.get(Key(mark=mark)) if mark else None
        return found or services.get(Key(proto, addr, port)) or services.get(Key(proto, addr))

    def server_of(self, conn: VsConn) -> RealServer | None:
        """The server of a connection, None where it is there no more (IP_VS_DEST_F_AVAILABLE is off)."""
        service = self.services.get(conn.service)
        return _server(service, conn.daddr, conn.server_port) if service is not None else None

    def is_real(self, proto: int, addr: IPv4, port: int) -> bool:
        """ip_vs_has_real_service: whether a server of any service answers there."""
        return any(
            (s.addr, s.port) == (addr, port) for v in self.services.values() if v.key.proto == proto for s in v.servers
        )

    def schedule(self, service: VirtualService, src: int, sport: int) -> RealServer | None:
        """Whose turn it is; None where no server takes new connections. The kernel's list begins with the last one that
        was added (__ip_vs_update_dest)."""
        order = service.servers[::-1]
        turn = self.turns.get(service.key, Turn())
        at, weight = SCHEDULERS[service.scheduler](Asked(order, turn, service, self.conns, src, sport))
        if at is None:
            return None
        self.turns[service.key] = Turn((order[at].addr, order[at].port), weight)
        return order[at]

    def counts(self, service: VirtualService, server: RealServer) -> tuple[int, int]:
        """Its connections that are established, and the others (ActiveConn, InActConn)."""
        return self.conns.counts(service.key, server.addr, server.port)

    def listing(self) -> list[str]:
        """What ipvsadm -Ln prints."""
        lines = ["IP Virtual Server version 1.2.1 (size=4096)", "Prot LocalAddress:Port Scheduler Flags"]
        lines.append("  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn")
        for service in self.sorted():
            lines.append(str(service))
            for server in in_ipvsadms_order(service.servers):
                active, inactive = self.counts(service, server)
                head = f"  -> {f'{server.addr}:{server.port}':<28} {server.forward:<7} {server.weight:<6}"
                lines.append(f"{head} {active:<10} {inactive:<10}")
        return lines


def _server(service: VirtualService, addr: IPv4, port: int) -> RealServer | None:
    return next((s for s in service.servers if (s.addr, s.port) == (addr, port)), None)


# -- schedulers --------------------------------------------------------------------------------------------------------


class Turn(NamedTuple):
    """Where a scheduler stands: the last server chosen, if any, and the weight wrr asks for."""

    last: tuple[IPv4, int] | None = None
    weight: int = 0


class Asked(NamedTuple):
    """A question to a scheduler: the servers in the kernel's order, where it stands, and who asks."""

    servers: tuple[RealServer, ...]
    turn: Turn
    service: VirtualService
    conns: VsConns
    src: int
    sport: int

    @property
    def last(self) -> int:
        """The place of the last one chosen, -1 where there is none."""
        ends = [(s.addr, s.port) for s in self.servers]
        return ends.index(self.turn.last) if self.turn.last in ends else -1

    def load(self, server: RealServer) -> int:
        """ip_vs_dest_conn_overhead: an established connection weighs as much as 256 others."""
        active, inactive = self.conns.counts(self.service.key, server.addr, server.port)
        return (active << 8) + inactive


Answer = tuple[int | None, int]
"""The place of the server, and the weight that wrr asks for next."""


def _rr(q: Asked) -> Answer:
    """ip_vs_rr_schedule: the next one with a weight, after the last."""
    n, last = len(q.servers), q.last
    ring = ((last + step) % n for step in range(1, n + 1))
    return next((i for i in ring if q.servers[i].weight > 0), None), 0


def _wrr(q: Asked) -> Answer:
    """ip_vs_wrr_schedule: one round for each step of weight, the heaviest alone in the first."""
    weights = [s.weight for s in q.servers]
    step = gcd(*weights) or 1
    most = max(weights, default=0) - (step - 1)
    if most <= 0:
        return None, 0
    at, wanted = q.last, q.turn.weight or most
    while True:
        at += 1
        if at == len(weights):
            at, wanted = -1, wanted - step if wanted > step else most
        elif weights[at] >= wanted:
            return at, wanted


def _lc(q: Asked) -> Answer:
    """ip_vs_lc_schedule: the one with the fewest connections."""
    able = [i for i, s in enumerate(q.servers) if s.weight > 0]
    return min(able, key=lambda i: q.load(q.servers[i]), default=None), 0


def _wlc(q: Asked) -> Answer:
    """ip_vs_wlc_schedule: the one with the fewest connections for its weight."""
    least: int | None = None
    for i, server in enumerate(q.servers):
        if server.weight <= 0:
            continue
        if least is None or (
            q.load(q.servers[least]) * server.weight > q.load(server) * q.servers[least].weight
        ):
            least = i
    return least, 0


def _sh(q: Asked) -> Answer:
    """ip_vs_sh_schedule: by a hash of the client's address; each server has as many buckets in turn as its weight."""
    port = q.sport if "sh-port" in q.service.flags else 0
    share = [i for i, s in enumerate(q.servers) for _ in range(max(s.weight, 1))]
    if not share:
        return None, 0

    def bucket(offset: int) -> int:
        return share[(offset + _hash_8(port + q.src)) % SH_BUCKETS % len(share)]

    first = bucket(0)
    if q.servers[first].weight > 0:
        return first, 0
    if "sh-fallback" not in q.service.flags:
        return None, 0
    others = (bucket((offset + _hash_8(port + q.src)) % SH_BUCKETS) for offset in range(SH_BUCKETS))
    return next((i for i in others if q.servers[i].weight > 0), None), 0


def _hash_8(value: int) -> int:
    """hash_32(value, 8) of include/linux/hash.h, as it is since Linux 4.7."""
    return (value * GOLDEN_RATIO_32 & 0xFFFFFFFF) >> 24


SCHEDULERS: dict[str, Callable[[Asked], Answer]] = {"rr": _rr, "wrr": _wrr, "lc": _lc, "wlc": _wlc, "sh": _sh}
