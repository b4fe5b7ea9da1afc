"""Routing as Linux does it: policy rules, tables, longest prefix match, metric, next hop.

`Fib.lookup` is `fib_lookup`: it returns the route and the rule that chose it, or the error and the entry that said so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from packetwalk.addr import ANY, MASKS, IPv4, Prefix
from packetwalk.netns.device import SCOPE_GLOBAL, SCOPE_HOST, SCOPE_LINK, SCOPES, Device
from packetwalk.netns.policy_rule import RULE_ERRNO, TABLE_NAMES, Flow, PolicyRule, Test
from packetwalk.packet import new

if TYPE_CHECKING:
    from packetwalk.netns.learned import Behind, Learned

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
REMEMBERED = 4096  # so many kinds of packets know their rules; then it starts afresh
Question = tuple[PolicyRule, Test | None, int]
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
            hops = _usable(route, flow.oif, avoid)
        if hops:
            return new(Found, ("", route, hops[0] if len(hops) == 1 else pick_nexthop(hops, choose), rule))
    return None


def _usable(route: Route, oif: str, avoid: Collection[str]) -> tuple[Nexthop, ...]:
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


USUAL_RULES = (PolicyRule(0, 255), PolicyRule(32766, 254), PolicyRule(32767, 253))
USUAL_QUESTIONS: tuple[Question, ...] = tuple((rule, None, int(rule.action)) for rule in USUAL_RULES)


class Fib:
    """Policy rules, tables, and the exceptions learned for single destinations (path MTU, redirect)."""

    __slots__ = ("_asked", "_questions", "custom", "custom_local", "exceptions", "flow_dissect", "linked", "plain",
                 "plain_rules", "rules", "tables")  # fmt: skip

    def __init__(self) -> None:
        self.rules, self._questions = list(USUAL_RULES), list(USUAL_QUESTIONS)
        self._asked: dict[tuple[str, int, int], tuple[Question, ...]] = {}
        self.custom = self.flow_dissect = False
        self.tables: dict[int, Table] = {254: Table(), 255: Table()}
        self.custom_local = False  # whether somebody added a local route (fib_has_custom_local_routes)
        self.plain = self.plain_rules = True  # whether `unclaimed` may answer: for its routes, for its rules
        self.exceptions: dict[tuple[Behind, int], Learned] = {}
        self.linked: dict[str, Device] = {}  # devices whose routes count only while they have a carrier

    def overlay(self) -> Fib:
        """The same rules and tables, with exceptions of its own to learn into."""
        copy = Fib.__new__(Fib)
        copy.rules, copy.tables, copy.custom, copy.linked = self.rules, self.tables, self.custom, self.linked
        copy.flow_dissect, copy._questions, copy._asked = self.flow_dissect, self._questions, self._asked
        copy.custom_local, copy.plain, copy.plain_rules = self.custom_local, self.plain, self.plain_rules
        copy.exceptions = dict(self.exceptions)
        return copy

    def add(self, route: Route) -> None:
        """Put a route into its table."""
        self.table(route.table).add(route)
        self.custom_local = self.custom_local or (route.type == "local" and route.proto != "kernel")
        if route.table != 255 and (route.oddity or (route.type != "unicast" and route.type not in TYPE_ERRNO)):
            self.plain = False

    def table(self, number: int) -> Table:
        return self.tables.setdefault(number, Table())

    def set_rules(self, rules: list[PolicyRule]) -> None:
        """Put these rules in the place of all; equal priorities keep their order. A `goto` wants a rule just there."""
        targets = {r.priority for r in rules}
        rules = [r._replace(unresolved=r.action == "goto" and r.goto not in targets) for r in rules]
        self._compile(sorted(rules, key=lambda r: r.priority))
        self.custom = any(r.compiled() or r.oddity for r in self.rules) or len(self.rules) != 3
        # fib_rules_require_fldissect: whether a lookup needs the transport header of a packet that came in
        self.flow_dissect = any(r.proto or r.sport or r.dport for r in self.rules)

    def link_down(self, dev: str, *, force: bool = False) -> None:
        """fib_sync_down_dev and fib_flush: the next hops by a device that went down are dead, those of local routes
        aside unless by `force` (its last address went); a route goes with its last living one."""
        for table in self.tables.values():
            for route in list(table):
                if (route.scope == SCOPE_HOST and not force) or all(h.dev != dev for h in route.nexthops):
                    continue
                hops = tuple(h._replace(dead=True) if h.dev == dev else h for h in route.nexthops)
                if all(h.dead for h in hops):
                    table.remove(route)
                else:
                    table.replace(route, route._replace(nexthops=hops))

    def link_up(self, dev: str) -> None:
        """fib_sync_up: the next hops by a device that came up live again."""
        for table in self.tables.values():
            for route in list(table):
                if any(h.dev == dev and h.dead for h in route.nexthops):
                    hops = tuple(h._replace(dead=False) if h.dev == dev else h for h in route.nexthops)
                    table.replace(route, route._replace(nexthops=hops))

    def attach_rules(self, devices: Collection[str]) -> None:
        """attach_rules and detach_rules: a rule keeps note of which devices it names are not there."""
        if self.custom:
            self._compile([r._replace(detached=r.missing(devices)) for r in self.rules])

    def routes(self, table: int = 254) -> list[Route]:
        """The table as `ip route show table N` lists it: by prefix, then metric."""
        return sorted(self.tables.get(table, ()), key=_listed)

    def lookup(self, flow: Flow, choose: int = 0) -> Found:
        """fib_lookup: the first rule that matches and whose table has an answer."""
        avoid = self._avoid() if self.linked else ()
        tables, jump = self.tables, 0
        known = (flow.iif, flow.mark, flow.src)
        for rule, test, number in self._asked.get(known) or self._ask(*known):
            if (test is not None and not test(flow)) or (jump and rule.priority < jump):
                continue
            if number < 0:
                if rule.oddity:
                    return Found("unsupported", None, None, rule)
                if rule.action == "goto":
                    jump = 0 if rule.unresolved else rule.goto
                elif rule.action != "nop":
                    return Found(RULE_ERRNO.get(str(rule.action), "unsupported"), None, None, rule)
                continue
            table = tables.get(number)
            found = table.lookup(flow, choose, avoid, rule) if table is not None else None
            if found is None or (rule.suppress_prefixlen >= 0 and found.suppressed(rule.suppress_prefixlen)):
                continue
            if number == 255 and found.route is not None and found.route.dst.length < 32 and not self.custom:
                return self._in_one_trie(found, flow, choose, avoid)
            return found
        return NO_ROUTE

    def _in_one_trie(self, local: Found, flow: Flow, choose: int, avoid: Collection[str]) -> Found:
        """Until the first policy rule is added, tables local and main are one trie (fib_trie_table, fib_unmerge): a
        longer prefix in main wins."""
        main = self.tables[254].lookup(flow, choose, avoid, self.rules[1])
        assert local.route is not None
        longer = main is not None and main.route is not None and main.route.dst.length > local.route.dst.length
        return main if main is not None and longer else local

    def _avoid(self) -> set[str]:
        """The devices whose next hops ignore_routes_with_linkdown takes out just now."""
        return {name for name, device in self.linked.items() if not device.running}

    def _ask(self, iif: str, mark: int, src: int) -> tuple[Question, ...]:
        """The rules that a packet from that device and source with that mark may match; kept until rules change."""
        if len(self._asked) >= REMEMBERED:
            self._asked.clear()
        self._asked[iif, mark, src] = asked = tuple(q for q in self._questions if q[0].may_match(iif, mark, src))
        return asked

    def _compile(self, rules: list[PolicyRule]) -> None:
        """Each rule with its test and its table (-1: it has none, or an oddity forbids to ask it)."""
        self.rules = rules
        self._asked = {}
        tables = [r.action if isinstance(r.action, int) and not r.oddity else -1 for r in rules]
        self._questions = [(r, r.compiled(), table) for r, table in zip(rules, tables, strict=True)]
        actions = {"goto", "nop", *RULE_ERRNO}
        self.plain_rules = all(not r.oddity and (isinstance(r.action, int) or r.action in actions) for r in rules)

    def unclaimed(self, addr: int) -> bool:
        """Whether every look-up of the address ends in a unicast route or a plain error: table local knows nothing of
        it, no other table holds more than those, and all rules are modelled."""
        return self.plain and self.plain_rules and next(self.tables[255].covering(addr), None) is None

    def is_gateway(self, addr: int, dev: str) -> bool:
        """ip_fib_check_default: whether some route already leads through that router on that device."""
        hops = (h for table in self.tables.values() for route in table for h in route.nexthops)
        return any(h.dev == dev and h.via == addr and not h.dead for h in hops)

    def is_local(self, addr: int) -> bool:
        """Whether the local table says the address is ours (inet_addr_type == RTN_LOCAL)."""
        return self.addr_type(addr) == "local"

    def addr_type(self, addr: int) -> str:
        """inet_addr_type: the type of the local table's best usable route, unicast where there is none, or where main
        has a longer prefix in the same trie."""
        avoid = self._avoid() if self.linked else ()
        route = next((r for r in self.tables[255].covering(addr) if not avoid or _usable(r, "", avoid)), None)
        if route is None:
            return "unicast"
        if route.dst.length < 32 and not self.custom:
            main = next(self.tables[254].covering(addr), None)
            if main is not None and main.dst.length > route.dst.length:
                return "unicast"
        return route.type


def _listed(route: Route) -> tuple[int, int, int, int]:
    """The order of fn_trie_dump_leaf: by address, the default first, then the longer prefix, tos and metric."""
    dst = route.dst
    return int(dst.addr), -dst.length if dst.addr else dst.length, -route.tos, route.metric
