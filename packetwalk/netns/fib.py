"""Routing as Linux does it: policy rules choose tables, tables choose routes (fib_rules.c, fib_frontend.c).

`Fib.lookup` is `fib_lookup`: it returns the route and the rule that chose it, or the error and the entry that said so.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from packetwalk.netns.device import SCOPE_HOST, Device
from packetwalk.netns.fib_table import NO_ROUTE, TYPE_ERRNO, Found, Route, Table, usable
from packetwalk.netns.policy_rule import RULE_ERRNO, Flow, PolicyRule, Test

if TYPE_CHECKING:
    from packetwalk.netns.learned import Behind, Learned

REMEMBERED = 4096  # so many kinds of packets know their rules; then it starts afresh
Question = tuple[PolicyRule, Test | None, int]
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
        self._mind(route)

    def replace(self, old: Route, new: Route) -> None:
        """Put a route in the place of one of the same table and prefix. ValueError if that is not there."""
        self.table(new.table).replace(old, new)
        self._mind(new)

    def _mind(self, route: Route) -> None:
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
        route = next((r for r in self.tables[255].covering(addr) if not avoid or usable(r, "", avoid)), None)
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
