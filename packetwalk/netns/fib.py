"""Routing as Linux does it: policy rules, tables, longest prefix match, metric, next hop.

`Fib.lookup` is `fib_lookup`: it returns the route and the rule that chose it, or the error and the entry that said so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from packetwalk.addr import ANY, EVERYTHING, MASKS, IPv4, Prefix
from packetwalk.netns.device import SCOPE_GLOBAL, SCOPE_HOST, SCOPE_LINK, SCOPES

TABLES = {"local": 255, "main": 254, "default": 253}
TABLE_NAMES = {number: name for name, number in TABLES.items()}
SCOPE_NAMES = {number: name for name, number in SCOPES.items() if name != "universe"}

# fib_props: what a route type answers instead of a next hop (net/ipv4/fib_semantics.c)
TYPE_ERRNO = {"blackhole": "EINVAL", "unreachable": "EHOSTUNREACH", "prohibit": "EACCES", "throw": "EAGAIN"}
RULE_ERRNO = {"blackhole": "EINVAL", "unreachable": "ENETUNREACH", "prohibit": "EACCES"}
PROTOCOLS = {1: "icmp", 4: "ipencap", 6: "tcp", 17: "udp", 47: "gre", 132: "sctp"}
KNOWN_TYPES = frozenset({"unicast", "local", "broadcast", "multicast", *TYPE_ERRNO})


class Nexthop(NamedTuple):
    """One way out: a device, and the gateway behind it (zero: the destination is on the link)."""

    dev: str
    via: IPv4 = ANY
    weight: int = 1
    onlink: bool = False
    dead: bool = False
    linkdown: bool = False

    @property
    def scope(self) -> int:
        """nhc_scope: HOST without a gateway (the destination is on the link), LINK with one (fib_check_nh)."""
        return SCOPE_LINK if self.via else SCOPE_HOST

    @property
    def flags(self) -> str:
        """The flags of one of several next hops, in iproute2's order."""
        named = (("dead", self.dead), ("onlink", self.onlink), ("linkdown", self.linkdown))
        return "".join(f" {name}" for name, on in named if on)

    def __str__(self) -> str:
        words = [f"via {self.via}"] if self.via else []
        return " ".join([*words, f"dev {self.dev}"])


class Route(NamedTuple):
    """One line of `ip route`. `oddity` names an attribute that packetwalk does not model."""

    dst: Prefix
    nexthops: tuple[Nexthop, ...] = ()
    type: str = "unicast"
    scope: int = SCOPE_GLOBAL
    src: IPv4 = ANY
    metric: int = 0
    tos: int = 0
    proto: str = "boot"
    table: int = 254
    mtu: int = 0
    mtu_locked: bool = False
    advmss: int = 0
    oddity: str = ""

    @property
    def dev(self) -> str:
        return self.nexthops[0].dev if self.nexthops else ""

    def __str__(self) -> str:
        return " ".join(self._words())

    def _words(self) -> Iterator[str]:
        """The words of iproute2's print_route, in its order."""
        if self.type != "unicast":
            yield self.type
        length, addr = self.dst.length, self.dst.addr
        yield "default" if length == 0 else str(addr) if length == 32 else str(self.dst)
        if self.tos:
            yield f"tos 0x{self.tos:02x}"
        single = len(self.nexthops) == 1
        if single:
            yield str(self.nexthops[0])
        if self.table not in (254, 255):
            yield f"table {TABLE_NAMES.get(self.table, self.table)}"
        elif self.table == 255:
            yield "table local"
        if self.proto != "boot":
            yield f"proto {self.proto}"
        if self.scope:
            yield f"scope {SCOPE_NAMES.get(self.scope, self.scope)}"
        if self.src:
            yield f"src {self.src}"
        if self.metric:
            yield f"metric {self.metric}"
        if single and self.nexthops[0].dead:
            yield "dead"
        if single and self.nexthops[0].onlink:
            yield "onlink"
        if single and self.nexthops[0].linkdown:
            yield "linkdown"
        if self.mtu:
            yield f"mtu {'lock ' if self.mtu_locked else ''}{self.mtu}"
        if self.advmss:
            yield f"advmss {self.advmss}"
        if not single:
            for hop in self.nexthops:
                yield f"nexthop {hop} weight {hop.weight}{hop.flags}"


class PolicyRule(NamedTuple):
    """One line of `ip rule`. `action` is a table number, or blackhole, unreachable, prohibit, nop."""

    priority: int
    action: int | str
    src: Prefix = EVERYTHING
    dst: Prefix = EVERYTHING
    iif: str = ""
    oif: str = ""
    fwmark: int = 0
    fwmask: int = 0
    tos: int = 0
    invert: bool = False
    proto: int = 0
    sport: tuple[int, int] | None = None
    dport: tuple[int, int] | None = None
    suppress_prefixlen: int = -1
    goto: int = 0
    oddity: str = ""

    def matches(self, flow: Flow) -> bool:
        """fib_rule_match and fib4_rule_match (net/core/fib_rules.c, net/ipv4/fib_rules.c)."""
        hit = (
            (not self.iif or flow.iif == self.iif)
            and (not self.oif or flow.oif == self.oif)
            and not ((self.fwmark ^ flow.mark) & self.fwmask)
            and not ((flow.src ^ self.src.addr) & MASKS[self.src.length])
            and not ((flow.dst ^ self.dst.addr) & MASKS[self.dst.length])
            and (not self.tos or self.tos == flow.tos)
            and (not self.proto or self.proto == flow.proto)
            and (self.sport is None or self.sport[0] <= flow.sport <= self.sport[1])
            and (self.dport is None or self.dport[0] <= flow.dport <= self.dport[1])
        )
        return hit != self.invert

    @property
    def plain(self) -> bool:
        """Whether every packet matches."""
        return self[2:13] == _PLAIN

    def __str__(self) -> str:
        words = [f"{self.priority}:"]
        if self.invert:
            words.append("not")
        words.append(f"from {_selector(self.src)}")
        if self.dst.length:
            words.append(f"to {_selector(self.dst)}")
        if self.tos:
            words.append(f"tos 0x{self.tos:02x}")
        if self.fwmask:
            mask = "" if self.fwmask == 0xFFFFFFFF else f"/0x{self.fwmask:x}"
            words.append(f"fwmark {self.fwmark:#x}{mask}" if self.fwmark else f"fwmark 0{mask}")
        words += [f"{key} {value}" for key, value in (("iif", self.iif), ("oif", self.oif)) if value]
        if self.proto:
            words.append(f"ipproto {PROTOCOLS.get(self.proto, self.proto)}")
        words += [f"{key} {_ports(value)}" for key, value in (("sport", self.sport), ("dport", self.dport)) if value]
        if isinstance(self.action, int):
            words.append(f"lookup {TABLE_NAMES.get(self.action, self.action)}")
            if self.suppress_prefixlen >= 0:
                words.append(f"suppress_prefixlength {self.suppress_prefixlen}")
        else:
            words.append(f"goto {self.goto}" if self.action == "goto" else self.action)
        return " ".join(words)


class Flow(NamedTuple):
    """The key of a lookup (struct flowi4). `iif` is `lo` for a packet the host sends itself."""

    dst: int
    src: int = 0
    iif: str = "lo"
    oif: str = ""
    mark: int = 0
    tos: int = 0
    proto: int = 0
    sport: int = 0
    dport: int = 0
    scope: int = SCOPE_GLOBAL


class Found(NamedTuple):
    """What a lookup found. `error` is empty, an errno name, or "unsupported"; then `route` or `rule` says why."""

    error: str
    route: Route | None
    hop: Nexthop | None
    rule: PolicyRule | None

    @property
    def by(self) -> Route | PolicyRule | None:
        return self.route or self.rule


NO_ROUTE = Found("ENETUNREACH", None, None, None)


class Table:
    """One routing table: a dict per prefix length, longest first; equal prefixes in order of metric.

    `base` is a table shared with other rooms: its routes count after our own of the same prefix.
    """

    __slots__ = ("_by_length", "_lengths", "base")

    def __init__(self, base: Table | None = None) -> None:
        self._by_length: dict[int, dict[int, list[Route]]] = {}
        self._lengths: tuple[int, ...] = ()
        self.base = base

    def add(self, route: Route) -> None:
        """Put a route in. Equal prefix, tos and metric: the earlier one stays first (`ip route append`)."""
        length, addr = route.dst.length, int(route.dst.addr)
        nets = self._by_length.setdefault(length, {})
        routes = nets.setdefault(addr, [])
        routes.append(route)
        routes.sort(key=lambda r: (-r.tos, r.metric))
        self._lengths = tuple(sorted(self._by_length, reverse=True))

    def remove(self, route: Route) -> None:
        routes = self._by_length[route.dst.length][int(route.dst.addr)]
        routes.remove(route)
        if not routes:
            del self._by_length[route.dst.length][int(route.dst.addr)]

    def __iter__(self) -> Iterator[Route]:
        for length in self._lengths:
            for routes in self._by_length[length].values():
                yield from routes
        if self.base is not None:
            yield from self.base

    def covering(self, addr: int) -> Iterator[Route]:
        """Every route whose prefix contains `addr`, longest prefix first, then by metric (own routes before shared
        ones)."""
        if self.base is not None:
            yield from sorted((*self._own(addr), *self.base.covering(addr)), key=lambda r: -r.dst.length)
            return
        yield from self._own(addr)

    def _own(self, addr: int) -> Iterator[Route]:
        for length in self._lengths:
            routes = self._by_length[length].get(addr & MASKS[length])
            if routes:
                yield from routes

    def lookup(self, flow: Flow, choose: int = 0) -> Found | None:
        """fib_table_lookup. None where no route fits (the next policy rule is asked), also after a `throw`.

        choose: a hash of the flow that picks among several next hops by weight (fib_select_multipath).
        """
        for route in self.covering(flow.dst):
            if (route.tos and route.tos != flow.tos) or route.scope < flow.scope:
                continue
            if route.oddity or route.type not in KNOWN_TYPES:
                return Found("unsupported", route, None, None)
            errno = TYPE_ERRNO.get(route.type)
            if errno is not None:
                return None if errno == "EAGAIN" else Found(errno, route, None, None)
            hops = [h for h in route.nexthops if not h.dead and (not flow.oif or h.dev == flow.oif)]
            if hops:
                return Found("", route, hops[0] if len(hops) == 1 else pick_nexthop(hops, choose), None)
        return None


def pick_nexthop(hops: list[Nexthop], choose: int) -> Nexthop:
    """The next hop whose share of the hash space holds `choose` (0..2^31): fib_select_multipath's hash-threshold."""
    total = sum(h.weight for h in hops)
    slot = (choose & 0x7FFFFFFF) * total >> 31
    for hop in hops:
        slot -= hop.weight
        if slot < 0:
            return hop
    return hops[-1]


class Learned(NamedTuple):
    """What was learned about one destination behind one next hop: a path MTU or a redirect (struct
    fib_nh_exception)."""

    mtu: int = 0
    mtu_locked: bool = False
    expires: int = 0
    gateway: IPv4 = ANY


class Fib:
    """Policy rules, tables, and the exceptions learned for single destinations (path MTU, redirect)."""

    __slots__ = ("custom", "exceptions", "rules", "tables")

    def __init__(self) -> None:
        self.rules: list[PolicyRule] = [PolicyRule(0, 255), PolicyRule(32766, 254), PolicyRule(32767, 253)]
        self.tables: dict[int, Table] = {254: Table(), 255: Table()}
        self.exceptions: dict[tuple[object, ...], Learned] = {}
        self.custom = False

    def overlay(self) -> Fib:
        """The same rules and tables, with exceptions of its own to learn into."""
        copy = Fib.__new__(Fib)
        copy.rules, copy.tables, copy.custom = self.rules, self.tables, self.custom
        copy.exceptions = dict(self.exceptions)
        return copy

    def table(self, number: int) -> Table:
        return self.tables.setdefault(number, Table())

    def set_rules(self, rules: list[PolicyRule]) -> None:
        self.rules = sorted(rules, key=lambda r: r.priority)
        self.custom = any(not r.plain or r.oddity for r in self.rules) or len(self.rules) != 3

    def routes(self, table: int = 254) -> list[Route]:
        """The table as `ip route show table N` lists it: by prefix, then metric."""
        return sorted(
            self.tables.get(table, ()),
            key=lambda r: (int(r.dst.addr), -r.dst.length if r.dst.addr else r.dst.length, -r.tos, r.metric),
        )

    def lookup(self, flow: Flow, choose: int = 0) -> Found:
        """fib_lookup: the first rule that matches and whose table has an answer."""
        jump = 0
        for rule in self.rules:
            if rule.priority < jump or not rule.matches(flow):
                continue
            if rule.oddity:
                return Found("unsupported", None, None, rule)
            action = rule.action
            if isinstance(action, str):
                if action == "goto":
                    resolved = any(r.priority == rule.goto for r in self.rules)
                    jump = rule.goto if resolved else 0
                elif action != "nop":
                    return Found(RULE_ERRNO.get(action, "unsupported"), None, None, rule)
                continue
            table = self.tables.get(action)
            found = table.lookup(flow, choose) if table is not None else None
            if found is None:
                continue
            if not found.error and found.route and found.route.dst.length <= rule.suppress_prefixlen:
                continue
            return Found(found.error, found.route, found.hop, rule)
        return NO_ROUTE

    def is_local(self, addr: int) -> bool:
        """Whether the local table says the address is ours (inet_addr_type == RTN_LOCAL)."""
        return self.addr_type(addr) == "local"

    def addr_type(self, addr: int) -> str:
        """inet_addr_type: the type of the local table's best route, unicast where there is none."""
        for route in self.tables[255].covering(addr):
            return route.type
        return "unicast"


def _listed(route: Route) -> tuple[int, int, int, int]:
    """The order of fn_trie_dump_leaf: by address, the default first, then the longer prefix, tos and metric."""
    dst = route.dst
    return int(dst.addr), -dst.length if dst.addr else dst.length, -route.tos, route.metric


def _selector(prefix: Prefix) -> str:
    if prefix.length == 0:
        return "all"
    return str(prefix.addr) if prefix.length == 32 else str(prefix)


def _ports(bounds: tuple[int, int]) -> str:
    return str(bounds[0]) if bounds[0] == bounds[1] else f"{bounds[0]}-{bounds[1]}"


_PLAIN = PolicyRule(0, 0)[2:13]
