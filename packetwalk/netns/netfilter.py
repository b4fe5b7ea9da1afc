"""The tables of iptables and how a packet walks them (ipt_do_table, net/ipv4/netfilter/ip_tables.c)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from packetwalk.netns.match import Check
from packetwalk.netns.rule import Rule, chained, cheapest_first
from packetwalk.netns.seen import Hit, HotDrop, Seen, Undecided
from packetwalk.netns.target import Effect, Target, compile_target

HOOKS = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}
"""The built-in chains of each table."""


class Verdict(NamedTuple):
    """How a table decided, and by what: `hit` is None where the policy of the built-in `chain` did.

    kind: accept, drop, reject, dnat, snat, masquerade, redirect, tproxy, ct or unsupported (`what` names it). A packet
    that is not to be tracked is no verdict, as other rules still see it: its `ctstate` is UNTRACKED from then on.
    """

    kind: str
    hit: Hit | None
    target: Target | None
    chain: str
    what: str = ""


class Entry:
    """A rule in its place, compiled: `jump` is the chain it leads to, `effect` what its target does."""

    __slots__ = ("check", "effect", "jump", "number", "rule")

    def __init__(self, rule: Rule, number: int, jump: Chain | None, *, plain: bool) -> None:
        self.rule, self.number, self.jump = rule, number, jump
        conditions = rule.conditions()
        self.check: Check = chained(conditions if plain else cheapest_first(conditions))
        self.effect: Effect | None = None if rule.target is None or jump else compile_target(rule.target)


class Chain:
    """A chain: its rules in order, and the policy of a built-in one ("" in a user's)."""

    def __init__(self, table: Table, name: str, policy: str = "") -> None:
        self.table, self.name, self.policy = table, name, policy
        self.rules: list[Rule] = []
        self._entries: dict[bool, list[Entry]] = {}

    def append(self, rule: Rule) -> None:
        self.rules.append(rule)
        self._entries.clear()

    def entries(self, seen: Seen) -> Iterator[Entry]:
        """The rules that may match, in order. A packet without its transport header gets every test in the kernel's own
        order, as some drop it."""
        plain = seen.l4 is None
        entries = self._entries.get(plain)
        if entries is None:
            entries = self._entries[plain] = [
                Entry(rule, i, self.table.jump(rule), plain=plain) for i, rule in enumerate(self.rules, 1)
            ]
        return iter(entries)


class Table:
    """A table: its chains by name, the built-in ones first."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.chains: dict[str, Chain] = {hook: Chain(self, hook, "ACCEPT") for hook in HOOKS[name]}

    def jump(self, rule: Rule) -> Chain | None:
        """The chain a rule jumps or goes to, if its target is one."""
        return self.chains.get(rule.target.name) if rule.target is not None else None


class Ruleset:
    """All tables of a namespace. `state` is what matches remember; an overlay remembers on its own."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}
        self.state: dict[object, object] = {}

    def overlay(self) -> Ruleset:
        """The same tables with a memory of their own (a walk's)."""
        copy = Ruleset()
        copy.tables, copy.state = self.tables, dict(self.state)
        return copy

    def table(self, name: str) -> Table:
        """A table, made with its built-in chains if it is not there."""
        if name not in self.tables:
            self.tables[name] = Table(name)
        return self.tables[name]

    @property
    def needs_conntrack(self) -> bool:
        """Whether a rule asks for connection tracking: a match or target that takes a reference on it
        (nf_ct_netns_get)."""
        return any(
            _tracks(rule) for table in self.tables.values() for chain in table.chains.values() for rule in chain.rules
        )

    def traverse(self, table: str, hook: str, seen: Seen) -> Verdict:
        """Walk a table from one of its built-in chains. Every rule that matches is appended to `seen.hits`."""
        chain = self.tables[table].chains[hook]
        entries = chain.entries(seen)
        stack: list[tuple[Chain, Iterator[Entry]]] = []
        try:
            while True:
                for entry in entries:
                    if not entry.check(seen):
                        continue
                    hit = _note(seen, chain, entry, stack)
                    if entry.jump is not None:
                        if not entry.rule.goto:
                            stack.append((chain, entries))
                        chain = entry.jump
                        entries = chain.entries(seen)
                        break
                    kind = entry.effect(seen) if entry.effect is not None else ""
                    if kind == "return":
                        entries = iter(())
                        break
                    if kind:
                        what = str(entry.rule.target) if kind == "unsupported" else ""
                        return Verdict(kind, hit, entry.rule.target, chain.name, what)
                else:
                    if not stack:
                        break
                    chain, entries = stack.pop()
        except Undecided as reason:
            hit = Hit(table, chain.name, entry.number, entry.rule, tuple(c.name for c, _ in stack))
            return Verdict("unsupported", hit, entry.rule.target, chain.name, str(reason))
        except HotDrop:
            hit = Hit(table, chain.name, entry.number, entry.rule, tuple(c.name for c, _ in stack))
            return Verdict("drop", hit, None, chain.name)
        return Verdict(self.tables[table].chains[hook].policy.lower(), None, None, hook)


def _note(seen: Seen, chain: Chain, entry: Entry, stack: list[tuple[Chain, Iterator[Entry]]]) -> Hit:
    hit = Hit(chain.table.name, chain.name, entry.number, entry.rule, tuple(c.name for c, _ in stack))
    seen.hits.append(hit)
    return hit


TRACKING = {"conntrack", "state", "connmark", "connbytes", "connlimit", "connlabel", "helper", "cluster"}
TRACKING_TARGETS = {"DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP", "CONNMARK", "CONNSECMARK", "SYNPROXY"}


def _tracks(rule: Rule) -> bool:
    target = rule.target
    if any(match.name in TRACKING for match in rule.matches):
        return True
    if target is None:
        return False
    return target.name in TRACKING_TARGETS or (target.name == "CT" and target.get("--notrack") is None)
