"""Routes, their next hops and a table of them: longest prefix match, metric, next hop (fib_trie.c, fib_semantics.c)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from packetwalk.addr import ANY, MASKS, IPv4, Prefix
from packetwalk.netns.device import SCOPE_GLOBAL, SCOPE_HOST, SCOPE_LINK, SCOPES
from packetwalk.netns.policy_rule import TABLE_NAMES, Flow, PolicyRule
from packetwalk.packet import new

SCOPE_NAMES = {number: name for name, number in SCOPES.items() if name != "universe"}

# fib_props: what a route type answers instead of a next hop (net/ipv4/fib_semantics.c)
TYPE_ERRNO = {"blackhole": "EINVAL", "unreachable": "EHOSTUNREACH", "prohibit": "EACCES", "throw": "EAGAIN"}
FORWARDING = frozenset({"unicast", "local", "broadcast", "multicast"})
KNOWN_TYPES = FORWARDING | frozenset(TYPE_ERRNO)


class Nexthop(NamedTuple):
    """One way out: a device, and the gateway behind it (zero: the destination is on the link)."""

    dev: str
    via: IPv4 = ANY
    weight: int = 1
    onlink: bool = False
    dead: bool = False
    linkdown: bool = False

    def __deepcopy__(self, memo: object) -> Nexthop:
        return self

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

    def __deepcopy__(self, memo: object) -> Route:
        return self

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


class Found(NamedTuple):
    """What a lookup found. `error` is empty, an errno name, or "unsupported"; then `route` or `rule` says why."""

    error: str
    route: Route | None
    hop: Nexthop | None
    rule: PolicyRule | None

    @property
    def by(self) -> Route | PolicyRule | None:
        return self.route or self.rule

    def suppressed(self, length: int) -> bool:
        """fib4_rule_suppress: whether the route's prefix is no longer than that; errors stand."""
        return not self.error and self.route is not None and self.route.dst.length <= length


Rule = PolicyRule | None
NO_ROUTE = Found("ENETUNREACH", None, None, None)
THROWN = Found("EAGAIN", None, None, None)


class Table:
    """One routing table: a dict per prefix length, longest first; equal prefixes in order of metric.

    `base` is a table shared with other rooms: its routes count after our own of the same prefix. `hidden` are those of
    them that this room does not have.
    """

    __slots__ = ("_by_length", "_nets", "base", "hidden")

    def __init__(self, base: Table | None = None) -> None:
        self._by_length: dict[int, dict[int, list[Route]]] = {}
        self._nets: tuple[tuple[int, dict[int, list[Route]]], ...] = ()  # by mask, the longest first
        self.base = base
        self.hidden: set[Route] = set()

    def add(self, route: Route) -> None:
        """Put a route in. Equal prefix, tos and metric: the earlier one stays first (`ip route append`)."""
        length, addr = route.dst.length, int(route.dst.addr)
        nets = self._by_length.get(length)
        if nets is None:
            nets = self._by_length[length] = {}
            self._nets = tuple((MASKS[n], self._by_length[n]) for n in sorted(self._by_length, reverse=True))
        routes = nets.setdefault(addr, [])
        routes.append(route)
        if len(routes) > 1:
            routes.sort(key=lambda r: (-r.tos, r.metric))

    def remove(self, route: Route) -> None:
        """Take a route out. ValueError if the table has none like it."""
        routes = self._siblings(route)
        routes.remove(route)
        if not routes:
            del self._by_length[route.dst.length][int(route.dst.addr)]

    def replace(self, old: Route, new: Route) -> None:
        """Put a changed route in the place of the old one, which has the same prefix. ValueError if it is not there."""
        routes = self._siblings(old)
        routes[routes.index(old)] = new

    def _siblings(self, route: Route) -> list[Route]:
        """Our own routes to the same prefix, to be changed; what was shared becomes our own first."""
        routes = self._by_length.get(route.dst.length, {}).get(int(route.dst.addr), [])
        if self.base is None or route in routes:
            return routes
        shared, self.base = [r for r in self.base if r not in self.hidden], None
        for other in shared:
            self.add(other)
        return self._siblings(route)

    def __iter__(self) -> Iterator[Route]:
        for _, nets in self._nets:
            for routes in nets.values():
                yield from routes
        if self.base is not None:
            yield from (r for r in self.base if r not in self.hidden)

    def covering(self, addr: int) -> Iterator[Route]:
        """Every route whose prefix contains `addr`, longest prefix first,
        then by metric (own routes before shared ones)."""
        if self.base is not None:
            shared = (r for r in self.base.covering(addr) if r not in self.hidden)
            yield from sorted((*self._own(addr), *shared), key=lambda r: -r.dst.length)
            return
        yield from self._own(addr)

    def _own(self, addr: int) -> Iterator[Route]:
        for mask, nets in self._nets:
            yield from nets.get(addr & mask, ())

    def lookup(self, flow: Flow, choose: int = 0, avoid: Collection[str] = (), rule: Rule = None) -> Found | None:
        """fib_table_lookup. None where no route fits (the next policy rule is asked), also after a `throw`.

        choose: a hash of the flow that picks among several next hops by weight (fib_select_multipath). avoid: devices
        without a carrier that no next hop may use; local routes do not care. rule: the one that asks, for the answer.
        """
        if self.base is not None:
            found = _first(self.covering(flow.dst), flow, choose, avoid, rule)
            return None if found is THROWN else found
        dst = flow.dst
        for mask, nets in self._nets:  # `covering` without its generator: every packet comes here twice
            routes = nets.get(dst & mask)
            if routes is not None:
                found = _first(routes, flow, choose, avoid, rule)
                if found is not None:
                    return None if found is THROWN else found
        return None


def _first(routes: Iterable[Route], flow: Flow, choose: int, avoid: Collection[str], rule: Rule) -> Found | None:
    """The answer of the first of these routes that counts for the flow (the inner loop of fib_table_lookup)."""
    for route in routes:
        if (route.tos and route.tos != flow.tos) or route.scope < flow.scope:
            continue
        if route.oddity:
            return Found("unsupported", route, None, rule)
        if route.type not in FORWARDING:
            errno = TYPE_ERRNO.get(route.type, "unsupported")
            return Found(errno, route, None, rule) if errno != "EAGAIN" else THROWN
        hops = route.nexthops
        if len(hops) != 1 or hops[0].dead or flow.oif or avoid:
            hops = usable(route, flow.oif, avoid)
        if hops:
            return new(Found, ("", route, hops[0] if len(hops) == 1 else pick_nexthop(hops, choose), rule))
    return None


def usable(route: Route, oif: str, avoid: Collection[str]) -> tuple[Nexthop, ...]:
    """fib_lookup_good_nhc. The next hops of a local route are never marked `linkdown`."""
    avoid = avoid if route.scope != SCOPE_HOST else ()
    return tuple(h for h in route.nexthops if not h.dead and h.dev not in avoid and (not oif or h.dev == oif))


def pick_nexthop(hops: Sequence[Nexthop], choose: int) -> Nexthop:
    """The next hop whose share of the hash space holds `choose` (0..2^31): fib_select_multipath's hash-threshold."""
    total = sum(h.weight for h in hops)
    slot = (choose & 0x7FFFFFFF) * total >> 31
    for hop in hops:
        slot -= hop.weight
        if slot < 0:
            return hop
    return hops[-1]
