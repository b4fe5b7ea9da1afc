"""The tables of iptables and how a packet walks them (ipt_do_table, net/ipv4/netfilter/ip_tables.c)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from packetwalk.netns.chain import Chain, Entry, Step
from packetwalk.netns.ipset import IpSet
from packetwalk.netns.rule import Rule
from packetwalk.netns.seen import Hit, HotDrop, Seen, Undecided
from packetwalk.netns.target import Target

HOOKS = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}
"""The built-in chains of each table."""

TRACKING = {"conntrack", "state", "connmark", "connbytes", "connlimit", "connlabel", "helper", "cluster"}
TRACKING_TARGETS = {"DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP", "CONNMARK", "CONNSECMARK", "SYNPROXY"}


class Verdict(NamedTuple):
    """How a table decided, and by what: `hit` is None where the policy of the built-in `chain` did.

    kind: accept, drop, reject, dnat, snat, masquerade, redirect, tproxy or unsupported (`what` names it). A packet that
    is not to be tracked is no verdict, as other rules still see it: its `ctstate` is UNTRACKED from then on.
    """

    kind: str
    hit: Hit | None
    target: Target | None
    chain: str
    what: str = ""


POLICIES = {(policy, hook): Verdict(policy.lower(), None, None, hook)
            for hook in HOOKS["mangle"] for policy in ("ACCEPT", "DROP")}  # fmt: skip
"""What a built-in chain says of a packet that none of its rules decided."""


class Table:
    """A table: its chains by name, the built-in ones first."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.chains: dict[str, Chain] = {hook: Chain(name, hook, "ACCEPT") for hook in HOOKS[name]}

    def __str__(self) -> str:
        """What iptables-save prints of it, without counters."""
        heads = [f":{chain.name} {chain.policy or '-'} [0:0]" for chain in self.chains.values()]
        rules = [str(rule) for chain in self.chains.values() for rule in chain.rules]
        return "\n".join([f"*{self.name}", *heads, *rules, "COMMIT"])

    def chain(self, name: str) -> Chain:
        """A chain, made if it is not there."""
        if name not in self.chains:
            self.chains[name] = Chain(self.name, name)
        return self.chains[name]

    def append(self, rule: Rule) -> None:
        """Put a rule at the end of its chain. KeyError where that, or the chain it leads to, is not there."""
        self.chains[rule.chain].append(rule)


class Ruleset:
    """All tables of a namespace and its IP sets. `state` is what matches remember; an overlay remembers on its own."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}
        self.sets: dict[str, IpSet] = {}
        self.state: dict[object, object] = {}

    def __str__(self) -> str:
        """What iptables-save prints, and iptables-restore takes."""
        return "\n".join(map(str, self.tables.values()))

    def overlay(self) -> Ruleset:
        """The same tables with a memory of their own (a walk's)."""
        copy = Ruleset()
        copy.tables, copy.sets, copy.state = self.tables, dict(self.sets), dict(self.state)
        return copy

    def table(self, name: str) -> Table:
        """A table, made with its built-in chains if it is not there."""
        if name not in self.tables:
            self.tables[name] = Table(name)
        return self.tables[name]

    @property
    def needs_conntrack(self) -> bool:
        """Whether a rule asks for connection tracking: a match or target
        that takes a reference on it (nf_ct_netns_get)."""
        return any(_tracks(rule) for t in self.tables.values() for chain in t.chains.values() for rule in chain.rules)

    def traverse(self, table: str, hook: str, seen: Seen) -> Verdict:
        """ipt_do_table: walk a table from one of its built-in chains to a verdict, or to that chain's policy.

        Every rule that matches is appended to `seen.hits`. A position in a chain is an iterator over the rules that are
        left, so that to return to a chain is to go on with it.
        """
        seen.sets = self.sets
        chains = self.tables[table].chains
        chain = chains[hook]
        steps = chain.steps(seen)
        stack: list[tuple[Chain, Iterator[Step]]] = []
        try:
            while True:
                for check, entry in steps:
                    if not check(seen):
                        continue
                    hit = _hit(chain, entry, stack)
                    seen.hits.append(hit)
                    target = entry.rule.target
                    if target is not None and target.name in chains:
                        if not entry.rule.goto:
                            stack.append((chain, steps))
                        chain = chains[target.name]
                        steps = chain.steps(seen)
                        break
                    kind = entry.effect(seen)
                    if kind == "return":
                        steps = iter(())
                        break
                    if kind:
                        return Verdict(kind, hit, target, chain.name, str(target) if kind == "unsupported" else "")
                else:
                    if not stack:
                        return POLICIES[chains[hook].policy, hook]
                    chain, steps = stack.pop()
        except Undecided as reason:
            return Verdict("unsupported", _hit(chain, entry, stack), entry.rule.target, chain.name, str(reason))
        except HotDrop:
            return Verdict("drop", _hit(chain, entry, stack), None, chain.name)


def _hit(chain: Chain, entry: Entry, stack: list[tuple[Chain, Iterator[Step]]]) -> Hit:
    return Hit(chain.table, chain.name, entry.number, entry.rule, tuple([caller.name for caller, _ in stack]))


def _tracks(rule: Rule) -> bool:
    target = rule.target
    if any(match.name in TRACKING for match in rule.matches):
        return True
    if target is None:
        return False
    return target.name in TRACKING_TARGETS or (target.name == "CT" and not target.has("--notrack"))
